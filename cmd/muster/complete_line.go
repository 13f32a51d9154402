package main

import "strings"

// typedLine is a line of bash up to the cursor, in words. The last word is the one that
// is typed; it is empty behind a blank.
type typedLine struct {
	words    []string
	cut      int  // bytes of the last word that bash does not replace
	redirect bool // the last word is the file behind a < or >
}

// splitLine reads a line as bash does: quotes, backslashes and redirections, and nothing
// is ever expanded. breaks are the characters at which bash parts words for completion
// (COMP_WORDBREAKS): it replaces only what follows the last one of them that is not
// quoted, or the quote that is open.
func splitLine(line, breaks string) typedLine {
	var (
		t      typedLine
		word   strings.Builder
		begun  bool // word is one, though it may be empty
		quote  byte
		target bool // what follows is the file of a redirection
	)
	end := func() {
		if begun && !target {
			t.words = append(t.words, word.String())
		}
		if begun {
			target = false
		}
		word.Reset()
		begun, t.cut = false, 0
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && i+1 < len(line):
			i++
			if quote == '"' && !strings.ContainsRune("\\\"$`", rune(line[i])) {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
			begun = true
		case c == '\\':
			begun = true
		case quote == 0 && (c == '\'' || c == '"'):
			quote, begun, t.cut = c, true, word.Len()
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n'):
			end()
		case quote == 0 && (c == '<' || c == '>'):
			if digits(word.String()) {
				word.Reset() // 2>
				begun = false
			}
			end()
			target = true
		default:
			word.WriteByte(c)
			begun = true
			if strings.IndexByte(breaks, c) >= 0 {
				t.cut = word.Len()
			}
		}
	}
	t.redirect = target
	t.words = append(t.words, word.String())
	return t
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
