package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/tasks"
)

func TestParseLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want consoleLine
	}{
		{"", consoleLine{}},
		{" \t", consoleLine{}},
		{"# @x uptime", consoleLine{}},
		{" uptime -p ", consoleLine{command: "uptime -p"}},
		{"echo @x :y # z", consoleLine{command: "echo @x :y # z"}},
		{"@web-1 uptime", consoleLine{hosts: []string{"web-1"}, command: "uptime"}},
		{"@web-1,::1\t :list", consoleLine{hosts: []string{"web-1", "::1"}, command: ":list"}},
		{":results  AC1 AC2", consoleLine{verb: ":results", words: []string{"AC1", "AC2"}}},
		{"exit 1", consoleLine{command: "exit 1"}},
	} {
		got, err := parseLine(c.text)
		if err != nil || got.verb != c.want.verb || got.command != c.want.command ||
			!slices.Equal(got.words, c.want.words) || !slices.Equal(got.hosts, c.want.hosts) {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"@", "@ uptime", "@web-1", "@web-1,", "@,web-1 x", "@a, b x", "@-a x", "@" + strings.Repeat("a", 129) + " x"} {
		if got, err := parseLine(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	for text, want := range map[string]bool{"exit": true, " exit() ": true, "exit 0": false, "exit;": false, "": false} {
		if isExit(text) != want {
			t.Errorf("%q leaves: %v", text, !want)
		}
	}
}

func TestAlike(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{":hots", ":hosts", true}, {":h", ":hosts", true}, {":result", ":results", true}, {":resluts", ":results", true},
		{":LIST", ":list", true}, {"disks", "disk", true}, {":foo", ":list", false}, {":", ":list", false},
		{"猫犬", "猫", true}, {"", "", false}, {":exit", ":list", false},
	} {
		if alike(c.a, c.b) != c.want {
			t.Errorf("%q and %q alike: %v", c.a, c.b, !c.want)
		}
	}
}

// A line that is too long or is not the last one's end is one of many.
func TestReadLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine)
	from := bufio.NewReader(strings.NewReader("a\r\n\n" + long + "y\nb\n" + "c"))
	var got []string
	for {
		line, err := readLine(from)
		if errors.Is(err, io.EOF) {
			break
		}
		if s, _ := read(err); err != nil && s == statusUsage {
			line = "too long"
		}
		got = append(got, line)
	}
	if want := []string{"a", "", "too long", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("%.60q, want %q", got, want)
	}
}

// Equal answers are one line, however many hosts there are; what is late is another.
func TestAnswersGrouped(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := newAnswers(nil, "AC1", &printer{w: bufio.NewWriter(&out)})
	start := time.Unix(1e9, 0)
	printed := func(after time.Duration, all bool) string {
		out.Reset()
		a.printAt(start.Add(after), all)
		a.out.flush()
		return out.String()
	}
	for i := range 10_000 {
		a.add(tasks.Result{Host: fmt.Sprintf("h-%05d", 9999-i), Stdout: "same\n", StdoutBytes: 5, DurationMS: int64(i)}, start)
	}
	a.add(tasks.Result{Host: "other", Stdout: "same\n", StdoutBytes: 5, ExitCode: 1}, start.Add(answerBeat))
	if got := printed(answerBeat-1, false); got != "" {
		t.Errorf("too early: %q", got)
	}
	names := "h-00000 h-00001 h-00002 h-00003 h-00004 h-00005 h-00006 h-00007 h-00008 h-00009"
	if got, want := printed(answerBeat, false), names+" and 9990 more (10000): same\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	a.add(tasks.Result{Host: "late", Stdout: "same\n", StdoutBytes: 5}, start.Add(answerBeat))
	if got, want := printed(answerBeat, true), "other: exit 1\n  | same\nlate: same\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// Hosts that keep coming are not held back for ever.
	for at := time.Duration(0); at <= answerHold; at += answerBeat / 2 {
		a.add(tasks.Result{Host: "x"}, start.Add(at))
		if got := printed(at, false); (got != "") != (at == answerHold) {
			t.Fatalf("after %v: %q", at, got)
		}
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "muster", "history")
	var h history
	if err := h.open(path); err != nil {
		t.Fatal(err)
	}
	for i := range 2*historyLines + 1 {
		h.add(fmt.Sprint("echo ", i))
	}
	h.add("echo \x1b]0;x\a")
	h.add("echo 猫")
	h.close()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		h = history{}
		if err := h.open(path); err != nil {
			t.Fatal(err)
		}
		h.close()
		if n := len(h.lines); n != historyLines || h.lines[n-1] != "echo 猫" || h.lines[n-2] != fmt.Sprint("echo ", 2*historyLines) {
			t.Fatalf("%d lines, the last %q", n, h.lines[max(0, n-2):])
		}
		b, err := os.ReadFile(path)
		if err != nil || bytes.Count(b, []byte("\n")) != historyLines {
			t.Errorf("%d lines in the file, %v", bytes.Count(b, []byte("\n")), err)
		}
	}
	if info, err := os.Stat(path); err != nil || os.PathSeparator == '/' && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// An instruction's name stands for its command, and Tab knows what there is.
func TestInstructions(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	system, err := startSystem(t.Context(), systemConfig{redis: redisAt{url: srv.URL}, listener: listener.Config{Bind: freePort}, agents: 2, log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer system.stop()
	if err := system.gathered(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out, complaints bytes.Buffer
	a := &app{stdout: &out, stderr: &complaints, stdin: strings.NewReader(
		"hello\n@local-2 hello\n:list\n:helo\necho \xff\n")}
	s := a.newSession(srv.Client, log, &printer{w: bufio.NewWriter(&out)}, consoleConfig{
		instructions: map[string]string{"hello": "echo 'hi there'", "猫": "echo cat"},
		timeout:      time.Minute, deadline: time.Hour,
	})
	if status, _ := read(s.run(t.Context())); status != statusUsage {
		t.Errorf("status %d", status)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "AC") {
			got = append(got, line)
		}
	}
	want := "hello stands for: echo 'hi there'\nlocal-1 local-2 (2): hi there\n" +
		"hello stands for: echo 'hi there'\nlocal-2: hi there\nhello\techo 'hi there'\n猫\techo cat\n"
	if strings.Join(got, "") != want {
		t.Errorf("%q, want %q", got, want)
	}
	want = "muster: line 4: there is no :helo, near to it: :help hello\nmuster: line 5: \"echo \\xff\" is not UTF-8\n"
	if strings.ReplaceAll(complaints.String(), `\\xff`, `\xff`) != want {
		t.Errorf("%q, want %q", complaints.String(), want)
	}
	for line, want := range map[string][]string{
		"he": {"hello "}, ":h": {":help ", ":hosts "}, "猫": {"猫 "}, "x": {},
		"@": {"local-1", "local-2"}, "@local-1,local-2": {"local-2"}, "@z": {},
		"@local-1 h": {"hello "}, ":hosts local-1 local-": {"local-1 ", "local-2 "},
		":results A": {string(s.last) + " "}, "": {":help ", ":hosts ", ":list ", ":results ", "hello ", "猫 "},
	} {
		word, found := s.complete(line)
		if !strings.HasSuffix(line, word) || !slices.Equal(found, want) && len(found)+len(want) > 0 {
			t.Errorf("%q: %q becomes %q, want %q", line, word, found, want)
		}
	}
}
