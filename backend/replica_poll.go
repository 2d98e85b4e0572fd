package backend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"appbind/wire"
)

// Times of a poll.
const (
	// pollPause is between two looks at what changed.
	pollPause = 5 * time.Second
	// lookTime bounds one look; with pollPause it stays below maxAge.
	lookTime = 10 * time.Second
	// leastListPause and mostListPause bound the time between two full lists. In between a list may take
	// listShare of the time: a small directory is listed often, a large one is not worn out.
	leastListPause = 30 * time.Second
	mostListPause  = 5 * time.Minute
	listShare      = 100
)

// poll is the source for servers that do not tell of changes, or do not prove that they told all.
//
// A look asks in two searches: what changed below the bases, as the mark says,
// and which of that is eligible, which the server decides. What is in the first
// answer and not in the second leaves the table. An entry that is deleted or moved
// out of the bases is in neither; the full list finds it, and whatever a look cannot
// see. A hint (replica_hint.go) takes the entry out of the table, so that it is
// looked up live, and calls for a look.
//
// A list is read in pages with looks in between. What a look or a hint touched
// meanwhile is newer than what the list says of it.
type poll struct {
	*session
	mark    mark
	hinter  *hinter
	touched touched
	missed  rareLog // changes that only a list saw

	lookedAt, listedAt, parentsAt time.Time
	listPause                     time.Duration
}

func newPoll(s *session, m mark) *poll {
	p := &poll{session: s, mark: m, listPause: s.up.replica.list}
	p.hinter = newHinter(s, &p.touched)
	return p
}

// String says how changes come, and how late at most.
func (p *poll) String() string {
	r := &p.up.replica
	name, _ := p.mark.about()
	told, fast := "", fmt.Sprintf("within %v", r.poll)
	if h := p.hinter.active(); h != "" {
		told, fast = " and "+h, "at once"
	}
	return fmt.Sprintf("%s every %v%s: changes are seen %s, deletions and what other entries decide by a full list every %v to %v",
		name, r.poll, told, fast, r.list, max(r.list, mostListPause))
}

func (p *poll) next() (time.Duration, <-chan struct{}) { return p.up.replica.poll, p.hinter.hints }

// load lists everything. Hints are heard from before it begins.
func (p *poll) load(ctx context.Context) error {
	p.hinter.tend(p.link)
	if _, err := p.mark.since(ctx, p.up.clock.now()); err != nil { // from here on; what the list then sees twice does no harm
		return err
	}
	return p.list(ctx)
}

// prove looks at what changed, and lists when that is due.
func (p *poll) prove(ctx context.Context) error {
	if err := p.look(ctx); err != nil {
		return err
	}
	if p.up.clock.now().Sub(p.listedAt) < p.listPause {
		return nil
	}
	p.hinter.retry()
	if err := p.list(ctx); err != nil {
		return err
	}
	return p.look(ctx)
}

// look brings the table up to date.
func (p *poll) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	p.hinter.tend(p.link)
	began := p.up.clock.now()
	if began.Sub(p.parentsAt) >= p.up.replica.pause || p.hinter.parents.Swap(false) {
		if err := p.checkParents(ctx); err != nil {
			return err
		}
		p.parentsAt = began
	}
	filter, err := p.mark.since(ctx, began)
	if err != nil {
		return err
	}
	if filter != nil {
		if err := p.apply(ctx, filter); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.mark.looked(began)
	p.lookedAt = began
	p.table.prove(began)
	return nil
}

// apply takes over what changed. The second search comes after the first: what it does not find again is eligible no more.
func (p *poll) apply(ctx context.Context, filter []byte) error {
	_, stamps := p.mark.about()
	selection := wire.AppendStrings(wire.AppendStrings(nil, identities[:]...), stamps...)
	changed := map[string]bool{}
	err := p.searchAll(ctx, filter, selection, func(se wire.SearchEntry) error {
		key, err := keyOf(se)
		changed[key] = true
		p.mark.saw(se, p.up.clock.now())
		return err
	}, nil)
	if err != nil || len(changed) == 0 {
		return err
	}
	err = p.searchAll(ctx, wire.AppendAnd(nil, p.sv.eligible, filter), p.wanted, func(se wire.SearchEntry) error {
		r, parentDN, err := p.up.record(p.sv, p.table, se)
		if err != nil {
			return err
		}
		delete(changed, r.entry.Key)
		p.touched.note(r.entry.Key)
		p.put(r, parentDN)
		return nil
	}, nil)
	if err != nil {
		return err
	}
	for key := range changed {
		p.touched.note(key)
		p.table.remove(key)
	}
	return nil
}

// put takes a user in. Another one of the same DN has gone, though nothing told so.
func (p *poll) put(r *record, parentDN string) {
	p.table.vacate(r.entry.DN, r.entry.Key)
	p.table.put(r.entry.Key, r, parentDN)
}

// listed is what a list says of one user.
type listed struct {
	record   *record
	parentDN string
}

// list reads every user anew, and takes out of the table what it does not find.
func (p *poll) list(ctx context.Context) error {
	began := p.up.clock.now()
	p.touched.begin()
	defer p.touched.end()
	_, stamps := p.mark.about()
	found := map[string]listed{}
	err := p.searchAll(ctx, p.sv.eligible, wire.AppendStrings(slices.Clip(p.wanted), stamps...), func(se wire.SearchEntry) error {
		r, parentDN, err := p.up.record(p.sv, p.table, se)
		if err != nil {
			return err
		}
		if !p.mark.listed(se, p.up.clock.now()) {
			return fmt.Errorf("%q does not show %s to upstream.bind_dn: its changes cannot be followed", se.DN, strings.Join(stamps, " or "))
		}
		found[r.entry.Key] = listed{r, parentDN}
		return nil
	}, p.between)
	if err != nil {
		return err
	}
	p.replace(found)
	p.listedAt = p.up.clock.now()
	p.listPause = min(max(p.up.replica.list, p.up.replica.share*p.listedAt.Sub(began)), max(p.up.replica.list, mostListPause))
	return nil
}

// between is called between the pages of a list: a look does not wait for all of them.
func (p *poll) between(ctx context.Context) error {
	if p.lookedAt.IsZero() || p.up.clock.now().Sub(p.lookedAt) < p.up.replica.poll {
		return nil
	}
	return p.look(ctx)
}

// replace takes over a list, but for what was touched while it was read.
func (p *poll) replace(found map[string]listed) {
	differ := 0
	for key, held := range p.table.records() {
		l, still := found[key]
		switch {
		case p.touched.has(key, held.entry.DN):
		case !still:
			p.table.remove(key)
		case held.same(l.record):
			if held.entry.State == l.record.entry.State {
				delete(found, key)
			}
		default:
			differ++
		}
	}
	for key, l := range found {
		if !p.touched.has(key, l.record.entry.DN) {
			p.put(l.record, l.parentDN)
		}
	}
	if differ > 0 && p.missed.allow(p.up.clock.now()) {
		name, _ := p.mark.about()
		p.up.log.Warn("users changed and "+name+" did not: such changes are seen by the full list only", "users", differ)
	}
}

// touched is what looks and hints changed in the table while a list was read.
type touched struct {
	mu  sync.Mutex      // guards set
	set map[string]bool // keys, and DNs in lower case; nil: no list is being read
}

func (t *touched) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = map[string]bool{}
}

func (t *touched) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = nil
}

func (t *touched) note(names ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range names {
		if t.set != nil {
			t.set[n] = true
		}
	}
}

func (t *touched) has(key, dn string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set[key] || t.set[strings.ToLower(dn)]
}
