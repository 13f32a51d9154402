package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/visible"
)

const (
	defaultFile  = "muster.json"
	mostFileSize = 1 << 20
)

// settingsFile is what the file of settings says. It is checked as a whole, whatever
// the verb needs of it.
type settingsFile struct {
	path         string         // empty if there is no file
	values       map[string]any // of the right type, by their paths
	instructions map[string]string
}

// readSettings reads the file that --config names, given or not, or else muster.json where
// there is one.
func readSettings(path string, given bool) (settingsFile, error) {
	if path == "" && given {
		return settingsFile{}, misuse("--config is empty")
	}
	named := path != ""
	if !named {
		path = defaultFile
	}
	b, err := readBounded(path)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return settingsFile{}, nil
	}
	if err != nil {
		return settingsFile{}, misuse("%s: %w", path, err)
	}
	file, err := parseFile(b)
	if err != nil {
		return settingsFile{}, misuse("%s: %w", path, err)
	}
	file.path = path
	return file, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.New("is a directory, want a file")
	}
	b, err := io.ReadAll(io.LimitReader(f, mostFileSize+1))
	if err != nil {
		return nil, bare(err)
	}
	if len(b) > mostFileSize {
		return nil, wrongf("is of more than %d bytes", mostFileSize)
	}
	return b, nil
}

