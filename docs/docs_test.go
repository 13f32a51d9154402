// Package docs_test holds the documents to the code: what docs/PROTOCOL.md shows is
// what package wire reads, and links lead somewhere.
package docs_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

const root = ".." // of the project, seen from this package

// block is a fenced block of a document.
type block struct {
	info string // what stands behind the opening fence
	line int    // of the opening fence, from 1 on
	text string
}

// blocks returns the fenced blocks of a document, and the document without them.
func blocks(t *testing.T, path string) (list []block, prose string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := false
	for i, line := range strings.Split(string(content), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !open:
			list = append(list, block{info: info, line: i + 1})
			open = true
		case fence:
			open = false
		case open:
			list[len(list)-1].text += line + "\n"
		default:
			prose += line + "\n"
		}
	}
	if open {
		t.Errorf("%s:%d: the block is not closed", path, list[len(list)-1].line)
	}
	return list, prose
}

// codes are all message codes.
func codes() []wire.Code {
	return []wire.Code{
		wire.CodeHello, wire.CodeWelcome, wire.CodeHeartbeat, wire.CodeStatus, wire.CodeAnswer,
		wire.CodePush, wire.CodeConfirm, wire.CodeLookup, wire.CodeFound, wire.CodeInfo,
	}
}

// TestCodes holds the list above to the source of package wire, and PROTOCOL.md to
// the list: each code has a section with an example.
func TestCodes(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../wire/message.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\tCode\w+ +Code = "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	if len(declared) != len(codes()) {
		t.Errorf("wire/message.go declares %d codes, this test knows %d", len(declared), len(codes()))
	}
	list, prose := blocks(t, "PROTOCOL.md")
	for _, code := range codes() {
		if !strings.Contains(prose, "\n### "+string(code)+" ") {
			t.Errorf("PROTOCOL.md has no section on %s", code)
		}
		shown := false
		for _, b := range list {
			shown = shown || strings.HasPrefix(b.info, "json ") && strings.Contains(b.text, `"flag":"`+string(code)+`"`)
		}
		if !shown {
			t.Errorf("PROTOCOL.md has no example of %s", code)
		}
	}
}

// TestExamples decodes each example of a message as the peer that it is said to be
// from.
func TestExamples(t *testing.T) {
	t.Parallel()
	peers := map[string]wire.Peer{
		"json hello": wire.OldClient, "json old-client": wire.OldClient, // a hello comes from one who was no agent yet
		"json agent": wire.Agent, "json listener": wire.Listener,
	}
	list, _ := blocks(t, "PROTOCOL.md")
	for _, b := range list {
		peer, known := peers[b.info]
		if !known {
			if strings.HasPrefix(b.info, "json") {
				t.Errorf("PROTOCOL.md:%d: %q does not say who sends it", b.line, b.info)
			}
			continue
		}
		m, err := wire.Decode([]byte(strings.TrimSuffix(b.text, "\n")), peer)
		if err != nil {
			t.Errorf("PROTOCOL.md:%d: %v", b.line, err)
			continue
		}
		if _, hello := m.(wire.Hello); hello != (b.info == "json hello") {
			t.Errorf("PROTOCOL.md:%d: a %s is marked %q", b.line, m.Code(), b.info)
		}
	}
}

// TestTextExamples decodes each example of the text form, and has it encoded to the
// same bytes.
func TestTextExamples(t *testing.T) {
	t.Parallel()
	list, _ := blocks(t, "PROTOCOL.md")
	phases := map[wire.Phase]bool{}
	seen := map[wire.Code]bool{}
	for _, b := range list {
		if b.info != "text old-client" {
			continue
		}
		body := strings.TrimSuffix(b.text, "\n")
		m, err := wire.Decode([]byte(body), wire.OldClient)
		if err != nil {
			t.Errorf("PROTOCOL.md:%d: %v", b.line, err)
			continue
		}
		if text, _ := wire.EncodeText(m); string(text) != body {
			t.Errorf("PROTOCOL.md:%d: encoded as %s", b.line, text)
		}
		if status, ok := m.(wire.Status); ok {
			phases[status.Phase] = true
			if status.Working != "" && !slices.Contains(status.OnCall, status.Working) {
				t.Errorf("PROTOCOL.md:%d: %q runs, and is none of %q", b.line, status.Working, status.OnCall)
			}
		}
		seen[m.Code()] = true
	}
	if len(phases) != 3 || len(seen) != 3 {
		t.Errorf("PROTOCOL.md shows the phases %v and the messages %v of the text form", phases, seen)
	}
}

