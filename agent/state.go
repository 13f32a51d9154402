package agent

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
)

// ErrStateInUse says that another agent has the state directory.
var ErrStateInUse = errors.New("state directory in use")

// stateDir is a state directory that this agent has to itself. It holds
//
//	lock      locked as long as the agent lives; who has it, as text
//	instance  random, made once: tells this agent from another of the same id
//	journal   see journal.go
type stateDir struct {
	instance string
	reused   bool // the instance was there before: there should be a journal too
	lock     *os.File
}

func openState(dir, id string, log logrus.FieldLogger) (*stateDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take state directory: %w", err)
	}
	if err := lockFile(lock); err != nil {
		holder := make([]byte, 256)
		n, _ := lock.ReadAt(holder, 0)
		lock.Close()
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("lock state directory %s: %w", dir, err)
		}
		return nil, fmt.Errorf("%w: %s is held by %s", ErrStateInUse, dir, strings.TrimSpace(string(holder[:n])))
	}
	s := &stateDir{lock: lock}
	// Who holds it is a help to the reader of that error; nothing depends on it.
	if err := lock.Truncate(0); err == nil {
		fmt.Fprintf(lock, "agent %s, process %d\n", id, os.Getpid())
	}
	if s.instance, s.reused, err = readInstance(filepath.Join(dir, "instance"), log); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// readInstance returns what the file holds, or fills it with 128 random bits.
func readInstance(path string, log logrus.FieldLogger) (instance string, reused bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", false, fmt.Errorf("read instance: %w", err)
	}
	if raw, hexErr := hex.DecodeString(string(b)); err == nil && hexErr == nil && len(raw) == 16 {
		return string(b), true, nil
	}
	if err == nil {
		log.WithField("file", path).Warn("instance unreadable, made a new one")
	}
	raw := make([]byte, 16)
	rand.Read(raw) // never fails
	instance = hex.EncodeToString(raw)
	if err := writeWhole(path, []byte(instance)); err != nil {
		return "", false, fmt.Errorf("write instance: %w", err)
	}
	return instance, false, nil
}

// writeWhole makes path hold b: after a crash it holds all of it or what it held
// before.
func writeWhole(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// close lets go of the directory at once. To close the file alone would leave it taken
// for a moment, where another goroutine is just starting a process: that has a copy of
// the file until its program is loaded.
func (s *stateDir) close() error { return errors.Join(unlockFile(s.lock), s.lock.Close()) }
