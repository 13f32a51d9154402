package wire

import (
	"errors"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

const heartbeatRest = `"ACK":"keepAlive","phase":1}`

func nested(depth int) string { // the message itself is the first level
	return `{"flag":"ADH18","x":` + strings.Repeat(`[`, depth-1) + strings.Repeat(`]`, depth-1) + `,` + heartbeatRest
}

func nestedObjects(depth int) string {
	return `{"flag":"ADH18","x":` + strings.Repeat(`{"a":`, depth-1) + `1` + strings.Repeat(`}`, depth-1) + `,` + heartbeatRest
}

func result(members string) string {
	return `{"flag":"ADH27","code":"AC1","phase":3,"working":null,"seq":1,"result":{"command":"a","exit_code":0,` +
		`"duration_ms":1,"stdout":"","stderr":"","stdout_bytes":0,"stderr_bytes":0,"truncated":false` + members + `}}`
}

func resultWith(old, new string) string { return strings.Replace(result(""), old, new, 1) }

func info(system string) string {
	return `{"flag":"ADH56","ACK":"keepRogerThat","systemInfo":` + system + `}`
}

func hello(id, instance, udp string) string {
	return `{"flag":"ADH01","version":2,"id":` + id + `,"instance":` + instance + `,"udp":` + udp + `}`
}

func found(rest string) string { return `{"flag":"ADH37","taskId":"AC1","found":true,` + rest + `}` }

// abnormalBodies is each kind of abnormal data, and a part of the error, so that a
// body is refused for its own fault and for no other.
var abnormalBodies = []struct {
	from       Peer
	body, want string
}{
	// Not a JSON object.
	{OldClient, ``, "begin"},
	{OldClient, ` {"flag":"ADH18",` + heartbeatRest, "begin"},
	{OldClient, "\ufeff" + `{"flag":"ADH18",` + heartbeatRest, "begin"},
	{OldClient, `[{"flag":"ADH18"}]`, "begin"},
	{Agent, `ADH18/keepAlive`, "begin"}, // old clients only speak the text form
	{Listener, `ADH18/keepAlive`, "begin"},
	{OldClient, `"ADH18"`, "begin"},
	{OldClient, `null`, "begin"},
	{OldClient, `{`, "malformed"},
	{OldClient, `{"flag":"ADH18",` + heartbeatRest + ` trailing`, "malformed"},
	{OldClient, `{"flag":"ADH18",` + heartbeatRest + `{}`, "malformed"},
	{OldClient, `{"flag":"ADH18",` + heartbeatRest + `}`, "malformed"},
	{OldClient, `{"flag":"ADH18","phase":1,}`, "malformed"},
	{OldClient, `{flag:"ADH18"}`, "malformed"},
	{OldClient, `{'flag':'ADH18'}`, "malformed"},
	{OldClient, `{"flag":"ADH18","x":NaN,` + heartbeatRest, "malformed"},
	{OldClient, `{"flag":"ADH18","x":01,` + heartbeatRest, "malformed"},
	{OldClient, `{"flag":"ADH18","x":0x1,` + heartbeatRest, "malformed"},
	{OldClient, `{"flag":"ADH18","x":"` + "\n" + `",` + heartbeatRest, "malformed"},
	{OldClient, `{"flag":"ADH18","x":"\x",` + heartbeatRest, "malformed"},
	{OldClient, `{"flag":"ADH18","x":None,` + heartbeatRest, "malformed"},
	{OldClient, `{"flag":"ADH18",` + heartbeatRest + "\x00", "malformed"},
	{OldClient, `{"flag":"ADH18","x":"` + "\xff" + `",` + heartbeatRest, "UTF-8"},
	{OldClient, `{"flag":"ADH18","x":"` + "\xed\xa0\x80" + `",` + heartbeatRest, "UTF-8"},
	{OldClient, `{"flag":"ADH18","x":"` + "\xc0\xaf" + `",` + heartbeatRest, "UTF-8"},
	{OldClient, "{\xff", "UTF-8"},

	// Depth.
	{OldClient, nested(MaxDepth + 1), "deeper than 16"},
	{OldClient, nestedObjects(MaxDepth + 1), "deeper than 16"},
	{OldClient, info(`{"hostname":"a","localAddrsIPV4":[],"MACAddress":"","x":` +
		strings.Repeat(`[`, MaxDepth-1) + strings.Repeat(`]`, MaxDepth-1) + `}`), "deeper than 16"},
	{OldClient, strings.Repeat(`{"a":`, 100_000), "malformed"},
	{OldClient, `{"a":` + strings.Repeat(`[`, MaxFrame-5), "malformed"},

	// Names that stand twice.
	{OldClient, `{"flag":"ADH18","flag":"ADH18",` + heartbeatRest, `"flag" stands twice`},
	{OldClient, `{"flag":"ADH18","\u0066lag":"ADH18",` + heartbeatRest, `"flag" stands twice`},
	{OldClient, `{"flag":"ADH18","x\/y":1,"x/y":2,` + heartbeatRest, `"x/y" stands twice`},
	{OldClient, `{"flag":"ADH18","":1,"":2,` + heartbeatRest, `"" stands twice`},
	{OldClient, `{"flag":"ADH18","\ud83d\ude00":1,"😀":2,` + heartbeatRest, `stands twice`},
	{OldClient, `{"flag":"ADH18","\ud800":1,"\udbff":2,` + heartbeatRest, `stands twice`},
	{OldClient, `{"flag":"ADH18","x":{"a":1,"b":[{"c":1,"c":2}]},` + heartbeatRest, `"c" stands twice`},
	{OldClient, `{"flag":"ADH18","x":{"y":{},"a":1,"a":{}},` + heartbeatRest, `"a" stands twice`},
	{OldClient, `{"flag":"ADH18","a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"j":1,` + heartbeatRest, `"j" stands twice`},
	{OldClient, `{"flag":"ADH18","a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"a":1,` + heartbeatRest, `"a" stands twice`},
	{OldClient, `{"flag":"ADH18","` + strings.Repeat("a", 100_000) + `":1,"` + strings.Repeat("a", 100_000) + `":1,` + heartbeatRest, "(100000 bytes) stands twice"},

	// The code.
	{OldClient, `{}`, `"flag" is missing`},
	{OldClient, `{"Flag":"ADH18",` + heartbeatRest, `"flag" is missing`},
	{OldClient, `{"x":{"flag":"ADH18"},` + heartbeatRest, `"flag" is missing`},
	{OldClient, `{"flag":null,` + heartbeatRest, `"flag": want a string`},
	{OldClient, `{"flag":18,` + heartbeatRest, `"flag": want a string`},
	{OldClient, `{"flag":["ADH18"],` + heartbeatRest, `"flag": want a string`},
	{OldClient, `{"flag":"ADH99"}`, "unknown message code"},
	{OldClient, `{"flag":"adh18",` + heartbeatRest, "unknown message code"},
	{OldClient, `{"flag":"ADH18 ",` + heartbeatRest, "unknown message code"},
	{Agent, `{"flag":""}`, "unknown message code"},
	{Agent, hello(`"a"`, `"b"`, `1`), "not for this peer"},
	{Listener, hello(`"a"`, `"b"`, `1`), "not for this peer"},
	{OldClient, `{"flag":"ADH36","taskId":"AC1"}`, "not for this peer"},
	{OldClient, `{"flag":"ADH35","seq":1}`, "not for this peer"},
	{Agent, `{"flag":"ADH02","refused":"no"}`, "not for this peer"},
	{Agent, `{"flag":"ADH34","action":"info"}`, "not for this peer"},
	{Agent, `{"flag":"ADH37","taskId":"AC1","found":false}`, "not for this peer"},
	{Listener, `{"flag":"ADH18",` + heartbeatRest, "not for this peer"},
	{Listener, `{"flag":"ADH36","taskId":"AC1"}`, "not for this peer"},
	{Peer(3), `{"flag":"ADH18",` + heartbeatRest, "not for this peer"},

	// Heartbeat.
	{OldClient, `{"flag":"ADH18","phase":1}`, `"ACK" is missing`},
	{OldClient, `{"flag":"ADH18","ack":"keepAlive","phase":1}`, `"ACK" is missing`},
	{OldClient, `{"flag":"ADH18","ACK":"keepalive","phase":1}`, `ACK "keepalive"`},
	{OldClient, `{"flag":"ADH18","ACK":"keepRogerThat","phase":1}`, `ACK "keepRogerThat"`},
	{OldClient, `{"flag":"ADH18","ACK":"` + strings.Repeat("x", 500_000) + `","phase":1}`, `(500000 bytes)`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive"}`, `"phase" is missing`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":true}`, `"phase": want a number`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":"1"}`, `"phase": want a number`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":null}`, `"phase": want a number`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":[1]}`, `"phase": want a number`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":2}`, `"phase" is 2`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":0}`, `"phase" is 0`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":-1}`, `"phase" is -1`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":1.5}`, `"phase" is 1.5`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":1e999}`, `"phase": want a finite number`},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":-1e999}`, `"phase": want a finite number`},

	// Info.
	{OldClient, `{"flag":"ADH56","ACK":"keepAlive","systemInfo":{}}`, `ACK "keepAlive"`},
	{OldClient, `{"flag":"ADH56","ACK":"keepRogerThat"}`, `"systemInfo" is missing`},
	{OldClient, info(`null`), `"systemInfo" is not an object`},
	{OldClient, info(`"{}"`), `"systemInfo" is not an object`},
	{OldClient, info(`[]`), `"systemInfo" is not an object`},
	{OldClient, `{"flag":"ADH56","ACK":"keepRogerThat","systemInfoTask":1}`, `"systemInfoTask" is not an object`},
	{OldClient, info(`{"localAddrsIPV4":[],"MACAddress":""}`), `"hostname" is missing`},
	{OldClient, info(`{"hostname":"a","MACAddress":""}`), `"localAddrsIPV4" is missing`},
	{OldClient, info(`{"hostname":"a","localAddrsIPv4":[],"MACAddress":""}`), `"localAddrsIPV4" is missing`},
	{OldClient, info(`{"hostname":"a","localAddrsIPV4":[]}`), `"MACAddress" is missing`},
	{OldClient, info(`{"hostname":"a","localAddrsIPV4":"10.0.0.5","MACAddress":""}`), `"localAddrsIPV4" is not a list`},
	{OldClient, info(`{"hostname":"a","localAddrsIPV4":null,"MACAddress":""}`), `"localAddrsIPV4" is not a list`},
	{OldClient, info(`{"hostname":"a","localAddrsIPV4":["10.0.0.5",1],"MACAddress":""}`), `"localAddrsIPV4": want a string`},
	{OldClient, info(`{"hostname":"a","localAddrsIPV4":[null],"MACAddress":""}`), `"localAddrsIPV4": want a string`},
	{OldClient, info(`{"hostname":"a","localAddrsIPV4":[["10.0.0.5"]],"MACAddress":""}`), `"localAddrsIPV4": want a string`},
	{Agent, info(`{"hostname":"a","localAddrsIPV4":[],"MACAddress":"","os":1}`), `"os": want a string`},
	{Agent, info(`{"hostname":"a","localAddrsIPV4":[],"MACAddress":"","tags":["a"]}`), `"tags" is not an object`},
	{Agent, info(`{"hostname":"a","localAddrsIPV4":[],"MACAddress":"","tags":{"a":null}}`), `"tags": want a string`},
	{Agent, info(`{"hostname":"a","localAddrsIPV4":[],"MACAddress":"","tags":{"a":"b","c":{}}}`), `"tags": want a string`},

	// Status.
	{OldClient, `{"flag":"ADH27","phase":1,"working":null,"complete":[],"oncall":[]}`, `"code" is missing`},
	{OldClient, `{"flag":"ADH27","code":131,"phase":1,"working":null,"complete":[],"oncall":[]}`, `"code": want a string`},
	{OldClient, `{"flag":"ADH27","code":"AC","phase":1,"working":null,"complete":[],"oncall":[]}`, `"code" is no task number: "AC"`},
	{OldClient, `{"flag":"ADH27","code":"AC1 ","phase":1,"working":null,"complete":[],"oncall":[]}`, `"code" is no task number: "AC1 "`},
	{OldClient, `{"flag":"ADH27","code":"AC{1}","phase":1,"working":null,"complete":[],"oncall":[]}`, `"code" is no task number`},
	{OldClient, `{"flag":"ADH27","code":"AC` + strings.Repeat("1", 900_000) + `","phase":1,"working":null,"complete":[],"oncall":[]}`, `(900002 bytes)`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":4,"working":null,"complete":[],"oncall":[]}`, `"phase" is 4`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":0,"working":null,"complete":[],"oncall":[]}`, `"phase" is 0`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":1,"complete":[],"oncall":[]}`, `"working" is missing`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":2,"working":["a"],"complete":[],"oncall":[]}`, `"working": want a string`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":2,"working":false,"complete":[],"oncall":[]}`, `"working": want a string`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":1,"working":null,"oncall":[]}`, `"complete" is missing`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","complete":[]}`, `"oncall" is missing`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":3,"working":null,"complete":null,"oncall":[]}`, `"complete" is not a list`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":3,"working":null,"complete":[],"oncall":{"a":"b"}}`, `"oncall" is not a list`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":3,"working":null,"complete":[],"oncall":["a",true]}`, `"oncall": want a string`},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a"}`, `"complete" is missing`},
	{OldClient, result(``), `"complete" is missing`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":1,"working":null,"seq":1}`, `"complete" is missing`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"seq":1}`, `"working" is missing`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","complete":[],"seq":1}`, `"oncall" is missing`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","oncall":["b"],"seq":1}`, `"complete" is missing`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":3,"working":null,"seq":1}`, `"result" is missing`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":3,"working":null,"seq":1,"result":null}`, `"result" is missing`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","seq":0}`, `"seq" is 0`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","seq":-1}`, `"seq" is -1`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","seq":1.5}`, `"seq" is 1.5`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","seq":9007199254740992}`, `"seq" is 9.0`},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","seq":"1"}`, `"seq": want a number`},
	{Agent, result(`,"error":1`), `"error": want a string`},
	{Agent, resultWith(`"exit_code":0`, `"exit_code":-2147483649`), `"exit_code" is -2`},
	{Agent, resultWith(`"exit_code":0`, `"exit_code":4294967296`), `"exit_code" is 4`},
	{Agent, resultWith(`"exit_code":0`, `"exit_code":null`), `"exit_code": want a number`},
	{Agent, resultWith(`"duration_ms":1`, `"duration_ms":-1`), `"duration_ms" is -1`},
	{Agent, resultWith(`"stdout_bytes":0`, `"stdout_bytes":-1`), `"stdout_bytes" is -1`},
	{Agent, resultWith(`"stderr_bytes":0`, `"stderr_bytes":0.5`), `"stderr_bytes" is 0.5`},
	{Agent, resultWith(`"truncated":false`, `"truncated":2`), `"truncated" is not true`},
	{Agent, resultWith(`"truncated":false`, `"truncated":"false"`), `"truncated" is not true`},
	{Agent, resultWith(`"truncated":false`, `"truncated":null`), `"truncated" is not true`},
	{Agent, resultWith(`"stdout":""`, `"stdout":null`), `"stdout": want a string`},
	{Agent, resultWith(`"stdout":""`, `"Stdout":""`), `"stdout" is missing`},

	// Answer.
	{OldClient, `{"flag":"ADH33","answerTime":1,"RCC":1}`, `"taskId" is missing`},
	{OldClient, `{"flag":"ADH33","answerTime":1,"RCC":2}`, `"taskId" is missing`},
	{OldClient, `{"flag":"ADH33","taskId":"","answerTime":1,"RCC":1}`, `"taskId" is no task number`},
	{OldClient, `{"flag":"ADH33","taskId":"131","answerTime":1,"RCC":3}`, `"taskId" is no task number`},
	{OldClient, `{"flag":"ADH33","taskId":"AC1","answerTime":1,"RCC":0}`, `"RCC" is 0`},
	{OldClient, `{"flag":"ADH33","taskId":"AC1","answerTime":1,"RCC":4}`, `"RCC" is 4`},
	{OldClient, `{"flag":"ADH33","taskId":"AC1","answerTime":1,"rcc":1}`, `"RCC" is missing`},
	{OldClient, `{"flag":"ADH33","taskId":"AC1","RCC":1}`, `"answerTime" is missing`},
	{OldClient, `{"flag":"ADH33","taskId":"AC1","answerTime":"1","RCC":1}`, `"answerTime": want a number`},
	{OldClient, `{"flag":"ADH33","taskId":"AC1","answerTime":1e999,"RCC":1}`, `"answerTime": want a finite number`},

	// Hello.
	{OldClient, `{"flag":"ADH01","version":1,"id":"a","instance":"b","udp":1}`, `"version" is 1`},
	{OldClient, `{"flag":"ADH01","version":3,"id":"a","instance":"b","udp":1}`, `"version" is 3`},
	{OldClient, `{"flag":"ADH01","version":"2","id":"a","instance":"b","udp":1}`, `"version": want a number`},
	{OldClient, hello(`""`, `"b"`, `1`), `"id" is no host id: ""`},
	{OldClient, hello(`"-a"`, `"b"`, `1`), `"id" is no host id`},
	{OldClient, hello(`"a b"`, `"b"`, `1`), `"id" is no host id`},
	{OldClient, hello(`"a@b"`, `"b"`, `1`), `"id" is no host id`},
	{OldClient, hello(`"`+strings.Repeat("a", 129)+`"`, `"b"`, `1`), `(129 bytes)`},
	{OldClient, hello(`"a"`, `""`, `1`), `"instance" is no instance: ""`},
	{OldClient, hello(`"a"`, `"b c"`, `1`), `"instance" is no instance`},
	{OldClient, hello(`"a"`, `"é"`, `1`), `"instance" is no instance`},
	{OldClient, hello(`"a"`, `"\u007f"`, `1`), `"instance" is no instance`},
	{OldClient, hello(`"a"`, `"`+strings.Repeat("a", 129)+`"`, `1`), `"instance" is no instance`},
	{OldClient, hello(`"a"`, `"b"`, `0`), `"udp" is 0`},
	{OldClient, hello(`"a"`, `"b"`, `65536`), `"udp" is 65536`},
	{OldClient, hello(`"a"`, `"b"`, `1,"tags":[]`), `"tags" is not an object`},

	// What a listener says.
	{Listener, `{"flag":"ADH02","refused":1}`, `"refused": want a string`},
	{Listener, `{"flag":"ADH02","refused":"no","server":1}`, `"server": want a string`},
	{Listener, `{"flag":"ADH02","refused":""}`, `"server" is missing`},
	{Listener, `{"flag":"ADH02","server":"l1","heartbeat_ms":0,"time_ms":1,"session":""}`, `"heartbeat_ms" is 0`},
	{Listener, `{"flag":"ADH02","server":"l1","heartbeat_ms":9e15,"time_ms":1,"session":""}`, `"heartbeat_ms" is 9`},
	{Listener, `{"flag":"ADH02","server":"l1","heartbeat_ms":5,"time_ms":-1,"session":""}`, `"time_ms" is -1`},
	{Listener, `{"flag":"ADH34","action":"stop"}`, `unknown action "stop"`},
	{Listener, `{"flag":"ADH34","action":"start"}`, `"taskId" is missing`},
	{Listener, `{"flag":"ADH34","action":"cancel","taskId":"1"}`, `"taskId" is no task number`},
	{Listener, `{"flag":"ADH35","seq":-1}`, `"seq" is -1`},
	{Listener, `{"flag":"ADH35","seq":1e16}`, `"seq" is 1`},
	{Agent, `{"flag":"ADH36","taskId":"ac1"}`, `"taskId" is no task number`},
	{Listener, `{"flag":"ADH37","taskId":"AC1","found":"yes"}`, `"found" is not true`},
	{Listener, `{"flag":"ADH37","taskId":"AC1","found":null}`, `"found" is not true`},
	{Listener, `{"flag":"ADH37","taskId":"AC1","found":false,"cancelled":"true"}`, `"cancelled" is not true`},
	{Listener, `{"flag":"ADH37","taskId":"AC1","found":false,"cancelled":2}`, `"cancelled" is not true`},
	{Listener, found(`"cancelled":true,"commands":[],"request":"r","timeout_s":1,"deadline_ms":1`), `"found" and "cancelled" are both true`},
	{Listener, found(`"commands":null,"request":"r","timeout_s":1,"deadline_ms":1`), `"commands" is not a list`},
	{Listener, found(`"commands":{},"request":"r","timeout_s":1,"deadline_ms":1`), `"commands" is not a list`},
	{Listener, found(`"commands":["a"],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands" is not a list of pairs`},
	{Listener, found(`"commands":[null],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands" is not a list of pairs`},
	{Listener, found(`"commands":[[]],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands" is not a list of pairs`},
	{Listener, found(`"commands":[["a"]],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands" is not a list of pairs`},
	{Listener, found(`"commands":[["a",1,2]],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands" is not a list of pairs`},
	{Listener, found(`"commands":[[1,"a"]],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands": want a string`},
	{Listener, found(`"commands":[["a","1"]],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands": want a number`},
	{Listener, found(`"commands":[["a",1e999]],"request":"r","timeout_s":1,"deadline_ms":1`), `"commands": want a finite number`},
	{Listener, found(`"commands":[],"request":"r","timeout_s":-1,"deadline_ms":1`), `"timeout_s" is -1`},
	{Listener, found(`"commands":[],"request":"r","timeout_s":604801,"deadline_ms":1`), `"timeout_s" is 604801`},
	{Listener, found(`"commands":[],"request":"r","timeout_s":1,"deadline_ms":-1`), `"deadline_ms" is -1`},
}

func TestAbnormal(t *testing.T) {
	t.Parallel()
	for _, a := range abnormalBodies {
		body := a.body
		if len(body) > 200 {
			body = body[:200] + "..."
		}
		m, err := Decode([]byte(a.body), a.from)
		if m != nil || !errors.Is(err, ErrAbnormal) {
			t.Errorf("%s: %v, %v, want ErrAbnormal", body, m, err)
			continue
		}
		if !strings.Contains(err.Error(), a.want) {
			t.Errorf("%s: %v, want %s", body, err, a.want)
		}
		if strings.Count(err.Error(), ErrAbnormal.Error()) != 1 {
			t.Errorf("%s: %v says it twice", body, err)
		}
		if n := len(err.Error()); n > 300 {
			t.Errorf("%s: an error of %d bytes is not fit for a log", body, n)
		}
		if got, want := errors.Is(err, ErrUnknownCode), a.want == "unknown message code"; got != want {
			t.Errorf("%s: is ErrUnknownCode: %v, want %v", body, got, want)
		}
	}
}

// acceptedBodies is what looks odd and is right.
var acceptedBodies = []struct {
	from Peer
	body string
	want Message
}{
	{OldClient, nested(MaxDepth), Heartbeat{}},
	{OldClient, nestedObjects(MaxDepth), Heartbeat{}},
	{OldClient, `{"flag":"ADH18","x":"[[[[[[[[[[[[[[[[[[[[\"{{{{{{{{{{{{{{{{{",` + heartbeatRest, Heartbeat{}},
	{OldClient, `{"flag":"ADH18","x":"\\",` + heartbeatRest, Heartbeat{}},
	{OldClient, `{"flag":"ADH18","x":[[],[],{},[{}],""],"y":[{"a":1},{"a":1}],"z":{"y":1,"flag":2},` + heartbeatRest, Heartbeat{}},
	{OldClient, `{"flag":"ADH18","FLAG":1,"Flag":2,"Phase":7,` + heartbeatRest, Heartbeat{}},
	{OldClient, "{ \"flag\"\t:\r\n\"ADH18\" , \"ACK\" : \"keepAlive\" , \"phase\" : 1 }\r\n", Heartbeat{}},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":1.0}`, Heartbeat{}},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":1e0}`, Heartbeat{}},
	{OldClient, `{"flag":"ADH18","ACK":"keepAlive","phase":10E-1}`, Heartbeat{}},
	{OldClient, `{"phase":1,"\u0041CK":"keep\u0041live","fl\u0061g":"\u0041DH18"}`, Heartbeat{}},
	{Agent, `{"flag":"ADH18","x":1e999,"seq":"mine",` + heartbeatRest, Heartbeat{}},
	{OldClient, `{"flag":"ADH18","a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,` + heartbeatRest, Heartbeat{}},
	{OldClient, `{"flag":"ADH56","ACK":"keepRogerThat","systemInfoTask":{"hostname":"a\ud800","localAddrsIPV4":["\u0031"],"MACAddress":"m"}}`,
		Info{Hostname: "a\ufffd", IPv4: []string{"1"}, MAC: "m"}},
	{OldClient, `{"flag":"ADH56","ACK":"keepRogerThat","systemInfoTask":7,"systemInfo":{"hostname":"a","localAddrsIPV4":[],"MACAddress":"m"}}`,
		Info{Hostname: "a", IPv4: []string{}, MAC: "m"}},
	{Agent, info(`{"hostname":"a","localAddrsIPV4":[],"MACAddress":"","os":null,"tags":null}`), Info{Hostname: "a", IPv4: []string{}}},
	{Agent, info(`{"hostname":"a","localAddrsIPV4":[],"MACAddress":"","tags":{}}`), Info{Hostname: "a", IPv4: []string{}}},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":2,"working":null,"complete":[],"oncall":[],"seq":"mine"}`,
		Status{Task: "AC1", Phase: PhaseWorking, Lists: true, Complete: []string{}, OnCall: []string{}}},
	{OldClient, `{"flag":"ADH27","code":"AC1","phase":1,"working":null,"complete":[],"oncall":[],"result":"mine"}`,
		Status{Task: "AC1", Phase: PhaseReceived, Lists: true, Complete: []string{}, OnCall: []string{}}},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":2,"working":"a","complete":null,"oncall":null,"seq":null}`,
		Status{Task: "AC1", Phase: PhaseWorking, Working: "a"}},
	{Agent, `{"flag":"ADH27","code":"AC1","phase":3,"complete":["a"],"oncall":[],"seq":3}`,
		Status{Task: "AC1", Phase: PhaseEnded, Lists: true, Complete: []string{"a"}, OnCall: []string{}, Seq: 3}},
	{Agent, result(``), Status{Task: "AC1", Phase: PhaseEnded, Seq: 1, Result: &Result{Command: "a", DurationMS: 1}}},
	{Agent, result(`,"error":null`), Status{Task: "AC1", Phase: PhaseEnded, Seq: 1, Result: &Result{Command: "a", DurationMS: 1}}},
	{Agent, resultWith(`"truncated":false`, `"truncated":1`),
		Status{Task: "AC1", Phase: PhaseEnded, Seq: 1, Result: &Result{Command: "a", DurationMS: 1, Truncated: true}}},
	{Agent, resultWith(`"truncated":false`, `"truncated":0`),
		Status{Task: "AC1", Phase: PhaseEnded, Seq: 1, Result: &Result{Command: "a", DurationMS: 1}}},
	{Agent, resultWith(`"exit_code":0`, `"exit_code":-1`),
		Status{Task: "AC1", Phase: PhaseEnded, Seq: 1, Result: &Result{Command: "a", DurationMS: 1, ExitCode: -1}}},
	{OldClient, `{"flag":"ADH33","taskId":null,"answerTime":1,"RCC":3}`, Answer{Time: 1, RCC: RCCUnreadable}},
	{OldClient, `{"flag":"ADH33","taskId":"","answerTime":-1.5,"RCC":3.0}`, Answer{Time: -1.5, RCC: RCCUnreadable}},
	{OldClient, `{"flag":"ADH33","taskId":"AC1","answerTime":1,"RCC":3}`, Answer{Task: "AC1", Time: 1, RCC: RCCUnreadable}},
	{Listener, `{"flag":"ADH02","refused":"no"}`, Welcome{Refused: "no"}},
	{Listener, `{"flag":"ADH02","refused":"","server":"l1","heartbeat_ms":5,"time_ms":1}`, Welcome{Server: "l1", HeartbeatMS: 5, TimeMS: 1}},
	{Listener, `{"flag":"ADH02","refused":null,"server":"l1","heartbeat_ms":5,"time_ms":1,"session":null}`, Welcome{Server: "l1", HeartbeatMS: 5, TimeMS: 1}},
	{Listener, `{"flag":"ADH35","seq":0}`, Confirm{}},
	{Listener, `{"flag":"ADH37","taskId":"AC1","found":0}`, Found{Task: "AC1"}},
	{Listener, `{"flag":"ADH37","taskId":"AC1","found":false,"cancelled":null}`, Found{Task: "AC1"}},
	{Listener, `{"flag":"ADH37","taskId":"AC1","found":false,"cancelled":false}`, Found{Task: "AC1"}},
	{Listener, `{"flag":"ADH37","cancelled":1,"found":false,"taskId":"AC1"}`, Found{Task: "AC1", Cancelled: true}},
	{Listener, found(`"cancelled":false,"commands":[],"request":"r","timeout_s":1,"deadline_ms":1`),
		Found{Task: "AC1", Found: true, Commands: []Command{}, Request: "r", TimeoutS: 1, DeadlineMS: 1}},
	{Listener, found(`"commands":[ [ "a" , 1e0 ] ],"request":"","timeout_s":604800,"deadline_ms":1`),
		Found{Task: "AC1", Found: true, Commands: []Command{{"a", 1}}, TimeoutS: 604800, DeadlineMS: 1}},
}

func TestAccepted(t *testing.T) {
	t.Parallel()
	for _, a := range acceptedBodies {
		m, err := Decode([]byte(a.body), a.from)
		if err != nil || !reflect.DeepEqual(m, a.want) {
			t.Errorf("%s: %+v, %v, want %+v", a.body, m, err, a.want)
		}
	}
}

// hostileBodies are of the largest size, and made to cost as much as they can.
func hostileBodies() map[string]string {
	var names strings.Builder
	for i := 0; names.Len() < MaxFrame-64; i++ {
		names.WriteString(`"` + strconv.FormatInt(int64(i), 36) + `":0,`)
	}
	fill := func(head, each, tail string) string {
		return head + strings.TrimSuffix(strings.Repeat(each, (MaxFrame-len(head)-len(tail))/len(each)), ",") + tail
	}
	return map[string]string{
		"names":   `{` + names.String() + `"flag":"ADH18",` + heartbeatRest,
		"objects": fill(`{"flag":"ADH18","x":[`, `{},`, `],`+heartbeatRest),
		"lists":   fill(`{"flag":"ADH18","x":[`, strings.Repeat(`[`, 14)+strings.Repeat(`]`, 14)+`,`, `],`+heartbeatRest),
		"texts":   fill(`{"flag":"ADH27","code":"AC1","phase":1,"working":null,"oncall":[],"complete":[`, `"",`, `]}`),
		"escapes": fill(`{"flag":"ADH18","x":"`, `\u0041`, `",`+heartbeatRest),
		"digits":  fill(`{"flag":"ADH18","ACK":"keepAlive","phase":1.`, `0`, `}`),
		"blanks":  fill(`{"flag":"ADH18",`, ` `, heartbeatRest),
	}
}

// What a body costs in memory is bounded by its size. It can't run beside other
// tests, because it counts what the process allocates.
func TestDecodeMemory(t *testing.T) {
	const most = 64 // times the body's own size: a name is 2 slices and a value 1, for 8 bytes on the wire, in lists that grow
	for name, text := range hostileBodies() {
		body := []byte(text)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(body, OldClient)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Errorf("%s: %.200s", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > most*MaxFrame {
			t.Errorf("%s: %d bytes cost %d, want at most %d times as many", name, len(body), got, most)
		} else {
			t.Logf("%s: %d bytes cost %d", name, len(body), got)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	bodies := hostileBodies()
	for _, g := range golden {
		bodies[strings.ReplaceAll("golden "+g.name, " ", "-")] = g.body
	}
	for name, text := range bodies {
		from := OldClient
		for _, g := range golden {
			if g.body == text {
				from = g.from
			}
		}
		b.Run(name, func(b *testing.B) {
			body := []byte(text)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := Decode(body, from); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
