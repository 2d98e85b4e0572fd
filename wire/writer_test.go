package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// gateConn takes a write only when the test lets it.
type gateConn struct {
	net.Conn                // nil: any other method panics
	entered  chan []byte    // gets what a write was given
	leave    chan gateReply // lets that write return
	closed   chan struct{}
	once     sync.Once
}

type gateReply struct {
	n   int // -1: all
	err error
}

func newGate() *gateConn {
	return &gateConn{entered: make(chan []byte), leave: make(chan gateReply), closed: make(chan struct{})}
}

func (g *gateConn) Write(b []byte) (int, error) {
	select {
	case g.entered <- bytes.Clone(b):
	case <-g.closed:
		return 0, net.ErrClosed
	}
	select {
	case r := <-g.leave:
		if r.n < 0 {
			r.n = len(b)
		}
		return r.n, r.err
	case <-g.closed:
		return 0, net.ErrClosed
	}
}

func (g *gateConn) SetWriteDeadline(time.Time) error { return nil }
func (g *gateConn) Close() error                     { g.once.Do(func() { close(g.closed) }); return nil }

func text(s string) func([]byte) []byte {
	return func(dst []byte) []byte { return append(dst, s...) }
}

// inBackground runs f and returns where its error will be.
func inBackground(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// receive waits for a value, but not for ever.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: nothing happens", what)
		panic("unreachable")
	}
}

func (w *Writer) locked(f func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f()
}

func TestWriterCoalesces(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 1000, time.Minute)
	first := inBackground(func() error { return w.Write(text("a")) })
	if got := receive(t, g.entered, "first write"); string(got) != "a" {
		t.Errorf("%q", got)
	}
	for _, s := range []string{"b", "c", "d"} {
		if err := w.Write(text(s)); err != nil { // returns: the write under way takes it along
			t.Fatal(err)
		}
	}
	g.leave <- gateReply{n: -1}
	if got := receive(t, g.entered, "second write"); string(got) != "bcd" {
		t.Errorf("%q", got)
	}
	g.leave <- gateReply{n: -1}
	if err := receive(t, first, "end of Write"); err != nil {
		t.Error(err)
	}
	w.Wait()
}

func TestWriterAppendWaitsForFlush(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 1, time.Minute)
	for _, s := range []string{"aa", "bb"} { // nobody is writing: nothing to wait for, backlog or not
		if err := w.Append(text(s)); err != nil {
			t.Fatal(err)
		}
	}
	done := inBackground(w.Flush)
	if got := receive(t, g.entered, "write"); string(got) != "aabb" {
		t.Errorf("%q", got)
	}
	g.leave <- gateReply{n: -1}
	if err := receive(t, done, "Flush"); err != nil {
		t.Error(err)
	}
	if err := w.Flush(); err != nil { // nothing queued, nothing written
		t.Error(err)
	}
}

