package backend

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"

	"appbind/auth"
	"appbind/wire"
)

// maxShared is how many requests are outstanding on one shared link at most;
// slapd closes a session at 1,000 pending requests.
const maxShared = 64

// sharedLife is how long a shared link serves after its bind. Then another one
// is bound, so that a password that was changed or withdrawn counts.
const sharedLife = 10 * time.Minute

// Errors of a Group, besides ErrUnavailable.
var (
	// ErrRefused says that the directory no longer takes the password of the group.
	ErrRefused = errors.New("the directory no longer accepts this login")
	// ErrNoRoom says that all shared links were busy for as long as the caller waited.
	ErrNoRoom = errors.New("all shared links are busy")
)

// Group is the clients that are logged in as one account with one password,
// and the links that they share, all bound as that account with that password.
// It holds the password, which new links must be bound with, until its last
// client has left. Safe for concurrent use; each client holds it once, from
// Share or Follow until Leave.
type Group struct {
	up    *Upstream
	key   [sha256.Size]byte
	dn    string
	dnKey string // comparable form; matches more than dn, which is right for distrust

	mu         sync.Mutex // guards the fields below; no I/O under it; taken before a Link's mu
	password   auth.Password
	clients    int
	links      []*Link   // those that take requests; each counts in Upstream.shares.links
	expires    time.Time // when the first of links has served for sharedLife, or before
	connecting bool
	refused    bool            // the directory has refused the password: no further bind is tried
	waiting    []chan struct{} // who waits for room, first come first
	failure    error           // of the last attempt; for those who waited for it
	failures   int             // counts failed attempts
	notBefore  time.Time       // no further attempt while there is a link, after one that failed
}

// shares is the groups of an Upstream.
type shares struct {
	secret  []byte    // of the key of a group; random
	hashers sync.Pool // of *groupHasher

	mu     sync.Mutex // guards the fields below; taken before a Group's mu; no I/O under it
	groups map[[sha256.Size]byte]*Group
	links  int // in the groups, connecting ones included
	room   int // for them: the rest of the places is for binds and for links of one client
}

// groupHasher makes keys of groups.
type groupHasher struct {
	mac  hash.Hash // HMAC with the secret
	text [256]byte // of a DN and a password of ordinary length; clear when it is not in use
	sum  [sha256.Size]byte
}

// groupKey tells groups apart without holding a password.
func (s *shares) groupKey(dn string, password auth.Password) [sha256.Size]byte {
	h, _ := s.hashers.Get().(*groupHasher)
	if h == nil {
		h = &groupHasher{mac: hmac.New(sha256.New, s.secret)}
	}
	text := binary.BigEndian.AppendUint64(h.text[:0], uint64(len(dn)))
	text = append(append(text, dn...), password...)
	h.mac.Write(text)
	clear(text)
	key := [sha256.Size]byte(h.mac.Sum(h.sum[:0]))
	h.mac.Reset()
	s.hashers.Put(h)
	return key
}

// reserve takes room for a shared link. first: the group has none.
func (s *shares) reserve(first bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links >= s.room || !first && s.links >= (s.room+1)/2 {
		return false
	}
	s.links++
	return true
}

// unreserve gives n rooms back.
func (s *shares) unreserve(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links -= n
}

// Share takes a client in that has bound as dn with password, on link, just
// now. The link goes with it: the group keeps it, or it goes to the pool. nil:
// there is no room for a shared link, and link stays the caller's.
func (u *Upstream) Share(dn string, password auth.Password, link *Link) *Group {
	g := u.join(dn, password)
	if g == nil {
		return nil
	}
	if !g.adopt(link, true) {
		if !g.hasLinks() {
			g.Leave()
			return nil
		}
		u.Release(link)
	}
	return g
}

// Follow takes a client of another Upstream's group into the group of this one
// with the same account and password, whose links prove it anew to the present servers; nil
// when the directory has refused it already.
func (u *Upstream) Follow(old *Group) *Group {
	old.mu.Lock()
	password, refused := auth.Password(clone(old.password)), old.refused
	old.mu.Unlock()
	defer clear(password)
	if refused {
		return nil
	}
	return u.join(old.dn, password)
}

// join finds or makes a group and counts a client in.
func (u *Upstream) join(dn string, password auth.Password) *Group {
	key := u.shares.groupKey(dn, password)
	u.shares.mu.Lock()
	g := u.shares.groups[key]
	created := g == nil || g.Refused() // refused before, accepted now
	if created {
		parsed, err := wire.ParseDN(dn)
		if err != nil {
			u.shares.mu.Unlock()
			return nil
		}
		g = &Group{up: u, key: key, dn: dn, dnKey: parsed.Key(), password: auth.Password(clone(password))}
		u.shares.groups[key] = g
	}
	g.mu.Lock()
	g.clients++
	g.mu.Unlock()
	u.shares.mu.Unlock()
	if created { // another password of the account holds: those that held before may not
		u.distrust(g.dnKey, g)
	}
	return g
}