// TestSession decodes the session of an agent, line by line, and follows its report
// numbers: none is confirmed that was not sent, and all are in the end.
func TestSession(t *testing.T) {
	t.Parallel()
	list, _ := blocks(t, "PROTOCOL.md")
	var lines []string
	first := 0
	for _, b := range list {
		if b.info == "session" {
			lines, first = strings.Split(strings.TrimSpace(b.text), "\n"), b.line+1
		}
	}
	if len(lines) == 0 {
		t.Fatal("PROTOCOL.md has no session")
	}
	var sent, confirmed int64
	welcome := false
	for i, line := range lines {
		at := first + i
		from := wire.Listener
		text, fromListener := strings.CutPrefix(line, "< ")
		if !fromListener {
			var fromAgent bool
			if text, fromAgent = strings.CutPrefix(line, "> "); !fromAgent {
				if !strings.HasPrefix(line, "= ") {
					t.Errorf("PROTOCOL.md:%d: neither >, < nor =", at)
				}
				continue
			}
			if from = wire.Agent; strings.Contains(text, `"ADH01"`) {
				from, welcome = wire.OldClient, false
			}
		}
		m, err := wire.Decode([]byte(text), from)
		if err != nil {
			t.Errorf("PROTOCOL.md:%d: %v", at, err)
			continue
		}
		var seq int64
		switch m := m.(type) {
		case wire.Hello:
			continue
		case wire.Welcome:
			welcome = m.Refused == ""
		case wire.Status:
			seq = m.Seq
		case wire.Answer:
			seq = m.Seq
		case wire.Confirm:
			if m.Seq > sent || m.Seq <= confirmed {
				t.Errorf("PROTOCOL.md:%d: %d is confirmed, %d was before, %d is sent", at, m.Seq, confirmed, sent)
			}
			confirmed = m.Seq
		}
		if !welcome {
			t.Errorf("PROTOCOL.md:%d: %s before the welcome", at, m.Code())
		}
		if seq > sent+1 {
			t.Errorf("PROTOCOL.md:%d: report %d after %d", at, seq, sent)
		}
		sent = max(sent, seq)
	}
	if sent == 0 || confirmed != sent {
		t.Errorf("the session ends with %d of %d reports confirmed", confirmed, sent)
	}
}

// TestHex holds the bytes of the worked example to those that package wire writes.
func TestHex(t *testing.T) {
	t.Parallel()
	list, _ := blocks(t, "PROTOCOL.md")
	var frame []byte
	for _, b := range list {
		if b.info == "hex" {
			var err error
			if frame, err = hex.DecodeString(strings.Join(strings.Fields(b.text), "")); err != nil {
				t.Fatalf("PROTOCOL.md:%d: %v", b.line, err)
			}
		}
	}
	if want := wire.EncodeFrame(wire.Heartbeat{}); !bytes.Equal(frame, want) {
		t.Errorf("PROTOCOL.md shows the frame\n% x\nwant\n% x", frame, want)
	}
}

// TestClient holds the client in PROTOCOL.md to the file that was run.
func TestClient(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../scripts/examples/old_client.py")
	if err != nil {
		t.Fatal(err)
	}
	list, _ := blocks(t, "PROTOCOL.md")
	for _, b := range list {
		if b.info == "python" {
			if b.text != string(file) {
				t.Errorf("PROTOCOL.md:%d: not what stands in scripts/examples/old_client.py", b.line)
			}
			return
		}
	}
	t.Error("PROTOCOL.md shows no client")
}

