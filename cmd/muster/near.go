package main

// distance is how many characters have to be changed, added or left out to get from a
// to b.
func distance(a, b []rune) int {
	if len(a) > 64 || len(b) > 64 { // nobody mistypes these
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j, y := range b {
			change := diagonal
			if x != y {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
