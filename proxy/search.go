package proxy

import (
	"appbind/wire"
)

// search answers a search by the kind of the session.
func (c *conn) search(m wire.Message) (*refusal, error) {
	s, err := wire.DecodeSearch(m.Body)
	if err != nil {
		return nil, malformed(err)
	}
	// Everybody may read the root DSE: clients look there for StartTLS before they bind.
	root := len(s.Base) == 0 && s.Scope == wire.ScopeBase
	if r := c.mustAuthenticate(); r != nil && !root {
		return r, nil
	}
	switch c.sess.kind {
	case appPassword:
		return c.appSearch(m, s, root)
	case recalled:
		return c.recall(m, s)
	}
	if r := c.guarded(m); r != nil {
		return r, nil
	}
	q := c.newRequest(m)
	if root {
		q.rewrite.rootDSE(c, s)
	}
	body, r := c.stripSearch(&s, &q.rewrite)
	if r != nil {
		return r, nil
	}
	if c.maySeeVirtual() {
		if handled, r, err := c.virtualSearch(m, q, &s); handled || err != nil {
			return r, err
		}
		q.rewrite.schema = c.showsDefinitions(&s)
	}
	return c.send(m, q, body, m.Controls)
}

// stripSearch takes the context off the base, which the entries get back, and
// off DNs in the filter. body is nil when there is none; s is the search without it.
func (c *conn) stripSearch(s *wire.SearchRequest, x *rewriter) (body []byte, r *refusal) {
	base, suffix, r := c.stripDN(s.Base)
	if r != nil {
		return nil, r
	}
	changed := suffix != nil
	if changed {
		s.Base, x.suffix = base, copied(suffix)
	}
	if c.trustsContext() {
		filter, ch, err := stripFilterContext(nil, s.Filter)
		if err != nil {
			return nil, refuseContext
		}
		if ch {
			s.Filter, changed = filter, true
		}
	}
	if !changed {
		return nil, nil
	}
	return s.Append(nil), nil
}

// rootDSE prepares for the root DSE: what it says of SASL and StartTLS must be
// true of this listener.
func (x *rewriter) rootDSE(c *conn, s wire.SearchRequest) {
	s.Base, s.Filter, s.Attributes = nil, copied(s.Filter), copied(s.Attributes)
	x.root = &s
	st := c.srv.state.Load()
	x.external = st.maps(c)
	x.startTLS = c.offersStartTLS(st)
}
