package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// owner says which process owns a data folder and where it answers. The token is
// what a command on the same machine shows to be let in; the file is readable by the
// folder's owner only.
type owner struct {
	PID     int       `json:"pid"`
	Address string    `json:"address,omitempty"` // 127.0.0.1:port, empty: not a server
	Token   string    `json:"token,omitempty"`
	Since   time.Time `json:"since"`
}

// lock is an exclusive hold on a data folder. The kernel lets go of it when the
// process dies, however it dies.
type lock struct{ file *os.File }

// errOwned says that another process owns the folder.
var errOwned = errors.New("the data folder is in use")

const lockName = "mete.lock"

// takeLock makes this process the owner of the folder, or returns the owner.
func takeLock(dir string, now time.Time) (*lock, owner, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, owner{}, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		o, readErr := readOwner(dir)
		if readErr != nil {
			return nil, owner{}, fmt.Errorf("%s: %w, by a process that has not written who it is yet", dir, errOwned)
		}
		return nil, o, fmt.Errorf("%s: %w by process %d since %s", dir, errOwned, o.PID, o.Since.Format(time.DateTime))
	}
	l := &lock{f}
	o := owner{PID: os.Getpid(), Since: now.UTC()}
	if err := l.write(o); err != nil {
		l.release()
		return nil, owner{}, err
	}
	return l, o, nil
}

func (l *lock) write(o owner) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.WriteAt(b, 0)
	return err
}

func (l *lock) release() {
	l.file.Truncate(0)
	l.file.Close()
}

func readOwner(dir string) (owner, error) {
	var o owner
	b, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(b, &o)
}

func newToken() string {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		panic("mete: internal error: no randomness: " + err.Error())
	}
	return hex.EncodeToString(b)
}
