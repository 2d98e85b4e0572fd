package proxy

import (
	"context"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/wire"
)

// recheckFresh is for how long a recheck of the app password serves: a revoked
// one sees nothing more after a second.
const recheckFresh = time.Second

// oidProxiedAuthorization is the control of RFC 4370.
const oidProxiedAuthorization = "2.16.840.1.113730.3.4.18"

// What a session with an app password may do, see config.AppPasswords.AfterBind.
const (
	afterBindNone    = "none"
	afterBindProxied = "proxied_authorization"
)

// appSearch answers a search of an app-password session. Nothing of it is
// forwarded, but for the option of proxied authorization.
func (c *conn) appSearch(m wire.Message, s wire.SearchRequest, root bool) (*refusal, error) {
	if err := c.stillValid(); err != nil {
		return nil, err
	}
	st := c.srv.state.Load()
	x := rewriter{guard: st.guard(), guarded: true, own: st.own}
	if root {
		if hasCritical(m.Controls) {
			return refuseControl, nil
		}
		x.rootDSE(c, s)
		return nil, c.serviceSearch(st, m, &s, &x)
	}
	switch st.Config.AppPasswords.AfterBind {
	case afterBindNone:
		return refuseAppPassword, nil
	case afterBindProxied:
		return c.proxied(m, &s)
	}
	base, suffix, r := c.stripDN(s.Base)
	if r != nil {
		return r, nil
	}
	s.Base, x.suffix = base, suffix
	own, send, r := st.own.search(s, m.Controls, c.sess.dn)
	if r != nil {
		return r, nil
	}
	if !send {
		return &refusal{}, nil // success, without an entry
	}
	// A name in own_entry_attributes may be an alias of the secrets attribute.
	g := st.guard()
	if r := g.filter(own.Filter, refuseRequest); r != nil {
		return r, nil
	}
	return nil, c.serviceSearch(st, m, &own, &x)
}

// stillValid looks whether the app password of the session still stands.
func (c *conn) stillValid() error {
	now := time.Now()
	if now.Sub(c.checked) < recheckFresh && !c.srv.state.Load().Verifier.Off() {
		return nil
	}
	return c.recheck(now)
}

// serviceSearch runs a search of our own making and answers the request m with
// its entries. The client waits meanwhile: its next request is read afterwards.
func (c *conn) serviceSearch(st *state, m wire.Message, s *wire.SearchRequest, x *rewriter) error {
	ctx, cancel := context.WithTimeout(c.srv.base, time.Duration(st.Config.Upstream.OperationTimeout))
	defer cancel()
	live, done := st.Upstream.UntilDown(ctx)
	defer done()
	// Gathered first: service links are shared, and a client that does not
	// read must not hold them up. It is one entry, the search being a base search.
	var entries []byte
	result, err := st.Upstream.ServiceSearch(live, s, nil, func(e wire.SearchEntry, _ []byte) error {
		body, _, err := x.entry(e.Append(nil))
		if err == nil {
			entries = wire.AppendMessage(entries, m.ID, wire.OpSearchResultEntry, body, nil)
		}
		return err
	})
	if err != nil {
		c.debug("search for an app-password session failed", err)
		if x.root == nil && st.Upstream.Outage(ctx) {
			return c.answerRecalled(m, st.Upstream, s, x, c.sess.dn)
		}
		return c.answer(m, refuseUnavailable)
	}
	return c.w.Write(func(dst []byte) []byte {
		return wire.AppendResult(append(dst, entries...), m.ID, wire.OpSearchResultDone, searchCode(result.Code), "")
	})
}

// appForward answers what an app-password session asks besides searches: no,
// but for compares under proxied authorization.
func (c *conn) appForward(m wire.Message) (*refusal, error) {
	if m.Op != wire.OpCompareRequest || c.srv.state.Load().Config.AppPasswords.AfterBind != afterBindProxied {
		return refuseAppPassword, nil
	}
	if err := c.stillValid(); err != nil {
		return nil, err
	}
	return c.proxied(m, nil)
}

// proxied forwards a search or compare with proxied authorization: over a link
// bound as appbind, for the user as whom the upstream then judges it. Without
// the control the request would run as appbind, so the control is critical.
func (c *conn) proxied(m wire.Message, s *wire.SearchRequest) (*refusal, error) {
	// Not the secrets attribute alone: nothing that holds a password is shown to such a session.
	st := c.srv.state.Load()
	g := st.own.guard(st.Upstream.Schema())
	if r := g.request(m); r != nil {
		return r, nil
	}
	controls, changed, r := stripIdentityControls(nil, m.Controls)
	if r != nil {
		return r, nil
	}
	if !changed {
		controls = copied(m.Controls)
	}
	controls = wire.AppendControl(controls, oidProxiedAuthorization, true, c.sess.whoAmI())
	q := c.newRequest(m)
	q.rewrite.guard, q.rewrite.guarded = g, true
	body := m.Body
	if s != nil {
		stripped, r := c.stripSearch(s, &q.rewrite)
		if r != nil {
			return r, nil
		}
		if stripped != nil {
			body = stripped
		}
	} else {
		stripped, r, err := c.stripCompare(m)
		if r != nil || err != nil {
			return r, err
		}
		if stripped != nil {
			body = stripped
		}
	}
	return c.send(m, q, body, controls)
}

// serviceLink is a link bound as appbind, for proxied authorization by user.
func (st *state) serviceLink(ctx context.Context, user string) (*backend.Link, error) {
	a, link, err := st.Upstream.Bind(ctx, st.Config.Upstream.BindDN, auth.Password(st.Config.Upstream.BindPassword), nil)
	if err != nil {
		return nil, err
	}
	if a.Code != wire.ResultSuccess {
		link.Close()
		return nil, &serviceBindError{a.Code}
	}
	if err := st.Upstream.Keep(link, user); err != nil {
		link.Close()
		return nil, err
	}
	return link, nil
}
