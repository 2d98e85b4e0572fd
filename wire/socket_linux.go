//go:build linux && (amd64 || arm64) && !race

package wire

import (
	"io"
	"os"
	"syscall"
	"unsafe"
)

// The calls below never wait (MSG_DONTWAIT), so Go's scheduler is not told of them.
// It would wake its monitor thread for each one that finds the process idle, and that
// looks around every 20 us for a while: a seventh of the CPU time of a forwarded
// search. The race detector has no part in such calls; its builds have those of socket_calls.go.

// WakeMonitor is for whoever is about to compute for long, a slow hash: it has the
// monitor thread see to it that others get their turn and sockets are looked at meanwhile.
// The calls of this file do not wake it, as most system calls do.
func WakeMonitor() {
	_, _ = syscall.Read(-1, nil) // fails, and the scheduler is told of it
}

// readNow reads what is there; again: nothing yet.
func readNow(fd uintptr, b []byte) (n int, again bool, err error) {
	for {
		n, errno := transfer(syscall.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return 0, true, nil
		case errno != 0:
			return 0, false, os.NewSyscallError("read", errno)
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
		m, errno := transfer(syscall.SYS_SENDTO, fd, b[n:], syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return n, nil
		case errno != 0:
			return n, os.NewSyscallError("write", errno)
		default:
			n += m
		}
	}
	return n, nil
}

// transfer is recvfrom or sendto of a connected socket. b is not empty.
func transfer(call, fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	return int(n), errno
}