// Leave takes a client out. With the last one the password and the links go.
func (g *Group) Leave() {
	g.up.shares.mu.Lock()
	g.mu.Lock()
	g.clients--
	last := g.clients == 0
	if last {
		clear(g.password)
		g.password = nil
		if g.up.shares.groups[g.key] == g {
			delete(g.up.shares.groups, g.key)
		}
	}
	g.mu.Unlock()
	g.up.shares.mu.Unlock()
	if last {
		g.dismiss()
	}
}

// Refused reports whether the directory has refused the group's password since.
func (g *Group) Refused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

func (g *Group) hasLinks() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.links) > 0 || g.connecting
}

// adopt makes a link that was just bound one of the group's; false: the server
// has as many as it may, or there is no room. reserve: room is not taken yet.
func (g *Group) adopt(l *Link, reserve bool) bool {
	g.mu.Lock()
	first, full := len(g.links) == 0, g.count(l.server) >= g.most()
	if reserve && g.connecting { // an attempt under way brings one, too
		full = full || len(g.links)+1 >= g.most()
	}
	g.mu.Unlock()
	if full {
		return false
	}
	if reserve && !g.up.shares.reserve(first) {
		return false
	}
	g.mu.Lock()
	ok := g.clients > 0 && !g.refused && !g.up.closing() && g.count(l.server) < g.most() && l.share(g, g.up.clock.now())
	if ok {
		if g.links = append(g.links, l); len(g.links) == 1 {
			g.expires = l.boundAt().Add(sharedLife)
		}
	}
	g.mu.Unlock()
	if !ok && reserve {
		g.up.shares.unreserve(1)
	}
	if ok {
		g.wake(maxShared)
	}
	return ok
}

// most is how many links a group has to one server.
func (g *Group) most() int { return max(g.up.cfg.Upstream.ServiceLinks, 1) }

// count counts the links to a server. The caller holds g.mu.
func (g *Group) count(s *server) int {
	n := 0
	for _, l := range g.links {
		if l.server == s {
			n++
		}
	}
	return n
}

// Pick returns the shared link with the fewest requests outstanding, connecting
// one where that is needed, and waits for room for as long as patience lasts. Forward and Send can
// still find it taken or gone (ErrNotSent): pick again then. Errors: ErrRefused,
// ErrNoRoom, ErrUnavailable.
func (g *Group) Pick(ctx context.Context, patience time.Duration) (*Link, error) {
	l, wait, failures, err := g.try(true)
	if l != nil || err != nil {
		return l, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		select {
		case <-wait:
		case <-ctx.Done():
			g.giveUp(wait)
			return nil, fmt.Errorf("%w: %w", ErrNoRoom, ctx.Err())
		}
		if err := g.failedSince(failures); err != nil {
			return nil, err
		}
		l, wait, failures, err = g.try(false)
		if l != nil || err != nil {
			return l, err
		}
	}
}

// try is one look for a link with room; a newcomer goes behind those who wait.
func (g *Group) try(newcomer bool) (l *Link, wait chan struct{}, failures int, err error) {
	g.expire()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused {
		return nil, nil, 0, ErrRefused
	}
	if !newcomer || len(g.waiting) == 0 {
		if l := g.least(); l != nil {
			return l, nil, 0, nil
		}
	}
	g.connectMore()
	if len(g.links) == 0 && !g.connecting {
		return nil, nil, 0, g.noLink()
	}
	wait = make(chan struct{})
	if newcomer {
		g.waiting = append(g.waiting, wait)
	} else {
		g.waiting = slices.Insert(g.waiting, 0, wait)
	}
	return nil, wait, g.failures, nil
}

// noLink is the error of a request for which no link can be had. The caller holds g.mu.
func (g *Group) noLink() error {
	if g.up.closing() {
		return errClosing
	}
	return fmt.Errorf("%w: no room for a shared link (upstream.max_links)", ErrUnavailable)
}

// failedSince is the error of an attempt that failed since a try.
func (g *Group) failedSince(failures int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.refused:
		return ErrRefused
	case g.failures != failures && len(g.links) == 0:
		return g.failure
	}
	return nil
}

// least is the link with the fewest requests; nil: all are full. The caller holds g.mu.
func (g *Group) least() (best *Link) {
	fewest := maxShared
	for _, l := range g.links {
		if n, ok := l.load(); ok && n < fewest {
			best, fewest = l, n
		}
	}
	return best
}

