package agent

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// transcribed writes b in pieces of n bytes and returns what a report would hold.
func transcribed(codePage uint32, b []byte, n int) (text string, total int64, truncated bool) {
	ts := transcript{codePage: codePage}
	for len(b) > 0 {
		piece := b[:min(n, len(b))]
		ts.Write(piece)
		b = b[len(piece):]
	}
	return ts.finish()
}

func TestTextOfACodePage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		codePage uint32
		in, want string
	}{
		"GBK":                    {936, "\xc7\xfd\xb6\xaf\xc6\xf7 C \xd6\xd0\xb5\xc4\xbe\xed\r\n", "驱动器 C 中的卷\r\n"},
		"GBK, two characters":    {936, "\xc4\xbf\xc2\xbc", "目录"}, // valid UTF-8 of two bytes each
		"GBK, cut at its end":    {936, "\xd6\xd0\xce", "中\uFFFD"},
		"GBK, one byte":          {936, "\xd6", "\uFFFD"},
		"GBK, rubbish":           {936, "a\xffb\xd6\xd0", "a\uFFFDb中"},
		"GB18030":                {54936, "\xd6\xd0\x81\x39\xef\x33", "中㐄"},
		"Big5":                   {950, "\xa4\xa4\xa4\xe5", "中文"},
		"Shift-JIS":              {932, "\x93\xfa\x96\x7b\x83\x5c \xb1 C:\\", "日本ソ ｱ C:\\"},
		"Korean":                 {949, "\xc7\xd1\xb1\xdb \x8c\x63", "한글 똠"},
		"437":                    {437, "\x84\xc4\xc4\xfe", "ä──■"},
		"850":                    {850, "Verf\x81gbar \xe1", "Verfügbar ß"},
		"852":                    {852, "\xa9\x88", "ęł"},
		"866":                    {866, "\x8f\xe0\xa8\xa2\xa5\xe2", "Привет"},
		"1251":                   {1251, "\xcf\xf0\xe8\xe2\xe5\xf2", "Привет"},
		"1252":                   {1252, "\x80\xfc", "€ü"},
		"a hole in 1252":         {1252, "\x81", "\uFFFD"},
		"a hole in 1253":         {1253, "\xd2", "\uFFFD"},
		"nothing":                {936, "", ""},
		"one letter":             {936, "a", "a"},
		"NUL":                    {936, "a\x00b\x00", "a\x00b\x00"},
		"UTF-8 on GBK":           {936, "中文 ok", "中文 ok"},
		"UTF-8 on GBK, cut":      {936, "中文\xe4\xb8", "中文\uFFFD\uFFFD"},
		"UTF-8 on 850":           {850, "grün", "grün"},
		"UTF-8 on 850, cut":      {850, "gr\xc3", "gr├"}, // nothing says that it is
		"65001":                  {65001, "grün\xff", "grün\uFFFD"},
		"unknown":                {12345, "grün\xff", "grün\uFFFD"},
		"UTF-16 on GBK":          {936, "\xff\xfe-N\x87e\r\x00\n\x00", "中文\r\n"},
		"UTF-16 on 65001":        {65001, "\xff\xfea\x00=\xd8\x00\xde", "a\U0001F600"},
		"UTF-16, half a pair":    {936, "\xff\xfe=\xd8a\x00", "\uFFFDa"},
		"UTF-16, half a unit":    {936, "\xff\xfea\x00b", "a\uFFFD"},
		"UTF-16, empty":          {936, "\xff\xfe", ""},
		"no UTF-16 on this side": {codePageNone, "\xff\xfea\x00", "\uFFFD\uFFFDa\x00"},
	} {
		for _, piece := range []int{1, 2, 3, 1 << 20} {
			text, total, truncated := transcribed(test.codePage, []byte(test.in), piece)
			if text != test.want || total != int64(len(test.in)) || truncated {
				t.Errorf("%s in pieces of %d: %q, %d bytes, truncated %t, want %q",
					name, piece, text, total, truncated, test.want)
			}
		}
	}
}

// What is not UTF-8 to the last byte is taken for the code page, all of it.
func TestMixedTextIsOfTheCodePage(t *testing.T) {
	t.Parallel()
	text, _, _ := transcribed(936, []byte("\xd6\xd0\xce\xc4\r\n中文\r\n"), 1)
	if !strings.HasPrefix(text, "中文\r\n") || !utf8.ValidString(text) || strings.HasSuffix(text, "中文\r\n") {
		t.Errorf("%q", text)
	}
}

// Each code page leaves ASCII alone, and says in UTF-8 what its own encoder makes.
func TestEveryCodePage(t *testing.T) {
	t.Parallel()
	var ascii []byte
	for b := range byte(utf8.RuneSelf) {
		ascii = append(ascii, b)
	}
	known := []uint32{
		437, 850, 852, 855, 858, 860, 862, 863, 865, 866, 874, 932, 936, 949, 950,
		1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258, 54936,
	}
	for _, codePage := range known {
		d := decoder(codePage)
		if d == nil {
			t.Errorf("%d is not known", codePage)
			continue
		}
		dst := make([]byte, 1000)
		n, _, err := d.Transform(dst, ascii, true)
		if err != nil || !bytes.Equal(dst[:n], ascii) {
			t.Errorf("%d makes %q of ASCII, %v", codePage, dst[:n], err)
		}
		if (codePage < 1000 && codePage > 900 || codePage == 54936) != doubleByte(codePage) {
			t.Errorf("%d: double bytes %t", codePage, doubleByte(codePage))
		}
	}
	for _, codePage := range []uint32{0, 1, 65001, 37, 500} {
		if decoder(codePage) != nil {
			t.Errorf("%d has a decoder", codePage)
		}
	}
}

