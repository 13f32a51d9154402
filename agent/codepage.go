package agent

import (
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Code pages, by the numbers that Windows has for them.
const (
	codePageNone  = 0     // bytes are taken as they are: the system has no code pages
	codePageUTF8  = 65001 // all else is looked up in decoder
	codePageGBK   = 936
	codePageUTF16 = 1200 // no console has it: it is found by its mark
)

// decoder returns what makes UTF-8 of text in a code page of Windows, with U+FFFD for
// what belongs to no character; it keeps its place between two pieces of the text. It
// is nil for UTF-8, and for code pages that are not known here.
func decoder(codePage uint32) transform.Transformer {
	var e encoding.Encoding
	switch codePage {
	case codePageGBK:
		e = simplifiedchinese.GBK
	case 54936:
		e = simplifiedchinese.GB18030
	case 950:
		e = traditionalchinese.Big5
	case 932:
		e = japanese.ShiftJIS
	case 949:
		e = korean.EUCKR // as on the web: all of 949 with it
	case 437:
		e = charmap.CodePage437
	case 850:
		e = charmap.CodePage850
	case 852:
		e = charmap.CodePage852
	case 855:
		e = charmap.CodePage855
	case 858:
		e = charmap.CodePage858
	case 860:
		e = charmap.CodePage860
	case 862:
		e = charmap.CodePage862
	case 863:
		e = charmap.CodePage863
	case 865:
		e = charmap.CodePage865
	case 866:
		e = charmap.CodePage866
	case 874:
		e = charmap.Windows874
	case 1250:
		e = charmap.Windows1250
	case 1251:
		e = charmap.Windows1251
	case 1252:
		e = charmap.Windows1252
	case 1253:
		e = charmap.Windows1253
	case 1254:
		e = charmap.Windows1254
	case 1255:
		e = charmap.Windows1255
	case 1256:
		e = charmap.Windows1256
	case 1257:
		e = charmap.Windows1257
	case 1258:
		e = charmap.Windows1258
	case codePageUTF16:
		e = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	default:
		return nil
	}
	return e.NewDecoder()
}

// doubleByte reports whether characters of the code page take two bytes. Short text
// in such a one is valid UTF-8 by accident now and then.
func doubleByte(codePage uint32) bool {
	switch codePage {
	case 932, codePageGBK, 949, 950, 54936:
		return true
	}
	return false
}
