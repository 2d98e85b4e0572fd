package backend

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// pool is the places for bind links and anonymous links, and who waits for
// one. Idle bind links are kept per server (server.idle) and taken last in,
// first out, so that those which are not needed grow old and are retired.
type pool struct {
	mu      sync.Mutex     // guards the fields below and every server's idle; no I/O under it
	places  int            // free places; a link holds one from before its dial until its end
	strange int            // places that anonymous links may still take, of those
	share   int            // links that one account may keep
	kept    map[string]int // links that an account keeps, by its DN
	links   map[*Link]bool
	waiting []chan struct{} // who waits for a place or an idle link, first come first
	closed  bool
}

func (p *pool) init(places int) {
	p.places, p.links = max(places, 1), map[*Link]bool{}
	// Anybody can have an anonymous link; whoever has a password must still find a place.
	p.strange = max(p.places/4, 1)
	// And anybody whose password is known to a thief.
	p.share, p.kept = max(p.places/4, 1), map[string]int{}
}

// errClosing is the answer to everything that comes after Close.
var errClosing = fmt.Errorf("%w: this configuration is no longer in use", ErrUnavailable)

// errStrangers is the answer to an anonymous client when others like it have all the links that they may have.
var errStrangers = fmt.Errorf("%w: anonymous clients have a quarter of upstream.max_links already", ErrUnavailable)

// errShare is the answer to a client when others with the same login have all the links that one account may have.
var errShare = fmt.Errorf("%w: this account has a quarter of upstream.max_links already; list mail servers and other services in service_accounts", ErrUnavailable)

// Keep counts a bind link for the account as which it is bound, until it is released or ends: its owner is about to keep
// it as a client's own. An error says that the account has its share; the owner then gives the link back.
func (u *Upstream) Keep(l *Link, account string) error {
	p := &u.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept[account] >= p.share {
		return errShare
	}
	if p.links[l] && l.account == "" { // else it has ended meanwhile
		p.kept[account]++
		l.account = account
	}
	return nil
}

// unkeep counts a link no more. The caller holds p.mu.
func (p *pool) unkeep(l *Link) {
	if l.account == "" {
		return
	}
	if p.kept[l.account]--; p.kept[l.account] == 0 {
		delete(p.kept, l.account)
	}
	l.account = ""
}

// own counts a goroutine that is about to start; false: Close has begun, and waits already.
func (u *Upstream) own(wg *sync.WaitGroup) bool {
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	if u.pool.closed {
		return false
	}
	wg.Add(1)
	return true
}

// register enters a link for the caretaker.
func (p *pool) register(l *Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = true
	l.server.open[kindOf(l)].Add(1)
}

// ended takes a link out that is lost or closed, and gives its place to who waits.
func (p *pool) ended(l *Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	p.unkeep(l)
	l.server.open[kindOf(l)].Add(-1)
	if i := slices.Index(l.server.idle, l); i >= 0 {
		l.server.idle = slices.Delete(l.server.idle, i, i+1)
	}
	if l.pooled {
		p.places++
		if l.strange {
			p.strange++
		}
		p.wakeOne()
	}
}

// release puts a link back; false: it must be closed.
func (p *pool) release(l *Link, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unkeep(l)
	if p.closed || !l.rest(now) {
		return false
	}
	l.server.idle = append(l.server.idle, l)
	p.wakeOne()
	return true
}

// rest reports whether a link may wait for its next use, and notes since when.
func (l *Link) rest(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idleSince = now
	return l.err == nil && !l.spoiled && len(l.pending.byID) == 0
}

// alive reports whether a link is neither lost nor closed.
func (l *Link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil
}

// wakeOne has the first of those who wait try again. The caller holds p.mu.
func (p *pool) wakeOne() {
	if len(p.waiting) > 0 {
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
	}
}

// freePlace gives back a place whose dial failed.
func (p *pool) freePlace(strange bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places++
	if strange {
		p.strange++
	}
	p.wakeOne()
}

// take gives an idle link to s (reuse), or nil and a place to dial one with.
// When all places are taken the oldest idle link of any server makes room, and
// when there is none it waits, within ctx.
func (p *pool) take(ctx context.Context, u *Upstream, s *server, reuse bool) (*Link, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errClosing
		}
		if l := s.popIdle(); reuse && l != nil {
			p.mu.Unlock()
			return l, nil
		} else if l != nil {
			s.idle = append(s.idle, l)
		}
		if !reuse && p.strange == 0 {
			p.mu.Unlock()
			return nil, errStrangers
		}
		if p.places > 0 {
			p.places--
			if !reuse {
				p.strange--
			}
			p.mu.Unlock()
			return nil, nil
		}
		evicted := u.oldestIdle()
		wait := make(chan struct{})
		p.waiting = append(p.waiting, wait)
		p.mu.Unlock()
		if evicted != nil {
			evicted.Close() // its reader then frees the place
		}
		select {
		case <-wait:
		case <-ctx.Done():
			p.leave(wait)
			return nil, fmt.Errorf("%w: all %d links are in use (upstream.max_links): %w",
				ErrUnavailable, u.cfg.Upstream.MaxLinks, ctx.Err())
		}
	}
}

