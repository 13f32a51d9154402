package main

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"
)

// muster.example.json has every setting, and nothing else, with its default where there
// is one that is the same everywhere.
func TestExampleFile(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../muster.example.json")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parseFile(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings() {
		v, ok := file.values[s.path()]
		switch s.path() {
		case "redis": // an object in its place
			if v != "redis://127.0.0.1:6379/0" {
				t.Errorf("the object means %v", v)
			}
		case "agent.server", "agent.tags", "agent.state_dir":
			if !ok {
				t.Errorf("%s is not in it", s.path())
			}
		default:
			if !ok || !reflect.DeepEqual(v, s.value) {
				t.Errorf("%s is %v, and %v by default", s.path(), v, s.value)
			}
		}
	}
	if len(file.instructions) == 0 {
		t.Error("there is no instruction in it")
	}
}

// docs/CONFIGURATION.md has a row for each setting: its name, its flag, its variable, its
// default, and no other row.
func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/CONFIGURATION.md")
	if err != nil {
		t.Fatal(err)
	}
	type documentedSetting struct{ name, flag, variable, value string }
	var got, want []documentedSetting
	cell := "(?:`([^`]*)`)?"
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| "+cell+" ?\\| "+cell+" ?\\| "+cell+" ?\\| ").FindAllStringSubmatch(string(b), -1) {
		got = append(got, documentedSetting{m[1], m[2], m[3], m[4]})
	}
	for _, s := range settings() {
		d := documentedSetting{s.path(), "", s.variable(), shown(s.value)}
		if s.flag != "" {
			d.flag = "--" + s.flag
		}
		if s.path() == "agent.state_dir" {
			d.value = "" // depends on the system
		}
		want = append(want, d)
	}
	for _, d := range want {
		if !slices.Contains(got, d) {
			t.Errorf("there is no row for %+v", d)
		}
	}
	for _, d := range got {
		if !slices.Contains(want, d) {
			t.Errorf("there is a row for %+v, and no such setting", d)
		}
	}
	for _, name := range []string{tlsCA, tlsCert, tlsKey, tlsServerName, tlsAnyServer} {
		if !regexp.MustCompile("(?m)^\\| `" + name + "` ").Match(b) {
			t.Errorf("redis.tls: %s is not in it", name)
		}
	}
}

func TestShortSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		168 * time.Hour: "168h", time.Minute: "1m", 90 * time.Second: "1m30s", 10 * time.Second: "10s",
		time.Hour + time.Second: "1h0m1s", 10 * time.Millisecond: "10ms", 0: "0s", 10 * time.Minute: "10m",
	} {
		if got := shortSpan(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://web:1/2":          "redis://web:1/2",
		"redis://u:secret@web:1":   "redis://u:***@web:1",
		"redis://:secret@web":      "redis://:***@web:6379",
		"redis://secret@web":       "redis://***@web:6379",
		"redis-cluster://u:p@a,b":  "redis-cluster://u:***@a:6379,b:6379",
		"redis://web?password=abc": "redis://web:6379?password=***",
		"redis-sentinel://a?master_name=m&sentinel_username=x&sentinel_password=y": "redis-sentinel://a:26379?master_name=m&sentinel_password=***&sentinel_username=***",
		"nonsense:secret": "***",
	} {
		if got := withoutSecrets(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

// An object of the file leads to the same client as the URL that says the same.
func TestRedisObject(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"addrs": ["web:1"], "db": 2}`:                                       "web:1 db 2",
		`{"password": "p@ss/wörd?#%"}`:                                        "127.0.0.1:6379 db 0 login  p@ss/wörd?#%",
		`{"addrs": ["[::1]:1"], "username": "u:v", "password": "p"}`:          "[::1]:1 db 0 login u:v p",
		`{"addrs": ["web:1"], "tls": true}`:                                   "web:1 db 0 tls web",
		`{"addrs": ["web:1"], "tls": {"server_name": "x"}}`:                   "web:1 db 0 tls x",
		`{"addrs": ["web:1"], "tls": {"insecure_skip_verify": true}}`:         "web:1 db 0 tls web unverified",
		`{"addrs": ["a:1", "b:2"], "password": "p"}`:                          "cluster a:1 b:2",
		`{"addrs": ["a:1", "b:2"], "db": 4, "master": "m", "password": "p/"}`: "FailoverClient db 4 login  p/",
	} {
		file, err := parseFile([]byte(`{"redis": ` + in + `}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		url, _ := file.values["redis"].(string)
		connect, err := parseRedis(url)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		rdb := connect(often)
		if got := describe(rdb); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		rdb.Close()
	}
}
