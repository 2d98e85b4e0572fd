package auth

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	// freshFor is how long an accepted password may be forwarded many times at once. An older one is tried once first:
	// a phone with five connections and a password changed meanwhile would otherwise be five failures.
	freshFor = 10 * time.Second
	// maxBad bounds the known bad passwords of an entry where the budget does not.
	maxBad = 64
	// idleFor is how long an account without failures is kept.
	idleFor = 24 * time.Hour
)

// failures is row 14: what is known of the main passwords that failed.
//
// # Known bad
//
// A password that failed is answered here as long as the fingerprint of the entry's
// password is what it was after the failure: the same question would get the same answer. A new
// fingerprint forgets all of the entry's failures, so that a reset takes effect at once. A lock
// or an unlock does not: a password that was wrong before is wrong after it, and a stale phone that
// were forwarded again when a lock is over would lock the account anew. What is refused while
// the account is locked says nothing of the password and is not remembered. Where no state is
// readable, a failure holds for a window.
//
// # Budget
//
// limit counts failures that the upstream counted since its last success. It is
// below the upstream's own limit, so that whatever is asked here, the account is not
// locked. It recovers as the upstream's counter does: by a success, by a new fingerprint,
// by a change of the lock, and, where the upstream forgets failures (interval), after that time without a forwarded failure
// (Active Directory restarts its window with every failure; OpenLDAP forgets each on its own, which is sooner).
// Where the upstream never forgets (interval 0) nothing trickles through: each password
// let through would be one failure more until the account is locked, which is what
// the budget is there to prevent. The price: who knows a name can use up the budget, and then a
// right password that this process has not seen accepted waits for one of the
// three. The password accepted last never waits, so it is nobody who logs in regularly.
//
// The last unit of the budget is only for passwords that did not fail before. Without
// readable state known bad passwords go out again after each window; they would
// otherwise spend what a new main password needs.
//
// One source (the user's address) may spend all but one unit of a budget of more than three: two
// stale phones and a new password behind one router still fit into the smallest.
//
// # One at a time
//
// The same password is forwarded once at a time until it is accepted, and no more passwords are
// under way than the budget could bear if all failed. The others wait for the outcome.
//
// # The state of a copy
//
// The state that comes with a copied entry may be older than the directory's, and in a row of old and new ones each would seem
// to be a change. Where the state can decide something it is therefore read (unread): where there is a budget, where a
// failure of the entry is remembered, and where the same password is under way. Else every state
// leads to the same verdict, and that of the copy is only what a failure is held against afterwards: a
// password is known bad for good if nothing changed since, as one server showed it before and after. What the copy
// has missed looks like a change then, and the mark holds for the window; after it the password is judged by a state that was read.
type failures struct {
	seed   maphash.Seed
	max    int // accounts per shard
	shards [16]failureShard
}

type failureShard struct {
	mu       sync.Mutex          // guards accounts and what they hold
	accounts map[string]*account // by canonical entry
}

// account is what is known of one entry.
type account struct {
	fingerprint string // the password that bad and failed belong to
	lock        string // the lock state that failed belongs to
	bad         map[digest]badMark
	failed      int  // failures since the last success
	shows       bool // the upstream's own count has shown a failure of ours
	lastFailure time.Time
	sources     map[netip.Addr]int // failed, by the user's address
	accepted    digest             // the password that the upstream accepted last; zero: none
	acceptedAt  time.Time
	flying      map[digest]int // passwords forwarded, the answer outstanding
	reserved    int            // those of them that could fail and so cost budget
	landed      chan struct{}  // closed when one of them is answered; nil: nobody waits
	touched     time.Time
}

type badMark struct {
	at    time.Time
	until time.Time // zero: as long as the fingerprint stands
}

// budget is how many failures may be forwarded.
type budget struct {
	limit    int           // 0: any number
	interval time.Duration // the upstream forgets failures after so long; 0: never
	most     int           // the upstream's own count of failures must never get beyond; 0: not known
	window   time.Duration // how long a failure is known where no state is readable
}

// source is the limit for one source, see failures.
func (b budget) source() int {
	if b.limit <= 3 {
		return b.limit
	}
	return b.limit - 1
}

// forSeen is the limit for a password that failed before.
func (b budget) forSeen() int { return max(1, b.limit-1) }

