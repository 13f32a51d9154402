package main

// example is a command line that can be typed as it stands.
type example struct {
	what string // it does
	line string
}

// examplesOf are the examples of a verb, one to four; with no verb the most useful ones
// of all. A test has the parser read each line, so that none goes stale.
func examplesOf(verb string) []example {
	return map[string][]example{
		"": {
			{"everything on this machine: a Redis, a listener, a worker and three hosts", "muster up"},
			{"run something on two hosts, and wait for both", "muster dispatch --host web-1 --host web-2 --run 'df -h /' --wait"},
			{"how it ended, with exit codes and output", "muster results AC131"},
		},
		"up": {
			{"with three local hosts, on a Redis that goes with it", "muster up"},
			{"with ten, on a Redis that is there", "muster up --agents 10 --redis redis://10.0.0.5:6379/0"},
		},
		"demo": {
			{"it needs no network, no Redis and no settings", "muster demo"},
		},
		"listener": {
			{"for hosts on this machine", "muster listener"},
			{"for hosts of a network that is trusted", "muster listener --bind 0.0.0.0:11451 --insecure --redis redis://10.0.0.5:6379/0"},
			{"under a name that stays, with its log in a file", "muster listener --id l1 --log-file /var/log/muster/listener.log"},
		},
		"worker": {
			{"as many as you like of these on one Redis", "muster worker --redis redis://10.0.0.5:6379/0"},
			{"tell hosts that do not answer three times in all, at 0, 10 and 30 s", "muster worker --attempts 3 --retry-after 10s"},
		},
		"agent": {
			{"a host that is called as its host name says", "muster agent --server 10.0.0.5:11451"},
			{"with a second listener to go to when the first is away", "muster agent --server 10.0.0.5 --server 10.0.0.6 --id web-1"},
			{"a second one on the same machine", "muster agent --server 127.0.0.1 --id web-2 --udp-port 0 --state-dir ./web-2"},
		},
		"dashboard": {
			{"on this machine, http://127.0.0.1:8080", "muster dashboard"},
			{"of another Redis, on another port", "muster dashboard --bind 127.0.0.1:8081 --redis redis://10.0.0.5:6379/0"},
		},
		"dispatch": {
			{"two commands on two hosts, in this order; wait for the end", "muster dispatch --host web-1 --host web-2 --run uptime --run 'df -h /' --wait"},
			{"every host that is online, commands and their priorities from a file", "muster dispatch --all --yes --commands commands.json"},
			{"under a task number of your own, also for hosts that come online within a day",
				"muster dispatch --key AC131 --host web-1 --run 'apt-get -y upgrade' --offline wait --deadline 24h"},
			{"a whole request, from another program", "cat request.json | muster dispatch --request - --json"},
		},
		"console": {
			{"type commands for every host that is online, exit() leaves", "muster console"},
			{"the lines of a file in turn, each command with two minutes", "muster console --command-timeout 2m < lines.txt"},
		},
		"cancel": {
			{"hosts that have not ended end as cancelled", "muster cancel AC131"},
		},
		"health": {
			{"the listener whose metrics are served there: status 0 if it is ready", "muster health --metrics-bind 127.0.0.1:9151"},
			{"a process on another port, in full", "muster health --url http://127.0.0.1:9152/healthz"},
		},
		"hosts": {
			{"who is online", "muster hosts"},
			{"whether these two are: status 4 if one is not", "muster hosts web-1 web-2"},
			{"their names only, for a script", "muster hosts --json | jq -r .host"},
		},
		"status": {
			{"the counts, and each host's state", "muster status AC131"},
			{"the hosts that have not answered", "muster status AC131 --json | jq -r 'select(.state == \"unanswered\") | .host'"},
		},
		"results": {
			{"exit codes and output of every host", "muster results AC131"},
			{"of one host", "muster results AC131 --host web-1"},
		},
		"events": {
			{"the last hundred, then what happens, until Ctrl-C", "muster events --follow"},
			{"the last ten, one JSON object each", "muster events --last 10 --json"},
		},
		"verify": {
			{"status 1 if it does not add up", "muster verify AC131"},
		},
		"doctor": {
			{"Redis, listeners, workers, this machine", "muster doctor"},
			{"does UDP reach these hosts, and do they answer", "muster doctor --host web-1 --host web-2"},
			{"only what is wrong, for a monitor", "muster doctor --json | jq -c 'select(.result == \"failure\")'"},
		},
		"config": {
			{"what is in force here, and where it comes from", "muster config"},
			{"with another file of settings", "muster config --config /etc/muster/muster.json"},
		},
		"completion": {
			{"try it in this bash", "source <(muster completion bash)"},
			{"in zsh, behind compinit", "source <(muster completion zsh)"},
			{"for each fish that is started from now on", "muster completion fish > ~/.config/fish/completions/muster.fish"},
		},
		"version": {
			{"for a report of a fault", "muster version --json"},
		},
		"help": {
			{"all verbs", "muster help"},
			{"one of them", "muster help dispatch"},
		},
	}[verb]
}
