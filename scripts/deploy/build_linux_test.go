package deploy_test

import (
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/internal/proctest"
)

// image is what the stage "build" of the Dockerfile makes, once for all tests: to compile
// everything takes minutes where nothing is compiled yet.
var image struct {
	sync.Once
	dir   string // stands for /out
	whole bool
}

func TestMain(m *testing.M) {
	code := m.Run()
	if image.dir != "" {
		os.RemoveAll(image.dir)
	}
	os.Exit(code)
}

var mount = regexp.MustCompile(`^--mount=type=cache,\S+`)

// buildImage does what the stage "build" of the Dockerfile says, without a container: in
// a folder with what .dockerignore lets through, in the order of the file. The version is
// 9.8.7. It returns the folder that stands for /out, which all may read and nobody writes.
func buildImage(t *testing.T) string {
	t.Helper()
	image.Do(func() {
		var err error
		if image.dir, err = os.MkdirTemp("", "muster-image-"); err != nil {
			t.Fatal(err)
		}
		src := t.TempDir()
		env := []string{"TARGETOS=linux", "TARGETARCH=" + runtime.GOARCH, "VERSION=9.8.7"}
		for _, i := range readDockerfile(t)["build"].body {
			switch i.word {
			case "ENV":
				env = append(env, strings.Fields(i.rest)...)
			case "COPY":
				words := strings.Fields(i.rest)
				for _, source := range words[:len(words)-1] {
					copyContext(t, source, src)
				}
			case "RUN":
				// The rest of the image is this machine: only where the result goes is another place,
				// and what a mount brings is here already.
				words := strings.TrimSpace(mount.ReplaceAllString(i.rest, ""))
				proctest.Output(t, src, env, "/bin/sh", "-c", strings.ReplaceAll(words, "/out/", image.dir+"/"))
			}
		}
		if err := os.Chmod(image.dir, 0o755); err != nil { // services are not run as root
			t.Fatal(err)
		}
		image.whole = true
	})
	if !image.whole {
		t.Fatal("the build has failed, in another test")
	}
	return image.dir
}

// copyContext copies a file, or all of a folder that .dockerignore lets through.
func copyContext(t *testing.T, source, to string) {
	t.Helper()
	ignored := readIgnored(t)
	err := filepath.WalkDir(filepath.Join(root, source), func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		switch {
		case err != nil || name == ".":
			return err
		case ignored(filepath.ToSlash(name)) && entry.IsDir():
			return filepath.SkipDir
		case ignored(filepath.ToSlash(name)):
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBuild builds as the Dockerfile does. What comes of it needs no library, so that an
// empty image is enough for it, and says the version that it was built as.
func TestBuild(t *testing.T) {
	t.Parallel()
	out := buildImage(t)
	binary := filepath.Join(out, "muster")
	static(t, binary)
	if said := proctest.Output(t, root, nil, binary, "version"); !strings.HasPrefix(said, "muster 9.8.7 ") {
		t.Errorf("it says %q", said)
	}
	if info, err := os.Stat(filepath.Join(out, "state")); err != nil || !info.IsDir() {
		t.Errorf("the folder for the agent's journal: %v", err)
	}
}

// static fails if a program needs an interpreter or libraries, or holds paths of the
// machine that built it.
func static(t *testing.T, binary string) {
	t.Helper()
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static: it has a %v", binary, p.Type)
		}
	}
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(content), here+"/") {
		t.Errorf("%s names the folder that it was built in", binary)
	}
}
