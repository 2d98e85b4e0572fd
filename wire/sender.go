package wire

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

const (
	// plainChunk is what one write hands to a plain connection.
	plainChunk = 64 << 10
	// tlsChunk is what one write hands to TLS: a record. Less cannot be told apart
	// there: a write that timed out leaves the connection dead (crypto/tls).
	tlsChunk = 16 << 10
	// minTaken is what a peer must take within one stall limit, so that one that
	// sips a byte at a time counts as one that does not read.
	minTaken = 4 << 10
)

// sender sends bytes on a connection, within the stall limit. For one caller at a time.
type sender struct {
	conn  net.Conn
	chunk int           // bytes of one write
	tls   bool          // a write that timed out cannot be continued
	stall time.Duration // a write that takes longer fails; 0: no limit

	// Of a plain socket; raw is nil for any other connection.
	raw      syscall.RawConn
	tryWrite func(fd uintptr) bool // writeSocket, bound once
	rest     []byte                // what is not written yet
	failed   error
}

func newSender(conn net.Conn, stall time.Duration) *sender {
	s := &sender{conn: conn, chunk: plainChunk, stall: stall, raw: rawSocket(conn)}
	if s.raw != nil {
		s.tryWrite = s.writeSocket
	}
	if _, s.tls = conn.(*tls.Conn); s.tls {
		s.chunk = tlsChunk
	}
	if carrier := carrierOf(conn); carrier != nil {
		// What carries TLS sees what the peer takes.
		carrier.out.stall, s.stall, s.chunk = stall, 0, plainChunk
	}
	return s
}

// send sends b whole. Each part that the peer takes starts the stall limit anew.
// What a socket takes at once, nearly always all, needs no deadline.
func (s *sender) send(b []byte) error {
	b, err := s.atOnce(b)
	if err != nil {
		return err
	}
	waits := len(b) > 0
	for len(b) > 0 {
		if s.stall > 0 {
			if err := s.conn.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
				return err
			}
		}
		n, err := s.conn.Write(b[:min(len(b), s.chunk)])
		b = b[n:]
		if err == nil {
			continue
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			if n >= minTaken { // under TLS the next write tells that it is dead
				continue
			}
			err = ErrStalled
		}
		return err
	}
	if (s.tls || s.raw != nil && waits) && s.stall > 0 {
		// Reading may write too (RFC 8446 4.6.3, a key update), long after this;
		// and with a deadline that has passed nothing can be written at once.
		return s.conn.SetWriteDeadline(time.Time{})
	}
	return nil
}

// atOnce sends what a plain socket takes without waiting, and returns the rest.
func (s *sender) atOnce(b []byte) ([]byte, error) {
	if s.raw == nil {
		return b, nil
	}
	s.rest, s.failed = b, nil
	err := s.raw.Write(s.tryWrite)
	if err == nil {
		err = s.failed
	}
	b, s.rest = s.rest, nil
	return b, err
}

// writeSocket never waits: what is left goes the usual way.
func (s *sender) writeSocket(fd uintptr) bool {
	n, err := writeNow(fd, s.rest)
	s.rest, s.failed = s.rest[n:], err
	return true
}
