package proxy

import (
	"context"
	"errors"
	"time"

	"appbind/backend"
	"appbind/wire"
)

const (
	// maxPipelined is how many requests of one client are under way on shared
	// links; behind them its connection is not read, so that it cannot take the
	// room of all others.
	maxPipelined = 32
	// sharedBacklog is what may wait for a client of a shared link before it counts as slow.
	sharedBacklog = 256 << 10
	// slowBacklog is what may wait for a slow one while requests of others are
	// under way on the link; more ends it.
	slowBacklog = 8 << 20
)

// statelessControls are the request controls that concern their request and
// nothing else, so that a request with them may go over a shared link. Not here
// are paged results and VLV (their cookies belong to a link), sorting (slapd
// bounds the sorts of a link), transactions, persistent searches, synchronisation, other identities (RFC 4370),
// and everything unknown.
var statelessControls = map[string]bool{
	"2.16.840.1.113730.3.4.2":   true, // ManageDsaIT, RFC 3296
	"1.3.6.1.4.1.4203.1.10.1":   true, // subentries, RFC 3672
	"1.2.826.0.1.3344810.2.3":   true, // matched values, RFC 3876
	"1.3.6.1.1.12":              true, // assertion, RFC 4528
	"1.3.6.1.1.22":              true, // don't use copy, RFC 6171
	"1.2.840.113556.1.4.1339":   true, // domain scope
	oidSessionTracking:          true,
	"1.3.6.1.4.1.4203.666.5.16": true, // dereference, of OpenLDAP
}

// shareableBindControls are the controls of a bind that mean nothing for what follows it.
var shareableBindControls = map[string]bool{
	oidPasswordPolicy:           true,
	oidSessionTracking:          true,
	"2.16.840.1.113730.3.4.16":  true, // authorization identity, RFC 3829
	"1.3.6.1.4.1.42.2.27.9.5.8": true, // account usability
}

// onlyControls reports whether all controls are listed.
func onlyControls(controls []byte, listed map[string]bool) bool {
	ok := true
	if len(controls) > 0 {
		_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
			ok = listed[string(c.OID)]
			return ok
		})
	}
	return ok
}

// sharesFor reports whether a request goes over a shared link: it only reads,
// and leaves nothing behind. The first one that does not takes the session to a
// link of its own, and what follows goes there too, so that a client reads what
// it has written.
func (c *conn) sharesFor(op wire.Op, controls []byte) bool {
	s := &c.sess
	return s.share != nil && s.link == nil && !c.slow.Load() &&
		(op == wire.OpSearchRequest || op == wire.OpCompareRequest) && onlyControls(controls, statelessControls)
}

// sendShared sends a request over one of the group's links.
func (c *conn) sendShared(m wire.Message, q *request, body, controls []byte) (*refusal, error) {
	if err := c.followShare(); err != nil {
		return nil, err
	}
	if !c.awaitRoom() {
		return refuseBusy, nil
	}
	if body == nil {
		q.frame = copied(m.Raw)
	} else {
		q.frame = wire.AppendMessage(nil, m.ID, m.Op, body, controls)
	}
	q.group = c.sess.share
	if r := c.register(q); r != nil {
		return r, nil
	}
	return c.place(q)
}

// followShare takes the session to the group of the present configuration. An
// account that it does not list any more is bound by nobody but its owner.
func (c *conn) followShare() error {
	s, st := &c.sess, c.srv.state.Load()
	if s.home == st.Upstream {
		return nil
	}
	if !st.isService(s.dn) {
		return disconnected(resultRevoked, nil)
	}
	g := st.Upstream.Follow(s.share)
	if g == nil {
		return disconnected(resultRevoked, nil)
	}
	s.share.Leave()
	s.share, s.home = g, st.Upstream
	return nil
}

// patience is how long a request waits for room, or for a link.
func (c *conn) patience() time.Duration {
	return time.Duration(c.srv.state.Load().Config.Upstream.BindTimeout)
}

// awaitRoom waits until the client has fewer than maxPipelined requests under
// way; false: it has not within patience.
func (c *conn) awaitRoom() bool {
	c.mu.Lock()
	if len(c.pending) < maxPipelined {
		c.mu.Unlock()
		return true
	}
	room := make(chan struct{})
	c.room = room
	c.mu.Unlock()
	limit := time.NewTimer(c.patience())
	defer limit.Stop()
	select {
	case <-room:
		return true
	case <-limit.C:
	case <-c.srv.base.Done():
	}
	return false
}

// place puts a request on a link of its group, on another one where that is
// gone before anything was sent.
func (c *conn) place(q *request) (*refusal, error) {
	m, err := wire.Parse(q.frame)
	for err == nil {
		if q.link, err = q.group.Pick(c.srv.base, c.patience()); err != nil {
			break
		}
		if q.linkID, err = q.group.Forward(q.link, m, q, true); err == nil {
			return nil, nil
		}
		if errors.Is(err, backend.ErrNotSent) {
			err = nil
		}
	}
	if !c.take(q) {
		return nil, nil
	}
	return c.groupFailed(err)
}

// groupFailed is what a client hears for which there is no link.
func (c *conn) groupFailed(err error) (*refusal, error) {
	c.debug("no link to the directory", err)
	switch {
	case errors.Is(err, backend.ErrRefused):
		return nil, disconnected(resultRevoked, err)
	case errors.Is(err, backend.ErrNoRoom):
		return refuseBusy, nil
	}
	ctx, cancel := context.WithTimeout(c.srv.base, c.patience())
	defer cancel()
	if c.sess.home.Outage(ctx) {
		return nil, disconnected(resultLinkLost, err) // bound anew, it is served from memory
	}
	return refuseUnavailable, nil
}

// sendAgain sends a request once more whose link was lost before anything came.
func (c *conn) sendAgain(q *request) error {
	q.again, q.retried = false, true
	if q.dead.Load() {
		return nil // given up meanwhile
	}
	r, err := c.place(q)
	if r == nil || err != nil {
		return err
	}
	return c.w.Write(func(dst []byte) []byte {
		return wire.AppendResult(dst, q.id, wire.ResponseTo(q.op), r.code, r.diagnostic)
	})
}

// privateLink is the client's own link from here on, bound with the password of its group.
func (c *conn) privateLink() (*backend.Link, *refusal, error) {
	if err := c.followShare(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(c.srv.base, c.patience())
	defer cancel()
	link, err := c.sess.share.Private(ctx)
	if err != nil {
		r, err := c.groupFailed(err)
		return nil, r, err
	}
	c.sess.link = link
	return link, nil, nil
}

// put appends what build appends to what the client gets. The reader of a
// shared link never waits for a client here, unless only this one is left on it.
func (q *request) put(build func(dst []byte) []byte) error {
	if q.group == nil {
		return q.w.Append(build)
	}
	taken, err := q.w.OfferWithin(sharedBacklog, build)
	if taken || err != nil {
		return err
	}
	// Its next requests go over a link of its own; this one takes no new requests.
	q.c.slow.Store(true)
	q.group.Retire(q.link)
	alone := q.link.Only(func(s backend.Sink) bool {
		other, ok := s.(*request)
		return ok && other.c == q.c
	})
	if alone {
		return q.w.Append(build)
	}
	taken, err = q.w.OfferWithin(slowBacklog, build)
	if !taken && err == nil {
		err = wire.ErrStalled
	}
	return err
}

// flush has what was put written.
func (q *request) flush() error {
	if q.group == nil {
		return q.w.Flush()
	}
	return q.w.FlushBehind()
}
