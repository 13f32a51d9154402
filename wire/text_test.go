package wire

import (
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// goldenTexts is every message of the text form with the bytes that it is on the
// network. Its clients are out there, and nobody will change them.
var goldenTexts = []struct {
	name    string
	message Message
	body    string
}{
	{"heartbeat", Heartbeat{}, `ADH18/keepAlive`},
	{"info", Info{Hostname: "pc-1", IPv4: []string{"10.0.0.5", "192.168.1.5"}, MAC: "52-54-00-12-34-56"},
		`ADH56/keepRogerThat/{'hostname': 'pc-1', 'localAddrsIPV4': ['10.0.0.5', '192.168.1.5'], 'MACAddress': '52-54-00-12-34-56'}`},
	{"info without addresses", Info{IPv4: []string{}},
		`ADH56/keepRogerThat/{'hostname': '', 'localAddrsIPV4': [], 'MACAddress': ''}`},
	{"info with newer members", Info{"it's", []string{}, "", "windows", "amd64", "0.7", map[string]string{"b/'\"": "2", "a": "1"}},
		`ADH56/keepRogerThat/{'hostname': "it's", 'localAddrsIPV4': [], 'MACAddress': '', 'os': 'windows', 'arch': 'amd64', ` +
			`'version': '0.7', 'tags': {'a': '1', 'b/\'"': '2'}}`},
	{"received", Status{Task: "AC131", Phase: PhaseReceived, Lists: true, Complete: []string{}, OnCall: []string{"ipconfig", "dir C:/"}},
		`ADH27I/keepGotIt/AC131/None/[]/['ipconfig', 'dir C:/']`},
	{"working", Status{Task: "AC131", Phase: PhaseWorking, Working: "ipconfig", Lists: true, Complete: []string{}, OnCall: []string{"ipconfig", "dir C:/"}},
		`ADH27II/keepGotIt/AC131/ipconfig/[]/['ipconfig', 'dir C:/']`},
	{"ended", Status{Task: "AC131", Phase: PhaseEnded, Lists: true, Complete: []string{"ipconfig"}, OnCall: []string{"dir C:/"}},
		`ADH27III/keepGotIt/AC131/None/['ipconfig']/['dir C:/']`},
	{"a path", Status{Task: "AC1", Phase: PhaseWorking, Working: "dir C:/", Lists: true, Complete: []string{}, OnCall: []string{"dir C:/"}},
		`ADH27II/keepGotIt/AC1/dir C://[]/['dir C:/']`},
	{"escapes", Status{Task: "AC1", Phase: PhaseWorking, Working: "a\nb\\n\x00'", Lists: true,
		Complete: []string{`C:\new`, "a\nb\r\t\x00\x7f\u00a0\u2028\U000e0001"}, OnCall: []string{`it's`, `say "hi"`, `'"`, "Köln 你好 😀"}},
		"ADH27II/keepGotIt/AC1/a\nb\\n\x00'/" + `['C:\\new', 'a\nb\r\t\x00\x7f\xa0\u2028\U000e0001']/["it's", 'say "hi"', '\'"', 'Köln 你好 😀']`},
}

func TestGoldenTexts(t *testing.T) {
	t.Parallel()
	for _, g := range goldenTexts {
		if got, ok := EncodeText(g.message); string(got) != g.body || !ok {
			t.Errorf("%s: encoded\n%s\nwant\n%s", g.name, got, g.body)
		}
		body := []byte(g.body)
		m, err := Decode(body, OldClient)
		clear(body) // nothing of it is kept
		if err != nil || !reflect.DeepEqual(m, g.message) {
			t.Errorf("%s: decoded %#v, %v\nwant %#v", g.name, m, err, g.message)
		}
		for _, from := range []Peer{Agent, Listener} {
			if m, err := Decode([]byte(g.body), from); !errors.Is(err, ErrAbnormal) || errors.Is(err, ErrUnknownCode) || m != nil {
				t.Errorf("%s: from peer %d: %v, %v", g.name, from, m, err)
			}
		}
		for n := range len(g.body) {
			if m, err := Decode([]byte(g.body[:n]), OldClient); !errors.Is(err, ErrAbnormal) || m != nil {
				t.Errorf("%s: first %d bytes gave %v, %v", g.name, n, m, err)
			}
		}
	}
}

func status(lists string) string { return "ADH27I/keepGotIt/AC1/None/" + lists }

func textOf(literal string) string {
	return `ADH56/keepRogerThat/{'hostname': 'a', 'localAddrsIPV4': [], 'MACAddress': 'm', 'x': ` + literal + `}`
}

// abnormalTexts is each kind of abnormal data of the text form, and a part of the
// error, so that a body is refused for its own fault and for no other.
var abnormalTexts = []struct{ body, want string }{
	{`hello`, "begin"},
	{` ADH18/keepAlive`, "begin"},
	{"\ufeffADH18/keepAlive", "begin"},
	{`adh18/keepAlive`, "begin"},
	{"ADH18/keepAlive\xff", "UTF-8"},
	{status("[]/['\xed\xa0\x80']"), "UTF-8"},
	{`ADH`, "unknown message code"},
	{`ADH99/keepAlive`, "unknown message code"},
	{`ADH33/AC1/1/1`, "unknown message code"},
	{`ADH01/2/web-1`, "unknown message code"},
	{`ADH27/keepGotIt/AC1/None/[]/[]`, "unknown message code"},
	{`ADH27IV/keepGotIt/AC1/None/[]/[]`, "unknown message code"},
	{`ADH27i/keepGotIt/AC1/None/[]/[]`, "unknown message code"},
	{`ADH18keepAlive`, "unknown message code"},
	{`ADH18`, `ACK ""`},
	{`ADH18/keepalive`, `ACK "keepalive"`},
	{`ADH18/keepAlive `, `ACK "keepAlive "`},
	{"ADH18/keepAlive\n", `ACK "keepAlive\n"`},
	{`ADH18/` + strings.Repeat("x", 500_000), "(500000 bytes)"},
	{`ADH18/keepAlive/`, "something follows"},
	{`ADH18/keepAlive/1`, "something follows"},
	{`ADH56/keepAlive/{}`, `ACK "keepAlive"`},
	{`ADH56/keepRogerThat`, "want a literal"},
	{`ADH56/keepRogerThat/`, "want a literal"},
	{`ADH56/keepRogerThat/None`, `"systemInfo" is not an object`},
	{`ADH56/keepRogerThat/['hostname']`, `"systemInfo" is not an object`},
	{`ADH56/keepRogerThat/{}`, `"hostname" is missing`},
	{`ADH56/keepRogerThat/{'hostname': 'a', 'localAddrsIPV4': []}`, `"MACAddress" is missing`},
	{`ADH56/keepRogerThat/{'hostname': 'a', 'MACAddress': 'm'}`, `"localAddrsIPV4" is missing`},
	{`ADH56/keepRogerThat/{'Hostname': 'a', 'localAddrsIPV4': [], 'MACAddress': 'm'}`, `"hostname" is missing`},
	{`ADH56/keepRogerThat/{'hostname': None, 'localAddrsIPV4': [], 'MACAddress': 'm'}`, `"hostname": want a string`},
	{`ADH56/keepRogerThat/{'hostname': 1, 'localAddrsIPV4': [], 'MACAddress': 'm'}`, `"hostname": want a string`},
	{`ADH56/keepRogerThat/{'hostname': 'a', 'localAddrsIPV4': '10.0.0.5', 'MACAddress': 'm'}`, `"localAddrsIPV4" is not a list`},
	{`ADH56/keepRogerThat/{'hostname': 'a', 'localAddrsIPV4': [1], 'MACAddress': 'm'}`, `"localAddrsIPV4": want a string`},
	{textOf(`1, 'x': 2`), `"x" stands twice`},
	{textOf(`1, '\x78': 2`), `"x" stands twice`},
	{textOf(`1, u'x': 2`), `"x" stands twice`},
	{textOf(`{'y': {'a': 1, "a": 2}}`), `"a" stands twice`},
	{textOf(`1`) + ` `, "something follows"},
	{textOf(`1`) + `/None`, "something follows"},
	{textOf(strings.Repeat(`[`, MaxDepth) + strings.Repeat(`]`, MaxDepth)), "deeper than 16"},
	{textOf(strings.Repeat(`(`, 500_000)), "deeper than 16"},
	{`ADH56/keepRogerThat/` + strings.Repeat(`{'a':`, 150_000), "deeper than 16"},
	{textOf(``), "want a literal"},
	{textOf(`null`), "want a literal"},
	{textOf(`nan`), "want a literal"},
	{textOf(`__import__('os').system('true')`), "want a literal"},
	{textOf(`open('/etc/passwd')`), "want a literal"},
	{textOf(`b'a'`), "want a literal"},
	{textOf(`r'a'`), "want a literal"},
	{textOf(`ur'a'`), "want a literal"},
	{textOf(`f'a'`), "want a literal"},
	{textOf(`u`), "want a literal"},
	{textOf(`+1`), "want a literal"},
	{textOf(`1j`), "want a number"},
	{textOf(`1-1`), "want a number"},
	{textOf(`007`), "want a number"},
	{textOf(`-`), "want a number"},
	{textOf(`1 + 1`), "want a comma"},
	{textOf(`'a' 'b'`), "want a comma"},
	{textOf(`'a''b'`), "want a comma"},
	{textOf(`'''a'''`), "want a comma"},
	{textOf(`['a' 'b']`), "want a comma"},
	{textOf(`['a',]`), "a comma before ]"},
	{textOf(`['a',,'b']`), "want a literal"},
	{textOf(`[,]`), "want a literal"},
	{textOf(`['a')`), "want a comma or ]"},
	{textOf(`('a')`), "want a comma or )"},
	{textOf(`('a','b',)`), "a comma before )"},
	{textOf(`{1: 2}`), "key of a dict"},
	{textOf(`{'a', 'b'}`), "want a colon"},
	{textOf(`{b'a': 1}`), "key of a dict"},
	{textOf(`{'a': 1,}`), "a comma before }"},
	{textOf(`'a`), "does not end"},
	{textOf(`'a\`), "does not end"},
	{textOf(`'a\'`), "does not end"},
	{textOf("'a\nb'"), "line end or a NUL"},
	{textOf("'a\x00b'"), "line end or a NUL"},
	{textOf("'a\\\x00b'"), "line end or a NUL"},
	{textOf(`'\x4'`), "within an escape"},
	{textOf(`'\xg0'`), "no character"},
	{textOf(`'\x+1'`), "no character"},
	{textOf(`'\u123'`), "within an escape"},
	{textOf(`'\u12_3'`), "no character"},
	{textOf(`'\ud800'`), "no character"},
	{textOf(`'\udfff'`), "no character"},
	{textOf(`'\ud83d\ude00'`), "no character"},
	{textOf(`'\U0000d800'`), "no character"},
	{textOf(`'\U00110000'`), "no character"},
	{textOf(`'\N{DIGIT ONE}'`), "names of characters"},
	{`ADH27I`, `ACK ""`},
	{`ADH27I/keepAlive/AC1/None/[]/[]`, `ACK "keepAlive"`},
	{`ADH27I/keepGotIt`, "no task number"},
	{`ADH27I/keepGotIt/`, "no task number"},
	{`ADH27I/keepGotIt/XX1/None/[]/[]`, `no task number: "XX1"`},
	{`ADH27I/keepGotIt/'AC1'/None/[]/[]`, "no task number"},
	{`ADH27I/keepGotIt/AC1`, "oncall: want a list"},
	{`ADH27I/keepGotIt/AC1/None`, "oncall: want a list"},
	{`ADH27I/keepGotIt/AC1/None/[]`, "complete: want a list"},
	{`ADH27I/keepGotIt/AC1/[]/[]`, "complete: want / before"},
	{status(`[]/[] `), "oncall: want a list"},
	{status(`[]/[]/`), "oncall: want a list"},
	{status(`[]/None`), "oncall: want a list"},
	{status(`None/[]`), "complete: want a list"},
	{status(`[][]`), "oncall: want / before"},
	{status(`[]-[]`), "oncall: want / before"},
	{status(`[]/[ 'a', 1]`), "oncall: want a list of strings"},
	{status(`[]/[1, 'a']`), "oncall: want a list of strings"},
	{status(`[]/[None]`), "oncall: want a list of strings"},
	{status(`[]/[['a']]`), "oncall: want a list of strings"},
	{status(`[]/('a',)`), "oncall: want a list"},
	{status(`[]/['a',]`), "oncall: want a list of strings"},
	{status(`[]/[,'a']`), "oncall: want a list of strings"},
	{status(`[]/['a' 'b']`), "want [ or a comma"},
	{status(`[]/['a''b']`), "want [ or a comma"},
	{status(`[]/[b'a']`), "want [ or a comma"},
	{status(`[]/[ur'a']`), "want [ or a comma"},
	{status(`[]/['a\']`), "oncall: want a list of strings"},
	{status(`[]/['\\'a']`), "want [ or a comma"},
	{status(`[]/['a"]`), "does not begin"},
	{status(`[]/['\ud800']`), "oncall: an escape"},
	{status("[]/['a\nb']"), "line end or a NUL"},
	{status(`['\ud800']/[]`), "complete: an escape"},
	{`ADH27I/keepGotIt/AC1/` + strings.Repeat("]", 500_000), "want a list of strings"},
}

func TestAbnormalTexts(t *testing.T) {
	t.Parallel()
	for _, a := range abnormalTexts {
		m, err := Decode([]byte(a.body), OldClient)
		if m != nil || !errors.Is(err, ErrAbnormal) || !strings.Contains(err.Error(), a.want) {
			t.Errorf("%.200s: %v, %v, want an error with %q", a.body, m, err, a.want)
		} else if len(err.Error()) > 1024 {
			t.Errorf("%.200s: an error of %d bytes", a.body, len(err.Error()))
		}
	}
}

func texts(working string, complete, oncall []string) Status {
	return Status{Task: "AC1", Phase: PhaseReceived, Working: working, Lists: true, Complete: complete, OnCall: oncall}
}

// acceptedTexts is what else decodes than what EncodeText writes.
var acceptedTexts = []struct {
	body string
	want Message
}{
	{`ADH56/keepRogerThat/{u'MACAddress' : u'm' ,'localAddrsIPV4':('1',), "hostname":"\u4f60\xe4",'n':[1, -2.5e-07, 12L, True, False, None, (), ('a', {})]}`,
		Info{Hostname: "你ä", IPv4: []string{"1"}, MAC: "m"}},
	{textOf(strings.Repeat(`[`, MaxDepth-1) + strings.Repeat(`]`, MaxDepth-1)), Info{Hostname: "a", IPv4: []string{}, MAC: "m"}},
	{textOf(`1, 'os': None, 'tags': {}`), Info{Hostname: "a", IPv4: []string{}, MAC: "m"}},
	{status(`[]/[]`), texts("", []string{}, []string{})},
	{`ADH27I/keepGotIt/AC1//[]/[]`, texts("", []string{}, []string{})},
	{status("[ ]/[\t'a' ,\r\n\"b\" ]"), texts("", []string{}, []string{"a", "b"})},
	{status(`[]/[u'\u4f60', U"b", '']`), texts("", []string{}, []string{"你", "b", ""})},
	{status(`[]/['\a\b\f\n\r\t\v\\\'\"', '\0\12\1234\777\8', '\x41\u0042\U00000043']`),
		texts("", []string{}, []string{"\a\b\f\n\r\t\v\\'\"", "\x00\nS4\u01ff\\8", "ABC"})},
	{status("[]/['a\\\nb\\\r\nc\\\rd', 'C:\\dir\\qé']"), texts("", []string{}, []string{"abcd", `C:\dir\qé`})},
	{status(`['/[', ']/[', "]/['", '/[]']/["']/['"]`), texts("", []string{"/[", "]/[", "]/['", "/[]"}, []string{"']/['"})},
	// The current command may hold anything; quotes in it open nothing.
	{`ADH27I/keepGotIt/AC1/None /[]/[]`, texts("None ", []string{}, []string{})},
	{`ADH27I/keepGotIt/AC1/'ipconfig'/[]/[]`, texts("'ipconfig'", []string{}, []string{})},
	{`ADH27I/keepGotIt/AC1/it's/[]/['it\'s']`, texts("it's", []string{}, []string{"it's"})},
	{`ADH27I/keepGotIt/AC1/[]/['a']/['b']/[]/['c']`, texts("[]/['a']/['b']", []string{}, []string{"c"})},
	{`ADH27I/keepGotIt/AC1/echo ['/['a']/["]"]`, texts("echo ['", []string{"a"}, []string{"]"})},
	{`ADH27I/keepGotIt/AC1/AC2/None/[]/[]/[]`, texts("AC2/None/[]", []string{}, []string{})},
	{"ADH27I/keepGotIt/AC1/a\n/ \\/[]/[]", texts("a\n/ \\", []string{}, []string{})},
}

func TestAcceptedTexts(t *testing.T) {
	t.Parallel()
	for _, a := range acceptedTexts {
		m, err := Decode([]byte(a.body), OldClient)
		if err != nil || !reflect.DeepEqual(m, a.want) {
			t.Errorf("%s:\n%+v, %v, want\n%+v", a.body, m, err, a.want)
		}
		if _, ok := m.(Status); ok && splits([]byte(a.body)) != 1 {
			t.Errorf("%s can be read in %d ways", a.body, splits([]byte(a.body)))
		}
	}
}

func TestEncodeTextCannotSay(t *testing.T) {
	t.Parallel()
	good := Status{Task: "AC1", Phase: PhaseEnded, Lists: true}
	if body, ok := EncodeText(good); !ok || string(body) != `ADH27III/keepGotIt/AC1/None/[]/[]` {
		t.Errorf("%s, %v", body, ok)
	}
	for name, spoil := range map[string]func(*Status){
		"no lists": func(s *Status) { s.Lists = false },
		"seq":      func(s *Status) { s.Seq = 1 },
		"result":   func(s *Status) { s.Result = &Result{} },
		"None":     func(s *Status) { s.Working = "None" },
		"number":   func(s *Status) { s.Task = "AC1/" },
		"phase 0":  func(s *Status) { s.Phase = 0 },
		"phase 4":  func(s *Status) { s.Phase = 4 },
	} {
		s := good
		spoil(&s)
		if body, ok := EncodeText(s); ok || body != nil {
			t.Errorf("%s: %s", name, body)
		}
	}
	for _, m := range []Message{Answer{Task: "AC1", RCC: 1}, Hello{}, Confirm{}} {
		if body, ok := EncodeText(m); ok || body != nil {
			t.Errorf("%s: %s", m.Code(), body)
		}
	}
	body, _ := EncodeText(Status{Task: "AC1", Phase: PhaseWorking, Lists: true, Working: "a\xff", OnCall: []string{"\xffb"}})
	if want := "ADH27II/keepGotIt/AC1/a\ufffd/[]/['\ufffdb']"; string(body) != want {
		t.Errorf("%s, want %s", body, want)
	}
}

// hostileTexts are of the largest size, and made to cost as much as they can.
func hostileTexts() map[string]struct {
	body string
	good bool
} {
	fill := func(head, each, tail string) string {
		return head + strings.TrimSuffix(strings.Repeat(each, (MaxFrame-len(head)-len(tail))/len(each)), ",") + tail
	}
	head := strings.TrimSuffix(textOf(``), `}`)
	type hostile = struct {
		body string
		good bool
	}
	return map[string]hostile{
		"texts":            {fill(status(`[`), `'',`, `]/[]`), true},
		"beginnings":       {fill(status(``), `/['`, `/[]/[]`), true},
		"both quotes":      {fill(status(``), `/['", "`, `/[]/[]`), true},
		"both quotes, bad": {fill(status(`[]/['`), `/['", "`, `']`), false},
		"backslashes":      {fill(status(`[]/['`), `\\`, `']`), true},
		"escaped quotes":   {fill(status(`[]/['`), `\'`, `']`), true},
		"no beginning":     {fill(status(`[]/["`), `\"\\`, `']`), false},
		"blanks in a list": {fill(status(`[]/[`), ` `, `]`), true},
		"escapes":          {fill(status(`[]/['`), `\x00`, `']`), true},
		"empty lists":      {fill(`ADH27I/keepGotIt/AC1/`, `/[]`, ``), true},
		"slashes":          {fill(`ADH27I/keepGotIt/`, `/`, `/[]/[]`), false},
		"dicts":            {fill(head+`[`, `{},`, `]}`), true},
		"growing escapes":  {fill(head+`'`, `\0`, `'}`), true},
		"control bytes":    {fill(head+`'`, "\x01", `'}`), true},
		"digits":           {fill(head, `9`, `}`), true},
		"blanks":           {fill(head+`0,`, ` `, `'z': 1}`), true},
		"deep":             {fill(head, `(`, ``), false},
		"no end":           {fill(head+`'`, `\'`, ``), false},
	}
}

// What a body costs in memory is bounded by its size, and its time too: with a step
// back for each byte this would take minutes. It can't run beside other tests, because
// it counts what the process allocates.
func TestDecodeTextMemory(t *testing.T) {
	const most = 64 // as for JSON
	for name, hostile := range hostileTexts() {
		body := []byte(hostile.body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(body, OldClient)
		runtime.ReadMemStats(&after)
		if (err == nil) != hostile.good {
			t.Errorf("%s: %.200v", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > most*MaxFrame {
			t.Errorf("%s: %d bytes cost %d, want at most %d times as many", name, len(body), got, most)
		} else {
			t.Logf("%s: %d bytes cost %d", name, len(body), got)
		}
	}
}

// The text form against the JSON form of the same messages.
func BenchmarkDecodeForms(b *testing.B) {
	for _, g := range goldenTexts {
		for form, body := range map[string][]byte{"text": []byte(g.body), "json": Encode(g.message)} {
			b.Run(strings.ReplaceAll(g.name, " ", "-")+"/"+form, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					if _, err := Decode(body, OldClient); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	for name, hostile := range hostileTexts() {
		b.Run("hostile-"+strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			body := []byte(hostile.body)
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := Decode(body, OldClient); (err == nil) != hostile.good {
					b.Fatal(err)
				}
			}
		})
	}
}
