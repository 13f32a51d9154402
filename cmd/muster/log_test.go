package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A log file that has its size is put aside, and no more of those are kept than the
// settings say.
func TestLogFileIsRotated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v := values{}
	for _, s := range settingsOf("log") {
		v[s.name] = inForce{setting: s, value: s.value}
	}
	set := func(name string, value any) { v[name] = inForce{value: value} }
	set("file", filepath.Join(dir, "muster.log"))
	set("max_size_mb", 1)
	set("max_backups", 1)
	set("compress", false)
	old := filepath.Join(dir, "muster-2020-01-01T00-00-00.000-size.log")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLogFile(v)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := f.Write(bytes.Repeat([]byte("x"), 600<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil { // waits for what deletes and compresses
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%v, %v: want the file and one that was put aside", files, err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the older one is kept")
	}
	for _, file := range files {
		if filepath.Ext(file.Name()) != ".log" {
			t.Errorf("%s is compressed", file.Name())
		}
	}
}
