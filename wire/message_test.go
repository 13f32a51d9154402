package wire

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// golden is every message with the bytes that it is on the network. Whoever
// changes a body here breaks the clients that are out there.
var golden = []struct {
	name    string
	from    Peer
	message Message
	body    string
}{
	{"heartbeat", OldClient, Heartbeat{}, `{"flag":"ADH18","ACK":"keepAlive","phase":1}`},
	{"info of an old client", OldClient,
		Info{Hostname: "pc-1", IPv4: []string{"10.0.0.5", "192.168.1.5"}, MAC: "52-54-00-12-34-56"},
		`{"flag":"ADH56","ACK":"keepRogerThat","systemInfo":{"hostname":"pc-1",` +
			`"localAddrsIPV4":["10.0.0.5","192.168.1.5"],"MACAddress":"52-54-00-12-34-56"}}`},
	{"info without addresses", OldClient, Info{IPv4: []string{}},
		`{"flag":"ADH56","ACK":"keepRogerThat","systemInfo":{"hostname":"","localAddrsIPV4":[],"MACAddress":""}}`},
	{"info of an agent", Agent,
		Info{"web-1", []string{"10.0.0.5"}, "52:54:00:12:34:56", "linux", "amd64", "1.2.3",
			map[string]string{"rack": "a<1>&", "Ort": "Köln"}},
		`{"flag":"ADH56","ACK":"keepRogerThat","systemInfo":{"hostname":"web-1","localAddrsIPV4":["10.0.0.5"],` +
			`"MACAddress":"52:54:00:12:34:56","os":"linux","arch":"amd64","version":"1.2.3",` +
			`"tags":{"Ort":"Köln","rack":"a<1>&"}}}`},
	{"status received", OldClient,
		Status{Task: "AC131", Phase: PhaseReceived, Lists: true, Complete: []string{}, OnCall: []string{"ipconfig", "dir C:/"}},
		`{"flag":"ADH27","code":"AC131","phase":1,"working":null,"complete":[],"oncall":["ipconfig","dir C:/"]}`},
	{"status working", OldClient,
		Status{Task: "AC131", Phase: PhaseWorking, Working: "ipconfig", Lists: true, Complete: []string{}, OnCall: []string{"ipconfig", "dir C:/"}},
		`{"flag":"ADH27","code":"AC131","phase":2,"working":"ipconfig","complete":[],"oncall":["ipconfig","dir C:/"]}`},
	{"status ended", OldClient,
		Status{Task: "AC131", Phase: PhaseEnded, Lists: true, Complete: []string{"ipconfig"}, OnCall: []string{"dir C:/"}},
		`{"flag":"ADH27","code":"AC131","phase":3,"working":null,"complete":["ipconfig"],"oncall":["dir C:/"]}`},
	{"status received by an agent", Agent,
		Status{Task: "AC131", Phase: PhaseReceived, Lists: true, Complete: []string{}, OnCall: []string{"a && b"}, Seq: 1},
		`{"flag":"ADH27","code":"AC131","phase":1,"working":null,"complete":[],"oncall":["a && b"],"seq":1}`},
	{"status of an agent at work", Agent,
		Status{Task: "AC131", Phase: PhaseWorking, Working: "uptime", Seq: 2},
		`{"flag":"ADH27","code":"AC131","phase":2,"working":"uptime","seq":2}`},
	{"status of an agent with a result", Agent,
		Status{Task: "AC131", Phase: PhaseEnded, Seq: maxInteger, Result: &Result{
			Command: "uptime", ExitCode: 137, DurationMS: 1500, Stdout: "up\n\x00\t\"é\"", Stderr: "\u2028",
			StdoutBytes: 70000, StderrBytes: 3, Truncated: true, Error: "timed out"}},
		`{"flag":"ADH27","code":"AC131","phase":3,"working":null,"seq":9007199254740991,"result":{"command":"uptime",` +
			`"exit_code":137,"duration_ms":1500,"stdout":"up\n\u0000\t\"é\"","stderr":"\u2028","stdout_bytes":70000,` +
			`"stderr_bytes":3,"truncated":true,"error":"timed out"}}`},
	{"answer of an old client", OldClient, Answer{Task: "AC131", Time: 1763840000.25, RCC: RCCReceived},
		`{"flag":"ADH33","taskId":"AC131","answerTime":1763840000.25,"RCC":1}`},
	{"answer missing", Agent, Answer{Task: "AC131", Time: 1763840000, RCC: RCCMissing, Seq: 7},
		`{"flag":"ADH33","taskId":"AC131","answerTime":1763840000,"RCC":2,"seq":7}`},
	{"answer unreadable", Agent, Answer{Time: 1763840000, RCC: RCCUnreadable, Seq: 8},
		`{"flag":"ADH33","answerTime":1763840000,"RCC":3,"seq":8}`},
	{"hello", OldClient, Hello{ID: "web-1", Instance: "x7f3", UDP: 6655, Tags: map[string]string{"rack": "a1"}},
		`{"flag":"ADH01","version":2,"id":"web-1","instance":"x7f3","udp":6655,"tags":{"rack":"a1"}}`},
	{"hello without tags", OldClient, Hello{ID: ":1", Instance: "~", UDP: 65535},
		`{"flag":"ADH01","version":2,"id":":1","instance":"~","udp":65535}`},
	{"welcome", Listener, Welcome{Server: "l1", HeartbeatMS: 5000, TimeMS: 1763840000123, Session: "c2VjcmV0"},
		`{"flag":"ADH02","server":"l1","heartbeat_ms":5000,"time_ms":1763840000123,"session":"c2VjcmV0"}`},
	{"welcome without a session", Listener, Welcome{Server: "l1", HeartbeatMS: 1},
		`{"flag":"ADH02","server":"l1","heartbeat_ms":1,"time_ms":0,"session":""}`},
	{"refused", Listener, Welcome{Server: "l1", Refused: "another instance is online"},
		`{"flag":"ADH02","server":"l1","refused":"another instance is online"}`},
	{"push start", Listener, Push{ActionStart, "AC131"}, `{"flag":"ADH34","action":"start","taskId":"AC131"}`},
	{"push cancel", Listener, Push{ActionCancel, "AC131"}, `{"flag":"ADH34","action":"cancel","taskId":"AC131"}`},
	{"push move", Listener, Push{Action: ActionMove}, `{"flag":"ADH34","action":"move"}`},
	{"push info", Listener, Push{Action: ActionInfo}, `{"flag":"ADH34","action":"info"}`},
	{"confirm", Listener, Confirm{Seq: 42}, `{"flag":"ADH35","seq":42}`},
	{"lookup", Agent, Lookup{Task: "AC131"}, `{"flag":"ADH36","taskId":"AC131"}`},
	{"found", Listener,
		Found{Task: "AC131", Found: true, Commands: []Command{{"uptime", 10}, {`echo "a>b"`, -0.5}}, Request: "1763840000000-0",
			TimeoutS: 600, DeadlineMS: 1763843600000},
		`{"flag":"ADH37","taskId":"AC131","found":true,"commands":[["uptime",10],["echo \"a>b\"",-0.5]],` +
			`"request":"1763840000000-0","timeout_s":600,"deadline_ms":1763843600000}`},
	{"not found", Listener, Found{Task: "AC131"},
		`{"flag":"ADH37","taskId":"AC131","found":false,"commands":[],"request":"","timeout_s":0,"deadline_ms":0}`},
	{"cancelled", Listener, Found{Task: "AC131", Cancelled: true},
		`{"flag":"ADH37","taskId":"AC131","found":false,"cancelled":true,"commands":[],"request":"","timeout_s":0,"deadline_ms":0}`},
}

