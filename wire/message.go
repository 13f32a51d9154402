package wire

import (
	"encoding/json"
)

// Code is the code of a message, its member "flag".
type Code string

// The message codes, and who sends each.
const (
	CodeHello     Code = "ADH01" // agent
	CodeWelcome   Code = "ADH02" // listener
	CodeHeartbeat Code = "ADH18" // host
	CodeStatus    Code = "ADH27" // host
	CodeAnswer    Code = "ADH33" // host
	CodePush      Code = "ADH34" // listener
	CodeConfirm   Code = "ADH35" // listener
	CodeLookup    Code = "ADH36" // agent
	CodeFound     Code = "ADH37" // listener
	CodeInfo      Code = "ADH56" // host
)

// Version is the protocol version that a hello names.
const Version = 2

// Message is one of Hello, Welcome, Heartbeat, Info, Status, Answer, Push,
// Confirm, Lookup and Found.
type Message interface {
	Code() Code
	body() []byte
}

// Peer is who wrote a message. It decides which codes are known and which members
// are required.
type Peer int

const (
	OldClient Peer = iota // a client that has not said hello
	Agent                 // a client that has said hello
	Listener              // a listener, as an agent sees it
)

// Encode returns the body of m. Text in m that is not UTF-8 is mended.
func Encode(m Message) []byte { return m.body() }

// EncodeFrame returns the frame of m.
func EncodeFrame(m Message) []byte {
	body := m.body()
	return AppendFrame(make([]byte, 0, headerSize+len(body)), body)
}

// Decode reads the body of a message that came from the given peer. Every error
// wraps ErrAbnormal; a code that this version does not know gives ErrUnknownCode.
//
// A hello is read from an OldClient only: it is an agent's first message and no
// other.
func Decode(body []byte, from Peer) (Message, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	flag, err := o.text("flag")
	if err != nil {
		return nil, err
	}
	code := Code(flag)
	read, known := readers[code]
	if !known {
		return nil, ErrUnknownCode
	}
	if !read.from(from) {
		return nil, abnormal("message %s is not for this peer to send", code)
	}
	m, err := read.read(o, from)
	if err != nil {
		return nil, abnormal("message %s: %s", code, err.Error()[len(ErrAbnormal.Error())+2:])
	}
	return m, nil
}

type reader struct {
	read func(object, Peer) (Message, error)
	from func(Peer) bool
}

var readers = map[Code]reader{
	CodeHello:     {readHello, func(p Peer) bool { return p == OldClient }},
	CodeWelcome:   {readWelcome, isListener},
	CodeHeartbeat: {readHeartbeat, isHost},
	CodeStatus:    {readStatus, isHost},
	CodeAnswer:    {readAnswer, isHost},
	CodePush:      {readPush, isListener},
	CodeConfirm:   {readConfirm, isListener},
	CodeLookup:    {readLookup, func(p Peer) bool { return p == Agent }},
	CodeFound:     {readFound, isListener},
	CodeInfo:      {readInfo, isHost},
}

func isHost(p Peer) bool     { return p == OldClient || p == Agent }
func isListener(p Peer) bool { return p == Listener }

const (
	ackHeartbeat = "keepAlive"
	ackInfo      = "keepRogerThat"
)

// Heartbeat says that the host is there.
type Heartbeat struct{}

func (Heartbeat) Code() Code { return CodeHeartbeat }

func (Heartbeat) body() []byte {
	return []byte(`{"flag":"ADH18","ACK":"keepAlive","phase":1}`)
}

func readHeartbeat(o object, _ Peer) (Message, error) {
	if ack, err := o.text("ACK"); err != nil {
		return nil, err
	} else if ack != ackHeartbeat {
		return nil, abnormal("ACK %q, want %q", ack, ackHeartbeat)
	}
	if phase, err := o.integer("phase"); err != nil {
		return nil, err
	} else if phase != 1 {
		return nil, abnormal("phase %d, want 1", phase)
	}
	return Heartbeat{}, nil
}

// Info is what a host tells of itself.
type Info struct {
	Hostname string
	IPv4     []string // in the order that the host reports them
	MAC      string

	// Newer members; empty where a client does not know them.
	OS, Arch, Version string
	Tags              map[string]string
}

func (Info) Code() Code { return CodeInfo }

