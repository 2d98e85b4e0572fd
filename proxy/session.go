package proxy

import (
	"context"
	"errors"
	"time"

	"appbind/auth"
	"appbind/backend"
)

// sessionKind is who the client is since its last bind.
type sessionKind byte

const (
	anonymous   sessionKind = iota // never bound, or its bind failed
	passed                         // bound upstream; the link is its own
	appPassword                    // bound with an app password
	recalled                       // a service account, accepted in an outage: no link, served from memory
)

// session is who the client is. The zero session is anonymous.
type session struct {
	kind sessionKind
	dn   string // who that is, without context; "" = anonymous
	// entry is the canonical identity of the entry as which the client has bound; "" where the bind was passed on unlooked.
	entry string
	// visible says that the client may see the secrets attribute.
	visible bool
	// failed says that the last bind did not succeed. Clients that take no notice
	// of that must find nothing, whatever the directory shows to everybody.
	failed bool
	// v2 says that the client has bound with LDAP version 2.
	v2 bool
	// login is the app password behind an app-password session.
	login *auth.Login
	// until is when a recalled session ends at the latest.
	until time.Time

	// link is the client's own. Of a passed session it is the one on which the bind
	// succeeded; of an anonymous one it was never bound, and is made when it
	// is needed; of an app-password session with proxied authorization it is bound as appbind itself.
	link *backend.Link
	home *backend.Upstream // where link and share come from; of a recalled session, whose memory it is served from
	// share is the group of a service account's clients, over whose links the
	// session's requests go until one needs a link of its own. nil: it has one from the start.
	share *backend.Group
	ahead *ahead // of its search in pages for virtual entries; nil: nothing
}

// isLost reports whether a link is of no use any more.
func isLost(l *backend.Link) bool {
	select {
	case <-l.Done():
		return true
	default:
		return false
	}
}

// ownLink is the link for the client's requests. Only links that carry no
// identity of the client are replaced when they are lost.
func (c *conn) ownLink() (*backend.Link, *refusal, error) {
	s := &c.sess
	if s.kind == recalled {
		// It has no identity upstream, and must not get an anonymous one.
		return nil, refuseUnavailable, c.stillOutage()
	}
	if s.link != nil && !isLost(s.link) {
		return s.link, nil, nil
	}
	if s.kind == passed && s.link == nil && s.share != nil {
		return c.privateLink()
	}
	if s.kind == passed {
		return nil, nil, disconnected(resultLinkLost, nil)
	}
	if s.link != nil {
		s.link.Close()
		s.link = nil
	}
	st := c.srv.state.Load()
	ctx, cancel := context.WithTimeout(c.srv.base, time.Duration(st.Config.Upstream.BindTimeout))
	defer cancel()
	connect := st.Upstream.AnonymousLink
	if s.kind == appPassword {
		connect = func(ctx context.Context) (*backend.Link, error) { return st.serviceLink(ctx, s.dn) }
	}
	link, err := connect(ctx)
	if err != nil {
		c.debug("no link to the directory", err)
		return nil, refuseUnavailable, nil
	}
	s.link, s.home = link, st.Upstream
	return link, nil, nil
}

// dropLink makes the client anonymous: what is outstanding is given up, and the link closed or released.
// A link with something outstanding is closed, so that no late response can reach anybody;
// on shared links it is abandoned one by one.
func (c *conn) dropLink() {
	busy := false
	for _, q := range c.giveUp() {
		switch {
		case q.group == nil:
			busy = true
		case q.link != nil:
			q.link.Abandon(q.linkID)
		}
	}
	c.dropAhead()
	s := c.sess
	c.sess = session{}
	c.slow.Store(false)
	if s.share != nil {
		s.share.Leave()
	}
	switch {
	case s.link == nil:
	case busy, s.kind != passed: // an anonymous link is nobody else's, nor is one bound as appbind
		s.link.Close()
	default:
		s.home.Release(s.link)
	}
}

// recheck looks after an idle session, or one that has a request: nil, it goes on.
func (c *conn) recheck(now time.Time) error {
	c.checked = now
	switch {
	case c.sess.kind == passed && c.sess.link == nil:
		if c.sess.share.Refused() {
			return disconnected(resultRevoked, nil)
		}
		return nil
	case c.sess.kind == passed && isLost(c.sess.link):
		return disconnected(resultLinkLost, nil)
	case c.sess.kind == recalled:
		return c.stillOutage()
	case c.sess.kind != appPassword:
		return nil
	}
	st := c.srv.state.Load()
	ctx, cancel := context.WithTimeout(c.srv.base, time.Duration(st.Config.Upstream.BindTimeout))
	defer cancel()
	err := st.Verifier.Recheck(ctx, c.sess.login)
	if errors.Is(err, auth.ErrRevoked) {
		return disconnected(resultRevoked, nil)
	}
	if err != nil {
		c.debug("app password not rechecked", err)
	}
	return nil
}

// whoAmI is the client's authorization identity (RFC 4532; RFC 4513 5.2.1.8).
func (s *session) whoAmI() []byte {
	if s.dn == "" {
		return []byte{}
	}
	return []byte("dn:" + s.dn)
}

// copied is a copy of b that outlives the message that b is part of; nil stays nil.
func copied(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}
