package wire

import "math"

const (
	ackHeartbeat = "keepAlive"
	ackInfo      = "keepRogerThat"
)

// Heartbeat says that the host is there.
type Heartbeat struct{}

func (Heartbeat) Code() Code { return CodeHeartbeat }

func (Heartbeat) body() []byte {
	return []byte(heartbeatBody)
}

func readHeartbeat(o object, _ Peer) (Message, error) {
	if ack, err := o.text("ACK"); err != nil {
		return nil, err
	} else if ack != ackHeartbeat {
		return nil, abnormal("ACK %s, want %q", quote(ack), ackHeartbeat)
	}
	_, err := o.integerIn("phase", 1, 1)
	return Heartbeat{}, err
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
		return nil, abnormal("ACK %s, want %q", quote(ack), ackInfo)
	}
	name := "systemInfo"
	if o.find(name) == nil && o.find("systemInfoTask") != nil {
		name = "systemInfoTask"
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
	if m.OS, err = s.optionalText("os"); err != nil {
		return nil, err
	}
	if m.Arch, err = s.optionalText("arch"); err != nil {
		return nil, err
	}
	if m.Version, err = s.optionalText("version"); err != nil {
		return nil, err
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

	// Lists says that Complete and OnCall were reported. Old clients must report
	// them each time; agents must in phase 1 and need not later.
	Lists    bool
	Complete []string
	OnCall   []string

	Seq    int64   // an agent's number for the report, from 1 on; 0 if it has none
	Result *Result // of the command that has ended, in phase 3; nil if the client reports none
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
	phase, err := o.integerIn("phase", int64(PhaseReceived), int64(PhaseEnded))
	if err != nil {
		return nil, err
	}
	m.Phase = Phase(phase)
	// Null says that no command runs, so it is the member itself that is required:
	// from an old client always, from an agent where the report is about it.
	if o.find("working") == nil && (from == OldClient || m.Phase == PhaseWorking) {
		return nil, abnormal("member %q is missing", "working")
	}
	if m.Working, err = o.optionalText("working"); err != nil {
		return nil, err
	}
	if from == OldClient || m.Phase == PhaseReceived || o.has("complete") || o.has("oncall") {
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
	if m.Phase != PhaseEnded {
		return m, nil // a result belongs to a command that has ended
	}
	if o.has("result") {
		m.Result, err = o.result()
	} else if !m.Lists {
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
	if r.Command, err = in.text("command"); err != nil {
		return nil, err
	}
	if r.Stdout, err = in.text("stdout"); err != nil {
		return nil, err
	}
	if r.Stderr, err = in.text("stderr"); err != nil {
		return nil, err
	}
	if r.Error, err = in.optionalText("error"); err != nil {
		return nil, err
	}
	code, err := in.integerIn("exit_code", math.MinInt32, math.MaxUint32) // Windows codes are unsigned
	if err != nil {
		return nil, err
	}
	r.ExitCode = int(code)
	if r.DurationMS, err = in.integerIn("duration_ms", 0, maxInteger); err != nil {
		return nil, err
	}
	if r.StdoutBytes, err = in.integerIn("stdout_bytes", 0, maxInteger); err != nil {
		return nil, err
	}
	if r.StderrBytes, err = in.integerIn("stderr_bytes", 0, maxInteger); err != nil {
		return nil, err
	}
	r.Truncated, err = in.flag("truncated")
	return &r, err
}

// seq reads an agent's report number. Old clients have none; a member of that
// name is theirs to use as they like.
func (o object) seq(from Peer) (int64, error) {
	if from != Agent || !o.has("seq") {
		return 0, nil
	}
	return o.integerIn("seq", 1, maxInteger)
}

func (o object) taskNumber(name string) (string, error) {
	s, err := o.text(name)
	if err == nil && !ValidNumber(s) {
		err = abnormal("member %q is no task number: %s", name, quote(s))
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
	Seq  int64 // an agent's number for the report, from 1 on; 0 if it has none
}

func (Answer) Code() Code { return CodeAnswer }

func (m Answer) body() []byte {
	return encode(struct {
		Flag Code    `json:"flag"`
		Task string  `json:"taskId,omitempty"`
		Time float64 `json:"answerTime"`
		RCC  RCC     `json:"RCC"`
		Seq  int64   `json:"seq,omitempty"`
	}{CodeAnswer, m.Task, finite(m.Time), m.RCC, m.Seq})
}

func readAnswer(o object, from Peer) (Message, error) {
	var m Answer
	rcc, err := o.integerIn("RCC", int64(RCCReceived), int64(RCCUnreadable))
	if err != nil {
		return nil, err
	}
	m.RCC = RCC(rcc)
	// Who could not read the datagram does not know its number.
	if m.RCC != RCCUnreadable || o.has("taskId") && string(o.find("taskId")) != `""` {
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