// Output that is too long loses its middle, and no character is cut.
func TestLongTextOfACodePage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		codePage uint32
		unit     string
		want     string
	}{
		"GBK":       {936, "\xd6\xd0", "中"},
		"GBK, odd":  {936, "a\xd6\xd0", "a中"},
		"GB18030":   {54936, "\x81\x39\xef\x33", "㐄"},
		"866":       {866, "\x8f\xe0", "Пр"},
		"UTF-8":     {936, "中", "中"},
		"Shift-JIS": {932, "\x83\x5c", "ソ"},
	} {
		in := bytes.Repeat([]byte(test.unit), 100_000)
		for _, piece := range []int{1001, 1 << 20} {
			text, total, truncated := transcribed(test.codePage, in, piece)
			head, tail, found := strings.Cut(text, "\n[... ")
			_, tail, _ = strings.Cut(tail, " bytes left out ...]\n")
			whole := strings.Repeat(test.want, 100_000)
			if total != int64(len(in)) || !truncated || !found || len(text) > maxOutput ||
				!strings.HasPrefix(whole, head) || !strings.HasSuffix(whole, tail) ||
				len(head)+len(tail) < maxOutput-100 {
				t.Errorf("%s in pieces of %d: %d bytes counted, truncated %t, %d of text: %.20q",
					name, piece, total, truncated, len(text), text)
			}
		}
	}
	// 40,000 bytes of GBK make 60,000 of text and fit; 50,000 make 75,000 and don't.
	for n, want := range map[int]bool{20_000: false, 25_000: true} {
		if _, total, truncated := transcribed(936, bytes.Repeat([]byte("\xd6\xd0"), n), 999); truncated != want || total != int64(2*n) {
			t.Errorf("%d characters: truncated %t, %d bytes", n, truncated, total)
		}
	}
}

func TestTranscriptForgetsWhatIsWrittenLater(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "a", "\xd6\xd0"} {
		ts := transcript{codePage: 936}
		ts.Write([]byte(first))
		ts.finish()
		ts.Write(bytes.Repeat([]byte{0xff}, 1<<20))
		if ts.seen.invalid != (first == "\xd6\xd0") || ts.first != nil || ts.raw.head != nil || ts.decoded.head != nil || ts.decoded.tail != nil {
			t.Errorf("kept after %q", first)
		}
	}
}

// However the output is cut into pieces, and whatever it is, it makes the same valid
// text, and what an encoder has written comes back.
func FuzzTranscript(f *testing.F) {
	f.Add(uint32(936), []byte("\xd6\xd0\xce\xc4 abc"), 1, "中文")
	f.Add(uint32(932), []byte("\x83\x5c\xff"), 2, "ソース")
	f.Add(uint32(437), []byte("\xff\xfea\x00b"), 1, "ä")
	f.Add(uint32(950), []byte("中\xa4"), 3, "中文")
	f.Add(uint32(54936), []byte("\x81\x39\xef"), 1, "㐄")
	f.Fuzz(func(t *testing.T, codePage uint32, in []byte, piece int, text string) {
		if piece < 1 || len(in) > 300_000 || len(in)/piece > 10_000 {
			return
		}
		whole, total, cut := transcribed(codePage, in, len(in)+1)
		if !utf8.ValidString(whole) || len(whole) > maxOutput || total != int64(len(in)) {
			t.Fatalf("%d bytes of text, valid %t, counted %d of %d", len(whole), utf8.ValidString(whole), total, len(in))
		}
		if again, _, cutAgain := transcribed(codePage, in, piece); again != whole || cut != cutAgain {
			t.Fatalf("in pieces of %d: %.100q, else %.100q", piece, again, whole)
		}
		written, err := encodeFor(codePage, text)
		if err != nil || len(text) > 10_000 {
			return // not all characters are in all code pages
		}
		var seen utf8Check
		seen.add(written)
		if seen.isUTF8(doubleByte(codePage)) || bytes.HasPrefix(written, []byte("\xff\xfe")) {
			return // by accident
		}
		if got, _, _ := transcribed(codePage, written, piece); got != text {
			t.Fatalf("%q was written as % x and read as %q", text, written, got)
		}
	})
}

func encodeFor(codePage uint32, text string) ([]byte, error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) {
		return nil, fmt.Errorf("no text")
	}
	switch codePage {
	case 936:
		return simplifiedchinese.GBK.NewEncoder().Bytes([]byte(text))
	case 950:
		return traditionalchinese.Big5.NewEncoder().Bytes([]byte(text))
	case 932:
		return japanese.ShiftJIS.NewEncoder().Bytes([]byte(text))
	case 949:
		return korean.EUCKR.NewEncoder().Bytes([]byte(text))
	case 437:
		return charmap.CodePage437.NewEncoder().Bytes([]byte(text))
	}
	return nil, fmt.Errorf("not compared")
}
