package wire

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// The text form, which the clients of version 0.7 speak: fields that are parted by
// '/', and Python literals where a value has parts.
//
//	ADH18/keepAlive
//	ADH56/keepRogerThat/{'hostname': 'pc-1', 'localAddrsIPV4': ['10.0.0.5'], 'MACAddress': '52-54-00-12-34-56'}
//	ADH27I/keepGotIt/AC131/None/[]/['ipconfig', 'dir C:/']
//	ADH27II/keepGotIt/AC131/ipconfig/[]/['ipconfig', 'dir C:/']
//	ADH27III/keepGotIt/AC131/None/['ipconfig']/['dir C:/']
//	phase    ACK       task  current  complete  oncall
//
// The current command stands bare and may hold anything, '/' and what looks like a
// list among it. It ends where the two lists begin that end the message, and lastList
// finds only one place for each: no message can be read in two ways. A command that
// runs and is named None can't be told from none.

const (
	heartbeatText = "ADH18/keepAlive" // the heartbeat as all of these clients write it
	ackStatus     = "keepGotIt"
)

// textPhases are the phases as they stand behind ADH27; at 0 there is none.
var textPhases = []string{PhaseReceived: "I", PhaseWorking: "II", PhaseEnded: "III"}

// decodeText reads the body of a message of the text form. The body is UTF-8.
func decodeText(body []byte) (Message, error) {
	if !bytes.HasPrefix(body, []byte("ADH")) {
		return nil, ofKind(KindNotMessage, abnormal("body does not begin with { or ADH"))
	}
	code, rest, _ := bytes.Cut(body, []byte("/"))
	roman, status := bytes.CutPrefix(code, []byte(CodeStatus))
	phase := slices.Index(textPhases, string(roman))
	var m Message
	var err error
	switch {
	case string(code) == string(CodeHeartbeat):
		m, err = textHeartbeat(rest)
	case string(code) == string(CodeInfo):
		m, err = textInfo(rest)
	case status && phase > 0:
		m, err = textStatus(Phase(phase), rest)
	default:
		return nil, ErrUnknownCode
	}
	if err != nil {
		return nil, ofKind(KindBadText, abnormal("message %s: %s", code, strings.TrimPrefix(err.Error(), ErrAbnormal.Error()+": ")))
	}
	return m, nil
}

// cutACK returns what follows the ACK and its '/', nil if the message ends there.
func cutACK(b []byte, want string) ([]byte, error) {
	ack, rest, more := bytes.Cut(b, []byte("/"))
	if string(ack) != want {
		return nil, abnormal("ACK %s, want %q", quote(string(ack)), want)
	}
	if !more {
		return nil, nil
	}
	return rest, nil
}

func textHeartbeat(b []byte) (Message, error) {
	rest, err := cutACK(b, ackHeartbeat)
	if err == nil && rest != nil {
		err = abnormal("something follows the ACK")
	}
	return Heartbeat{}, err
}

func textInfo(b []byte) (Message, error) {
	rest, err := cutACK(b, ackInfo)
	if err != nil {
		return nil, err
	}
	raw, err := literalJSON(rest)
	if err != nil {
		return nil, err
	}
	return readInfo(object{
		{[]byte("ACK"), []byte(`"` + ackInfo + `"`)},
		{[]byte("systemInfo"), raw},
	}, OldClient)
}

func textStatus(phase Phase, b []byte) (Message, error) {
	rest, err := cutACK(b, ackStatus)
	if err != nil {
		return nil, err
	}
	task, rest, _ := bytes.Cut(rest, []byte("/"))
	m := Status{Task: string(task), Phase: phase, Lists: true}
	if !ValidNumber(m.Task) {
		return nil, abnormal("no task number: %s", quote(m.Task))
	}
	if rest, m.OnCall, err = lastField(rest); err != nil {
		return nil, abnormal("oncall: %s", strings.TrimPrefix(err.Error(), ErrAbnormal.Error()+": "))
	}
	if rest, m.Complete, err = lastField(rest); err != nil {
		return nil, abnormal("complete: %s", strings.TrimPrefix(err.Error(), ErrAbnormal.Error()+": "))
	}
	if m.Working = string(rest); m.Working == "None" {
		m.Working = ""
	}
	return m, nil
}

// lastField reads the list that is the last field, and returns the fields before it.
func lastField(b []byte) (before []byte, list []string, err error) {
	if before, list, err = lastList(b); err != nil {
		return nil, nil, err
	}
	before, parted := bytes.CutSuffix(before, []byte("/"))
	if !parted {
		return nil, nil, abnormal("want / before the list")
	}
	return before, list, nil
}

// EncodeText returns the body of m in the text form, as a client on Python 3 writes
// it. It returns false for what the form can't say: other messages than Heartbeat,
// Info and Status, and a Status with a sequence number, a result, no lists, a task
// number or phase that is none, or a command of the name None. What is not UTF-8
// becomes U+FFFD.
func EncodeText(m Message) (body []byte, ok bool) {
	switch m := m.(type) {
	case Heartbeat:
		return []byte(heartbeatText), true
	case Info:
		return m.textBody(), true
	case Status:
		if m.Phase < PhaseReceived || m.Phase > PhaseEnded || !ValidNumber(m.Task) || !m.Lists || m.Seq != 0 || m.Result != nil || m.Working == "None" {
			return nil, false
		}
		working := strings.ToValidUTF8(m.Working, "\ufffd")
		if working == "" {
			working = "None"
		}
		body = append(body, string(CodeStatus)+textPhases[m.Phase]+"/"+ackStatus+"/"+m.Task+"/"+working+"/"...)
		body = append(appendReprList(body, m.Complete), '/')
		return appendReprList(body, m.OnCall), true
	}
	return nil, false
}

func (m Info) textBody() []byte {
	b := []byte(string(CodeInfo) + "/" + ackInfo + "/{'hostname': ")
	b = appendRepr(b, m.Hostname)
	b = appendReprList(append(b, ", 'localAddrsIPV4': "...), m.IPv4)
	b = appendRepr(append(b, ", 'MACAddress': "...), m.MAC)
	for _, more := range [][2]string{{"os", m.OS}, {"arch", m.Arch}, {"version", m.Version}} {
		if more[1] != "" {
			b = appendRepr(append(b, ", '"+more[0]+"': "...), more[1])
		}
	}
	if len(m.Tags) > 0 {
		b = append(b, ", 'tags': {"...)
		for i, name := range slices.Sorted(maps.Keys(m.Tags)) {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(appendRepr(b, name), ": "...)
			b = appendRepr(b, m.Tags[name])
		}
		b = append(b, '}')
	}
	return append(b, '}')
}
