package tasks_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/musterhq/muster/tasks"
)

// slot is the hash slot of a key as Redis Cluster computes it: CRC16 (XMODEM) of what
// stands between the first '{' and the next '}', or of the whole key, modulo 16384.
func slot(key string) uint16 {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if n := strings.IndexByte(key[open+1:], '}'); n > 0 {
			key = key[open+1 : open+1+n]
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

func TestSlot(t *testing.T) {
	t.Parallel()
	// The figures of the Redis Cluster specification.
	for key, want := range map[string]uint16{"123456789": 0x31c3, "foo": 12182, "{foo}:bar": 12182, "{}x": slot("{}x"), "bar": 5061} {
		if got := slot(key); got != want {
			t.Errorf("slot of %s is %d, want %d", key, got, want)
		}
	}
}

// Keys that change together share a slot, whatever the number and the host.
func TestKeysShareSlots(t *testing.T) {
	t.Parallel()
	for _, n := range []tasks.Number{"AC131", "AC.", "ACx-y_z.0", "AC1763840000000-0"} {
		for _, key := range []string{
			tasks.KeySet(n), tasks.KeyMeta(n), tasks.KeyHosts(n), tasks.KeyAwaiting(n), tasks.KeyWorking(n), tasks.KeyComplete(n),
			tasks.KeyOnCall(n), tasks.KeyCompleteOf(n, "web-1"), tasks.KeyOnCallOf(n, "::1"), tasks.KeyFailing(n), tasks.KeyResults(n),
		} {
			if slot(key) != slot(string(n)) {
				t.Errorf("%s does not share the slot of %s", key, n)
			}
		}
	}
	for _, key := range []string{
		tasks.KeyOnline, tasks.KeyClients, tasks.KeyListeners, tasks.KeyDeparted, tasks.KeyArrived, tasks.KeyEvents, tasks.KeySets, tasks.KeyAt("l1"),
	} {
		if slot(key) != slot("muster") {
			t.Errorf("%s does not share the slot of the roll", key)
		}
	}
	for _, host := range []string{"web-1", "::1", "10.0.0.1"} {
		if slot(tasks.KeyHost(host, "info")) != slot(tasks.KeyHost(host, "ipv4")) || slot(tasks.KeyHost(host, "info")) != slot(host) {
			t.Errorf("the keys of %s do not share a slot", host)
		}
	}
}

// The table in the documentation is the table in the code, row by row.
func TestKeysAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/REDIS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([a-z]+) \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		if rows[m[1]] != "" {
			t.Errorf("docs/REDIS.md has two rows for %s", m[1])
		}
		rows[m[1]] = m[2] + " | " + m[3]
	}
	for _, k := range tasks.Keys() {
		want := strings.Join([]string{k.Type, k.Writers, k.Readers, k.Expiry}, " | ")
		if rows[k.Name] != want {
			t.Errorf("docs/REDIS.md says of %s\n\t%q, want\n\t%q", k.Name, rows[k.Name], want)
		}
		delete(rows, k.Name)
		// Each has a section that tells its fields.
		if strings.Count(string(text), "\n### `"+k.Name+"`\n") != 1 {
			t.Errorf("docs/REDIS.md has no section on %s", k.Name)
		}
	}
	for name := range rows {
		t.Errorf("docs/REDIS.md lists %s, which is no key of keys.go", name)
	}
	for _, m := range regexp.MustCompile("(?m)^### `([^`]+)`$").FindAllStringSubmatch(string(text), -1) {
		known := false
		for _, k := range tasks.Keys() {
			known = known || k.Name == m[1]
		}
		if !known {
			t.Errorf("docs/REDIS.md has a section on %s, which is no key of keys.go", m[1])
		}
	}
}

// So are the scripts: each file of lua is named, and no other.
func TestScriptsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/REDIS.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z_]+\\.lua)`").FindAllStringSubmatch(string(text), -1) {
		named[m[1]] = true
	}
	files, err := os.ReadDir("lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !named[file.Name()] {
			t.Errorf("docs/REDIS.md does not name %s", file.Name())
		}
		delete(named, file.Name())
	}
	for name := range named {
		t.Errorf("docs/REDIS.md names %s, which is no script", name)
	}
}

func TestKeyNames(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		tasks.KeySet("AC131"): "AC131", tasks.KeyMeta("AC131"): "{AC131}:meta", tasks.KeyHosts("AC131"): "{AC131}:hosts",
		tasks.KeyAwaiting("AC131"): "{AC131}:awaiting", tasks.KeyWorking("AC131"): "{AC131}:working",
		tasks.KeyComplete("AC131"): "{AC131}:complete", tasks.KeyOnCall("AC131"): "{AC131}:oncall",
		tasks.KeyCompleteOf("AC131", "web-1"): "{AC131}:complete:web-1", tasks.KeyOnCallOf("AC131", "::1"): "{AC131}:oncall:::1",
		tasks.KeyResults("AC131"): "{AC131}:results", tasks.KeyAt("l1"): "{muster}:at:l1",
		tasks.KeyHost("web-1", "info"): "muster:host:{web-1}:info", tasks.KeyOnline: "{muster}:online",
		tasks.KeyClients: "{muster}:clients", tasks.KeyListeners: "{muster}:listeners", tasks.KeyEvents: "{muster}:events",
		tasks.KeySets: "{muster}:sets", tasks.KeyRequests: "muster:requests",
	} {
		if got != want {
			t.Errorf("key %s, want %s", got, want)
		}
	}
}
