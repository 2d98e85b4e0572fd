package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"appbind/auth"
	"appbind/wire"
)

// Outage mode. While every server is down, that is, none passed its last probe,
// and the copy of lookup: replica was proven within app_passwords.max_stale, it
// decides: Find answers from it (entries are then marked Stale), Outage tells so, and
// Recall answers searches. While any server is up nothing of this is looked at. A
// server that is suspect is neither: who asks waits for what its probe says.
//
// What is known to be gone never comes back by that. The copy has every change
// that was heard, also after the last proof; while there is no session, or a new
// one has not got through its refresh, what lookups and that refresh find missing is
// taken out of it (learn, narrow), and nothing is ever put in: the age counts from
// the last proof.

// Times of the outage mode.
const (
	// examineAfter is after which silence on a live question the servers are examined.
	examineAfter = time.Second
	// outageSilence ends a client's link in an outage on which a request has heard nothing for so long:
	// the client connects again, binds, and is answered from memory.
	outageSilence = 2 * time.Second
	// outageLogPause is between two lines that tell that it goes on.
	outageLogPause = 5 * time.Minute
)

// errAllDown ends what waits for a server when the last one is down.
var errAllDown = fmt.Errorf("%w: no server answers", ErrUnavailable)

// errUnknownNow says that the copy has no answer, and nobody else can give one.
var errUnknownNow = fmt.Errorf("%w: no server answers, and the copy in memory has no such entry", ErrUnavailable)

// ageAt is the age of a proof: the larger of that by the monotonic clock, which
// stands still while the machine sleeps, and that by the wall clock, which may be set.
func ageAt(proven, now time.Time) time.Duration {
	return max(now.Sub(proven), now.Round(0).Sub(proven.Round(0)), 0)
}

// stale is the copy for an outage; nil: there is none, or it is too old.
func (u *Upstream) stale() *table {
	t := u.replica.last.Load()
	if t == nil || u.replica.maxStale <= 0 {
		return nil
	}
	if _, proven := t.size(); proven.IsZero() || ageAt(proven, u.clock.now()) >= u.replica.maxStale {
		return nil
	}
	return t
}

