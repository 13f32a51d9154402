package deploy_test

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/proctest"
)

// TestRelease makes a release for one system, twice: the bytes are the same, the sums are
// right, and what is in the archive and in the Debian package is what it should be.
func TestRelease(t *testing.T) {
	t.Parallel()
	proctest.Need(t, "git", "tar", "gzip")
	if os.Getenv("MUSTER_TEST_REDIS") == "embedded" {
		t.Skip("has nothing to do with Redis, and is tested with the real one")
	}
	buildImage(t) // compiles the same, once for all
	words := []string{"./scripts/release", "--target", "linux/" + runtime.GOARCH}
	name := "muster_1.2.3-rc.1_linux_" + runtime.GOARCH
	files := []string{name + ".tar.gz"}
	deb := canPackage(t)
	if deb {
		files = append(files, "muster_1.2.3~rc.1_"+runtime.GOARCH+".deb")
	} else {
		words = append(words, "--no-deb")
	}
	var sums [2]string
	var out string
	for i := range sums {
		out = t.TempDir()
		env := []string{"TMPDIR=" + t.TempDir(), "SOURCE_DATE_EPOCH=1700000000"}
		sums[i] = proctest.Output(t, root, env, append(words, "--out", out, "v1.2.3-rc.1")...)
	}
	if sums[0] != sums[1] {
		t.Errorf("the same sources give other bytes:\n%s%s", sums[0], sums[1])
	}
	listed, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(listed)) {
		sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile(filepath.Join(out, file))
		if own := sha256.Sum256(content); err != nil || hex.EncodeToString(own[:]) != sum {
			t.Errorf("%s: the sum is wrong: %v", file, err)
		}
		got = append(got, file)
	}
	if !slices.Equal(got, files) {
		t.Errorf("made are %q, want %q", got, files)
	}

	proctest.Output(t, out, nil, "tar", "-xzf", name+".tar.gz")
	for _, file := range []string{"README.md", "LICENSE", "CHANGELOG.md", "THIRD-PARTY.txt", "muster.example.json", "docs/CLI.md",
		"completion/muster.bash", "completion/muster.zsh", "completion/muster.fish",
		"systemd/muster-listener.service", "systemd/muster.sysusers.conf", "systemd/agent.json"} {
		if info, err := os.Stat(filepath.Join(out, name, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s is not in the archive, or empty: %v", file, err)
		}
	}
	released(t, filepath.Join(out, name, "muster"))
	linksLead(t, filepath.Join(out, name))
	if deb {
		debian(t, filepath.Join(out, files[1]))
	}
}

