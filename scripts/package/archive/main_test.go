package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestPack packs a folder twice, at other times and under other umasks, and reads it again.
func TestPack(t *testing.T) {
	t.Parallel()
	for _, ending := range []string{".tar.gz", ".zip"} {
		t.Run(ending, func(t *testing.T) {
			t.Parallel()
			var packed [2][]byte
			for i, mode := range []os.FileMode{0o600, 0o664} {
				folder := filepath.Join(t.TempDir(), "muster_1.2.3")
				if err := os.MkdirAll(filepath.Join(folder, "docs"), 0o700); err != nil {
					t.Fatal(err)
				}
				for name, mode := range map[string]os.FileMode{"README.md": mode, "docs/CLI.md": mode, "muster": mode | 0o100} {
					file := filepath.Join(folder, name)
					if err := errors.Join(os.WriteFile(file, []byte("it is "+name), mode), os.Chmod(file, mode),
						os.Chtimes(file, time.Time{}, time.Unix(int64(i)*1e6, 0))); err != nil {
						t.Fatal(err)
					}
				}
				out := filepath.Join(t.TempDir(), "out"+ending)
				if err := pack(out, folder, "1700000000"); err != nil {
					t.Fatal(err)
				}
				content, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				packed[i] = content
			}
			if !bytes.Equal(packed[0], packed[1]) {
				t.Error("the same files give other bytes")
			}
			want := []string{
				"muster_1.2.3/ drwxr-xr-x", "muster_1.2.3/README.md -rw-r--r-- it is README.md",
				"muster_1.2.3/docs/ drwxr-xr-x", "muster_1.2.3/docs/CLI.md -rw-r--r-- it is docs/CLI.md",
				"muster_1.2.3/muster -rwxr-xr-x it is muster",
			}
			if got := unpack(t, ending, packed[0]); !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

// unpack lists what is in an archive: name, mode, content.
func unpack(t *testing.T, ending string, content []byte) (list []string) {
	t.Helper()
	seen := func(name string, info os.FileInfo, r io.Reader) {
		t.Helper()
		if got := info.ModTime().Unix(); got != 1700000000 {
			t.Errorf("%s: its time is %d", name, got)
		}
		line := name + " " + info.Mode().String()
		if !info.IsDir() {
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			line += " " + string(b)
		}
		list = append(list, line)
	}
	if ending == ".zip" {
		r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.File {
			open, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			seen(f.Name, f.FileInfo(), open)
			open.Close()
		}
		return list
	}
	gz, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		seen(h.Name, h.FileInfo(), r)
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range [][3]string{
		{"out.rar", dir, "1"}, {"out.zip", dir, "yesterday"}, {"out.zip", filepath.Join(dir, "none"), "1"},
	} {
		if err := pack(filepath.Join(t.TempDir(), c[0]), c[1], c[2]); err == nil {
			t.Errorf("%q: no error", c)
		}
	}
}