// question is one password that is to be forwarded.
type question struct {
	key         string // canonical entry
	password    digest
	fingerprint string // of the state that the lookup returned
	lock        string // likewise
	counted     int    // failures that the upstream counted at the lookup
	server      string // that showed the state
	copied      bool   // the state is that of a copy
	source      netip.Addr
	budget      budget
}

type verdict int

const (
	toForward verdict = iota
	knownBad
	overBudget
	unread // the state of a copy does not decide it: ask again with the directory's
)

// outcome is what became of a forwarded password.
type outcome int

const (
	undecided outcome = iota // trouble, a lock, or a state that is not the password's fault: nothing is learnt
	wasAccepted
	hasFailed
)

// ticket is the right to forward one password; it must be landed.
type ticket struct {
	failures *failures
	question question
	reserved bool
}

func newFailures(max int) *failures {
	f := &failures{seed: maphash.MakeSeed()}
	f.max = max / len(f.shards)
	for i := range f.shards {
		f.shards[i].accounts = make(map[string]*account)
	}
	return f
}

func (f *failures) shard(key string) *failureShard {
	return &f.shards[maphash.String(f.seed, key)%16]
}

// admit decides whether a password may be forwarded, waiting for others under way where they decide it.
// The ticket is nil unless the verdict is toForward. The error is the context's.
func (f *failures) admit(ctx context.Context, q question, now func() time.Time) (*ticket, verdict, error) {
	for {
		t, v, wait := f.try(q, now())
		if wait == nil {
			return t, v, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, overBudget, context.Cause(ctx)
		}
	}
}

