package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// What a setting has to be. Each check says what is wrong as what follows the name of
// the setting, so that it reads well behind a flag and behind a place in the file.

func wrongf(format string, args ...any) error { return fmt.Errorf(format, args...) }

func within(least, most int) func(any) error {
	return func(value any) error {
		if n, _ := value.(int); n < least || n > most {
			return wrongf("%d: want %d to %d", n, least, most)
		}
		return nil
	}
}

func between(least, most time.Duration) func(any) error {
	return func(value any) error {
		if d, _ := value.(time.Duration); d < least || d > most {
			return wrongf("%v: want %v to %v", d, least, most)
		}
		return nil
	}
}

func aboveZero(value any) error {
	if d, _ := value.(time.Duration); d <= 0 {
		return wrongf("%v: want more than zero", d)
	}
	return nil
}

func isPollInterval(value any) error {
	if err := aboveZero(value); err != nil {
		return err
	}
	if d, _ := value.(time.Duration); d < time.Millisecond {
		return wrongf("%v: want a millisecond or more", d)
	}
	return nil
}

func isNotEmpty(value any) error {
	if value == "" {
		return errors.New("is empty")
	}
	return nil
}

// isAddress looks at the form only; whether the address may be bound to is for the verb.
func isAddress(value any) error {
	bind, _ := value.(string)
	_, port, err := net.SplitHostPort(bind)
	if err != nil {
		return wrongf("%q is not of the form address:port", bind)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return wrongf("%q: port %q, want 0 to 65535", bind, port)
	}
	return nil
}

// isAddressOrNone is isAddress for what is off by default.
func isAddressOrNone(value any) error {
	if value == "" {
		return nil
	}
	return isAddress(value)
}

func isID(value any) error {
	if id, _ := value.(string); id != "" && !wire.ValidHost(id) {
		return wrongf("%q: want 1 to %d of A-Z a-z 0-9 . _ : -, the first a letter, a digit or a colon", id, wire.MaxHost)
	}
	return nil
}

func isIP(value any) error {
	ip, _ := value.(string)
	if ip == "" {
		return nil
	}
	if _, err := netip.ParseAddr(ip); err != nil {
		return wrongf("%q is no IP address", ip)
	}
	return nil
}

func areServers(value any) error {
	servers, _ := value.([]string)
	for _, s := range servers {
		if _, err := serverAddr(s); err != nil {
			return err
		}
	}
	return nil
}

func isLevel(value any) error {
	text, _ := value.(string)
	if _, err := logrus.ParseLevel(text); err != nil {
		return wrongf("%q: want debug, info, warn or error", text)
	}
	return nil
}

func isLogFormat(value any) error {
	if value != "text" && value != "json" {
		return wrongf("%q: want text or json", value)
	}
	return nil
}

func isRedis(value any) error {
	text, _ := value.(string)
	if text == "" {
		return nil // some verbs can do without
	}
	_, err := parseRedis(text)
	return err
}

func areRedisAddrs(value any) error {
	addrs, _ := value.([]string)
	if len(addrs) == 0 {
		return errors.New("is empty, want a list of host:port")
	}
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		n, numErr := strconv.Atoi(port)
		if err != nil || numErr != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, " \t/@?#,") {
			return wrongf("%s is not of the form host:port", clipped(addr))
		}
	}
	return nil
}

// deletable is the form of what follows muster:host:{<host>}: in a key.
var deletable = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

func areDeletable(value any) error {
	names, _ := value.([]string)
	if len(names) > 32 {
		return wrongf("%d names, want at most 32", len(names))
	}
	for _, name := range names {
		if name == "waiting" || name == "session" {
			return wrongf("%q can't be deleted when a host goes offline, it is needed when the host comes back", name)
		}
		if !deletable.MatchString(name) {
			return wrongf("%s: want names of keys, what follows muster:host:{HOST}:, 1 to 64 of A-Z a-z 0-9 . _ : -", clipped(name))
		}
	}
	return nil
}

// mostTags is how much the tags of a host may hold, names and values together.
const mostTags = 16 << 10

func areTags(value any) error {
	tags, _ := value.(map[string]string)
	size := 0
	for name, text := range tags {
		if name == "" {
			return errors.New(`"" is no name of a tag`)
		}
		size += len(name) + len(text)
	}
	if size > mostTags {
		return wrongf("%d bytes in all, want at most %d", size, mostTags)
	}
	return nil
}

// Limits of the instructions.
const (
	mostInstructions    = 1000
	mostInstructionName = 128 // bytes
)

// checkInstruction looks at a name that is typed as a line of the console, and at the
// command that it stands for.
func checkInstruction(name, command string) error {
	switch {
	case name == "" || len(name) > mostInstructionName:
		return wrongf("a name of %d bytes, want 1 to %d", len(name), mostInstructionName)
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("a name is typed as one line: it has no blanks at its ends and printable characters only")
	case name == "exit()":
		return errors.New("this name ends the console, it can't stand for a command")
	case command == "" || len(command) > tasks.MaxCommandBytes:
		return wrongf("a command of %d bytes, want 1 to %d", len(command), tasks.MaxCommandBytes)
	case strings.TrimSpace(command) == "":
		return errors.New("a command of blanks")
	}
	return nil
}

// clipped is a text in quotes, not more of it than a message can bear.
func clipped(s string) string {
	const most = 60
	if len(s) <= most {
		return strconv.Quote(s)
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return strconv.Quote(s) + "..."
}
