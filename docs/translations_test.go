package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shape is what a document and its translation have in common.
type shape struct {
	headings []string // their levels: "#", "##"
	code     []string // fenced blocks, and lines that are indented as code
	links    []string // sorted; a translation stands for its original
	rows     int      // of tables
}

func shapeOf(t *testing.T, path string) (s shape) {
	t.Helper()
	list, prose := blocks(t, path)
	for _, b := range list {
		s.code = append(s.code, b.info+"\n"+b.text)
	}
	for _, line := range strings.Split(prose, "\n") {
		switch {
		case strings.HasPrefix(line, "    "):
			s.code = append(s.code, strings.TrimSpace(line))
		case strings.HasPrefix(line, "#"):
			level, _, _ := strings.Cut(line, " ")
			s.headings = append(s.headings, level)
		case strings.HasPrefix(line, "|"):
			s.rows++
		}
	}
	for _, l := range linkForm.FindAllStringSubmatch(codeForm.ReplaceAllString(prose, ""), -1) {
		file, _, _ := strings.Cut(l[1], "#") // headings are translated
		s.links = append(s.links, strings.Replace(file, ".zh-CN.md", ".md", 1))
	}
	slices.Sort(s.links)
	return s
}

// TestTranslations holds each Chinese document to its original: the same sections,
// code, links and tables, and a link to each other.
func TestTranslations(t *testing.T) {
	t.Parallel()
	for original, translation := range map[string]string{
		"../README.md":          "../README.zh-CN.md",
		"FROM-SOCKET-SERVER.md": "FROM-SOCKET-SERVER.zh-CN.md",
	} {
		a, b := shapeOf(t, original), shapeOf(t, translation)
		if !slices.Equal(a.headings, b.headings) {
			t.Errorf("%s has the headings %q, its original %q", translation, b.headings, a.headings)
		}
		if !slices.Equal(a.links, b.links) {
			t.Errorf("%s has the links\n%q, its original\n%q", translation, b.links, a.links)
		}
		if a.rows != b.rows {
			t.Errorf("%s has %d rows in tables, its original %d", translation, b.rows, a.rows)
		}
		for i := range max(len(a.code), len(b.code)) {
			if i >= len(a.code) || i >= len(b.code) || a.code[i] != b.code[i] {
				t.Errorf("%s: piece of code %d is not that of its original:\n%q\n%q", translation, i+1, b.code[min(i, len(b.code)):], a.code[min(i, len(a.code)):])
				break
			}
		}
		for from, to := range map[string]string{original: translation, translation: original} {
			content, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			to = to[strings.LastIndex(to, "/")+1:]
			if !regexp.MustCompile(`\]\(` + regexp.QuoteMeta(to) + `\)`).Match(content) {
				t.Errorf("%s has no link to %s", from, to)
			}
		}
	}
}
