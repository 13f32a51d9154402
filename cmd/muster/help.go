package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// What the verbs are for, in the order of muster help.
const (
	toStart = "Start it"
	toUse   = "Use it"
	toLook  = "Look at it"
	toSet   = "Settings and help"
)

func categories() []string { return []string{toStart, toUse, toLook, toSet} }

// helpWidth is how wide a line of help is at most, whatever the terminal.
const helpWidth = 98

func (a *app) helpVerb() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show the verbs, or what one does: its flags, and examples", ArgsUsage: "[VERB]",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return misuse("help takes one verb")
			}
			p := a.printer(c)
			if c.NArg() == 0 {
				p.help(c.App)
				return p.end(statusOK)
			}
			verb := c.App.Command(c.Args().First())
			if verb == nil {
				return unknownVerb(c.App, c.Args().First())
			}
			p.helpOn(verb)
			return p.end(statusOK)
		},
	}
}

// help shows all verbs.
func (p *printer) help(app *cli.App) {
	p.say("%s - %s", p.paint(bold, app.Name), app.Usage)
	p.say("")
	p.say("  muster VERB [flags] [arguments]")
	for _, category := range categories() {
		p.section(category)
		for _, v := range app.Commands {
			if v.Category == category {
				p.entry(v.Name, 12, v.Usage)
			}
		}
	}
	p.examples("Examples", examplesOf(""))
	p.section("Flags of every verb")
	p.flags(sharedFlags(defaultRedis, "info"))
	p.say("")
	p.paragraph("Flags may stand before and after arguments. Each flag can also be set in the environment: " +
		"MUSTER_ and its name in capitals, with _ for -. What neither says comes from the file " + defaultFile + ", or the one that --config names.")
	p.say("")
	p.say("muster help VERB shows the flags of a verb, and examples.")
}

// helpOn shows one verb.
func (p *printer) helpOn(v *cli.Command) {
	p.say("%s - %s", p.paint(bold, "muster "+v.Name), v.Usage)
	p.say("")
	own := ownFlags(v)
	line := "  muster " + v.Name
	if len(own) > 0 {
		line += " [flags]"
	}
	if v.ArgsUsage != "" {
		line += " " + v.ArgsUsage
	}
	p.say("%s", line)
	if v.Description != "" {
		for part := range strings.SplitSeq(v.Description, "\n\n") {
			p.say("")
			if strings.HasPrefix(part, " ") {
				p.say("%s", part)
			} else {
				p.paragraph(part)
			}
		}
	}
	title := "Examples"
	if len(examplesOf(v.Name)) == 1 {
		title = "Example"
	}
	p.examples(title, examplesOf(v.Name))
	if len(own) > 0 {
		p.section("Flags")
		p.flags(own)
	}
	if len(v.Flags) > len(own) {
		p.section("Flags of every verb")
		p.flags(v.Flags[len(v.Flags)-len(sharedFlags("", "")):])
	}
}

// ownFlags are the flags of a verb without those that all have, which stand last.
func ownFlags(v *cli.Command) (own []cli.Flag) {
	shared := sharedFlags("", "")
	for _, f := range v.Flags {
		if findFlag(shared, f.Names()[0]) == nil {
			own = append(own, f)
		}
	}
	return own
}

func (p *printer) section(title string) {
	p.say("")
	p.say("%s:", p.paint(bold, title))
}

func (p *printer) examples(title string, all []example) {
	if len(all) == 0 {
		return
	}
	p.section(title)
	for _, e := range all {
		p.say("  %s", p.paint(dim, "# "+e.what))
		p.say("  %s", e.line)
	}
}

func (p *printer) flags(flags []cli.Flag) {
	const least, most = 16, 30
	width := least
	for _, f := range flags {
		if n := len(flagHead(f)); n <= most {
			width = max(width, n)
		}
	}
	for _, f := range flags {
		p.entry(flagHead(f), width, flagText(f))
	}
}

// entry is a name and what there is to say of it, beside it or below.
func (p *printer) entry(name string, width int, text string) {
	lines := wrapped(text, helpWidth-width-4)
	head := "  " + name
	if len(name) > width {
		p.say("%s", head)
		head = ""
	}
	for _, l := range lines {
		p.say("%-*s%s", width+4, head, l)
		head = ""
	}
}

func (p *printer) paragraph(text string) {
	for _, l := range wrapped(text, helpWidth) {
		p.say("%s", l)
	}
}

// flagHead is a flag and what its value is called.
func flagHead(f cli.Flag) string {
	head := "--" + f.Names()[0]
	if takesValue(f) {
		name, _ := flagUsage(f)
		head += " " + name
	}
	return head
}

// flagText is what a flag does, and its default.
func flagText(f cli.Flag) string {
	_, text := flagUsage(f)
	if d := flagDefault(f); d != "" && !strings.Contains(text, "(default: ") {
		text += " (default: " + d + ")"
	}
	return text
}

// flagUsage parts the usage of a flag into the name of its value, which stands in it in
// backquotes, and the text.
func flagUsage(f cli.Flag) (value, text string) {
	if d, ok := f.(cli.DocGenerationFlag); ok {
		text = d.GetUsage()
	}
	if before, rest, ok := strings.Cut(text, "`"); ok {
		name, after, _ := strings.Cut(rest, "`")
		return name, before + name + after
	}
	switch f.(type) {
	case *cli.DurationFlag:
		value = "DURATION"
	case *cli.IntFlag:
		value = "NUMBER"
	default:
		value = "VALUE"
	}
	return value, text
}

func flagDefault(f cli.Flag) string {
	switch f := f.(type) {
	case *cli.StringFlag:
		return f.Value
	case *cli.IntFlag:
		if f.Value != 0 {
			return fmt.Sprint(f.Value)
		}
	case *cli.DurationFlag:
		if f.Value > time.Duration(0) {
			return shortSpan(f.Value)
		}
	}
	return ""
}

// wrapped breaks text into lines of at most so many characters, at blanks.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
