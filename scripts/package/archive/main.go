// Command archive packs a folder so that the same files give the same bytes, anywhere:
//
//	archive muster_1.2.3_linux_amd64.tar.gz muster_1.2.3_linux_amd64
//
// Names are in order, nobody owns the files, their times are SOURCE_DATE_EPOCH, and their
// modes are 0755 for programs and folders and 0644 for the rest. The ending of the name
// says the form: .tar.gz or .zip.
package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: archive FILE.tar.gz|FILE.zip FOLDER")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "archive:", err)
		os.Exit(1)
	}
}

// writer takes files and folders, in order. The name of a folder ends with a slash.
type writer interface {
	add(name string, mode fs.FileMode, content []byte) error
	close() error
}

// pack writes folder, under its own name, into the archive file.
func pack(file, folder, epoch string) (err error) {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q: want Unix seconds", epoch)
	}
	when := time.Unix(seconds, 0).UTC()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if closing := out.Close(); err == nil {
			err = closing
		}
	}()
	var w writer
	switch {
	case strings.HasSuffix(file, ".tar.gz"):
		gz, err := gzip.NewWriterLevel(out, gzip.BestCompression)
		if err != nil {
			return err
		}
		w = &tarball{gz, tar.NewWriter(gz), when}
	case strings.HasSuffix(file, ".zip"):
		w = &zipped{zip.NewWriter(out), when}
	default:
		return fmt.Errorf("%s: want .tar.gz or .zip", file)
	}
	top := filepath.Dir(filepath.Clean(folder))
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error { // in the order of names
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if entry.IsDir() {
			return w.add(name+"/", 0o755, nil)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return w.add(name, mode, content)
	})
	if err != nil {
		return err
	}
	return w.close()
}

type tarball struct {
	gz   *gzip.Writer
	tar  *tar.Writer
	when time.Time
}

func (t *tarball) add(name string, mode fs.FileMode, content []byte) error {
	h := &tar.Header{Name: name, Mode: int64(mode), Size: int64(len(content)), ModTime: t.when, Typeflag: tar.TypeReg}
	if strings.HasSuffix(name, "/") {
		h.Typeflag = tar.TypeDir
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := t.tar.Write(content)
	return err
}

func (t *tarball) close() error {
	if err := t.tar.Close(); err != nil {
		return err
	}
	return t.gz.Close()
}

type zipped struct {
	zip  *zip.Writer
	when time.Time
}

func (z *zipped) add(name string, mode fs.FileMode, content []byte) error {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: z.when}
	if strings.HasSuffix(name, "/") {
		h.Method, mode = zip.Store, mode|fs.ModeDir
	}
	h.SetMode(mode)
	w, err := z.zip.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

func (z *zipped) close() error { return z.zip.Close() }
