package wire

import (
	"crypto/tls"
	"io"
	"net"
)

// carrier is a plain socket below TLS. While a Reader reads the TLS on it, reads never wait in TLS: they
// fail with errAgain, and the Reader waits for the socket itself, with no buffer and little of the stack in use.
type carrier struct {
	net.Conn
	out *sender // TLS lets in one who writes at a time

	// Of the one who reads:
	trying bool // reads must not wait
	fd     uintptr
}

// errAgain says that nothing has come yet. To TLS it is a deadline that has passed: it goes on with the next
// read where it was.
var errAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "nothing has come yet" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// Carrier is conn as tls.Server and tls.Client should get it: TLS on a plain socket that carries messages of a
// Reader and a Writer then costs no more waits and wake-ups than the socket alone. Any other connection stays what it is.
func Carrier(conn net.Conn) net.Conn {
	if rawSocket(conn) == nil {
		return conn
	}
	return &carrier{Conn: conn, out: newSender(conn, 0)}
}

// carrierOf is what carries a TLS connection; nil for any other connection, and for TLS on something else.
func carrierOf(conn any) *carrier {
	if t, ok := conn.(*tls.Conn); ok {
		c, _ := t.NetConn().(*carrier)
		return c
	}
	return nil
}

// Read reads for TLS.
func (c *carrier) Read(b []byte) (int, error) {
	if !c.trying {
		return c.Conn.Read(b) // the handshake
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, nothing, err := readNow(c.fd, b)
	if nothing {
		err = errAgain
	}
	return n, err
}

// Write writes for TLS, within the stall limit of the Writer above it.
func (c *carrier) Write(b []byte) (int, error) {
	if err := c.out.send(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// readThrough reads from the TLS above, as readNow does from a socket.
func (c *carrier) readThrough(above io.Reader, fd uintptr, b []byte) (n int, nothing bool, err error) {
	c.trying, c.fd = true, fd
	defer func() { c.trying = false }()
	n, err = above.Read(b)
	if err == errAgain {
		return n, n == 0, nil
	}
	return n, false, err
}
