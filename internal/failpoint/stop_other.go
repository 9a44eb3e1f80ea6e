//go:build !linux

package failpoint

import (
	"os"
	"syscall"
)

// stopHere stops the process, soon.
func stopHere() error { return syscall.Kill(os.Getpid(), syscall.SIGSTOP) }
