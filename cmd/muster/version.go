package main

import (
	"runtime"

	"github.com/urfave/cli/v2"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = "0.8.0-dev"

func (a *app) versionVerb() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "show the version", Flags: verbFlags(jsonFlag()),
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			p := a.printer(c)
			if p.json {
				p.object(map[string]string{
					"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			p.say("muster %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return p.end(statusOK)
		},
	}
}
