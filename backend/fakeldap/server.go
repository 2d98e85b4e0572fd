// Package fakeldap is an LDAP server for tests: it records every message that
// it receives and answers as a script says, rightly or wrongly.
//
// A test starts a Server with a Handler, which is called for each message in
// the order of arrival, in the goroutine of the connection, and which answers
// with the methods of Conn: a result, an entry, raw bytes, bytes one by one, a
// half close, or nothing at all. To answer late or out of order it keeps the
// Conn and the message ID and answers from elsewhere; Conn is safe for
// concurrent use. Directory is a ready-made Handler that behaves: it holds a
// few entries, verifies simple binds and evaluates filters. The usual hostile
// script looks at a message, does its mischief, and hands the rest to a
// Directory:
//
//	dir := fakeldap.NewDirectory()
//	dir.Add("uid=alice,ou=people,dc=example,dc=org", "alicepw", "uid", "alice")
//	s, err := fakeldap.Start(fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) {
//		if m.Op == wire.OpBindRequest {
//			c.Close() // reads the bind, says nothing
//			return
//		}
//		dir.Handle(c, m)
//	}})
//
// Authority makes certificates, good and bad. Nothing here is meant for
// production: there are no limits, and the server trusts its client.
package fakeldap

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"appbind/wire"
)

// Handler answers one message. m.Raw belongs to the handler: it may keep it.
type Handler func(c *Conn, m wire.Message)

// Options are what a Server is started with.
type Options struct {
	// Handler answers messages; nil: nothing is ever answered.
	Handler Handler
	// Accepted, if set, is called for each connection before anything is read from it.
	Accepted func(c *Conn)
	// Unrecorded drops what was received, for tests with millions of messages.
	Unrecorded bool
	// TLS makes the server speak ldaps; see also Conn.StartTLS.
	TLS *tls.Config
	// Socket is the path of a unix socket to listen on; empty: a free port of 127.0.0.1.
	Socket string
	// Address is a TCP address to listen on instead of a free port.
	Address string
}

// Frame is one recorded message.
type Frame struct {
	// Conn is the number of the connection, from 1.
	Conn int
	// Message is the message, with slices of its own.
	Message wire.Message
}

// Server is a running fake.
type Server struct {
	opts    Options
	network string
	address string

	wg sync.WaitGroup // the acceptor and the connections

	mu       sync.Mutex // guards the fields below; no I/O under it
	listener net.Listener
	handler  Handler
	conns    map[*Conn]bool // open ones
	accepted int
	frames   []Frame
	changed  chan struct{} // closed and renewed at each record, accept and end
	closed   bool
}

// Start starts a server. Close ends it.
func Start(opts Options) (*Server, error) {
	s := &Server{opts: opts, handler: opts.Handler, network: "tcp", address: "127.0.0.1:0",
		conns: map[*Conn]bool{}, changed: make(chan struct{})}
	if opts.Address != "" {
		s.address = opts.Address
	}
	if opts.Socket != "" {
		s.network, s.address = "unix", opts.Socket
	}
	return s, s.Resume()
}

// Resume listens again on the same address after Pause.
func (s *Server) Resume() error {
	l, err := net.Listen(s.network, s.address)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.listener, s.address = l, l.Addr().String()
	s.mu.Unlock()
	s.wg.Add(1)
	go s.accept(l)
	return nil
}

// Pause closes the listener and all connections, as a server that was killed
// does: whoever connects is refused until Resume.
func (s *Server) Pause() {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	l.Close()
	s.CloseConns()
}

// Close ends the server and waits for its goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Pause()
	s.wg.Wait()
}

// CloseConns closes the connections that are open now.
func (s *Server) CloseConns() {
	s.mu.Lock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// Addr is the address that the server listens on: host:port, or the path of its socket.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Scheme is the scheme of the server's URL: ldap, ldaps or ldapi.
func (s *Server) Scheme() string {
	switch {
	case s.network == "unix":
		return "ldapi"
	case s.opts.TLS != nil:
		return "ldaps"
	}
	return "ldap"
}

// SetHandler changes the handler from the next message on.
func (s *Server) SetHandler(h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

// Frames returns what was received so far.
func (s *Server) Frames() []Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Frame(nil), s.frames...)
}

// Received returns the messages of one operation received so far.
func (s *Server) Received(op wire.Op) []wire.Message {
	var list []wire.Message
	for _, f := range s.Frames() {
		if f.Message.Op == op {
			list = append(list, f.Message)
		}
	}
	return list
}

// Accepted is how many connections were accepted so far; Open how many of them are open.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Open is how many connections are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Wait waits until ok, which is asked again after each message, accept and end
// of a connection, or until ctx ends; it returns the last answer of ok.
func (s *Server) Wait(ctx context.Context, ok func() bool) bool {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ok()
		}
	}
}

// WaitReceived waits until n messages of an operation were received, at most 5 s.
func (s *Server) WaitReceived(op wire.Op, n int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.Wait(ctx, func() bool { return len(s.Received(op)) >= n })
}

// signal wakes Wait. The caller holds s.mu.
func (s *Server) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// accept serves one listener until it is closed.
func (s *Server) accept(l net.Listener) {
	defer s.wg.Done()
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			nc.Close()
			continue
		}
		s.accepted++
		c := &Conn{Number: s.accepted, server: s, nc: nc}
		s.conns[c] = true
		s.signal()
		s.mu.Unlock()
		s.wg.Add(1)
		go c.serve()
	}
}

// record keeps a copy of m and returns it with the handler of the moment.
func (s *Server) record(c *Conn, m wire.Message) (wire.Message, Handler) {
	own, err := wire.Parse(append([]byte(nil), m.Raw...))
	if err != nil {
		panic("appbind: internal error: fakeldap: a parsed message does not parse: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opts.Unrecorded {
		s.frames = append(s.frames, Frame{Conn: c.Number, Message: own})
		s.signal()
	}
	return own, s.handler
}

// ended takes a connection off the list.
func (s *Server) ended(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.signal()
}
