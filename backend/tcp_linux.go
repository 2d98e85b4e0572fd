package backend

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout bounds how long data that were sent may stay unacknowledged,
// so that a peer that vanished is noticed by a write, not after 15 minutes.
func setUserTimeout(c *net.TCPConn, d time.Duration) error {
	sc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = sc.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return optErr
}
