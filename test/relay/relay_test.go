package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); _, _ = io.Copy(c, c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

func newRelay(t *testing.T) *Relay {
	t.Helper()
	r, err := New(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func dial(t *testing.T, r *Relay) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// says sends a text and reads as many bytes.
func says(c net.Conn, text string) (string, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	b := make([]byte, len(text))
	n, err := io.ReadFull(c, b)
	return string(b[:n]), err
}

func TestPasses(t *testing.T) {
	t.Parallel()
	c := dial(t, newRelay(t))
	for range 3 {
		if got, err := says(c, "hello"); got != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestCutAndRefuse(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c := dial(t, r)
	if _, err := says(c, "hello"); err != nil {
		t.Fatal(err)
	}
	r.Refuse(true)
	r.Cut()
	if got, err := says(c, "hello"); err == nil {
		t.Errorf("a connection that was cut says %q", got)
	}
	if c, err := net.Dial("tcp", r.Addr()); err == nil { // the reset may be as early as that
		if got, err := says(c, "hello"); err == nil {
			t.Errorf("a connection that was refused says %q", got)
		}
		c.Close()
	}
	r.Refuse(false)
	if got, err := says(dial(t, r), "hello"); got != "hello" {
		t.Errorf("after it: %q, %v", got, err)
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c := dial(t, r)
	release := r.Hold()
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got, err := says(c, "hello"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("while it is held: %q, %v", got, err)
	}
	release()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); string(b) != "hello" {
		t.Errorf("after it: %q, %v", b, err)
	}
}

func TestBytesLost(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	r.Halve(true)
	if got, err := says(dial(t, r), "hello"); err == nil || len(got) > 2 {
		t.Errorf("halved: %q, %v", got, err)
	}
	r.Halve(false)
	r.Swallow(true)
	c := dial(t, r)
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got, err := says(c, "hello"); !errors.Is(err, os.ErrDeadlineExceeded) || got != "" {
		t.Errorf("swallowed: %q, %v", got, err)
	}
}
