package proxy

import (
	"appbind/wire"
)

// operation is one row of the dispatch table.
type operation struct {
	// handle does the request. A refusal is written as its result; nil says
	// that it is answered or forwarded. An error ends the client.
	handle func(c *conn, m wire.Message) (*refusal, error)
	// unbound says that clients who must authenticate first may ask for it, or
	// that the handler looks itself.
	unbound bool
	// silent says that there is no response to it.
	silent bool
}

// operations is the dispatch table, by the tag of the operation.
var operations = [256]operation{
	wire.OpBindRequest:     {handle: (*conn).bind, unbound: true},
	wire.OpUnbindRequest:   {handle: (*conn).unbind, unbound: true, silent: true},
	wire.OpSearchRequest:   {handle: (*conn).search, unbound: true},
	wire.OpModifyRequest:   {handle: (*conn).forward},
	wire.OpAddRequest:      {handle: (*conn).forward},
	wire.OpDelRequest:      {handle: (*conn).forward},
	wire.OpModifyDNRequest: {handle: (*conn).forward},
	wire.OpCompareRequest:  {handle: (*conn).forward},
	wire.OpAbandonRequest:  {handle: (*conn).abandon, unbound: true, silent: true},
	wire.OpExtendedRequest: {handle: (*conn).extended, unbound: true},
}

// dispatch hands a valid message to its handler. An error ends the client.
func (c *conn) dispatch(m wire.Message) error {
	op := &operations[m.Op]
	if op.handle == nil {
		return malformed(wire.ErrMalformed) // a response, or no operation of RFC 4511
	}
	if !op.silent && c.inUse(m.ID) {
		return c.refuse(m, refuseDuplicateID)
	}
	if !op.unbound {
		if r := c.mustAuthenticate(); r != nil {
			return c.refuse(m, r)
		}
	}
	r, err := op.handle(c, m)
	if err != nil || r == nil {
		return err
	}
	return c.refuse(m, r)
}

// refuse answers a request with a refusal, and counts it.
func (c *conn) refuse(m wire.Message, r *refusal) error {
	c.srv.counts.deny(m.Op)
	return c.answer(m, r)
}

// mustAuthenticate refuses a client whose last bind failed, and one that is
// anonymous on a listener that serves no anonymous clients: it may bind, StartTLS, ask who it is and read
// the root DSE, and nothing else.
func (c *conn) mustAuthenticate() *refusal {
	switch {
	case c.sess.failed:
		return refuseFailedBind
	case c.sess.kind == anonymous && !c.policy().bind.Anonymous:
		return refuseUnauthenticated
	}
	return nil
}

// unbind ends the client (RFC 4511 4.3).
func (c *conn) unbind(wire.Message) (*refusal, error) { return nil, errUnbind }