// bare is an error without the path, which the message has already.
func bare(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// parseFile reads settings, and checks each. What an error says follows the name of the
// file, and names the setting first.
func parseFile(b []byte) (settingsFile, error) {
	file := settingsFile{values: map[string]any{}}
	root, err := parseJSON(b)
	if err != nil {
		return file, err
	}
	if root.members == nil {
		return file, wrongf("%s: want an object with the groups %s", root.shown(), strings.Join(groups(), ", "))
	}
	for _, g := range root.members {
		switch {
		case !slices.Contains(groups(), g.name):
			return file, unknownGroup(g.name)
		case g.name == groupOfCommands:
			err = file.readInstructions(g.node)
		case g.name == "redis" && g.node.members == nil:
			err = file.read(settingsOf("redis")[0], g.node)
		case g.node.members == nil:
			err = wrongf("%s: %s: want an object", g.name, g.node.shown())
		default:
			err = file.readGroup(g.name, g.node)
		}
		if err != nil {
			return file, err
		}
	}
	return file, nil
}

// groups are those of the file, in their order.
func groups() (names []string) {
	for _, s := range settings() {
		if !slices.Contains(names, s.group) {
			names = append(names, s.group)
		}
	}
	return append(names, groupOfCommands)
}

func (file *settingsFile) readGroup(group string, n node) error {
	known := settingsOf(group)
	for _, m := range n.members {
		at := slices.IndexFunc(known, func(s setting) bool { return s.name == m.name && m.name != "" })
		if at < 0 {
			return unknownSetting(group, m.name)
		}
		if err := file.read(known[at], m.node); err != nil {
			return err
		}
	}
	if group != "redis" {
		return nil
	}
	return file.joinRedis()
}

// read takes one setting.
func (file *settingsFile) read(s setting, n node) error {
	v, err := n.as(s)
	if err == nil && s.check != nil {
		err = s.check(v)
	}
	if err == nil && s.path() == "redis" && v == "" {
		err = errors.New(`"": want a URL; without the group there is none`)
	}
	if err != nil {
		return wrongf("%s: %w", s.path(), err)
	}
	file.values[s.path()] = v
	return nil
}

func (file *settingsFile) readInstructions(n node) error {
	if n.members == nil {
		return wrongf("%s: %s: want an object of names and commands", groupOfCommands, n.shown())
	}
	if len(n.members) > mostInstructions {
		return wrongf("%s: %d of them, want at most %d", groupOfCommands, len(n.members), mostInstructions)
	}
	file.instructions = map[string]string{}
	for _, m := range n.members {
		command, ok := m.node.value.(string)
		if !ok {
			return wrongf("%s.%s: want a string, the command that it stands for", groupOfCommands, clipped(m.name))
		}
		if err := checkInstruction(m.name, command); err != nil {
			return wrongf("%s.%s: %w", groupOfCommands, clipped(m.name), err)
		}
		file.instructions[m.name] = command
	}
	return nil
}

// as is the value of n as the type that a setting has.
func (n node) as(s setting) (any, error) {
	switch s.value.(type) {
	case string:
		if text, ok := n.value.(string); ok {
			return text, nil
		}
		return nil, n.wanted(s, "a string")
	case bool:
		if yes, ok := n.value.(bool); ok {
			return yes, nil
		}
		return nil, n.wanted(s, "true or false")
	case int:
		if number, ok := n.value.(json.Number); ok {
			if i, err := strconv.ParseInt(string(number), 10, 0); err == nil {
				return int(i), nil
			}
		}
		return nil, n.wanted(s, "a whole number")
	case time.Duration:
		text, ok := n.value.(string)
		if d, err := time.ParseDuration(text); ok && err == nil {
			return d, nil
		}
		return nil, wrongf(`%s is no duration, want one such as "60s", "5m" or "168h"`, n.shown())
	case []string:
		list := []string{}
		for _, item := range n.items {
			text, ok := item.value.(string)
			if !ok {
				return nil, n.wanted(s, "a list of strings")
			}
			list = append(list, text)
		}
		if n.items == nil {
			return nil, n.wanted(s, "a list of strings")
		}
		return list, nil
	case map[string]string:
		if n.members == nil {
			return nil, n.wanted(s, "an object of strings")
		}
		object := map[string]string{}
		for _, m := range n.members {
			text, ok := m.node.value.(string)
			if !ok {
				return nil, wrongf("%s: want an object of strings, %s is %s", n.shown(), clipped(m.name), m.node.shown())
			}
			object[m.name] = text
		}
		return object, nil
	}
	return n.asTLS()
}

// wanted says what a setting has to be. What stands in the place of a password or of an
// address is not repeated: it may be one.
func (n node) wanted(s setting, what string) error {
	if s.group == "redis" {
		return wrongf("want %s", what)
	}
	return wrongf("%s: want %s", n.shown(), what)
}

func unknownGroup(name string) error {
	text := wrongf("%s: there is no such group", clipped(name))
	for _, s := range settings() {
		if s.name == name {
			return wrongf("%w; the setting %s stands in its group", text, s.path())
		}
	}
	if near := nearest(name, groups()); near != "" {
		return wrongf("%w, is %s meant?", text, near)
	}
	return wrongf("%w; the groups are %s", text, strings.Join(groups(), ", "))
}

func unknownSetting(group, name string) error {
	shown := group + "." + name
	if name == "" || len(name) > 60 || !visible.Plain(name) {
		shown = group + "." + clipped(name)
	}
	text := wrongf("%s: there is no such setting", shown)
	var names []string
	for _, s := range settingsOf(group) {
		if s.name != "" {
			names = append(names, s.name)
		}
	}
	for _, s := range settings() {
		if s.name == name && name != "" {
			return wrongf("%w, is %s meant?", text, s.path())
		}
	}
	if near := nearest(name, names); near != "" {
		return wrongf("%w, is %s.%s meant?", text, group, near)
	}
	return wrongf("%w; those of %s are %s", text, group, strings.Join(names, ", "))
}

// node is a value of a JSON file.
type node struct {
	value   any      // a string, json.Number, bool, or nil for null and for what follows
	members []member // of an object, not nil then
	items   []node   // of a list, not nil then
}

type member struct {
	name string
	node node
}

// parseJSON is stricter than encoding/json: no name twice, no bytes that are not UTF-8.
// It says where in the file a mistake is.
func parseJSON(b []byte) (node, error) {
	if !utf8.Valid(b) {
		return node{}, errors.New("is not UTF-8")
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // some editors of Windows put it in front
	if len(bytes.TrimSpace(b)) == 0 {
		return node{}, errors.New("is empty, want at least {}")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return node{}, wrongf("%s: %w", position(b, syntax.Offset), err)
		}
		return node{}, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	p := parser{b: b, d: d}
	return p.value("")
}

// position says in which line and column the byte before offset is.
func position(b []byte, offset int64) string {
	before := b[:max(min(int(offset), len(b))-1, 0)]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return "line " + strconv.Itoa(line) + ", column " + strconv.Itoa(column)
}

type parser struct {
	b []byte
	d *json.Decoder
}

// value reads one value, the one that is called path.
func (p parser) value(path string) (node, error) {
	token, err := p.d.Token()
	if err != nil {
		return node{}, err
	}
	switch token {
	case json.Delim('{'):
		return p.object(path)
	case json.Delim('['):
		n := node{items: []node{}}
		for p.d.More() {
			item, err := p.value(path)
			if err != nil {
				return node{}, err
			}
			n.items = append(n.items, item)
		}
		_, err := p.d.Token()
		return n, err
	}
	return node{value: token}, nil
}

func (p parser) object(path string) (node, error) {
	n := node{members: []member{}}
	seen := map[string]bool{}
	for p.d.More() {
		at := p.d.InputOffset()
		at += int64(len(p.b[at:]) - len(bytes.TrimLeft(p.b[at:], ", \t\r\n")))
		token, err := p.d.Token()
		if err != nil {
			return node{}, err
		}
		name, _ := token.(string)
		inner := strings.TrimPrefix(path+"."+name, ".")
		if seen[name] {
			return node{}, wrongf("%s: stands twice, the second time in %s", shortName(inner), position(p.b, at+1))
		}
		seen[name] = true
		value, err := p.value(inner)
		if err != nil {
			return node{}, err
		}
		n.members = append(n.members, member{name, value})
	}
	_, err := p.d.Token()
	return n, err
}

func shortName(path string) string {
	if len(path) > 100 {
		return clipped(path)
	}
	return path
}

// shown is a value as a message may repeat it.
func (n node) shown() string {
	switch {
	case n.members != nil:
		return "an object"
	case n.items != nil:
		return "a list"
	}
	switch v := n.value.(type) {
	case nil:
		return "null"
	case string:
		return clipped(v)
	case json.Number:
		if len(v) > 60 {
			return string(v[:60]) + "..."
		}
		return string(v)
	case bool:
		return strconv.FormatBool(v)
	}
	return "a value"
}
