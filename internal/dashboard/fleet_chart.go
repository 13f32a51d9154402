package dashboard

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const defaultSpan = "6h"

// spans are the times that the chart can show.
var spans = map[string]struct { // never changes
	length time.Duration
	Text   string
}{
	"1h":  {time.Hour, "hour"},
	"6h":  {6 * time.Hour, "6 hours"},
	"24h": {24 * time.Hour, "24 hours"},
}

// spanNames are the spans in their order.
var spanNames = [...]string{"1h", "6h", "24h"} // never changes

func chartTopics() (topics []string) {
	for _, s := range spanNames {
		topics = append(topics, "chart:"+s)
	}
	return topics
}

// chart is the number of hosts that were online, as a drawing of Width columns by
// chartHeight units.
type chart struct {
	Span     string
	Width    int
	Line     string // path of the line
	Area     string // path of what is below it
	Unknown  []gap  // columns of which nothing is known
	Known    bool   // of some time
	Whole    bool   // of all of it
	Now, Top int
	Low      mark
	High     mark
	From     time.Time
}

// gap is a time of which nothing is known.
type gap struct{ X, Width int }

// mark is a point of the chart.
type mark struct {
	Hosts int
	At    time.Time
}

const (
	chartHeight  = 100
	chartColumns = 360 // at most
	chartLeast   = 40  // samples that it shows at least: 10 minutes
)

// chart draws what is known of a span up to now.
func (p *past) chart(span string, now time.Time, online int) chart {
	s := spans[span]
	last := stepOf(now)
	samples := lead(p.span(last-int64(s.length/pastStep)+1, last))
	column := (len(samples) + chartColumns - 1) / chartColumns // samples in one
	c := chart{
		Span: span, Now: online, Whole: true, Width: (len(samples) + column - 1) / column,
		From: time.Unix((last-int64(len(samples))+1)*int64(pastStep/time.Second), 0),
	}
	type bar struct {
		known          bool
		low, high, end int32
	}
	bars := make([]bar, c.Width)
	for i, x := range samples {
		if x.number == 0 {
			continue
		}
		b := &bars[i/column]
		if !b.known {
			*b = bar{true, x.low, x.high, x.end}
		}
		b.low, b.high, b.end = min(b.low, x.low), max(b.high, x.high), x.end
		at := time.Unix(x.number*int64(pastStep/time.Second), 0)
		if !c.Known || int(x.low) < c.Low.Hosts {
			c.Low = mark{int(x.low), at}
		}
		if !c.Known || int(x.high) >= c.High.Hosts {
			c.High = mark{int(x.high), at}
		}
		c.Known = true
	}
	c.Top = ceiling(c.High.Hosts)
	y := func(n int32) string {
		return strconv.FormatFloat(chartHeight*(1-float64(n)/float64(c.Top)), 'f', 1, 64)
	}
	var line, area strings.Builder
	for i := 0; i < len(bars); {
		from := i
		for i < len(bars) && bars[i].known == bars[from].known {
			i++
		}
		if !bars[from].known {
			c.Unknown = append(c.Unknown, gap{from, i - from})
			c.Whole = false
			continue
		}
		var path []string
		for k, b := range bars[from:i] {
			left, right := strconv.Itoa(from+k), strconv.Itoa(from+k+1)
			if b.low != b.end || b.high != b.end { // what it was in between is a stroke
				path = append(path, left+" "+y(b.low), left+" "+y(b.high))
			}
			path = append(path, left+" "+y(b.end), right+" "+y(b.end))
		}
		path = thin(path)
		line.WriteString("M" + strings.Join(path, "L"))
		area.WriteString("M" + strconv.Itoa(from) + " " + strconv.Itoa(chartHeight) + "L" + strings.Join(path, "L") +
			"L" + strconv.Itoa(i) + " " + strconv.Itoa(chartHeight) + "Z")
	}
	c.Line, c.Area = line.String(), area.String()
	return c
}

// lead cuts off most of the time before anything is known: a page that has just begun
// shows what it knows, and not hours of nothing.
func lead(samples []sample) []sample {
	first := slices.IndexFunc(samples, func(s sample) bool { return s.number != 0 })
	if first < 0 {
		return samples
	}
	known := len(samples) - first
	return samples[max(0, len(samples)-max(known+known/8+1, chartLeast)):]
}

// thin leaves out points in the middle of a level line.
func thin(path []string) []string {
	level := func(p string) string { return p[strings.IndexByte(p, ' '):] }
	kept := slices.Clone(path[:0])
	for i, p := range path {
		if i > 0 && i < len(path)-1 && level(path[i-1]) == level(p) && level(path[i+1]) == level(p) {
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// ceiling is the number at the top of the chart: a round one that is not below n.
func ceiling(n int) int {
	for unit := 1; ; unit *= 10 {
		for _, tenths := range [...]int{10, 12, 16, 20, 25, 30, 40, 50, 60, 80} {
			if top := tenths * unit / 10; top >= n {
				return max(top, 4)
			}
		}
	}
}
