package main

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// table writes rows of cells that are fit to be shown. On a terminal they stand in
// columns under their names; elsewhere a row is a line, with tabs between the cells
// and no names, for cut and awk.
func (p *printer) table(names []string, rows [][]string) {
	if p.json || len(rows) == 0 {
		return
	}
	if !p.terminal {
		for _, r := range rows {
			p.say("%s", strings.Join(r, "\t"))
		}
		return
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	head := make(table.Row, len(names))
	for i, n := range names {
		head[i] = p.paint(bold, n)
	}
	t.AppendRow(head)
	for _, r := range rows {
		row := make(table.Row, len(r))
		for i, cell := range r {
			row[i] = cell
		}
		t.AppendRow(row)
	}
	p.say("%s", t.Render())
}