// Outage reports whether the outage mode decides now. While it is not known
// whether a server is up, it waits within ctx, and reports false after that.
func (u *Upstream) Outage(ctx context.Context) bool {
	for u.stale() != nil {
		c := u.choice.Load()
		switch {
		case len(c.list) == 0:
			return true
		case c.ups > 0:
			return false
		}
		select {
		case <-c.replaced:
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// Down reports whether every server is down, at this moment.
func (u *Upstream) Down() bool { return len(u.choice.Load().list) == 0 }

// UntilDown is ctx for a question that memory can answer should there be no
// server: it ends, too, when all are down, and has them examined when it takes long, so that a
// server which hangs is found out within the time of a bind.
func (u *Upstream) UntilDown(ctx context.Context) (context.Context, context.CancelFunc) {
	if u.stale() == nil {
		return ctx, func() {}
	}
	q := &untilDown{Context: ctx, up: u, alive: u.choice.Load().alive, slow: time.Now().Add(examineAfter)}
	return q, q.end
}

// untilDown is the context of UntilDown. Like within it is made when it is needed.
type untilDown struct {
	context.Context // that is given
	up              *Upstream
	alive           context.Context // ends when all servers are down
	slow            time.Time       // when they are examined

	mu     sync.Mutex      // guards the fields below
	real   context.Context // nil: nobody has needed it yet
	cancel func()
}

// Done implements context.Context.
func (q *untilDown) Done() <-chan struct{} { return q.whole().Done() }

// Err implements context.Context.
func (q *untilDown) Err() error {
	q.mu.Lock()
	idle := q.real == nil
	q.mu.Unlock()
	if idle && q.alive.Err() == nil {
		return q.Context.Err()
	}
	return q.whole().Err()
}

// Value implements context.Context.
func (q *untilDown) Value(key any) any {
	if key == (turnKey{}) {
		return q.Context.Value(key)
	}
	return q.whole().Value(key)
}

// whole makes the rest of the context.
func (q *untilDown) whole() context.Context {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.real != nil {
		return q.real
	}
	ctx, cancel := context.WithCancelCause(q.Context)
	stop := context.AfterFunc(q.alive, func() { cancel(errAllDown) })
	timer := time.AfterFunc(time.Until(q.slow), q.up.examineAll)
	if q.alive.Err() != nil {
		cancel(errAllDown) // AfterFunc takes a moment
	}
	q.real, q.cancel = ctx, func() {
		timer.Stop()
		stop()
		cancel(nil)
	}
	return ctx
}

// end frees what there is. Whoever asks later finds it ended.
func (q *untilDown) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.real == nil {
		q.real = ended
	} else if q.cancel != nil {
		q.cancel()
	}
}

// examineAll has all servers probed.
func (u *Upstream) examineAll() {
	for _, s := range u.servers {
		s.examine()
	}
}

// findOutside looks a bind name up that the current copy does not answer for:
// live, or in an outage in the last copy.
func (u *Upstream) findOutside(ctx context.Context, name string) (*auth.Entry, error) {
	live, done := u.UntilDown(ctx)
	e, err := u.findLive(live, name)
	done()
	if err == nil || errors.Is(err, auth.ErrNotFound) || errors.Is(err, auth.ErrAmbiguous) {
		u.learn(name, e)
		return e, err
	}
	if !u.Outage(ctx) {
		return nil, err
	}
	t := u.stale()
	if t == nil {
		return nil, err
	}
	found := t.findLast(name, isDN(name), u.replica.names != nil)
	if found == nil {
		return nil, errUnknownNow
	}
	old := *found
	old.Stale = true
	return &old, nil
}

// isDN tells the two sorts of bind names apart, as findCopy does.
func isDN(name string) bool {
	_, err := wire.ParseDN(name)
	return err == nil
}

// learn takes out of the last copy what a live lookup shows to be gone.
func (u *Upstream) learn(name string, e *auth.Entry) {
	if t := u.replica.last.Load(); t != nil {
		t.learn(name, isDN(name), e)
	}
}

// sessionEnded keeps what a session that never was current has learnt. loaded:
// it had told of every user.
func (u *Upstream) sessionEnded(s *session, lived, loaded bool) {
	last := u.replica.last.Load()
	if !lived && last != nil && last != s.table {
		last.narrow(s.table, loaded)
	}
}

// outageWatch tells the log of outages.
type outageWatch struct {
	mu     sync.Mutex // guards the fields below; nothing is logged under it
	on     bool
	began  time.Time
	told   time.Time
	tooOld bool // the last line told that nothing is decided any more
}

// watch looks how things stand: when a server's health changes, and each round of the caretaker.
func (w *outageWatch) watch(u *Upstream, now time.Time) {
	last := u.replica.last.Load()
	if u.replica.maxStale <= 0 || last == nil {
		return
	}
	users, proven := last.size()
	age := ageAt(proven, now)
	level, text, lasted := w.turn(u.Down(), age >= u.replica.maxStale, now)
	if text == "" {
		return
	}
	u.log.Log(context.Background(), level, text, "users", users, "age", age.Round(time.Second),
		"max_stale", u.replica.maxStale, "lasted", lasted.Round(time.Second))
}

// turn is the line that is due, "" for none.
func (w *outageWatch) turn(down, tooOld bool, now time.Time) (level slog.Level, text string, lasted time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !down {
		if w.on {
			text = "outage is over, a server answers again"
		}
		w.on = false
		return slog.LevelInfo, text, now.Sub(w.began)
	}
	switch {
	case !w.on:
		w.on, w.began, text = true, now, "no server answers"
	case tooOld != w.tooOld, now.Sub(w.told) >= outageLogPause:
		text = "still no server answers"
	default:
		return 0, "", 0
	}
	w.told, w.tooOld = now, tooOld
	if tooOld {
		return slog.LevelError, text + ", and the copy in memory is too old to decide: binds are answered 52", now.Sub(w.began)
	}
	return slog.LevelWarn, text + ", app passwords are decided from the copy in memory", now.Sub(w.began)
}

// lasting reports whether an outage was noticed and is not over.
func (w *outageWatch) lasting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.on
}

// loseSilent ends the link if a watched request has heard nothing for more than
// the given number of the caretaker's rounds.
func (l *Link) loseSilent(now, rounds int64) {
	silent := false
	l.mu.Lock()
	if !l.delivering {
		for _, r := range l.pending.byID {
			silent = silent || r.watch && now-max(r.heard, l.resumed) > rounds
		}
	}
	l.mu.Unlock()
	if silent {
		l.lose(l.wrap(errAllDown))
	}
}