type systemInfo struct {
	Hostname string            `json:"hostname"`
	IPv4     []string          `json:"localAddrsIPV4"`
	MAC      string            `json:"MACAddress"`
	OS       string            `json:"os,omitempty"`
	Arch     string            `json:"arch,omitempty"`
	Version  string            `json:"version,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
}

func (m Info) body() []byte {
	s := systemInfo(m)
	if s.IPv4 == nil {
		s.IPv4 = []string{}
	}
	return encode(struct {
		Flag Code       `json:"flag"`
		ACK  string     `json:"ACK"`
		Info systemInfo `json:"systemInfo"`
	}{CodeInfo, ackInfo, s})
}

func readInfo(o object, _ Peer) (Message, error) {
	if ack, err := o.text("ACK"); err != nil {
		return nil, err
	} else if ack != ackInfo {
		return nil, abnormal("ACK %q, want %q", ack, ackInfo)
	}
	name := "systemInfo"
	if _, ok := o[name]; !ok {
		if _, ok := o["systemInfoTask"]; ok {
			name = "systemInfoTask"
		}
	}
	s, err := o.object(name)
	if err != nil {
		return nil, err
	}
	var m Info
	if m.Hostname, err = s.text("hostname"); err != nil {
		return nil, err
	}
	if m.IPv4, err = s.texts("localAddrsIPV4"); err != nil {
		return nil, err
	}
	if m.MAC, err = s.text("MACAddress"); err != nil {
		return nil, err
	}
	for name, field := range map[string]*string{"os": &m.OS, "arch": &m.Arch, "version": &m.Version} {
		if !s.has(name) {
			continue
		}
		if *field, err = s.text(name); err != nil {
			return nil, err
		}
	}
	m.Tags, err = s.tags("tags")
	return m, err
}

// Phase is how far a host is with a task set.
type Phase int

const (
	PhaseReceived Phase = 1 // the set is there, nothing runs yet
	PhaseWorking  Phase = 2 // a command runs
	PhaseEnded    Phase = 3 // a command has ended
)

// Status is a report on a task set.
type Status struct {
	Task    string
	Phase   Phase
	Working string // the command now running; empty if none

	// Lists says that Complete and OnCall were reported. Old clients report them
	// each time; agents in phase 1 only.
	Lists    bool
	Complete []string
	OnCall   []string

	Seq    int64   // an agent's number for the report; 0 if it has none
	Result *Result // of the command that has ended; nil if the client reports none
}

func (Status) Code() Code { return CodeStatus }

// Result is how one command ended on one host.
type Result struct {
	Command     string
	ExitCode    int   // 128+n for signal n; -1 if it did not start or its end was not seen
	DurationMS  int64 // milliseconds
	Stdout      string
	Stderr      string
	StdoutBytes int64 // before anything was left out
	StderrBytes int64
	Truncated   bool   // something was left out of Stdout or Stderr
	Error       string // empty unless it did not start, timed out, was cancelled or interrupted
}

type resultBody struct {
	Command     string `json:"command"`
	ExitCode    int    `json:"exit_code"`
	DurationMS  int64  `json:"duration_ms"`
	Stdout      string `json:"stdout"`
	Stderr      string `json:"stderr"`
	StdoutBytes int64  `json:"stdout_bytes"`
	StderrBytes int64  `json:"stderr_bytes"`
	Truncated   bool   `json:"truncated"`
	Error       string `json:"error"`
}

func (m Status) body() []byte {
	b := struct {
		Flag     Code        `json:"flag"`
		Task     string      `json:"code"`
		Phase    Phase       `json:"phase"`
		Working  *string     `json:"working"`
		Complete *[]string   `json:"complete,omitempty"`
		OnCall   *[]string   `json:"oncall,omitempty"`
		Seq      int64       `json:"seq,omitempty"`
		Result   *resultBody `json:"result,omitempty"`
	}{Flag: CodeStatus, Task: m.Task, Phase: m.Phase, Seq: m.Seq, Result: (*resultBody)(m.Result)}
	if m.Working != "" {
		b.Working = &m.Working
	}
	if m.Lists {
		complete, oncall := append([]string{}, m.Complete...), append([]string{}, m.OnCall...)
		b.Complete, b.OnCall = &complete, &oncall
	}
	return encode(b)
}

func readStatus(o object, from Peer) (Message, error) {
	var m Status
	var err error
	if m.Task, err = o.taskNumber("code"); err != nil {
		return nil, err
	}
	phase, err := o.integer("phase")
	if err != nil {
		return nil, err
	}
	if phase < 1 || phase > 3 {
		return nil, abnormal("phase %d, want 1, 2 or 3", phase)
	}
	m.Phase = Phase(phase)
	if raw, ok := o["working"]; !ok && from == OldClient {
		return nil, abnormal("member %q is missing", "working")
	} else if ok && string(raw) != "null" {
		if m.Working, err = o.text("working"); err != nil {
			return nil, err
		}
	}
	_, hasComplete := o["complete"]
	_, hasOnCall := o["oncall"]
	if from == OldClient || m.Phase == PhaseReceived || hasComplete || hasOnCall {
		m.Lists = true
		if m.Complete, err = o.texts("complete"); err != nil {
			return nil, err
		}
		if m.OnCall, err = o.texts("oncall"); err != nil {
			return nil, err
		}
	}
	if m.Seq, err = o.seq(from); err != nil {
		return nil, err
	}
	if o.has("result") {
		m.Result, err = o.result()
	} else if m.Phase == PhaseEnded && !m.Lists {
		err = abnormal("member %q is missing", "result")
	}
	return m, err
}

func (o object) result() (*Result, error) {
	in, err := o.object("result")
	if err != nil {
		return nil, err
	}
	var r Result
	for name, field := range map[string]*string{
		"command": &r.Command, "stdout": &r.Stdout, "stderr": &r.Stderr, "error": &r.Error,
	} {
		if name == "error" && !in.has(name) {
			continue // null and absent say the same as empty
		}
		if *field, err = in.text(name); err != nil {
			return nil, err
		}
	}
	code, err := in.integer("exit_code")
	if err != nil {
		return nil, err
	}
	if code < -1<<31 || code > 1<<32-1 { // Windows codes are unsigned
		return nil, abnormal("member %q is out of range", "exit_code")
	}
	r.ExitCode = int(code)
	for name, field := range map[string]*int64{
		"duration_ms": &r.DurationMS, "stdout_bytes": &r.StdoutBytes, "stderr_bytes": &r.StderrBytes,
	} {
		if *field, err = in.integer(name); err != nil {
			return nil, err
		}
		if *field < 0 {
			return nil, abnormal("member %q is negative", name)
		}
	}
	r.Truncated, err = in.flag("truncated")
	return &r, err
}

// seq reads an agent's report number. Old clients have none; a member of that
// name is theirs to use as they like.
func (o object) seq(from Peer) (int64, error) {
	if _, ok := o["seq"]; !ok || from != Agent {
		return 0, nil
	}
	n, err := o.integer("seq")
	if err == nil && n < 1 {
		err = abnormal("member %q is %d, want 1 or more", "seq", n)
	}
	return n, err
}

func (o object) taskNumber(name string) (string, error) {
	s, err := o.text(name)
	if err == nil && !ValidNumber(s) {
		err = abnormal("member %q is no task number: %q", name, s)
	}
	return s, err
}

// RCC is what became of a datagram.
type RCC int

const (
	RCCReceived   RCC = 1 // the task set was read
	RCCMissing    RCC = 2 // the task number is not in Redis
	RCCUnreadable RCC = 3 // the datagram could not be read: send it again
)

// Answer is a host's answer to a datagram.
type Answer struct {
	Task string  // empty only with RCCUnreadable
	Time float64 // Unix seconds
	RCC  RCC
	Seq  int64 // an agent's number for the report; 0 if it has none
}

func (Answer) Code() Code { return CodeAnswer }

func (m Answer) body() []byte {
	return encode(struct {
		Flag Code    `json:"flag"`
		Task string  `json:"taskId,omitempty"`
		Time float64 `json:"answerTime"`
		RCC  RCC     `json:"RCC"`
		Seq  int64   `json:"seq,omitempty"`
	}{CodeAnswer, m.Task, m.Time, m.RCC, m.Seq})
}

func readAnswer(o object, from Peer) (Message, error) {
	var m Answer
	rcc, err := o.integer("RCC")
	if err != nil {
		return nil, err
	}
	if rcc < 1 || rcc > 3 {
		return nil, abnormal("RCC %d, want 1, 2 or 3", rcc)
	}
	m.RCC = RCC(rcc)
	// Who could not read the datagram does not know its number.
	if m.RCC != RCCUnreadable || o.has("taskId") && string(o["taskId"]) != `""` {
		if m.Task, err = o.taskNumber("taskId"); err != nil {
			return nil, err
		}
	}
	if m.Time, err = o.number("answerTime"); err != nil {
		return nil, err
	}
	m.Seq, err = o.seq(from)
	return m, err
}

// Hello is an agent's first message.
type Hello struct {
	ID       string
	Instance string // random, kept in the agent's state directory; 1 to 64 of A-Za-z0-9._-
	UDP      int    // the port on which the agent waits for datagrams
	Tags     map[string]string
}

func (Hello) Code() Code { return CodeHello }

func (m Hello) body() []byte {
	return encode(struct {
		Flag     Code              `json:"flag"`
		Version  int               `json:"version"`
		ID       string            `json:"id"`
		Instance string            `json:"instance"`
		UDP      int               `json:"udp"`
		Tags     map[string]string `json:"tags,omitempty"`
	}{CodeHello, Version, m.ID, m.Instance, m.UDP, m.Tags})
}

func readHello(o object, _ Peer) (Message, error) {
	version, err := o.integer("version")
	if err != nil {
		return nil, err
	}
	if version != Version {
		return nil, abnormal("version %d, want %d", version, Version)
	}
	var m Hello
	if m.ID, err = o.text("id"); err != nil {
		return nil, err
	}
	if !ValidHost(m.ID) {
		return nil, abnormal("member %q is no host id: %q", "id", m.ID)
	}
	if m.Instance, err = o.text("instance"); err != nil {
		return nil, err
	}
	if !validInstance(m.Instance) {
		return nil, abnormal("member %q is no instance: %q", "instance", m.Instance)
	}
	port, err := o.integer("udp")
	if err != nil {
		return nil, err
	}
	if port < 1 || port > 65535 {
		return nil, abnormal("member %q is no port: %d", "udp", port)
	}
	m.UDP = int(port)
	m.Tags, err = o.tags("tags")
	return m, err
}

// validInstance keeps instances fit for a place in a Redis value beside others.
func validInstance(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Welcome is the answer to Hello.
type Welcome struct {
	Server      string // the listener's id
	HeartbeatMS int64  // milliseconds between two heartbeats that the agent is to send
	TimeMS      int64  // Redis's clock, Unix milliseconds
	Session     string // base64, the datagram secret; empty without TLS
	Refused     string // the reason, if the agent is not let in; else empty
}

func (Welcome) Code() Code { return CodeWelcome }

func (m Welcome) body() []byte {
	return encode(struct {
		Flag        Code   `json:"flag"`
		Server      string `json:"server"`
		HeartbeatMS int64  `json:"heartbeat_ms"`
		TimeMS      int64  `json:"time_ms"`
		Session     string `json:"session"`
		Refused     string `json:"refused,omitempty"`
	}{CodeWelcome, m.Server, m.HeartbeatMS, m.TimeMS, m.Session, m.Refused})
}

func readWelcome(o object, _ Peer) (Message, error) {
	var m Welcome
	var err error
	if o.has("refused") {
		m.Refused, err = o.text("refused")
		return m, err
	}
	if m.Server, err = o.text("server"); err != nil {
		return nil, err
	}
	if m.HeartbeatMS, err = o.integer("heartbeat_ms"); err != nil {
		return nil, err
	}
	if m.HeartbeatMS < 1 {
		return nil, abnormal("member %q is %d, want 1 or more", "heartbeat_ms", m.HeartbeatMS)
	}
	if m.TimeMS, err = o.integer("time_ms"); err != nil {
		return nil, err
	}
	if o.has("session") {
		m.Session, err = o.text("session")
	}
	return m, err
}

// Action is what a Push asks an agent to do.
type Action string

const (
	ActionStart  Action = "start"  // look the task number up and run it
	ActionCancel Action = "cancel" // end the task number's running command, run no further one
	ActionMove   Action = "move"   // connect to another listener
	ActionInfo   Action = "info"   // send Info again
)

// Push is what a listener asks of an agent.
type Push struct {
	Action Action
	Task   string // with ActionStart and ActionCancel
}

func (Push) Code() Code { return CodePush }

func (m Push) body() []byte {
	return encode(struct {
		Flag   Code   `json:"flag"`
		Action Action `json:"action"`
		Task   string `json:"taskId,omitempty"`
	}{CodePush, m.Action, m.Task})
}

func readPush(o object, _ Peer) (Message, error) {
	action, err := o.text("action")
	if err != nil {
		return nil, err
	}
	m := Push{Action: Action(action)}
	switch m.Action {
	case ActionStart, ActionCancel:
		m.Task, err = o.taskNumber("taskId")
	case ActionMove, ActionInfo:
	default:
		err = abnormal("unknown action %q", action)
	}
	return m, err
}

// Confirm says that every report numbered up to Seq is in Redis.
type Confirm struct{ Seq int64 }

func (Confirm) Code() Code { return CodeConfirm }

func (m Confirm) body() []byte {
	return encode(struct {
		Flag Code  `json:"flag"`
		Seq  int64 `json:"seq"`
	}{CodeConfirm, m.Seq})
}

func readConfirm(o object, _ Peer) (Message, error) {
	seq, err := o.integer("seq")
	return Confirm{Seq: seq}, err
}

// Lookup asks a listener for a task set.
type Lookup struct{ Task string }

func (Lookup) Code() Code { return CodeLookup }

func (m Lookup) body() []byte {
	return encode(struct {
		Flag Code   `json:"flag"`
		Task string `json:"taskId"`
	}{CodeLookup, m.Task})
}

func readLookup(o object, _ Peer) (Message, error) {
	task, err := o.taskNumber("taskId")
	return Lookup{Task: task}, err
}

// Command is a command of a task set and its priority.
type Command struct {
	Line     string
	Priority float64
}

// MarshalJSON writes the command as the pair [line, priority].
func (c Command) MarshalJSON() ([]byte, error) {
	return encode([2]any{c.Line, c.Priority}), nil
}

// Found is the answer to Lookup.
type Found struct {
	Task  string
	Found bool // false: there is no such set for this host; the rest is then empty

	Commands   []Command // the highest priority first, as they are to be run
	Request    string    // the request that made the set: a number is run once for each
	TimeoutS   int64     // limit for each command, seconds
	DeadlineMS int64     // no command starts after it; Redis's clock, Unix milliseconds
}

func (Found) Code() Code { return CodeFound }

func (m Found) body() []byte {
	b := struct {
		Flag       Code      `json:"flag"`
		Task       string    `json:"taskId"`
		Found      bool      `json:"found"`
		Commands   []Command `json:"commands"`
		Request    string    `json:"request"`
		TimeoutS   int64     `json:"timeout_s"`
		DeadlineMS int64     `json:"deadline_ms"`
	}{CodeFound, m.Task, m.Found, append([]Command{}, m.Commands...), m.Request, m.TimeoutS, m.DeadlineMS}
	return encode(b)
}

func readFound(o object, _ Peer) (Message, error) {
	var m Found
	var err error
	if m.Task, err = o.taskNumber("taskId"); err != nil {
		return nil, err
	}
	if m.Found, err = o.flag("found"); err != nil || !m.Found {
		return m, err
	}
	if m.Commands, err = o.commands("commands"); err != nil {
		return nil, err
	}
	if m.Request, err = o.text("request"); err != nil {
		return nil, err
	}
	if m.TimeoutS, err = o.integer("timeout_s"); err != nil {
		return nil, err
	}
	m.DeadlineMS, err = o.integer("deadline_ms")
	return m, err
}

func (o object) commands(name string) ([]Command, error) {
	var pairs [][]json.RawMessage
	if raw, ok := o[name]; !ok || json.Unmarshal(raw, &pairs) != nil {
		return nil, abnormal("member %q is not a list of pairs", name)
	}
	list := make([]Command, len(pairs))
	for i, pair := range pairs {
		if len(pair) != 2 {
			return nil, abnormal("member %q is not a list of pairs", name)
		}
		var err error
		p := object{"command": pair[0], "priority": pair[1]}
		if list[i].Line, err = p.text("command"); err != nil {
			return nil, err
		}
		if list[i].Priority, err = p.number("priority"); err != nil {
			return nil, err
		}
	}
	return list, nil
}
