package main

import (
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
)

func (a *app) configVerb() *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "show the settings in force, and where each comes from",
		Flags:  verbFlags(jsonFlag()),
		Action: a.config,
	}
}

// settingObject is a setting in JSON.
type settingObject struct {
	Group  string `json:"group"`
	Name   string `json:"name"`
	Value  any    `json:"value"`
	Source source `json:"source"`
	Where  string `json:"where,omitempty"`
}

// config checks what the verbs check, but for what only one of them can find out, such
// as whether an address is free.
func (a *app) config(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	all, err := a.everySetting(c)
	if err != nil {
		return err
	}
	p := a.printer(c)
	rows := make([][]string, len(all))
	for i, f := range all {
		where := f.where
		if f.from == fromDefault {
			where = string(fromDefault)
		}
		rows[i] = []string{visible.Line(f.path()), visible.Line(shown(f.value)), visible.Line(where)}
		if p.json {
			p.object(settingObject{f.group, f.name, written(f.value), f.from, f.where})
		}
	}
	p.table([]string{"SETTING", "VALUE", "FROM"}, rows)
	return p.end(statusOK)
}

// everySetting is what is in force, without secrets. Of Redis that is its URL, or the
// members of the object that the file has in its place.
func (a *app) everySetting(c *cli.Context) ([]inForce, error) {
	var all []inForce
	object := slices.ContainsFunc(settingsOf("redis")[1:], func(s setting) bool {
		_, ok := a.file.values[s.path()]
		return ok
	})
	for _, s := range settings() {
		f, err := a.inForce(c, s)
		if err != nil {
			return nil, err
		}
		if s.group == "redis" && s.name == "" {
			if object = object && f.from == fromFile; object {
				continue
			}
			text, _ := f.value.(string)
			f.value = withoutSecrets(text)
		} else if s.group == "redis" && !object {
			continue
		}
		if s.path() == "redis.password" && f.value != "" {
			f.value = "***"
		}
		all = append(all, f)
	}
	for _, name := range slices.Sorted(maps.Keys(a.file.instructions)) {
		all = append(all, inForce{
			setting: setting{group: groupOfCommands, name: name}, value: a.file.instructions[name],
			from: fromFile, where: a.file.path,
		})
	}
	return all, nil
}