// leave takes a waiter out. If it was woken in the same moment the next one is.
func (p *pool) leave(wait chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, wait); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return
	}
	p.wakeOne()
}

// popIdle takes the idle link that was used last and is alive. The caller holds pool.mu.
func (s *server) popIdle() *Link {
	for n := len(s.idle); n > 0; n = len(s.idle) {
		l := s.idle[n-1]
		s.idle = s.idle[:n-1]
		if l.alive() {
			return l
		}
	}
	return nil
}

// oldestIdle takes the idle link that waits longest. The caller holds pool.mu.
func (u *Upstream) oldestIdle() *Link {
	var from *server
	for _, s := range u.servers {
		if len(s.idle) > 0 && (from == nil || s.idle[0].since().Before(from.idle[0].since())) {
			from = s
		}
	}
	if from == nil {
		return nil
	}
	l := from.idle[0]
	from.idle = slices.Delete(from.idle, 0, 1)
	return l
}

// since is when a link became idle.
func (l *Link) since() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idleSince
}

// dropIdle closes the idle links to a server.
func (p *pool) dropIdle(s *server) {
	p.mu.Lock()
	idle := s.idle
	s.idle = nil
	p.mu.Unlock()
	for _, l := range idle {
		l.Close()
	}
}

// close ends the pool: idle links are closed, who waits is sent away.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var idle []*Link
	for l := range p.links {
		idle = append(idle, l.server.idle...)
		l.server.idle = nil
	}
	for len(p.waiting) > 0 {
		p.wakeOne()
	}
	p.mu.Unlock()
	for _, l := range idle {
		l.Close()
	}
}

// BindLink takes an idle link from the pool of bind links, or connects one. It
// belongs to the caller, who must Release or Close it. Its first use is a bind:
// a pooled one is still bound as whoever used it last. Errors: ErrUnavailable.
func (u *Upstream) BindLink(ctx context.Context) (*Link, error) { return u.link(ctx, true) }

// AnonymousLink connects a link that was never bound; the caller must Close it. Errors: ErrUnavailable.
func (u *Upstream) AnonymousLink(ctx context.Context) (*Link, error) { return u.link(ctx, false) }

// link tries the servers one after the other.
func (u *Upstream) link(ctx context.Context, reuse bool) (*Link, error) {
	c, turn := u.choice.Load(), u.turnOf(ctx)
	var last error
	for i := range c.list {
		s := c.at(turn, i)
		l, err := u.pool.take(ctx, u, s, reuse)
		if l != nil || err != nil {
			return l, err
		}
		if l, err = s.connect(ctx, true, !reuse); err == nil {
			return l, nil
		}
		u.pool.freePlace(!reuse)
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	if last == nil {
		last = u.allDown()
	}
	return nil, last
}

// Release gives a link back to the pool of bind links: it has nothing
// outstanding and its next use is a bind. A link that is lost, has something
// outstanding, or did not answer some request, is closed, as is every link
// after Close has begun.
func (u *Upstream) Release(l *Link) {
	if !u.pool.release(l, u.clock.now()) {
		l.Close()
	}
}

// runCaretaker retires idle links and gives up requests that hear nothing. It
// lives until the last link has ended.
func (u *Upstream) runCaretaker() {
	defer u.care.Done()
	round := u.round()
	for {
		c, stop := u.clock.timer(round)
		select {
		case <-u.linksEnd:
			stop()
			return
		case <-c:
			u.takeCare(u.clock.now())
		}
	}
}

// round is the caretaker's period: fine enough for both timeouts, a second at most.
func (u *Upstream) round() time.Duration {
	shortest := min(time.Duration(u.cfg.Upstream.IdleTimeout), time.Duration(u.cfg.Upstream.OperationTimeout))
	return max(min(shortest/4, time.Second), time.Millisecond)
}

// takeCare is one round of the caretaker.
func (u *Upstream) takeCare(now time.Time) {
	u.outage.watch(u, now)
	tick := u.tick.Add(1)
	idleTimeout := time.Duration(u.cfg.Upstream.IdleTimeout)
	var retire, all []*Link
	u.pool.mu.Lock()
	for _, s := range u.servers {
		for len(s.idle) > 0 && now.Sub(s.idle[0].since()) >= idleTimeout {
			retire = append(retire, s.idle[0])
			s.idle = slices.Delete(s.idle, 0, 1)
		}
	}
	for l := range u.pool.links {
		all = append(all, l)
	}
	u.pool.mu.Unlock()
	for _, l := range retire {
		l.Close()
	}
	u.careForShares(now)
	rounds := int64(time.Duration(u.cfg.Upstream.OperationTimeout) / u.round())
	for _, l := range all {
		l.expire(tick, rounds)
		if u.outage.lasting() {
			l.loseSilent(tick, int64(outageSilence/u.round()))
		}
	}
}
