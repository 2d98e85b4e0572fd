package wire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// carriedPair is TLS between two sockets of this process; that of b stands on a carrier.
func carriedPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	here, there := tcpPair(t)
	return tlsPairConn(t, Carrier(there), here)
}

// pieces is a connection whose writes go out in pieces, with pauses.
type pieces struct {
	net.Conn
	random *rand.Rand
}

func (p *pieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		size := 1 + p.random.IntN(min(len(b)-n, 1+p.random.IntN(4000)))
		m := 0
		m, err = p.Conn.Write(b[n : n+size])
		n += m
		if p.random.IntN(4) == 0 {
			<-time.After(time.Duration(p.random.IntN(300)) * time.Microsecond)
		}
	}
	return n, err
}

// TestCarrierReads: messages of all sizes arrive whole and in order, however TLS records and TCP segments cut them, with deadlines
// that pass in between, and the end of the stream is seen as it is.
func TestCarrierReads(t *testing.T) {
	t.Parallel()
	here, there := tcpPair(t)
	random := rand.New(rand.NewPCG(1, 2))
	client, server := tlsPair(t, Carrier(there), &pieces{here, random})
	var sent [][]byte
	var all []byte
	for i := range 200 {
		size := random.IntN(300)
		if i%20 == 0 {
			size = random.IntN(60000)
		}
		m := AppendMessage(nil, int32(i+1), OpDelRequest, bytes.Repeat([]byte{byte(i)}, size), nil)
		sent, all = append(sent, m), append(all, m...)
	}
	done := inBackground(func() error {
		random := rand.New(rand.NewPCG(3, 4))
		for rest := all; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1+random.IntN(20000)))
			if _, err := client.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return client.CloseWrite()
	})
	r, waits := NewReader(server, MaxBeforeBind), 0
	r.BeforeRead = func(bool) error {
		return server.SetReadDeadline(time.Now().Add(time.Duration(50+waits%7*200) * time.Microsecond))
	}
	next := func() (Message, error) {
		for {
			m, err := r.Next()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return m, err
			}
			waits++
		}
	}
	for i, want := range sent {
		m, err := next()
		if err != nil || !bytes.Equal(m.Raw, want) {
			t.Fatalf("message %d: %d bytes, %v; want %d", i, len(m.Raw), err, len(want))
		}
	}
	if _, err := next(); err != io.EOF {
		t.Errorf("%v at the end", err)
	}
	if waits == 0 {
		t.Error("no deadline has passed")
	}
	if err := receive(t, done, "writing"); err != nil {
		t.Fatal(err)
	}
}

// TestCarrierTorn: an end within a record is no end of the stream.
func TestCarrierTorn(t *testing.T) {
	t.Parallel()
	here, there := tcpPair(t)
	client, server := tlsPair(t, Carrier(there), &halfConn{Conn: here})
	client.NetConn().(*halfConn).half = true
	if _, err := client.Write(AppendMessage(nil, 1, OpDelRequest, []byte("cn=x"), nil)); err != nil {
		t.Fatal(err)
	}
	here.Close()
	if _, err := NewReader(server, MaxBeforeBind).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v after half a record", err)
	}
}

// halfConn sends the half of what it is given, once half is set.
type halfConn struct {
	net.Conn
	half bool
}

func (h *halfConn) Write(b []byte) (int, error) {
	if !h.half {
		return h.Conn.Write(b)
	}
	_, err := h.Conn.Write(b[:len(b)/2])
	return len(b), err
}

// TestCarrierOtherConnections: what is no plain socket stays as it is, and TLS on it is read and written as ever.
func TestCarrierOtherConnections(t *testing.T) {
	t.Parallel()
	p, _ := net.Pipe()
	if Carrier(p) != p {
		t.Error("a pipe is carried")
	}
	here, _ := tcpPair(t)
	if carrierOf(tls.Server(here, nil)) != nil || carrierOf(here) != nil {
		t.Error("a carrier that is none")
	}
}

// TestCarrierAllocations pins what a message over TLS costs: what crypto/tls allocates for each time that it looks for
// a record, here one in vain and one that finds it, and for a record that it writes.
func TestCarrierAllocations(t *testing.T) {
	a, b := carriedPair(t)
	round := oneMessage(t, a, b)
	if n := testing.AllocsPerRun(2000, round); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