// linksLead follows each relative link of the documents in a folder: it leads to a file that
// is in the folder, too.
func linksLead(t *testing.T, folder string) {
	t.Helper()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code := regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`")
	seen := 0
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(string(text), ""), -1) {
			file, _, _ := strings.Cut(m[1], "#")
			if file == "" || strings.Contains(file, "://") {
				continue
			}
			seen++
			target := filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			if _, err := os.Stat(target); err != nil || !strings.HasPrefix(target, folder) {
				t.Errorf("%s links to %s, which is not there", strings.TrimPrefix(path, folder), m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Errorf("%d links were found in %s", seen, folder)
	}
}

// released holds a binary to what all of them are.
func released(t *testing.T, binary string) {
	t.Helper()
	static(t, binary)
	if said := proctest.Output(t, root, nil, binary, "version"); !strings.HasPrefix(said, "muster 1.2.3-rc.1 ") {
		t.Errorf("%s says %q", binary, said)
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Section(".symtab") != nil || file.Section(".debug_info") != nil {
		t.Errorf("%s has symbols", binary)
	}
}

// canPackage tells whether Debian packages can be made here; if not, the log says why.
func canPackage(t *testing.T) bool {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(root, "scripts", "release"))
	if err != nil {
		t.Fatal(err)
	}
	module := regexp.MustCompile(`(?m)^nfpm=(.*)$`).FindStringSubmatch(string(script))[1]
	if status, _, stderr := proctest.Run(t, root, []string{"GOBIN=" + t.TempDir()}, "go", "install", module); status != 0 {
		t.Logf("without the Debian package: %s can't be had: %s", module, stderr)
		return false
	}
	if status, _, stderr := proctest.Run(t, root, nil, "sh", "-c", "command -v dpkg-deb"); status != 0 {
		t.Logf("without the Debian package: no dpkg-deb to read it with: %s", stderr)
		return false
	}
	return true
}

// debian unpacks a package: it brings what its units name, enables and starts nothing,
// and lets nobody but root write to it.
func debian(t *testing.T, deb string) {
	t.Helper()
	tree, control := t.TempDir(), t.TempDir()
	proctest.Output(t, tree, nil, "dpkg-deb", "-x", deb, tree)
	proctest.Output(t, tree, nil, "dpkg-deb", "-e", deb, control)
	if version := proctest.Output(t, tree, nil, "dpkg-deb", "-f", deb, "Version"); strings.TrimSpace(version) != "1.2.3~rc.1" {
		t.Errorf("its version is %s", version)
	}
	released(t, filepath.Join(tree, "usr/bin/muster"))
	conffiles, err := os.ReadFile(filepath.Join(control, "conffiles"))
	if want := "/etc/muster/agent.json\n/etc/muster/muster.json\n"; err != nil || string(conffiles) != want {
		t.Errorf("conffiles: %q, %v", conffiles, err)
	}
	for _, verb := range services {
		u := readUnit(t, verb)
		for _, word := range strings.Fields(u.one(t, "ExecStart")) {
			if !strings.HasPrefix(word, "/") {
				continue
			}
			if _, err := os.Stat(filepath.Join(tree, word)); err != nil {
				t.Errorf("muster-%s.service: %v", verb, err)
			}
		}
		if _, err := os.Stat(filepath.Join(tree, "usr/lib/systemd/system/muster-"+verb+".service")); err != nil {
			t.Error(err)
		}
	}
	for _, file := range []string{"usr/lib/sysusers.d/muster.conf", "usr/share/doc/muster/copyright", "usr/share/doc/muster/changelog.gz",
		"usr/share/bash-completion/completions/muster", "usr/share/zsh/vendor-completions/_muster", "usr/share/fish/vendor_completions.d/muster.fish"} {
		if info, err := os.Stat(filepath.Join(tree, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s is not in the package, or empty: %v", file, err)
		}
	}
	linksLead(t, filepath.Join(tree, "usr/share/doc/muster"))
	writable := regexp.MustCompile(`(?m)^.(.{4}w|.{7}w|..s|.{5}s).*$`)
	if bad := writable.FindString(proctest.Output(t, tree, nil, "dpkg-deb", "-c", deb)); bad != "" {
		t.Errorf("others than root may write to it, or it is set-uid: %s", bad)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		proctest.Output(t, control, nil, "sh", "-n", script)
		content, err := os.ReadFile(filepath.Join(control, script))
		if err != nil || regexp.MustCompile(`systemctl.*\b(start|restart|enable)\b`).Match(content) {
			t.Errorf("%s starts or enables something: %v", script, err)
		}
	}
}

// TestReleaseVersions holds what scripts/release takes for a version.
func TestReleaseVersions(t *testing.T) {
	t.Parallel()
	proctest.Need(t, "git")
	for _, words := range [][]string{{"latest"}, {"1.2"}, {"1.2.3", "1.2.4"}, {"--targets", "1.2.3"}, {"1.2.3 rc"}, {"--target"}} {
		status, _, stderr := proctest.Run(t, root, nil, append([]string{"./scripts/release", "--out", t.TempDir()}, words...)...)
		if status != 2 || !strings.HasPrefix(stderr, "release: ") {
			t.Errorf("%q ends with %d: %s", words, status, stderr)
		}
	}
}