// giveUp takes a waiter out. If it was woken in the same moment the next one is.
func (g *Group) giveUp(wait chan struct{}) {
	g.mu.Lock()
	i := slices.Index(g.waiting, wait)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 {
		g.wake(1)
	}
}

// wake has up to n of those who wait try again.
func (g *Group) wake(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n = min(n, len(g.waiting))
	for _, w := range g.waiting[:n] {
		close(w)
	}
	g.waiting = slices.Delete(g.waiting, 0, n)
}

// freed is told by a link of the group that a request on it has ended, or the link itself.
func (g *Group) freed(l *Link) {
	if l.takesMore() {
		g.wake(1)
		return
	}
	g.remove(l)
	l.endIfRetired()
	g.wake(maxShared) // a link in its place may be connected
}

// remove takes a link off the list.
func (g *Group) remove(l *Link) bool {
	g.mu.Lock()
	i := slices.Index(g.links, l)
	if i >= 0 {
		g.links = slices.Delete(g.links, i, i+1)
	}
	g.mu.Unlock()
	if i >= 0 {
		g.up.shares.unreserve(1)
	}
	return i >= 0
}

// drop ends the sharing of a link: idle, it goes back to the pool, else it ends
// when its requests have.
func (g *Group) drop(l *Link) {
	if !g.remove(l) {
		return
	}
	if l.unshare() {
		g.up.Release(l)
		return
	}
	l.retire()
}

// Retire ends the sharing of a link on which a client is slow: it takes no new requests.
func (g *Group) Retire(l *Link) {
	if g.remove(l) {
		l.retire()
		g.wake(maxShared)
	}
}

// dismiss drops all links.
func (g *Group) dismiss() {
	g.mu.Lock()
	links := slices.Clone(g.links)
	g.mu.Unlock()
	for _, l := range links {
		g.drop(l)
	}
}

// expire drops the links whose bind is too long ago.
func (g *Group) expire() {
	now := g.up.clock.now()
	g.mu.Lock()
	var old []*Link
	if !now.Before(g.expires) {
		g.expires = now.Add(sharedLife)
		for _, l := range g.links {
			end := l.boundAt().Add(sharedLife)
			if !now.Before(end) {
				old = append(old, l)
			} else if end.Before(g.expires) {
				g.expires = end
			}
		}
	}
	g.mu.Unlock()
	for _, l := range old {
		g.drop(l)
	}
}

// retireShared retires the shared links to a server that is down.
func (s *server) retireShared() {
	for _, g := range s.up.groups() {
		g.retireTo(s)
	}
}

// retireTo retires the group's links to a server.
func (g *Group) retireTo(s *server) {
	g.mu.Lock()
	var gone []*Link
	for _, l := range g.links {
		if l.server == s {
			gone = append(gone, l)
		}
	}
	g.mu.Unlock()
	for _, l := range gone {
		g.Retire(l)
	}
}

// forsake ends the sharing of a link that was lost, and of the group's others to its
// server, before the requests on it hear of the loss: what ended it may end those a
// moment later, as when the server restarts, and a request is sent once more only.
func (l *Link) forsake() {
	l.mu.Lock()
	g, ours := l.group, l.ending || errors.Is(l.err, errClosed)
	l.mu.Unlock()
	if g != nil && !ours {
		g.retireTo(l.server)
	}
}

// Distrust drops the shared links of an account of which a bind has just been
// answered with code, where that is a refusal: its password may have changed, so
// each group proves its own anew with its next request.
func (u *Upstream) Distrust(dn string, code int32) {
	if parsed, err := wire.ParseDN(dn); err == nil && refusals[code] {
		u.distrust(parsed.Key(), nil)
	}
}

// distrust has the groups of an account, but one, prove their passwords anew.
func (u *Upstream) distrust(dnKey string, but *Group) {
	for _, g := range u.groups() {
		if g.dnKey == dnKey && g != but {
			g.dismiss()
		}
	}
}

// groups lists the groups.
func (u *Upstream) groups() []*Group {
	u.shares.mu.Lock()
	defer u.shares.mu.Unlock()
	list := make([]*Group, 0, len(u.shares.groups))
	for _, g := range u.shares.groups {
		list = append(list, g)
	}
	return list
}

// careForShares retires shared links that are old, or idle for so long that the
// network in between may have dropped them.
func (u *Upstream) careForShares(now time.Time) {
	idle := time.Duration(u.cfg.Upstream.IdleTimeout)
	for _, g := range u.groups() {
		g.expire()
		g.mu.Lock()
		var quiet []*Link
		for _, l := range g.links {
			if l.Outstanding() == 0 && now.Sub(l.since()) >= idle {
				quiet = append(quiet, l)
			}
		}
		g.mu.Unlock()
		for _, l := range quiet {
			if g.remove(l) {
				l.retire()
			}
		}
	}
}
