package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// unixPair is a connection of this process to itself over a unix socket.
func unixPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = (&net.Dialer{}).DialContext(context.Background(), "unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a, b
}

// TestIdleSocketHasNoBuffer: a reader that waits for a message has no buffer, what was in it is
// erased, and one that waits for the rest of a message keeps what it has.
func TestIdleSocketHasNoBuffer(t *testing.T) {
	for _, pair := range []func(testing.TB) (net.Conn, net.Conn){tcpPair, unixPair, carriedPair} {
		a, b := pair(t)
		r := NewReader(b, MaxBeforeBind)
		message := AppendMessage(nil, 7, OpBindRequest, AppendSimpleBind(nil, "cn=x", []byte("secret")), nil)
		wait := func(d time.Duration) error {
			if err := b.SetReadDeadline(time.Now().Add(d)); err != nil {
				t.Fatal(err)
			}
			_, err := r.Next()
			return err
		}
		if _, err := a.Write(message); err != nil {
			t.Fatal(err)
		}
		m, err := r.Next()
		if err != nil || m.ID != 7 {
			t.Fatal(m, err)
		}
		// A deadline that has passed before the reader waits changes nothing yet.
		for d := time.Millisecond; r.buf != nil && d < 10*time.Second; d *= 2 {
			if err := wait(d); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if r.buf != nil {
			t.Errorf("an idle reader has %d bytes", len(r.buf))
		}
		if !bytes.Equal(m.Raw, make([]byte, len(m.Raw))) {
			t.Errorf("the buffer was given away with %q in it", m.Raw)
		}
		if _, err := a.Write(message[:9]); err != nil {
			t.Fatal(err)
		}
		for d := time.Millisecond; r.Buffered() < 9 && d < 10*time.Second; d *= 2 {
			if err := wait(d); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if err := b.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write(message[9:]); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if m, err = r.Next(); err != nil || !bytes.Equal(m.Raw, message) {
			t.Errorf("%q %v", m.Raw, err)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%v at the end", err)
		}
	}
}

// TestWriterAfterAWait: a write for which the peer made us wait leaves no deadline behind that would
// end a later one.
func TestWriterAfterAWait(t *testing.T) {
	t.Parallel()
	here, there := tcpPair(t)
	const stall = 300 * time.Millisecond
	w := NewWriter(here, 1<<20, stall)
	const much = 16 << 20 // more than the kernel takes for a peer that does not read
	done := inBackground(func() error {
		return w.Write(func(dst []byte) []byte { return append(dst, make([]byte, much)...) })
	})
	if _, err := io.CopyN(io.Discard, there, much); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, done, "write"); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * stall)
	if err := w.Write(text("later")); err != nil {
		t.Fatalf("%v long after a write that had to wait", err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(there, b); err != nil || string(b) != "later" {
		t.Errorf("%q %v", b, err)
	}
}

// TestFlushBehindOnASocket: what the socket takes is written when FlushBehind returns; of more, the
// rest follows in order without the caller, before what comes later; and a peer that takes nothing is closed.
func TestFlushBehindOnASocket(t *testing.T) {
	t.Parallel()
	here, there := tcpPair(t)
	// Else it grows while it is read, to more than the 16 MiB below.
	if err := there.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(here, 1<<20, 300*time.Millisecond)
	send := func(b []byte) {
		t.Helper()
		if err := w.Offer(func(dst []byte) []byte { return append(dst, b...) }); err != nil {
			t.Fatal(err)
		}
		if err := w.FlushBehind(); err != nil {
			t.Fatal(err)
		}
	}
	send([]byte("first"))
	if !w.locked(func() bool { return !w.writing && w.queued == nil }) {
		t.Error("a write is under way for what the socket takes at once")
	}
	much := make([]byte, 16<<20) // more than the kernel takes for a peer that does not read
	for i := range much {
		much[i] = byte(i >> 12)
	}
	send(much)
	if !w.locked(func() bool { return w.writing }) {
		t.Error("nobody writes the rest")
	}
	send([]byte("last"))
	got := make([]byte, len("first")+len(much)+len("last"))
	if _, err := io.ReadFull(there, got); err != nil {
		t.Fatal(err)
	}
	if want := append(append([]byte("first"), much...), "last"...); !bytes.Equal(got, want) {
		t.Error("bytes are missing or out of order")
	}
	w.Wait()
	send(much)
	w.Wait()
	if err := w.Err(); !errors.Is(err, ErrStalled) {
		t.Errorf("%v", err)
	}
}

// oneMessage is a function that sends a message from one connection to the other.
func oneMessage(t *testing.T, from, to net.Conn) func() {
	w, r := NewWriter(from, 1000, time.Minute), NewReader(to, MaxBeforeBind)
	m := parsed(t, AppendResult(nil, 300, OpSearchResultDone, 0, ""))
	return func() {
		if err := w.Write(func(dst []byte) []byte { return m.AppendTo(dst, 7) }); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSocketAllocations: messages on a plain socket cost no allocation.
func TestSocketAllocations(t *testing.T) {
	here, there := tcpPair(t)
	round := oneMessage(t, here, there)
	// A collection may empty the pools in between.
	if n := testing.AllocsPerRun(5000, round); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}
