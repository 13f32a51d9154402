package main

import (
	"cmp"
	"slices"
	"strings"
)

// near returns those of known that name may be a slip of, the closest first: for verbs,
// flags, settings and what is typed at the console alike. Case, and _ for -, are no
// difference.
func near(name string, known []string) []string {
	type found struct {
		name  string
		slips int
	}
	var all []found
	for _, k := range known {
		if n, ok := slips(name, k); ok {
			all = append(all, found{k, n})
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(a.slips, b.slips) })
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.name
	}
	return names
}

// nearest is the first of near, empty if there is none.
func nearest(name string, known []string) string {
	if all := near(name, known); len(all) > 0 {
		return all[0]
	}
	return ""
}

// alike reports whether one may be a slip of the other.
func alike(a, b string) bool {
	_, ok := slips(a, b)
	return ok
}

// slips says how far a is from b: the characters that have to be changed, at most two and
// never all of them. That one begins like the other, or is its last word (timeout of
// command-timeout), counts as two.
func slips(a, b string) (int, bool) {
	same := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "-")) }
	a, b = same(a), same(b)
	if a == "" || b == "" {
		return 0, false
	}
	most := 2
	switch n := min(len([]rune(a)), len([]rune(b))); {
	case n == 1:
		most = 0
	case n <= 4:
		most = 1
	}
	if d := distance([]rune(a), []rune(b)); d <= most {
		return d, true
	}
	begins := strings.HasPrefix(b, a) || strings.HasPrefix(a, b) && 2*len(b) >= len(a)
	if strings.Trim(a, ":") != "" && (begins || strings.HasSuffix(b, "-"+a)) {
		return 2, true
	}
	return 0, false
}

// distance is how many characters have to be changed, added, left out or swapped with
// the next one to get from a to b.
func distance(a, b []rune) int {
	if len(a) > 64 || len(b) > 64 { // nobody mistypes these
		return len(a) + len(b)
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range b {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// oneOf writes names as a choice: a, b or c.
func oneOf(names []string) string { return joined(names, "or") }

// allOf writes names as a list: a, b and c, or a, b, c and 5 more.
func allOf(names []string) string {
	const most = 4
	if len(names) > most+1 {
		return strings.Join(names[:most], ", ") + " and " + plural(int64(len(names)-most), "other")
	}
	return joined(names, "and")
}

func joined(names []string, word string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + word + " " + names[last]
}
