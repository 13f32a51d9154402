package swarm

import "testing"

func TestAddresses(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range 60_000 {
		a := addr(n)
		if !a.IsLoopback() || seen[a.String()] || index(a) != n {
			t.Fatalf("host %d has the address %v, which is host %d's", n, a, index(a))
		}
		seen[a.String()] = true
	}
}
