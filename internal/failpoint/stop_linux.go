package failpoint

import (
	"os"
	"runtime"
	"syscall"
)

// stopHere stops the process before the calling thread goes on: sent to the process, the
// signal may be taken by another thread while this one runs.
func stopHere() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}