func TestWriterBacklog(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 4, time.Minute)
	first := inBackground(func() error { return w.Write(text("a")) })
	receive(t, g.entered, "first write")
	if err := w.Offer(text("1234")); err != nil { // at the limit
		t.Fatal(err)
	}
	if err := w.Append(text("5")); err != nil { // still at the limit before it
		t.Fatal(err)
	}
	if err := w.Offer(text("x")); !errors.Is(err, ErrStalled) {
		t.Errorf("Offer over the backlog: %v", err)
	}
	late := []<-chan error{
		inBackground(func() error { return w.Append(text("6")) }),
		inBackground(func() error { return w.Append(text("6")) }),
	}
	select {
	case err := <-late[0]:
		t.Fatalf("Append over the backlog returned %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	g.leave <- gateReply{n: -1}
	if got := receive(t, g.entered, "second write"); string(got) != "12345" {
		t.Errorf("%q", got)
	}
	for _, l := range late { // wake when the write has ended, not when all is written
		if err := receive(t, l, "blocked Append"); err != nil {
			t.Error(err)
		}
	}
	g.leave <- gateReply{n: -1}
	if got := receive(t, g.entered, "third write"); string(got) != "66" {
		t.Errorf("%q", got)
	}
	g.leave <- gateReply{n: -1}
	if err := receive(t, first, "first Write"); err != nil {
		t.Error(err)
	}
}

func TestWriterFlushBehind(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 4, time.Minute)
	if err := w.FlushBehind(); err != nil { // nothing to do
		t.Fatal(err)
	}
	for _, s := range []string{"a", "b"} {
		if err := w.Offer(text(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.FlushBehind(); err != nil { // returns though nobody reads
		t.Fatal(err)
	}
	if got := receive(t, g.entered, "write"); string(got) != "ab" {
		t.Errorf("%q", got)
	}
	broken := errors.New("broken")
	w.Close(broken)
	g.Close()
	w.Wait()
	if err := w.FlushBehind(); err != broken {
		t.Errorf("%v", err)
	}
}

// Nobody writes for others without end.
func TestWriterHandsOver(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 1000, time.Minute)
	first := inBackground(func() error { return w.Write(text("x")) })
	for range maxRounds + 3 {
		receive(t, g.entered, "write")
		if err := w.Write(text("x")); err != nil {
			t.Fatal(err)
		}
		g.leave <- gateReply{n: -1}
	}
	if err := receive(t, first, "a Write that others keep busy"); err != nil {
		t.Error(err)
	}
	receive(t, g.entered, "last write")
	g.leave <- gateReply{n: -1}
	w.Wait()
}

func TestWriterClose(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 1, time.Minute)
	first := inBackground(func() error { return w.Write(text("a")) })
	receive(t, g.entered, "write")
	if err := w.Append(text("bb")); err != nil {
		t.Fatal(err)
	}
	blocked := inBackground(func() error { return w.Append(text("c")) })
	select {
	case err := <-blocked:
		t.Fatalf("Append over the backlog returned %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	reason := errors.New("session over")
	w.Close(reason)
	w.Close(errors.New("another")) // the first counts
	if err := receive(t, blocked, "blocked Append"); err != reason {
		t.Errorf("blocked Append: %v", err)
	}
	if !w.locked(func() bool { return w.queued == nil }) {
		t.Error("what can never be written is kept")
	}
	g.leave <- gateReply{n: -1}
	if err := receive(t, first, "Write"); err != reason { // and "bb" is never written
		t.Errorf("write under way: %v", err)
	}
	for name, f := range map[string]func() error{
		"Append": func() error { return w.Append(text("d")) }, "Offer": func() error { return w.Offer(text("d")) }, "Flush": w.Flush,
	} {
		if err := f(); err != reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	w = NewWriter(newGate(), 1, 0)
	w.Close(nil)
	if err := w.Append(text("a")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed without a reason: %v", err)
	}
}

type timeout struct{}

func (timeout) Error() string   { return "i/o timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

// A peer must take a minimum within each stall limit; then the limit starts anew.
func TestWriterStall(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 1, time.Minute)
	payload := bytes.Repeat([]byte("0123456789"), 2000)
	done := inBackground(func() error {
		return w.Write(func(dst []byte) []byte { return append(dst, payload...) })
	})
	rest := payload
	for range 3 {
		if got := receive(t, g.entered, "write"); !bytes.Equal(got, rest) {
			t.Fatalf("%d octets written, want %d", len(got), len(rest))
		}
		g.leave <- gateReply{n: minTaken, err: timeout{}}
		rest = rest[minTaken:]
	}
	receive(t, g.entered, "write")
	g.leave <- gateReply{n: minTaken - 1, err: timeout{}}
	if err := receive(t, done, "stalled Write"); !errors.Is(err, ErrStalled) {
		t.Errorf("%v", err)
	}
	receive(t, g.closed, "closing")
	if err := w.Append(text("a")); !errors.Is(err, ErrStalled) {
		t.Errorf("later Append: %v", err)
	}
}

func TestWriterError(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := NewWriter(g, 1000, time.Minute)
	done := inBackground(func() error { return w.Write(text("a")) })
	receive(t, g.entered, "write")
	if err := w.Write(text("b")); err != nil {
		t.Fatal(err)
	}
	reset := errors.New("reset")
	g.leave <- gateReply{err: reset}
	if err := receive(t, done, "Write"); err != reset {
		t.Errorf("%v", err)
	}
	receive(t, g.closed, "closing")
	if err := w.Flush(); err != reset { // what was queued behind it is lost, and later calls say so
		t.Errorf("%v", err)
	}
}

// tcpPair is two ends of a TCP connection.
func tcpPair(t testing.TB) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// tlsPair puts TLS over a pair.
func tlsPair(t testing.TB, here, there net.Conn) (client, server *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server = tls.Server(here, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	client = tls.Client(there, &tls.Config{InsecureSkipVerify: true})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := inBackground(func() error { return client.HandshakeContext(ctx) })
	if err := server.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client, server
}

// A peer that takes nothing ends its own connection, in clear and under TLS,
// about when the stall limit says; TLS does not wait to take its leave.
func TestWriterStallReal(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tcp", "tls", "tls on a carrier", "tls without buffers"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			here, there := tcpPair(t)
			if kind == "tls without buffers" { // not even the alert that closes TLS finds room
				here, there = net.Pipe()
			}
			conn := here
			switch kind {
			case "tcp":
			case "tls on a carrier":
				_, conn = tlsPairConn(t, Carrier(here), there)
			default:
				_, conn = tlsPairConn(t, here, there)
			}
			w := NewWriter(conn, 1<<20, 200*time.Millisecond)
			start := time.Now()
			err := w.Write(func(dst []byte) []byte { return append(dst, make([]byte, 32<<20)...) })
			if !errors.Is(err, ErrStalled) {
				t.Errorf("%v", err)
			}
			if took := time.Since(start); took < 200*time.Millisecond || took > 4*time.Second {
				t.Errorf("after %v", took)
			}
			if _, err := here.Write([]byte{1}); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
}

func tlsPairConn(t testing.TB, here, there net.Conn) (client, server net.Conn) {
	c, s := tlsPair(t, here, there)
	return c, s
}

// Many goroutines, a small backlog: every message arrives once and whole, those of
// one goroutine in order, and no deadline stays behind on TLS.
func TestWriterConcurrent(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tcp", "tls", "tls on a carrier"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			here, there := tcpPair(t)
			var out, in net.Conn = here, there
			switch kind {
			case "tls":
				in, out = tlsPairConn(t, here, there)
			case "tls on a carrier":
				in, out = tlsPairConn(t, Carrier(here), there)
			}
			const senders, each, size = 8, 500, 500
			w := NewWriter(out, 4<<10, 10*time.Second)
			var wg sync.WaitGroup
			for sender := range senders {
				wg.Go(func() {
					for i := range each {
						if err := sendNumbered(w, sender, i, size); err != nil {
							t.Errorf("sender %d: %v", sender, err)
							return
						}
					}
				})
			}
			var next [senders]uint32
			record := make([]byte, size)
			for range senders * each {
				if _, err := io.ReadFull(in, record); err != nil {
					t.Fatal(err)
				}
				sender := binary.BigEndian.Uint32(record)
				if got := binary.BigEndian.Uint32(record[4:]); sender >= senders || got != next[sender] {
					t.Fatalf("sender %d: message %d", sender, got)
				}
				next[sender]++
			}
			wg.Wait()
			w.Wait()
		})
	}
}

// sendNumbered sends one record in one of the ways that a Writer offers.
func sendNumbered(w *Writer, sender, i, size int) error {
	build := func(dst []byte) []byte {
		at := len(dst)
		dst = append(dst, make([]byte, size)...)
		binary.BigEndian.PutUint32(dst[at:], uint32(sender))
		binary.BigEndian.PutUint32(dst[at+4:], uint32(i))
		return dst
	}
	if i%3 > 0 {
		return w.Write(build)
	}
	if err := w.Append(build); err != nil {
		return err
	}
	return w.FlushBehind()
}

// deadlineConn remembers the write deadlines.
type deadlineConn struct {
	net.Conn
	mu   sync.Mutex // guards the fields below
	set  int
	last time.Time
}

func (d *deadlineConn) SetWriteDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = t
	d.set++
	return d.Conn.SetWriteDeadline(t)
}

// Each record has the stall limit to itself: a part of one counts for nothing.
// And no deadline stays: TLS writes on its own when it is read, and one that has
// passed by then would end the connection.
func TestWriterDeadlinesOnTLS(t *testing.T) {
	t.Parallel()
	here, there := tcpPair(t)
	d := &deadlineConn{Conn: here}
	client, server := tlsPair(t, d, there)
	w := NewWriter(server, 1000, time.Minute)
	const records = 4
	received := inBackground(func() error {
		_, err := io.ReadFull(client, make([]byte, records*tlsChunk))
		return err
	})
	if err := w.Write(func(dst []byte) []byte { return append(dst, make([]byte, records*tlsChunk)...) }); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, received, "reading"); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.set != records+1 || !d.last.IsZero() {
		t.Errorf("%d deadlines for %d records, the last %v", d.set, records, d.last)
	}
}

// An idle writer holds no buffer, whatever it wrote before.
func TestWriterIdle(t *testing.T) {
	t.Parallel()
	here, there := tcpPair(t)
	go func() { _, _ = io.Copy(io.Discard, there) }()
	w := NewWriter(here, 1000, time.Minute)
	if err := w.Write(func(dst []byte) []byte { return append(dst, make([]byte, 1<<20)...) }); err != nil {
		t.Fatal(err)
	}
	if !w.locked(func() bool { return w.queued == nil && !w.writing }) {
		t.Error("a buffer is held")
	}
}