// try is one look at the account; wait is not nil where the outcome of another password must be known first.
func (f *failures) try(q question, now time.Time) (t *ticket, v verdict, wait <-chan struct{}) {
	shard := f.shard(q.key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	a := shard.account(q.key, f.max, now)
	if q.copied {
		if !a.indifferent(q) {
			return nil, unread, nil
		}
		a.settle(q, now)
		return a.fly(f, q, true), toForward, nil
	}
	a.settle(q, now)
	known := a.accepted == q.password
	if known && now.Sub(a.acceptedAt) < freshFor {
		return a.fly(f, q, false), toForward, nil
	}
	if a.flying[q.password] > 0 {
		return nil, toForward, a.wait()
	}
	if known {
		return a.fly(f, q, false), toForward, nil
	}
	limit := q.budget.limit
	if mark, found := a.bad[q.password]; found {
		if mark.until.IsZero() || now.Before(mark.until) {
			return nil, knownBad, nil
		}
		limit = q.budget.forSeen()
	}
	if q.budget.limit == 0 {
		return a.fly(f, q, true), toForward, nil
	}
	if a.failed >= limit || q.source.IsValid() && a.sources[q.source] >= q.budget.source() {
		return nil, overBudget, nil
	}
	// What the upstream counts is of other instances, of those before a restart and of everybody else too.
	if most := q.budget.most; most > 0 {
		switch counted := max(a.failed, q.counted); {
		case counted >= most:
			return nil, overBudget, nil
		case counted+a.reserved >= most:
			return nil, toForward, a.wait()
		}
	}
	if a.failed+a.reserved >= limit {
		return nil, toForward, a.wait()
	}
	return a.fly(f, q, true), toForward, nil
}

// indifferent reports whether a password is forwarded, and alone, whatever the state of the directory is.
func (a *account) indifferent(q question) bool {
	return q.budget.limit == 0 && len(a.bad) == 0 && a.flying[q.password] == 0
}

// settle forgets what the upstream has forgotten.
func (a *account) settle(q question, now time.Time) {
	a.touched = now
	if a.fingerprint != q.fingerprint {
		a.fingerprint, a.bad, a.accepted = q.fingerprint, nil, digest{}
		a.failed, a.sources = 0, nil
	}
	if a.lock != q.lock {
		a.lock, a.failed, a.sources = q.lock, 0, nil
	}
	if q.budget.interval > 0 && now.Sub(a.lastFailure) > q.budget.interval {
		a.failed, a.sources = 0, nil
	}
	// Where its count shows and is 0 again, the user has logged in elsewhere, or was unlocked.
	if a.shows && q.counted == 0 && len(a.flying) == 0 {
		a.failed, a.sources = 0, nil
	}
}

func (a *account) fly(f *failures, q question, reserve bool) *ticket {
	if a.flying == nil {
		a.flying = make(map[digest]int, 1)
	}
	a.flying[q.password]++
	if reserve {
		a.reserved++
	}
	return &ticket{failures: f, question: q, reserved: reserve}
}

func (a *account) wait() <-chan struct{} {
	if a.landed == nil {
		a.landed = make(chan struct{})
	}
	return a.landed
}

// land records the outcome. after is the state read after a failure; readable says whether it was read.
func (t *ticket) land(o outcome, after State, readable bool, now time.Time) {
	q := t.question
	shard := t.failures.shard(q.key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	a := shard.accounts[q.key] // stays while something is under way
	if a.flying[q.password]--; a.flying[q.password] == 0 {
		delete(a.flying, q.password)
	}
	if t.reserved {
		a.reserved--
	}
	if a.landed != nil {
		close(a.landed)
		a.landed = nil
	}
	switch o {
	case wasAccepted:
		a.failed, a.sources = 0, nil
		a.accepted, a.acceptedAt = q.password, now
		delete(a.bad, q.password)
	case hasFailed:
		a.fail(q, after, readable, now)
	}
}

// fail counts and marks a failure. The mark holds without a limit of time if nothing changed from the lookup to
// the answer, as the server shows it that gave the answer. If the state did change meanwhile, it may be that the failure itself changed it, or that the
// password was changed a moment after it was refused, or the account locked a moment before; then the mark holds
// for the window only, since a right password must not be refused for ever.
func (a *account) fail(q question, after State, readable bool, now time.Time) {
	a.failed++
	a.shows = readable && after.Failures > 0
	a.lastFailure = now
	if q.source.IsValid() && q.budget.limit > 0 {
		if a.sources == nil {
			a.sources = make(map[netip.Addr]int, 1)
		}
		a.sources[q.source]++
	}
	if a.accepted == q.password {
		a.accepted = digest{}
	}
	mark := badMark{at: now}
	if !readable || after.Locked || after.Fingerprint == "" || after.Fingerprint != q.fingerprint || after.Server != q.server {
		mark.until = now.Add(q.budget.window)
	}
	if readable && after.Fingerprint != a.fingerprint {
		a.fingerprint = after.Fingerprint
		for d, m := range a.bad {
			if m.until.IsZero() {
				m.until = mark.until
				a.bad[d] = m
			}
		}
	}
	a.mark(q.password, mark, max(maxBad, q.budget.limit))
}

func (a *account) mark(password digest, mark badMark, max int) {
	if a.bad == nil {
		a.bad = make(map[digest]badMark, 1)
	}
	if _, found := a.bad[password]; !found && len(a.bad) >= max {
		var oldest digest
		var at time.Time
		for d, m := range a.bad {
			if at.IsZero() || m.at.Before(at) {
				oldest, at = d, m.at
			}
		}
		delete(a.bad, oldest)
	}
	a.bad[password] = mark
}

// account is the account of a key, made where there is none. mu is held.
func (s *failureShard) account(key string, max int, now time.Time) *account {
	a := s.accounts[key]
	if a == nil {
		if len(s.accounts) >= max {
			s.evict(now)
		}
		a = &account{touched: now}
		s.accounts[key] = a
	}
	return a
}

// evict makes room. It looks at some accounts only, and takes the one that costs least: one without
// failures that is idle at once; else the one longest unused of those without failures, else of all.
// One with a bind under way stays.
func (s *failureShard) evict(now time.Time) {
	const looks = 32
	var victim string
	var worst *account
	n := 0
	for key, a := range s.accounts {
		if n++; n > looks && worst != nil {
			break
		}
		if len(a.flying) > 0 || a.landed != nil {
			continue
		}
		if len(a.bad) == 0 && now.Sub(a.touched) >= idleFor {
			victim, worst = key, a
			break
		}
		if worst == nil || a.cheaper(worst) {
			victim, worst = key, a
		}
	}
	if worst != nil {
		delete(s.accounts, victim)
	}
}

func (a *account) cheaper(b *account) bool {
	if (len(a.bad) == 0) != (len(b.bad) == 0) {
		return len(a.bad) == 0
	}
	return a.touched.Before(b.touched)
}
