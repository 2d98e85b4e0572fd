package proxy

import (
	"appbind/wire"
)

// persistent are request controls that keep a search open for as long as the
// client likes: silence is no sign of trouble then.
var persistent = map[string]bool{
	"2.16.840.1.113730.3.4.3":  true, // persistent search
	"1.3.6.1.4.1.4203.1.9.1.1": true, // content synchronisation, RFC 4533
	"1.2.840.113556.1.4.528":   true, // notification of Active Directory
}

// forward sends a modify, add, delete, modifyDN or compare upstream.
func (c *conn) forward(m wire.Message) (*refusal, error) {
	if c.sess.kind == appPassword {
		return c.appForward(m)
	}
	if r := c.guarded(m); r != nil {
		return r, nil
	}
	body, r, err := c.stripTargets(m)
	if r != nil || err != nil {
		return r, err
	}
	if c.maySeeVirtual() {
		if handled, r, err := c.virtualRequest(m, orBody(m, body)); handled || err != nil {
			return r, err
		}
	}
	if w, r, err := c.writing(m, body); r != nil || err != nil || w != nil {
		if w != nil {
			return c.writeSecrets(m, c.srv.state.Load(), w)
		}
		return r, err
	}
	return c.send(m, c.newRequest(m), body, m.Controls)
}

// orBody is a request's body: body, or for nil as it came.
func orBody(m wire.Message, body []byte) []byte {
	if body == nil {
		return m.Body
	}
	return body
}

// writing looks whether a request writes the secrets attribute; body is the
// request without a context, nil: as it came.
func (c *conn) writing(m wire.Message, body []byte) (*secretWrite, *refusal, error) {
	if body == nil {
		body = m.Body
	}
	st := c.srv.state.Load()
	g := st.guard()
	switch m.Op {
	case wire.OpModifyDNRequest:
		x, err := wire.DecodeModifyDN(body)
		if err != nil {
			return nil, nil, malformed(err)
		}
		if g.namedIn(x.NewRDN) {
			return nil, refuseSecretRDN, nil
		}
		return nil, nil, nil
	case wire.OpModifyRequest, wire.OpAddRequest:
		target, rest, err := wire.DecodeTarget(body)
		if err != nil {
			return nil, nil, malformed(err)
		}
		w, err := g.writes(m.Op, target, rest)
		if err != nil {
			return nil, nil, malformed(err)
		}
		return w, nil, nil
	}
	return nil, nil, nil
}

// guarded checks a request for the secrets attribute, unless the client may see it.
func (c *conn) guarded(m wire.Message) *refusal {
	st := c.srv.state.Load()
	if c.seesSecrets(st) {
		return nil
	}
	g := st.guard()
	return g.request(m)
}

// send sends a request over the client's own link, or a shared one: as it stands
// when body is nil, with body and controls else.
func (c *conn) send(m wire.Message, q *request, body, controls []byte) (*refusal, error) {
	if c.sharesFor(m.Op, controls) {
		return c.sendShared(m, q, body, controls)
	}
	link, r, err := c.ownLink()
	if r != nil || err != nil {
		return r, err
	}
	q.link = link
	if r := c.register(q); r != nil {
		return r, nil
	}
	watch := !isPersistent(controls)
	if body == nil {
		q.linkID, err = link.Forward(m, q, watch)
	} else {
		q.linkID, err = link.Send(m.Op, body, controls, q, watch)
	}
	if err == nil || !c.take(q) {
		return nil, nil // under way, or Lost has seen to it
	}
	if c.sess.kind == passed {
		return nil, disconnected(resultLinkLost, err)
	}
	return refuseUnavailable, nil
}

func isPersistent(controls []byte) bool {
	found := false
	if len(controls) > 0 {
		_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
			found = persistent[string(c.OID)]
			return !found
		})
	}
	return found
}

// stripDN takes the context off a DN that goes upstream. suffix is what was taken off; nil: nothing.
func (c *conn) stripDN(dn []byte) (rest, suffix []byte, r *refusal) {
	rest, suffix, _, found, err := splitContext(dn)
	switch {
	case err != nil, found && !c.trustsContext():
		return nil, nil, refuseContext
	case !found:
		return dn, nil, nil
	}
	return rest, suffix, nil
}

// stripTargets takes the context off the DNs of a request other than a search.
// body is nil when there is none in it.
func (c *conn) stripTargets(m wire.Message) (body []byte, r *refusal, err error) {
	switch m.Op {
	case wire.OpDelRequest:
		dn, suffix, r := c.stripDN(m.Body)
		if r != nil || suffix == nil {
			return nil, r, nil
		}
		return copied(dn), nil, nil
	case wire.OpCompareRequest:
		return c.stripCompare(m)
	case wire.OpModifyDNRequest:
		return c.stripModifyDN(m)
	}
	target, rest, err := wire.DecodeTarget(m.Body)
	if err != nil {
		return nil, nil, malformed(err)
	}
	dn, suffix, r := c.stripDN(target)
	if r != nil || suffix == nil {
		return nil, r, nil
	}
	return wire.AppendTarget(nil, dn, rest), nil, nil
}

func (c *conn) stripCompare(m wire.Message) (body []byte, r *refusal, err error) {
	x, err := wire.DecodeCompare(m.Body)
	if err != nil {
		return nil, nil, malformed(err)
	}
	dn, suffix, r := c.stripDN(x.DN)
	if r != nil {
		return nil, r, nil
	}
	// The value may be a DN that we returned, as in a compare of member.
	value, _, _, found, err := splitContext(x.Value)
	found = found && err == nil && c.trustsContext()
	if suffix == nil && !found {
		return nil, nil, nil
	}
	x.DN = dn
	if found {
		x.Value = value
	}
	return x.Append(nil), nil, nil
}

func (c *conn) stripModifyDN(m wire.Message) (body []byte, r *refusal, err error) {
	x, err := wire.DecodeModifyDN(m.Body)
	if err != nil {
		return nil, nil, malformed(err)
	}
	dn, suffix, r := c.stripDN(x.DN)
	if r != nil {
		return nil, r, nil
	}
	superior, above, r := c.stripDN(x.NewSuperior)
	if r != nil || suffix == nil && above == nil {
		return nil, r, nil
	}
	x.DN = dn
	if above != nil {
		x.NewSuperior = superior
	}
	return x.Append(nil), nil, nil
}
