package wire

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"testing"
)

// What real Pythons write is read as what they meant.
func TestTextsOfPython(t *testing.T) {
	t.Parallel()
	for _, python := range []string{"python3", "python2"} {
		t.Run(python, func(t *testing.T) {
			t.Parallel()
			if out, err := exec.Command(python, "-c", "").CombinedOutput(); err != nil {
				t.Skipf("no %s that runs on this machine: %v %s", python, err, out)
			}
			const messages = "3000"
			var stderr bytes.Buffer
			cmd := exec.Command(python, "testdata/repr.py", "1", messages)
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.Bytes())
			}
			seen := map[Code]int{}
			for line := range bytes.Lines(out) {
				var body string
				var want []string
				var lists []int
				if err := json.Unmarshal(line, &[]any{&body, &want, &lists}); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				m, err := Decode([]byte(body), OldClient)
				if err != nil {
					t.Errorf("%q: %v", body, err)
					continue
				}
				seen[m.Code()]++
				var got []string
				var gotLists []int
				switch m := m.(type) {
				case Info:
					got = append([]string{m.Hostname, m.MAC}, m.IPv4...)
					gotLists = []int{len(got)}
				case Status:
					got = slices.Concat([]string{m.Working}, m.Complete, m.OnCall)
					gotLists = []int{len(m.Complete), len(m.OnCall)}
				}
				if !slices.Equal(got, want) || !slices.Equal(gotLists, lists) {
					t.Errorf("%q says\n%q %d, want\n%q %d", body, got, gotLists, want, lists)
				}
				if text, ok := EncodeText(m); m.Code() == CodeStatus && python == "python3" && (!ok || string(text) != body) {
					t.Errorf("encoded again\n%q, want\n%q", text, body)
				}
			}
			if seen[CodeInfo] == 0 || seen[CodeStatus] == 0 {
				t.Errorf("read %v", seen)
			}
			t.Logf("%v messages", seen)
		})
	}
}