// TestDelivery holds the figures in DELIVERY.md, and those in CLI.md, to the code.
func TestDelivery(t *testing.T) {
	t.Parallel()
	var times []string
	var at time.Duration
	wait := tasks.DefaultRetryAfter
	for range tasks.DefaultAttempts {
		times = append(times, fmt.Sprint(at.Seconds()))
		at += wait
		wait *= 2
	}
	last := len(times) - 1
	sends := strings.Join(times[:last], ", ") + " and " + times[last] + " s"
	for name, wants := range map[string][]string{
		"DELIVERY.md": {
			"is sent the number at " + sends + ", and is `unanswered` at " + fmt.Sprint(at.Seconds()) + " s",
			"`unanswered` at " + fmt.Sprint(at.Seconds()) + " s if it has not reported",
			"over their connections, at " + sends,
			fmt.Sprintf("its lease of %.0f s", tasks.LeaseTime.Seconds()),
			fmt.Sprintf("outputs of one set in Redis | %d MiB", tasks.DefaultOutputLimit>>20),
			fmt.Sprintf("events | about %d,000", tasks.EventsCap/1000),
			fmt.Sprintf("a task set | %.0f days", tasks.DefaultKeep.Hours()/24),
		},
		"CLI.md": {"told at " + sends + ", and unanswered at " + fmt.Sprint(at.Seconds()) + " s"},
	} {
		_, prose := blocks(t, name)
		prose = strings.Join(strings.Fields(prose), " ")
		for _, want := range wants {
			if !strings.Contains(prose, want) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
	}
	// Each state has a row.
	_, prose := blocks(t, "DELIVERY.md")
	_, table, _ := strings.Cut(prose, "| state |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, s := range tasks.States() {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + string(s) + "`[^|]*\\|").MatchString(table) {
			t.Errorf("DELIVERY.md has no row on the state %s", s)
		}
	}
}

var (
	linkForm    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingForm = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	codeForm    = regexp.MustCompile("`[^`\n]*`")
	slugDrops   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the targets that the headings of a document make.
func anchors(prose string) map[string]bool {
	set := map[string]bool{}
	for _, h := range headingForm.FindAllStringSubmatch(prose, -1) {
		slug := slugDrops.ReplaceAllString(strings.ToLower(strings.TrimSpace(h[1])), "")
		set[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return set
}

// TestLinks follows every relative link in every document.
func TestLinks(t *testing.T) {
	t.Parallel()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != ".github" {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		_, prose := blocks(t, path)
		for _, l := range linkForm.FindAllStringSubmatch(codeForm.ReplaceAllString(prose, ""), -1) {
			if strings.Contains(l[1], "://") || strings.HasPrefix(l[1], "mailto:") {
				continue
			}
			seen++
			file, anchor, _ := strings.Cut(l[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", path, l[1])
				continue
			}
			if anchor == "" || filepath.Ext(target) != ".md" {
				continue
			}
			if _, there := blocks(t, target); !anchors(there)[anchor] {
				t.Errorf("%s: the link to %s leads to no heading", path, l[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no links were found")
	}
}

// TestCompared holds the table that compares others to its sources: each other one that has
// a column has a list of links.
func TestCompared(t *testing.T) {
	t.Parallel()
	_, prose := blocks(t, "../README.md")
	head := regexp.MustCompile(`(?m)^\| \| muster \|(.*)\|$`).FindStringSubmatch(prose)
	if head == nil {
		t.Fatal("README.md compares nothing")
	}
	for column := range strings.SplitSeq(head[1], "|") {
		name, _, _ := strings.Cut(strings.TrimSpace(column), " ")
		sources := regexp.MustCompile(`(?m)^- ` + name + `: .*(?:\n  .*)*$`).FindString(prose)
		if n := len(linkForm.FindAllString(sources, -1)); n < 2 {
			t.Errorf("README.md has %d sources for what it says of %s", n, name)
		}
	}
}

// TestFiles looks for the files that DEVELOPERS.md names: a path with a folder in it,
// as code.
func TestFiles(t *testing.T) {
	t.Parallel()
	_, prose := blocks(t, "../DEVELOPERS.md")
	named := regexp.MustCompile("`([a-z_]+(?:/[a-z_]+)+\\.(?:go|lua))`").FindAllStringSubmatch(prose, -1)
	if len(named) < 20 {
		t.Errorf("DEVELOPERS.md names %d files", len(named))
	}
	for _, n := range named {
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(n[1]))); err != nil {
			t.Errorf("DEVELOPERS.md names %s, which is not there", n[1])
		}
	}
}
