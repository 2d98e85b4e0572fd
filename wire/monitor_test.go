//go:build linux && (amd64 || arm64) && !race

package wire

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// computing tells the process of TestWakeMonitor that it is the one that computes.
const computing = "APPBIND_TEST_COMPUTING"

// TestWakeMonitor: while every core computes, a message that comes is answered, by a process
// whose sockets are read and written by the calls of socket_linux.go alone.
func TestWakeMonitor(t *testing.T) {
	if os.Getenv(computing) != "" {
		compute(t)
		return
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestWakeMonitor$")
	child.Env = append(os.Environ(), computing+"="+l.Addr().String())
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	conns := make([]net.Conn, runtime.GOMAXPROCS(0)+1)
	for i := range conns {
		if conns[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	<-time.After(time.Second) // its monitor thread goes to sleep
	message := AppendMessage(nil, 7, OpDelRequest, []byte("cn=x"), nil)
	for _, c := range conns[1:] {
		if _, err := c.Write(message); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(100 * time.Millisecond) // every core computes
	if _, err := conns[0].Write(message); err != nil {
		t.Fatal(err)
	}
	if err := conns[0].SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conns[0], make([]byte, len(message))); err != nil {
		t.Errorf("%v: nobody looks at the sockets while all compute", err)
	}
}

// compute answers on its first connection, and computes until then when something comes on another.
func compute(t *testing.T) {
	var answered atomic.Bool
	ended := make(chan struct{})
	serve := func(c net.Conn, first bool) {
		r, w := NewReader(c, MaxBeforeBind), NewWriter(c, 1000, 0)
		for {
			m, err := r.Next()
			if err != nil && first { // whoever tests this is gone
				answered.Store(true)
				close(ended)
			}
			if err != nil {
				return
			}
			if first {
				answered.Store(true)
				if w.Write(func(dst []byte) []byte { return append(dst, m.Raw...) }) != nil {
					return
				}
				continue
			}
			WakeMonitor()
			for !answered.Load() {
			}
		}
	}
	for i := range runtime.GOMAXPROCS(0) + 1 {
		c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", os.Getenv(computing))
		if err != nil {
			t.Fatal(err)
		}
		go serve(c, i == 0)
	}
	<-ended
}
