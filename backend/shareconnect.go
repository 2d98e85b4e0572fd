package backend

import (
	"context"
	"fmt"
	"math"
	"time"

	"appbind/auth"
	"appbind/wire"
)

// retryShared is the pause after a further link could not be had.
const retryShared = time.Second

// refusals are the result codes of a bind that say that this login does not hold
// any more. Others are trouble, and the next request tries again.
var refusals = map[int32]bool{
	wire.ResultConstraintViolation:         true,
	wire.ResultNoSuchObject:                true,
	wire.ResultInappropriateAuthentication: true,
	wire.ResultInvalidCredentials:          true,
	wire.ResultInsufficientAccessRights:    true,
	wire.ResultUnwillingToPerform:          true,
}

// OnShared has f told how each bind of a shared link was answered, since the
// directory proves a service account's password by it as it does by a client's
// bind. f must not block. Call it before Start.
func (u *Upstream) OnShared(f func(dn string, password auth.Password, code int32)) { u.bound = f }

// connectMore starts to connect a link where the group may have one more. One
// at a time: a password that was changed must cost one failed bind, no more. The
// caller holds g.mu.
func (g *Group) connectMore() {
	if g.connecting || g.clients == 0 || len(g.links) >= g.most() ||
		len(g.links) > 0 && g.up.clock.now().Before(g.notBefore) || !g.up.own(&g.up.workers) {
		return
	}
	g.connecting = true
	go g.connect(len(g.links) == 0, auth.Password(clone(g.password)))
}

// connect binds a further link. It outlives a caller who loses patience, for the sake of the next.
func (g *Group) connect(first bool, password auth.Password) {
	defer g.up.workers.Done()
	defer clear(password)
	err := fmt.Errorf("%w: no room for a shared link (upstream.max_links)", ErrUnavailable)
	if g.up.shares.reserve(first) {
		if err = g.connectOne(password); err != nil {
			g.up.shares.unreserve(1)
		}
	}
	g.mu.Lock()
	g.connecting = false
	if err != nil {
		g.failure, g.notBefore = err, g.up.clock.now().Add(retryShared)
		g.failures++
	}
	refused, waiting := g.refused, len(g.waiting)
	g.mu.Unlock()
	if refused {
		g.dismiss() // they were bound with the password that holds no more
	}
	g.wake(waiting)
}

// connectOne connects, binds and adopts one link.
func (g *Group) connectOne(password auth.Password) error {
	ctx, cancel := context.WithTimeout(g.up.stop, time.Duration(g.up.cfg.Upstream.BindTimeout))
	defer cancel()
	l, err := g.bind(ctx, password)
	if err != nil {
		return err
	}
	if !g.adopt(l, false) {
		g.up.Release(l)
		return fmt.Errorf("%w: the shared link came too late", ErrUnavailable)
	}
	return nil
}

// bind binds a link with the group's password. A refusal is the end of the group.
func (g *Group) bind(ctx context.Context, password auth.Password) (*Link, error) {
	answer, l, err := g.up.Bind(ctx, g.dn, password, nil)
	if err == nil && g.up.bound != nil {
		g.up.bound(g.dn, password, answer.Code)
	}
	switch {
	case err != nil:
		return nil, err
	case answer.Code == wire.ResultSuccess:
		return l, nil
	}
	g.up.Release(l)
	if refusals[answer.Code] {
		g.mu.Lock()
		g.refused = true
		g.mu.Unlock()
		g.up.log.Warn("a service account's login no longer holds; its clients are disconnected",
			"account", g.dn, "upstream", l.server.name, "result", answer.Code)
		return nil, ErrRefused
	}
	return nil, fmt.Errorf("%w: %s answered a bind with %d", ErrUnavailable, l.server.name, answer.Code)
}

// Private binds a link for one client alone, which it belongs to as one from
// BindLink does. Errors: ErrRefused, ErrUnavailable.
func (g *Group) Private(ctx context.Context) (*Link, error) {
	g.mu.Lock()
	password, refused := auth.Password(clone(g.password)), g.refused
	g.mu.Unlock()
	defer clear(password)
	if refused {
		return nil, ErrRefused
	}
	l, err := g.bind(ctx, password)
	if err != nil && g.Refused() {
		g.dismiss()
		g.wake(math.MaxInt)
	}
	return l, err
}

// Forward is Link.Forward on a link that Pick returned.
func (g *Group) Forward(l *Link, m wire.Message, sink Sink, watch bool) (int32, error) {
	id, err := l.enter(g, m.Op, sink, watch)
	if err != nil {
		return 0, err
	}
	err = l.writer.Append(func(dst []byte) []byte { return m.AppendTo(dst, id) })
	return l.flush(id, err)
}

// Send is Link.Send on a link that Pick returned.
func (g *Group) Send(l *Link, op wire.Op, body, controls []byte, sink Sink, watch bool) (int32, error) {
	id, err := l.enter(g, op, sink, watch)
	if err != nil {
		return 0, err
	}
	err = l.writer.Append(func(dst []byte) []byte { return wire.AppendMessage(dst, id, op, body, controls) })
	return l.flush(id, err)
}

// share makes l a link of g; false: it is lost or in use.
func (l *Link) share(g *Group, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.spoiled || l.retired || len(l.pending.byID) > 0 {
		return false
	}
	l.group, l.bound, l.idleSince = g, now, now
	l.server.countShared(1)
	return true
}

// unshare ends the sharing of l; false: something is outstanding. Whoever has
// picked it before finds it gone.
func (l *Link) unshare() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.spoiled || l.retired || len(l.pending.byID) > 0 {
		return false
	}
	l.group = nil
	l.server.countShared(-1)
	return true
}

// load is how many requests are outstanding; false: it takes no further one.
func (l *Link) load() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending.byID), l.err == nil && !l.retired && !l.spoiled
}

// boundAt is when the link was bound for its group.
func (l *Link) boundAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bound
}

// settled tells the group of a shared link that a request on it has ended, or the link.
func (l *Link) settled() {
	l.mu.Lock()
	g := l.group
	if g != nil && len(l.pending.byID) == 0 {
		l.idleSince = l.up.clock.now()
	}
	l.mu.Unlock()
	if g != nil {
		g.freed(l)
	}
}

// Only reports whether all that is outstanding on the link satisfies ok, which must not call the link.
func (l *Link) Only(ok func(Sink) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.pending.byID {
		if !ok(r.sink) {
			return false
		}
	}
	return true
}
