package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"appbind/config"
	"appbind/wire"
)

// Pauses between two probes of a server that is down.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = time.Second // recovery is noticed within this
)

// health is how a server fares.
type health int

const (
	up      health = iota
	suspect        // something went wrong; a probe is on its way
	down
)

// server is one configured server.
type server struct {
	up   *Upstream
	url  config.URL
	name string        // for logs and errors
	wake chan struct{} // wakes the prober
	*counts

	health health // guarded by Upstream.healthMu, as is cause
	cause  error  // why it is not up

	idle []*Link // idle bind links, the last used one last; guarded by pool.mu

	service serviceLinks
	visible []atomic.Int64 // for each of users.bases, when it was seen last, Unix time in ns; see missing
}

func newServer(u *Upstream, url config.URL, password []byte) *server {
	s := &server{up: u, url: url, name: url.Scheme + "://" + url.Address, wake: make(chan struct{}, 1), counts: new(counts),
		visible: make([]atomic.Int64, len(u.cfg.Users.Bases))}
	s.service.init(max(u.cfg.Upstream.ServiceLinks, 1), password)
	return s
}

// choice is the order in which servers are tried: those that are up, then the suspect ones.
type choice struct {
	list []*server
	ups  int

	replaced chan struct{}   // closed when another choice has taken the place of this one
	alive    context.Context // ends when all servers are down
	die      context.CancelFunc
}

// choose makes the choice anew. The caller holds healthMu, or is alone.
func (u *Upstream) choose() {
	before := u.choice.Load()
	c := &choice{replaced: make(chan struct{})}
	for _, h := range []health{up, suspect} {
		for _, s := range u.servers {
			if s.health == h {
				c.list = append(c.list, s)
			}
		}
		if h == up {
			c.ups = len(c.list)
		}
	}
	if before != nil && before.alive.Err() == nil {
		c.alive, c.die = before.alive, before.die
	} else {
		c.alive, c.die = context.WithCancel(context.Background())
	}
	if len(c.list) == 0 {
		c.die()
	}
	u.choice.Store(c)
	if before != nil {
		close(before.replaced)
	}
}

// turn is where a request starts in the choice: 0, or in turn for balance: spread.
func (u *Upstream) turn() int {
	if u.cfg.Upstream.Balance != "spread" {
		return 0
	}
	return int(u.next.Add(1) & 0xffff)
}

// at is the i-th server to try, for a request that starts at turn.
func (c *choice) at(turn, i int) *server {
	if i < c.ups {
		return c.list[(turn+i)%c.ups]
	}
	return c.list[i]
}

// allDown is the error of a request for which there is no server.
func (u *Upstream) allDown() error {
	u.healthMu.Lock()
	defer u.healthMu.Unlock()
	for _, s := range u.servers {
		if s.cause != nil {
			return s.cause
		}
	}
	return ErrUnavailable
}

// setHealth records a change and has the prober look, unless the server is up.
func (s *server) setHealth(h health, cause error) {
	s.up.healthMu.Lock()
	before := s.health
	if h == suspect && before == down {
		h = down // no better than before
	}
	s.health, s.cause = h, cause
	if h != before {
		s.up.choose()
	}
	s.up.healthMu.Unlock()
	if h != up {
		s.examine()
	}
	if (h == down) == (before == down) {
		return
	}
	if h == down {
		s.up.log.Warn("upstream server is down", "upstream", s.name, "error", cause)
		s.up.outage.watch(s.up, s.up.clock.now())
		s.up.pool.dropIdle(s)
		s.retireServiceLinks()
		s.retireShared()
		return
	}
	s.up.log.Info("upstream server is up again", "upstream", s.name)
	s.up.outage.watch(s.up, s.up.clock.now())
	s.up.askSurvey()
}

// examine has the prober look at once.
func (s *server) examine() {
	select {
	case s.wake <- struct{}{}:
	default: // it was asked already
	}
}

// suspect notes that something went wrong that a result code does not tell.
func (s *server) suspect(cause error) {
	if !s.up.closing() {
		s.setHealth(suspect, cause)
	}
}

// connect dials and judges the server by the outcome. What is not the server's
// fault leaves its health alone: the caller has left, or has too little time,
// or this process has no descriptors left.
func (s *server) connect(ctx context.Context, pooled, strange bool) (*Link, error) {
	raw, conn, err := s.up.dialer.dial(ctx, s.url)
	if err == nil {
		if l := newLink(s, raw, conn, pooled, strange); l != nil {
			return l, nil
		}
		return nil, errClosing
	}
	err = fmt.Errorf("%w: connect to %s: %w", ErrUnavailable, s.name, err)
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), s.up.closing():
	case ctx.Err() == nil:
		s.notConnected.Add(1)
		s.setHealth(down, err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		s.notConnected.Add(1)
		s.suspect(err)
	}
	return nil, err
}

// runProber examines the server whenever it is not up, until Close.
func (s *server) runProber() {
	defer s.up.workers.Done()
	for {
		select {
		case <-s.up.stop.Done():
			return
		case <-s.wake:
		}
		for pause := firstPause; !s.probe(); pause = min(pause*3/2, maxPause) {
			c, stop := s.up.clock.timer(pause)
			select {
			case <-s.up.stop.Done():
				stop()
				return
			case <-c:
			}
		}
	}
}

// probe connects and asks for the root DSE: a server that is stopped still
// accepts connections. Any final answer will do. It reports whether the server
// is up, or nobody wants to know any more.
func (s *server) probe() bool {
	ctx, cancel := context.WithTimeout(s.up.stop, 2*s.up.dialer.timeout)
	defer cancel()
	l, err := s.connect(ctx, false, false)
	if err != nil {
		if ctx.Err() != nil {
			s.fail(err)
		}
		return s.up.closing()
	}
	defer l.Close()
	wait, cancel := context.WithTimeout(ctx, s.up.dialer.timeout)
	defer cancel()
	if _, err := l.search(wait, rootProbe(), nil, nil); err != nil {
		s.fail(err)
		return s.up.closing()
	}
	s.setHealth(up, nil)
	return true
}

// fail takes a server down that did not pass its probe.
func (s *server) fail(err error) {
	if !s.up.closing() {
		s.setHealth(down, err)
	}
}

// rootProbe is the least search that there is: does the root DSE exist?
func rootProbe() *wire.SearchRequest {
	return &wire.SearchRequest{Scope: wire.ScopeBase, Filter: presentObjectClass,
		Attributes: wire.AppendStrings(nil, "1.1"), SizeLimit: 1}
}

// rareLog lets one line through per minute.
type rareLog struct {
	mu   sync.Mutex // guards last
	last time.Time
}

// allow reports whether a line may be written now.
func (r *rareLog) allow(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() && now.Sub(r.last) < time.Minute {
		return false
	}
	r.last = now
	return true
}