func TestGolden(t *testing.T) {
	t.Parallel()
	codes := map[Code]bool{}
	for _, g := range golden {
		codes[g.message.Code()] = true
		if got := string(Encode(g.message)); got != g.body {
			t.Errorf("%s: encoded\n%s\nwant\n%s", g.name, got, g.body)
		}
		if got, want := string(EncodeFrame(g.message)), string(AppendFrame(nil, []byte(g.body))); got != want {
			t.Errorf("%s: frame %q, want %q", g.name, got, want)
		}
		m, err := Decode([]byte(g.body), g.from)
		if err != nil || !reflect.DeepEqual(m, g.message) {
			t.Errorf("%s: decoded %#v, %v\nwant %#v", g.name, m, err, g.message)
		}
	}
	for code := range readers {
		if !codes[code] {
			t.Errorf("no golden bytes for %s", code)
		}
	}
}

// A message keeps nothing of the body, which is the connection's buffer.
func TestDecodeCopies(t *testing.T) {
	t.Parallel()
	for _, g := range golden {
		body := []byte(g.body)
		m, err := Decode(body, g.from)
		if err != nil {
			t.Fatal(err)
		}
		clear(body)
		if !reflect.DeepEqual(m, g.message) {
			t.Errorf("%s: changed with its body: %#v", g.name, m)
		}
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, g := range golden {
		for n := range len(g.body) {
			if m, err := Decode([]byte(g.body[:n]), g.from); !errors.Is(err, ErrAbnormal) || m != nil {
				t.Errorf("%s: first %d bytes of the body gave %v, %v", g.name, n, m, err)
			}
		}
		frame := EncodeFrame(g.message)
		for n := range len(frame) {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if body, err := NewDecoder(strings.NewReader(string(frame[:n])), 0).Next(); err != want || body != nil {
				t.Errorf("%s: first %d bytes of the frame gave %q, %v, want %v", g.name, n, body, err, want)
			}
		}
	}
}

// Each member that is required is missed, and none that is not; each has a type of
// its own, and none counts in another case.
func TestMembers(t *testing.T) {
	t.Parallel()
	for name, optional := range map[string][]string{
		"heartbeat":                        {},
		"info of an agent":                 {"systemInfo.os", "systemInfo.arch", "systemInfo.version", "systemInfo.tags"},
		"status working":                   {},
		"status of an agent at work":       {"seq"},
		"status of an agent with a result": {"seq", "working", "result.error"},
		"answer missing":                   {"seq"},
		"hello":                            {"tags"},
		"welcome":                          {"session"},
		"push start":                       {},
		"confirm":                          {},
		"lookup":                           {},
		"found":                            {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var body string
			var from Peer
			for _, g := range golden {
				if g.name == name {
					body, from = g.body, g.from
				}
			}
			var root map[string]any
			if err := json.Unmarshal([]byte(body), &root); err != nil {
				t.Fatal(err)
			}
			check := func(want bool, what string) {
				t.Helper()
				body, err := json.Marshal(root)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Decode(body, from); (err == nil) != want || err != nil && !errors.Is(err, ErrAbnormal) {
					t.Errorf("%s: %s: %v, want accepted: %v", what, body, err, want)
				}
			}
			checkMembers(root, "", optional, check)
		})
	}
}

