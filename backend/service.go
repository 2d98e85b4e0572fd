package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"appbind/wire"
)

// Pauses after a refused bind as bind_dn. A wrong password must not be sent
// with every lookup: the directory would lock the service account.
const (
	firstRefusal = 5 * time.Second
	maxRefusal   = time.Minute
)

// maxLookups is how many lookups are outstanding on one service link at most;
// slapd closes a session at 1,000 pending requests.
const maxLookups = 64

// errServiceBind says that the upstream refused the bind as upstream.bind_dn.
var errServiceBind = errors.New("the directory refused the bind as upstream.bind_dn")

// ErrServiceBind reports whether an error comes from a refused bind as
// upstream.bind_dn: a mistake of the configuration, not an outage.
func ErrServiceBind(err error) bool { return errors.Is(err, errServiceBind) }

// serviceLinks is the links to one server on which lookups run.
type serviceLinks struct {
	password []byte
	slots    []*serviceSlot
	turn     atomic.Uint32

	refusedLog rareLog

	mu      sync.Mutex // guards the fields below; no I/O under it
	refusal error      // the last bind as bind_dn was refused
	until   time.Time  // no further try before this
	pause   time.Duration
}

func (s *serviceLinks) init(n int, password []byte) {
	s.password = password
	for range n {
		s.slots = append(s.slots, &serviceSlot{room: make(chan struct{}, maxLookups)})
	}
}

// pick takes the slots in turn.
func (s *serviceLinks) pick() *serviceSlot {
	return s.slots[int(s.turn.Add(1)%uint32(len(s.slots)))]
}

// serviceSlot is the place of one service link.
type serviceSlot struct {
	room chan struct{} // one token per lookup under way

	mu      sync.Mutex // guards the fields below; no I/O under it
	link    *Link
	attempt *attempt // who connects now
}

// attempt is one connect and bind, shared by all who wait for it.
type attempt struct {
	done chan struct{} // closed when link or err is set
	link *Link
	err  error
}

// get returns the slot's link, connecting it where there is none. The connect
// outlives a caller who loses patience, for the sake of the next.
func (sl *serviceSlot) get(ctx context.Context, s *server) (*Link, error) {
	sl.mu.Lock()
	if sl.link != nil && sl.link.takesMore() {
		defer sl.mu.Unlock()
		return sl.link, nil
	}
	a := sl.attempt
	if a == nil {
		if err := s.mayConnect(); err != nil {
			sl.mu.Unlock()
			return nil, err
		}
		if !s.up.own(&s.up.workers) {
			sl.mu.Unlock()
			return nil, errClosing
		}
		a = &attempt{done: make(chan struct{})}
		sl.attempt = a
		go sl.runAttempt(s, a)
	}
	sl.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: connect to %s: %w", ErrUnavailable, s.name, ctx.Err())
	}
}

// mayConnect refuses while a refused bind is fresh.
func (s *server) mayConnect() error {
	s.service.mu.Lock()
	defer s.service.mu.Unlock()
	if s.service.refusal != nil && s.up.clock.now().Before(s.service.until) {
		return s.service.refusal
	}
	return nil
}

// runAttempt connects and binds one service link, within half of bind_timeout:
// hashing a password can take a busy server a second, and a second server must fit in.
func (sl *serviceSlot) runAttempt(s *server, a *attempt) {
	defer s.up.workers.Done()
	limit := max(time.Duration(s.up.cfg.Upstream.BindTimeout)/2, s.up.dialer.timeout)
	ctx, cancel := context.WithTimeout(s.up.stop, limit)
	defer cancel()
	a.link, a.err = s.connectService(ctx)
	sl.mu.Lock()
	again := sl.link != nil
	sl.link, sl.attempt = a.link, nil
	sl.mu.Unlock()
	close(a.done)
	switch {
	case a.link == nil:
	case s.up.closing():
		a.link.retire()
	case again, !s.up.survey.Load().read:
		s.up.askSurvey()
	}
}

// connectService connects a link and binds it as bind_dn; without one it stays anonymous.
func (s *server) connectService(ctx context.Context) (*Link, error) {
	l, err := s.connect(ctx, false, false)
	if err != nil {
		if ctx.Err() != nil {
			s.suspect(err)
		}
		return nil, err
	}
	dn := s.up.cfg.Upstream.BindDN
	if dn == "" {
		return l, nil
	}
	answer, err := l.Bind(ctx, dn, s.service.password, nil)
	switch {
	case err != nil:
	case answer.Code == wire.ResultSuccess:
		s.accepted()
		return l, nil
	case answer.Code == wire.ResultBusy || answer.Code == wire.ResultUnavailable:
		err = fmt.Errorf("%w: %s answered the bind as upstream.bind_dn with %d", ErrUnavailable, s.name, answer.Code)
	default:
		err = s.refused(answer.Code)
	}
	l.Close()
	return nil, err
}

// accepted forgets a refusal.
func (s *server) accepted() {
	s.service.mu.Lock()
	defer s.service.mu.Unlock()
	s.service.refusal, s.service.pause = nil, 0
}

// refused remembers a refusal, logs it once a minute, and makes it an error.
func (s *server) refused(code int32) error {
	err := fmt.Errorf("%w: %w: %s as %q: result %d; check upstream.bind_dn and its password",
		ErrUnavailable, errServiceBind, s.name, s.up.cfg.Upstream.BindDN, code)
	now := s.up.clock.now()
	s.service.mu.Lock()
	s.service.refusal = err
	s.service.pause = min(max(2*s.service.pause, firstRefusal), maxRefusal)
	s.service.until = now.Add(s.service.pause)
	s.service.mu.Unlock()
	if s.service.refusedLog.allow(now) {
		s.up.log.Error("lookups fail", "upstream", s.name, "error", err)
	}
	return err
}

// takesMore reports whether a service link is alive, not retired, and has answered everything.
func (l *Link) takesMore() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && !l.retired && !l.spoiled
}

// retire lets a service link take no more lookups. It is closed when those under way have ended.
func (l *Link) retire() {
	l.mu.Lock()
	l.retired = true
	l.mu.Unlock()
	l.endIfRetired()
}

// endIfRetired closes a retired link that is idle.
func (l *Link) endIfRetired() {
	l.mu.Lock()
	end := (l.retired || l.spoiled) && l.err == nil && len(l.pending.byID) == 0
	l.mu.Unlock()
	if end {
		l.Close()
	}
}

// retireServiceLinks retires all service links to a server.
func (s *server) retireServiceLinks() {
	for _, sl := range s.service.slots {
		sl.mu.Lock()
		l := sl.link
		sl.mu.Unlock()
		if l != nil {
			l.retire()
		}
	}
}
