package main

import (
	"net"
	"sync"
	"time"
)

// relay passes TCP on to the directory, and does to the connections what networks do.
type relay struct {
	listener net.Listener
	to       string
	all      sync.WaitGroup

	mu      sync.Mutex // guards the fields below; no I/O under it but closing
	conns   map[net.Conn]bool
	refuse  bool          // new connections end at once
	stalled chan struct{} // closed when bytes pass again; nil: they pass
	swallow bool          // what the directory sends is dropped
	halve   bool          // of what the directory sends half passes, and then the connection ends
}

func newRelay(to string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, to: to, conns: map[net.Conn]bool{}}
	r.all.Go(r.accept)
	return r, nil
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.all.Go(func() { r.serve(c) })
	}
}

// serve passes one connection on.
func (r *relay) serve(c net.Conn) {
	defer c.Close()
	s, err := net.DialTimeout("tcp", r.to, time.Second)
	if err != nil {
		sever(c)
		return
	}
	defer s.Close()
	if !r.enter(c, s) {
		sever(c)
		return
	}
	defer r.leave(c, s)
	var back sync.WaitGroup
	back.Go(func() { r.pump(c, s, true); c.Close(); s.Close() })
	r.pump(s, c, false)
	c.Close()
	s.Close()
	back.Wait()
}

func (r *relay) enter(c, s net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse {
		return false
	}
	r.conns[c], r.conns[s] = true, true
	return true
}

func (r *relay) leave(c, s net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	delete(r.conns, s)
}

// pump passes one direction on; back is the one from the directory.
func (r *relay) pump(dst, src net.Conn, back bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		stalled, swallow, halve := r.stalled, back && r.swallow, back && r.halve
		r.mu.Unlock()
		if stalled != nil {
			<-stalled
		}
		switch {
		case swallow:
			continue
		case halve:
			_, _ = dst.Write(buf[:n/2])
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

// set changes what happens to connections.
func (r *relay) set(change func(r *relay)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// cut ends all connections, without a word.
func (r *relay) cut() {
	r.set(func(r *relay) {
		for c := range r.conns {
			sever(c)
		}
	})
}

// sever closes a connection so that the other side gets a reset.
func sever(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // it ends either way
	}
	c.Close()
}

// stall holds all bytes back for a time.
func (r *relay) stall(d time.Duration) {
	wait := make(chan struct{})
	r.set(func(r *relay) { r.stalled = wait })
	<-time.After(d)
	r.set(func(r *relay) { r.stalled = nil })
	close(wait)
}

func (r *relay) close() {
	r.listener.Close()
	r.cut()
	r.all.Wait()
}