func checkMembers(in map[string]any, prefix string, optional []string, check func(bool, string)) {
	for name, was := range maps.Clone(in) {
		path := prefix + name
		isOptional := slices.Contains(optional, path)
		for _, other := range otherTypes(was) {
			in[name] = other
			check(false, path+" of another type")
		}
		in[name] = nil
		check(isOptional || path == "working", path+" is null")
		delete(in, name)
		check(isOptional, path+" is absent")
		for _, change := range []func(string) string{strings.ToUpper, strings.ToLower} {
			if other := change(name); other != name {
				in[other] = was
				check(isOptional, path+" in another case")
				delete(in, other)
			}
		}
		in[name] = was
		if inner, ok := was.(map[string]any); ok && name != "tags" {
			checkMembers(inner, path+".", optional, check)
		}
	}
}

// otherTypes returns a value of each type that is not that of v. Null is the one
// text that may be absent, and 1 and 0 are truth values.
func otherTypes(v any) []any {
	switch v.(type) {
	case string, nil:
		return []any{2, true, []any{}, map[string]any{}}
	case float64:
		return []any{"1", true, []any{}, map[string]any{}}
	case bool:
		return []any{"true", 2, []any{}, map[string]any{}}
	case []any:
		return []any{"", 2, true, map[string]any{}}
	}
	return []any{"", 2, true, []any{}}
}

// What JSON has no way to say does not break a connection.
func TestEncodeMends(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, out Message }{
		{Answer{"AC1", math.NaN(), RCCReceived, 0}, Answer{"AC1", 0, RCCReceived, 0}},
		{Answer{"AC1", math.Inf(-1), RCCReceived, 0}, Answer{"AC1", -math.MaxFloat64, RCCReceived, 0}},
		{Found{"AC1", true, false, []Command{{"a", math.Inf(1)}, {"b\xff", math.NaN()}}, "r", 1, 1},
			Found{"AC1", true, false, []Command{{"a", math.MaxFloat64}, {"b\ufffd", 0}}, "r", 1, 1}},
		{Found{"AC1", true, false, nil, "r", 1, 1}, Found{"AC1", true, false, []Command{}, "r", 1, 1}},
		{Info{Hostname: "a\xc3"}, Info{Hostname: "a\ufffd", IPv4: []string{}}},
	} {
		from := OldClient
		if c.in.Code() == CodeFound {
			from = Listener
		}
		m, err := Decode(Encode(c.in), from)
		if err != nil || !reflect.DeepEqual(m, c.out) {
			t.Errorf("%+v became %+v, %v", c.in, m, err)
		}
	}
}

// The largest report that an agent makes fits in a frame, however bad its output
// is for JSON.
func TestLargestReportFits(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"\x01", "\xff"} {
		output, command := strings.Repeat(bad, 64<<10), strings.Repeat(bad, 8<<10)
		EncodeFrame(Status{Task: "AC1", Phase: PhaseEnded, Seq: maxInteger, Result: &Result{
			Command: command, Stdout: output, Stderr: output, Error: strings.Repeat(bad, 1<<10)}})
		many := slices.Repeat([]string{strings.Repeat(bad, 131)}, 1000)
		EncodeFrame(Status{Task: "AC1", Phase: PhaseReceived, Lists: true, OnCall: many, Seq: maxInteger})
		found := Found{Task: "AC1", Found: true, Request: "1763840000000-0", TimeoutS: 600, DeadlineMS: maxInteger}
		for _, line := range many {
			found.Commands = append(found.Commands, Command{line, -math.MaxFloat64})
		}
		EncodeFrame(found)
	}
}
