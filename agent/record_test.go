package agent

import "testing"

func FuzzReplay(f *testing.F) {
	entry, _ := appendEntry(nil, []record{accept("AC1", "1-0", "a"), {Kind: kindAnswer, Seq: 1, body: []byte("{}")}})
	f.Add(entry)
	f.Add(append(append([]byte("junk"), entry...), entry...))
	f.Add([]byte(entryMark + "\xff\xff\xff\xff----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMemory()
		whole, damaged := replay(data, m.apply)
		if whole < 0 || whole > len(data) {
			t.Fatalf("whole up to %d of %d", whole, len(data))
		}
		again := newMemory()
		if n, _ := replay(data[:whole], again.apply); n != whole {
			t.Errorf("the whole beginning is whole up to %d of %d", n, whole)
		}
		if !damaged && again.told() != m.told() {
			t.Error("something counts from behind the torn end")
		}
		// What is remembered can be written and read again.
		var file []byte
		for _, rec := range m.snapshot() {
			var err error
			if file, err = appendEntry(file, []record{rec}); err != nil {
				t.Fatal(err)
			}
		}
		copied := newMemory()
		if n, _ := replay(file, copied.apply); n != len(file) || copied.told() != m.told() {
			t.Errorf("copy\n%s\nof\n%s", copied.told(), m.told())
		}
	})
}
