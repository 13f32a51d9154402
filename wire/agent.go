package wire

// Ranges that keep what a peer names within what a time.Duration can hold.
const (
	maxHeartbeatMS = 24 * 60 * 60 * 1000 // a day
	maxTimeoutS    = 7 * 24 * 60 * 60    // a week, as for dispatch requests
)

// Hello is an agent's first message.
type Hello struct {
	ID       string
	Instance string // random, kept in the agent's state directory; 1 to 128 of ASCII '!' to '~'
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
	if _, err := o.integerIn("version", Version, Version); err != nil {
		return nil, err
	}
	var m Hello
	var err error
	if m.ID, err = o.text("id"); err != nil {
		return nil, err
	}
	if !ValidHost(m.ID) {
		return nil, abnormal("member %q is no host id: %s", "id", quote(m.ID))
	}
	if m.Instance, err = o.text("instance"); err != nil {
		return nil, err
	}
	if !validInstance(m.Instance) {
		return nil, abnormal("member %q is no instance: %s", "instance", quote(m.Instance))
	}
	port, err := o.integerIn("udp", 1, 65535)
	if err != nil {
		return nil, err
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
	Refused     string // the reason, if the agent is not let in; then only Server may stand beside it
}

func (Welcome) Code() Code { return CodeWelcome }

func (m Welcome) body() []byte {
	if m.Refused != "" {
		return encode(struct {
			Flag    Code   `json:"flag"`
			Server  string `json:"server,omitempty"`
			Refused string `json:"refused"`
		}{CodeWelcome, m.Server, m.Refused})
	}
	return encode(struct {
		Flag        Code   `json:"flag"`
		Server      string `json:"server"`
		HeartbeatMS int64  `json:"heartbeat_ms"`
		TimeMS      int64  `json:"time_ms"`
		Session     string `json:"session"`
	}{CodeWelcome, m.Server, m.HeartbeatMS, m.TimeMS, m.Session})
}

func readWelcome(o object, _ Peer) (Message, error) {
	var m Welcome
	var err error
	if m.Refused, err = o.optionalText("refused"); err != nil {
		return nil, err
	}
	if m.Refused != "" {
		m.Server, err = o.optionalText("server")
		return m, err
	}
	if m.Server, err = o.text("server"); err != nil {
		return nil, err
	}
	if m.HeartbeatMS, err = o.integerIn("heartbeat_ms", 1, maxHeartbeatMS); err != nil {
		return nil, err
	}
	if m.TimeMS, err = o.integerIn("time_ms", 0, maxInteger); err != nil {
		return nil, err
	}
	m.Session, err = o.optionalText("session")
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
		err = abnormal("unknown action %s", quote(action))
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
	seq, err := o.integerIn("seq", 0, maxInteger)
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
	return encode([2]any{c.Line, finite(c.Priority)}), nil
}

// Found is the answer to Lookup.
type Found struct {
	Task  string
	Found bool // false: there is no such set for this host; the rest is then empty

	// Cancelled says, with Found false, that there was such a set and it was cancelled
	// for this host: nothing of it is to be run, and what runs of it is to be ended.
	Cancelled bool

	Commands   []Command // the highest priority first, as they are to be run
	Request    string    // the request that made the set: a number is run once for each
	TimeoutS   int64     // limit for each command, seconds, at most 604,800; 0: not said, the agent has a default
	DeadlineMS int64     // no command starts after it; Redis's clock, Unix milliseconds
}

func (Found) Code() Code { return CodeFound }

func (m Found) body() []byte {
	b := struct {
		Flag       Code      `json:"flag"`
		Task       string    `json:"taskId"`
		Found      bool      `json:"found"`
		Cancelled  bool      `json:"cancelled,omitempty"`
		Commands   []Command `json:"commands"`
		Request    string    `json:"request"`
		TimeoutS   int64     `json:"timeout_s"`
		DeadlineMS int64     `json:"deadline_ms"`
	}{CodeFound, m.Task, m.Found, m.Cancelled, append([]Command{}, m.Commands...), m.Request, m.TimeoutS, m.DeadlineMS}
	return encode(b)
}

func readFound(o object, _ Peer) (Message, error) {
	var m Found
	var err error
	if m.Task, err = o.taskNumber("taskId"); err != nil {
		return nil, err
	}
	if m.Found, err = o.flag("found"); err != nil {
		return nil, err
	}
	if o.has("cancelled") {
		if m.Cancelled, err = o.flag("cancelled"); err != nil {
			return nil, err
		}
	}
	if m.Found && m.Cancelled {
		return nil, abnormal("members %q and %q are both true", "found", "cancelled")
	}
	if !m.Found {
		return m, nil
	}
	if m.Commands, err = o.commands("commands"); err != nil {
		return nil, err
	}
	if m.Request, err = o.text("request"); err != nil {
		return nil, err
	}
	if m.TimeoutS, err = o.integerIn("timeout_s", 0, maxTimeoutS); err != nil {
		return nil, err
	}
	m.DeadlineMS, err = o.integerIn("deadline_ms", 0, maxInteger)
	return m, err
}

func (o object) commands(name string) ([]Command, error) {
	commands := []Command{}
	err := o.list(name, func(raw []byte) error {
		if raw[0] != '[' {
			return abnormal("member %q is not a list of pairs", name)
		}
		var pair [2][]byte
		n := 0
		err := elements(raw, func(raw []byte) error {
			if n == len(pair) {
				return abnormal("member %q is not a list of pairs", name)
			}
			pair[n] = raw
			n++
			return nil
		})
		if err != nil {
			return err
		}
		if n != len(pair) {
			return abnormal("member %q is not a list of pairs", name)
		}
		var c Command
		if c.Line, err = readText(name, pair[0]); err != nil {
			return err
		}
		if c.Priority, err = readNumber(name, pair[1]); err != nil {
			return err
		}
		commands = append(commands, c)
		return nil
	})
	return commands, err
}
