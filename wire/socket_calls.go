//go:build unix && (race || !linux || (!amd64 && !arm64))

package wire

import (
	"io"
	"os"
	"syscall"
)

// WakeMonitor has nothing to do where the scheduler is told of every system call.
func WakeMonitor() {}

// readNow reads what is there; again: nothing yet.
func readNow(fd uintptr, b []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, true, nil
		case err != nil:
			return 0, false, os.NewSyscallError("read", err)
		case n == 0:
			return 0, false, io.EOF
		default:
			return n, false, nil
		}
	}
}

// writeNow writes what the socket takes at once, which may be nothing.
func writeNow(fd uintptr, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := syscall.Write(int(fd), b[n:])
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return n, nil
		case err != nil:
			return n, os.NewSyscallError("write", err)
		default:
			n += m
		}
	}
	return n, nil
}
