//go:build unix

package wire

import (
	"net"
	"syscall"
)

// rawSocket is the descriptor of a plain connection, nil for anything else: TLS, or a test's.
func rawSocket(conn any) syscall.RawConn {
	var c syscall.Conn
	switch conn := conn.(type) {
	case *net.TCPConn:
		c = conn
	case *net.UnixConn:
		c = conn
	default:
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil // closed already: the next use says so
	}
	return raw
}
