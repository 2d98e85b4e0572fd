// Package relay passes TCP on to a server, and does to the connections what networks do:
// they are cut, refused, held up, and lose bytes. For tests.
//
// A connection is passed on byte by byte, as it comes; what a fault does, it does to all
// connections at once. A relay that has dropped or halved bytes must Cut before bytes
// pass again, since a stream with a hole is nothing that a network makes.
package relay

import (
	"net"
	"sync"
	"time"
)

// Relay is one address of loopback before one server. Safe for concurrent use.
type Relay struct {
	listener net.Listener
	to       string
	all      sync.WaitGroup

	mu      sync.Mutex // guards the fields below; no I/O under it but closing
	conns   map[net.Conn]bool
	refuse  bool          // new connections end at once
	held    chan struct{} // closed when bytes pass again; nil: they pass
	swallow bool          // what the server sends is dropped
	halve   bool          // of what the server sends half passes, and then the connection ends
}

// New listens on a free port of loopback, for the server at HOST:PORT.
func New(to string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{listener: l, to: to, conns: map[net.Conn]bool{}}
	r.all.Go(r.accept)
	return r, nil
}

// Addr is where it listens, HOST:PORT.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

func (r *Relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.all.Go(func() { r.serve(c) })
	}
}

// serve passes one connection on.
func (r *Relay) serve(c net.Conn) {
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

func (r *Relay) enter(c, s net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse {
		return false
	}
	r.conns[c], r.conns[s] = true, true
	return true
}

func (r *Relay) leave(c, s net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	delete(r.conns, s)
}

// pump passes one direction on; back is the one from the server.
func (r *Relay) pump(dst, src net.Conn, back bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		if held != nil {
			<-held
		}
		r.mu.Lock()
		swallow, halve := back && r.swallow, back && r.halve
		r.mu.Unlock()
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

func (r *Relay) set(change func(r *Relay)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// Cut ends all connections with a reset.
func (r *Relay) Cut() {
	r.set(func(r *Relay) {
		for c := range r.conns {
			sever(c)
		}
	})
}

// Refuse has new connections end at once, or not any more.
func (r *Relay) Refuse(on bool) { r.set(func(r *Relay) { r.refuse = on }) }

// Swallow drops what the server sends, or not any more.
func (r *Relay) Swallow(on bool) { r.set(func(r *Relay) { r.swallow = on }) }

// Halve lets half of what the server sends next through and ends the connection then, or not any more.
func (r *Relay) Halve(on bool) { r.set(func(r *Relay) { r.halve = on }) }

// Hold keeps all bytes back until release is called.
func (r *Relay) Hold() (release func()) {
	wait := make(chan struct{})
	r.set(func(r *Relay) { r.held = wait })
	return sync.OnceFunc(func() {
		r.set(func(r *Relay) { r.held = nil })
		close(wait)
	})
}

// Close ends everything; nothing may be held.
func (r *Relay) Close() {
	r.listener.Close()
	r.Cut()
	r.all.Wait()
}

// sever closes a connection so that the other side gets a reset.
func sever(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // it ends either way
	}
	c.Close()
}
