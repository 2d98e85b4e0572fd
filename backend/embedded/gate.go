package embedded

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"appbind/wire"
)

const (
	// maxMessage bounds one request, in bytes: asn1-ber takes about a thousand times as much memory.
	maxMessage = 256 << 10
	// maxConnections bounds the connections; more are closed at once.
	maxConnections = 512
	// retryWait is the pause after a failed accept or start, for want of descriptors as a rule.
	retryWait = 100 * time.Millisecond
)

// gate is the address that clients dial. It carries each connection to the
// engine, and can do what gldap cannot: close connections, bound messages, survive
// every kind of request, and go on when descriptors run out.
type gate struct {
	listener net.Listener
	start    func() (*engine, error)
	log      *slog.Logger
	quit     chan struct{}
	wg       sync.WaitGroup // accept, watch and the two goroutines of each connection

	mu     sync.Mutex // guards what follows
	closed bool
	engine *engine
	conns  map[net.Conn]struct{} // both ends of every connection
}

// openGate listens and starts the engine.
func openGate(start func() (*engine, error), log *slog.Logger) (*gate, error) {
	e, err := start()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.stop(log)
		return nil, err
	}
	g := &gate{listener: listener, start: start, log: log, quit: make(chan struct{}),
		engine: e, conns: make(map[net.Conn]struct{})}
	g.wg.Add(2)
	go g.accept()
	go g.watch()
	return g, nil
}

// close closes everything and waits for it.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	e := g.engine
	g.mu.Unlock()
	close(g.quit)
	g.listener.Close()
	g.closeConns()
	g.wg.Wait()
	e.stop(g.log)
}

func (g *gate) closeConns() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.Close() // does not wait: nothing lingers
	}
}

// pause waits a moment; false: the gate closes.
func (g *gate) pause() bool {
	timer := time.NewTimer(retryWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.quit:
		return false
	}
}

// accept takes connections until the gate is closed.
func (g *gate) accept() {
	defer g.wg.Done()
	for {
		client, err := g.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if !g.pause() {
				return
			}
			continue
		}
		if e := g.admit(client); e != nil {
			go g.serve(client, e)
		} else {
			client.Close()
		}
	}
}

// admit counts a connection in; nil: there is no room.
func (g *gate) admit(client net.Conn) *engine {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.conns) >= 2*maxConnections {
		return nil
	}
	g.conns[client] = struct{}{}
	g.wg.Add(1)
	return g.engine
}

// forget closes connections.
func (g *gate) forget(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		delete(g.conns, c)
		c.Close()
	}
}

// serve carries one connection.
func (g *gate) serve(client net.Conn, e *engine) {
	defer g.wg.Done()
	server, err := net.Dial("tcp", e.addr)
	if err != nil {
		g.forget(client)
		return
	}
	g.mu.Lock()
	closed := g.closed
	g.conns[server] = struct{}{}
	g.mu.Unlock()
	defer g.forget(client, server)
	if closed {
		return
	}
	answers := make(chan struct{})
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		defer close(answers)
		io.Copy(client, server) // ends with either connection
		g.forget(client, server)
	}()
	if carry(server, client) {
		<-answers // the answers to what was sent before
	}
}

// carry takes requests to the engine. It drops Abandon, at which gldap closes the
// connection (no answer is due, RFC 4511 4.11), and replaces what gldap cannot decode. True: the client has ended its
// side in order, and answers may be under way.
func carry(server io.Writer, client io.Reader) bool {
	requests := wire.NewReader(client, maxMessage)
	for {
		m, err := requests.Next()
		if err != nil {
			return false
		}
		if m.Op == wire.OpAbandonRequest {
			continue
		}
		raw := m.Raw
		switch m.Op {
		case wire.OpCompareRequest, wire.OpModifyDNRequest:
			// An ExtendedResponse ends any request: they are told apart by their IDs (RFC 4511 4.1.1).
			raw = wire.AppendMessage(nil, m.ID, wire.OpExtendedRequest, refusedRequest, nil)
		case wire.OpSearchRequest:
			raw = searchable(m)
		}
		if _, err := server.Write(raw); err != nil {
			return false
		}
		if m.Op == wire.OpUnbindRequest {
			return true // the engine closes
		}
	}
}

// refusedOID stands for what gldap does not survive, as an extended operation or
// as the matching rule of a filter. It is of the arc for examples; both are answered with 53.
const refusedOID = "1.3.6.1.4.1.32473.1"

var (
	// refusedRequest is the body of the extended request: [0] requestName.
	refusedRequest = append([]byte{0x80, byte(len(refusedOID))}, refusedOID...)
	// refusedFilter is (:OID:=), an extensible match.
	refusedFilter = append(append([]byte{0xa9, byte(len(refusedOID) + 4), 0x81, byte(len(refusedOID))}, refusedOID...), 0x83, 0)
)

// searchable is a search that gldap can carry. It closes the connection, and with
// it the work of others on a shared link, on a filter like (ou:dn:=x). And it works on
// the string form of filters, where an attribute description "appPassword=x" turns
// into another assertion. Such filters are replaced by one that is refused.
func searchable(m wire.Message) []byte {
	s, err := wire.DecodeSearch(m.Body)
	if err != nil {
		return m.Raw // malformed, which ends the connection
	}
	good := true
	err = wire.EachFilterItem(s.Filter, func(i wire.FilterItem) bool {
		good = !i.DNAttributes && (len(i.Attribute) == 0 || validDescription(string(i.Attribute)))
		return good
	})
	if good && err == nil {
		return m.Raw
	}
	s.Filter = refusedFilter
	return wire.AppendMessage(nil, m.ID, wire.OpSearchRequest, s.Append(nil), m.Controls)
}

// watch starts a new engine when the accept loop of gldap has ended, as it does for good when an accept fails.
func (g *gate) watch() {
	defer g.wg.Done()
	for {
		g.mu.Lock()
		e := g.engine
		g.mu.Unlock()
		select {
		case <-e.done:
		case <-g.quit:
			return
		}
		g.log.Warn("the embedded directory starts again: it could not accept a connection, for want of file descriptors as a rule")
		g.closeConns()
		e.stop(g.log)
		if !g.restart() {
			return
		}
	}
}

// restart puts a new engine in place; false: the gate closes.
func (g *gate) restart() bool {
	for {
		e, err := g.start()
		if err == nil {
			g.mu.Lock()
			g.engine = e
			closed := g.closed
			g.mu.Unlock()
			if closed {
				e.stop(g.log)
			}
			return !closed
		}
		if !g.pause() {
			return false
		}
	}
}
