package tasks

// Keys is the one table of every key that muster has in Redis. docs/REDIS.md shows
// the same table to its users, and a test holds the two together.
//
// Keys that change together share a hash slot, so that a script may change them
// together on Redis Cluster: all with {muster}, all of one host, and all of one
// task number (a bare AC131 and {AC131}:meta hash alike).
func Keys() []KeyInfo {
	return []KeyInfo{
		{KeyOnline, "hash", "listener, worker", "all", "none: an entry goes when its host does"},
		{KeyClients, "hash", "listener, worker", "all", "none: an entry goes when its host does"},
		{KeyListeners, "zset", "listener, worker", "all", "none: an entry goes when its lease has ended"},
		{KeyRebuilding, "string", "listener", "worker", "6 s"},
		{KeyAt("<listener>"), "set", "listener, worker", "listener, worker", "none: swept when the lease has ended"},
		{KeyDeparted, "zset", "listener, worker", "listener, worker", "none: an entry goes once the host's keys are deleted"},
		{KeyEvents, "stream", "all", "anyone", "capped at about 100,000 entries"},
		{KeySets, "zset", "worker", "worker, dashboard", "none: an entry goes once the set's keys have expired"},
		{KeyDue, "zset", "worker, listener, muster cancel", "worker", "none: an entry goes when nothing is left to do for the set"},
		{KeyArrived, "zset", "listener, worker", "worker", "none: an entry goes once the host is told"},
		{KeyJobs, "zset", "worker", "worker", "none: an entry goes when its job ends"},
		{KeyRequests, "stream", "anyone", "worker", "none: an entry goes once its job exists"},
		{KeyHost("<host>", "info"), "hash", "listener, worker", "anyone", "none: deleted when the host goes offline"},
		{KeyHost("<host>", "ipv4"), "list", "listener, worker", "anyone", "none: deleted when the host goes offline"},
		{KeyWaiting("<host>"), "set", "worker", "listener, worker", "that of the set that ends last"},
		{"AC131", "zset", "worker", "hosts, listener", "deadline + keep"},
		{KeyMeta("AC131"), "hash", "worker, listener", "all", "deadline + keep"},
		{KeyHosts("AC131"), "hash", "worker, listener", "all", "deadline + keep"},
		{KeyAwaiting("AC131"), "set", "worker, listener", "worker", "deadline + keep"},
		{KeySends("AC131"), "hash", "worker, listener", "worker, dashboard", "deadline + keep"},
		{KeyWorking("AC131"), "hash", "listener", "anyone", "deadline + keep"},
		{KeyComplete("AC131"), "hash", "listener", "anyone", "deadline + keep"},
		{KeyOnCall("AC131"), "hash", "listener", "anyone", "deadline + keep"},
		{KeyCompleteOf("AC131", "<host>"), "list", "listener", "anyone", "deadline + keep"},
		{KeyOnCallOf("AC131", "<host>"), "list", "listener", "anyone", "deadline + keep"},
		{KeyFailing("AC131"), "set", "listener", "listener", "deadline + keep"},
		{KeyResults("AC131"), "stream", "listener", "anyone", "deadline + keep"},
	}
}

// KeyInfo is a row of Keys. Its Name has <host> and <listener> for what varies and
// AC131 for any task number.
type KeyInfo struct{ Name, Type, Writers, Readers, Expiry string }

// The keys that muster has once.
const (
	KeyOnline     = "{muster}:online"
	KeyClients    = "{muster}:clients"
	KeyListeners  = "{muster}:listeners"
	KeyRebuilding = "{muster}:rebuilding"
	KeyDeparted   = "{muster}:departed"
	KeyEvents     = "{muster}:events"
	KeySets       = "{muster}:sets"
	KeyDue        = "{muster}:due"
	KeyArrived    = "{muster}:arrived"
	KeyJobs       = "{muster}:jobs"
	KeyRequests   = "muster:requests"
)

// KeyAt is the set of the hosts that a listener holds.
func KeyAt(listener string) string { return "{muster}:at:" + listener }

// ChannelFor is the pub/sub channel on which a listener hears what concerns its
// connections: see Push.
func ChannelFor(listener string) string { return "{muster}:to:" + listener }

// ChannelOff is the pub/sub channel that names each host taken off the roll: who
// still holds it puts it back.
const ChannelOff = "{muster}:off"

// EveryHost stands on ChannelOff in place of a host when Redis has lost its roll: each
// listener says again who is connected to it.
const EveryHost = "*"

// KeyWaiting is the set of the task numbers that wait for a host to come online.
func KeyWaiting(host string) string { return KeyHost(host, "waiting") }

// KeyHost is a key of a host: "info", "ipv4", "waiting", or another name that a setting gives.
func KeyHost(host, name string) string { return "muster:host:{" + host + "}:" + name }

// KeySet is the task set itself: command to priority.
func KeySet(n Number) string { return string(n) }

// KeyMeta is the hash of a set's state, times and counters.
func KeyMeta(n Number) string { return "{" + string(n) + "}:meta" }

// KeyHosts is the hash host to state.
func KeyHosts(n Number) string { return "{" + string(n) + "}:hosts" }

// KeyAwaiting is the set of the hosts in state sent.
func KeyAwaiting(n Number) string { return "{" + string(n) + "}:awaiting" }

// KeySends is the hash host to how often it was sent to and when it is due again, for
// those hosts that are not on the times of their set.
func KeySends(n Number) string { return "{" + string(n) + "}:sends" }

// KeyWorking is the hash host to the command now running.
func KeyWorking(n Number) string { return "{" + string(n) + "}:working" }

// KeyComplete is the hash host to KeyCompleteOf.
func KeyComplete(n Number) string { return "{" + string(n) + "}:complete" }

// KeyOnCall is the hash host to KeyOnCallOf.
func KeyOnCall(n Number) string { return "{" + string(n) + "}:oncall" }

// KeyCompleteOf is the list of the commands that a host has run.
func KeyCompleteOf(n Number, host string) string { return KeyComplete(n) + ":" + host }

// KeyOnCallOf is the list of the commands that a host has not yet run.
func KeyOnCallOf(n Number, host string) string { return KeyOnCall(n) + ":" + host }

// KeyFailing is the set of the hosts on which some command has failed.
func KeyFailing(n Number) string { return "{" + string(n) + "}:failing" }

// KeyResults is the stream of how each command ended.
func KeyResults(n Number) string { return "{" + string(n) + "}:results" }
