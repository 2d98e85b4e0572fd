package fakeldap

import (
	"crypto/tls"
	"net"
	"sync"

	"appbind/wire"
)

// startTLSName is the requestName of StartTLS (RFC 4511 4.14.1).
const startTLSName = "1.3.6.1.4.1.1466.20037"

// Conn is one connection to the fake. Its methods are safe for concurrent use;
// errors of writing are of no interest to a fake and not returned.
type Conn struct {
	// Number counts the connections of a server from 1.
	Number int

	server *Server

	mu     sync.Mutex // serialises writes, and guards the fields below
	nc     net.Conn
	reader *wire.Reader
	bound  string // the DN of the last successful bind, see Directory
}

// serve reads messages until the connection ends. Bytes that are no message end it.
func (c *Conn) serve() {
	defer c.server.wg.Done()
	defer c.server.ended(c)
	defer c.Close()
	if c.server.opts.Accepted != nil {
		c.server.opts.Accepted(c)
	}
	if c.server.opts.TLS != nil && !c.Handshake(c.server.opts.TLS) {
		return
	}
	c.setStream(c.stream())
	for {
		m, err := c.currentReader().Next()
		if err != nil {
			return
		}
		own, h := c.server.record(c, m)
		if h != nil {
			h(c, own)
		}
	}
}

func (c *Conn) stream() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nc
}

func (c *Conn) currentReader() *wire.Reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader
}

func (c *Conn) setStream(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc, c.reader = nc, wire.NewReader(nc, wire.MaxFromUpstream)
}

// Handshake puts TLS on the connection, asked for or not; false: it failed. Call it from the handler.
func (c *Conn) Handshake(cfg *tls.Config) bool {
	t := tls.Server(c.stream(), cfg)
	if t.Handshake() != nil {
		return false
	}
	c.setStream(t)
	return true
}

// Write writes bytes as they are.
func (c *Conn) Write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.nc.Write(b)
}

// WriteSliced writes bytes one by one, each in a segment of its own as far as the kernel lets it.
func (c *Conn) WriteSliced(b []byte) {
	for i := range b {
		c.Write(b[i : i+1])
	}
}

// Result answers with a code and a diagnostic under any ID and operation.
func (c *Conn) Result(id int32, op wire.Op, code int32, diagnostic string) {
	c.Write(wire.AppendResult(nil, id, op, code, diagnostic))
}

// Answer ends the request m with a code, as RFC 4511 asks. Abandon and unbind get nothing.
func (c *Conn) Answer(m wire.Message, code int32) {
	if op := wire.ResponseTo(m.Op); op != 0 {
		c.Result(m.ID, op, code, "")
	}
}

// Entry sends a search entry; attributes are names and values in turn, a name repeated for each further value.
func (c *Conn) Entry(id int32, dn string, attributes ...string) {
	c.Write(EntryMessage(id, dn, attributes...))
}

// EntryMessage is the bytes of a search entry, see Conn.Entry.
func EntryMessage(id int32, dn string, attributes ...string) []byte {
	e := wire.SearchEntry{DN: []byte(dn)}
	for i := 0; i+1 < len(attributes); {
		name := attributes[i]
		var values [][]byte
		for ; i+1 < len(attributes) && attributes[i] == name; i += 2 {
			values = append(values, []byte(attributes[i+1]))
		}
		e.Attributes = wire.AppendAttribute(e.Attributes, name, values...)
	}
	return wire.AppendMessage(nil, id, wire.OpSearchResultEntry, e.Append(nil), nil)
}

// StartTLS answers a StartTLS request with success and takes the connection to
// TLS; extra is injected in clear right behind the answer. Call it from the handler.
func (c *Conn) StartTLS(m wire.Message, cfg *tls.Config, extra []byte) {
	c.Write(append(wire.AppendExtendedResponse(nil, m.ID, wire.ResultSuccess, "", startTLSName, nil), extra...))
	if !c.Handshake(cfg) {
		c.Close()
	}
}

// IsStartTLS tells whether a message asks for StartTLS.
func IsStartTLS(m wire.Message) bool {
	if m.Op != wire.OpExtendedRequest {
		return false
	}
	x, err := wire.DecodeExtended(m.Body)
	return err == nil && string(x.Name) == startTLSName
}

// CloseWrite ends the sending direction only.
func (c *Conn) CloseWrite() {
	if nc, ok := c.stream().(interface{ CloseWrite() error }); ok {
		_ = nc.CloseWrite()
	}
}

// Close closes the connection.
func (c *Conn) Close() { c.stream().Close() }

// Reset closes the connection with a TCP reset.
func (c *Conn) Reset() {
	if nc, ok := c.stream().(*net.TCPConn); ok {
		_ = nc.SetLinger(0)
	}
	c.Close()
}
