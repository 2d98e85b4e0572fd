package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// Times of the replica.
const (
	// proofPause is between two proofs that the replica is current.
	proofPause = 10 * time.Second
	// maxAge is up to which age of the last proof the replica answers: one proof may be late.
	maxAge = 2 * proofPause
	// proofTime bounds one proof.
	proofTime = 5 * time.Second
	// refreshSilence ends a refresh in which nothing comes.
	refreshSilence = time.Minute
	// Pauses between two sessions; a directory that refuses is asked rarely, since each refresh costs it much.
	firstSessionPause = 100 * time.Millisecond
	maxSessionPause   = 5 * time.Second
	refusedPause      = time.Minute
	// parentsAtOnce bounds the parents looked at in one proof; with more of them each has its turn.
	parentsAtOnce = 256
)

// replica is app_passwords.lookup: replica, the users held in memory.
//
// A session is one link to one server. It asks for everything (RFC 4533
// refreshAndPersist, below each base, with the eligibility filter) and then
// hears of each change. When it ends, for whatever reason, all that it told is
// dropped and the next one starts from nothing.
//
// The table answers only while it is current: every proofPause the session reads
// contextCSN on the same link, and when the synchronized searches have told
// everything up to there, the table is proven for the time of the question. The
// same round looks whether the parents of the users are the entries that they
// were: of a renamed parent slapd tells nothing. Whatever the table cannot
// answer for certain (no or no single entry, an unusual spelling, not current)
// is looked up live.
type replica struct {
	on        bool
	bases     []string              // users.bases without those below others
	names     map[string]bool       // the attributes of name_filter, in lower case; nil: names are looked up live
	selection []byte                // the attributes of the search
	table     atomic.Pointer[table] // of the session; nil: none
	pause     time.Duration         // proofPause, but in tests

	mu      sync.Mutex    // guards the fields below
	err     error         // how the last session ended; nil while one is current
	decided chan struct{} // closed when the first session is current or has failed
	known   bool          // decided is closed
}

func (r *replica) init(cfg *config.Config, l *lookup) {
	r.on, r.pause, r.decided = cfg.AppPasswords.Lookup == "replica", proofPause, make(chan struct{})
	for i, b := range l.bases {
		inner := slices.ContainsFunc(l.bases[:i], func(o wire.DN) bool { return b.HasSuffix(o) }) ||
			slices.ContainsFunc(l.bases[i+1:], func(o wire.DN) bool { return b.HasSuffix(o) && o.Key() != b.Key() })
		if !inner {
			r.bases = append(r.bases, cfg.Users.Bases[i])
		}
	}
	r.names = nameAttributes(l.nameFilter)
	r.selection = l.selection
	for name := range r.names {
		r.selection = wire.AppendStrings(slices.Clip(r.selection), name)
	}
}

// nameAttributes are the attributes of a name filter that an index can stand
// for: attribute=%s, or several of them in one or. nil: any other filter.
func nameAttributes(filter []byte) map[string]bool {
	if filter == nil {
		return nil
	}
	const or, equal = 0xa1, 0xa3
	list := filter
	if tag, content, _, err := wire.Element(filter); err == nil && tag == or {
		list = content
	}
	names := map[string]bool{}
	for len(list) > 0 {
		tag, content, rest, err := wire.Element(list)
		if err != nil || tag != equal {
			return nil
		}
		name, value, err := wire.Expect(content, wire.TagOctetString)
		if err != nil {
			return nil
		}
		if value, _, err = wire.Expect(value, wire.TagOctetString); err != nil || string(value) != "%s" || bytes.IndexByte(name, ';') >= 0 {
			return nil
		}
		names[strings.ToLower(string(name))] = true
		list = rest
	}
	return names
}

// findCopy answers a bind name from memory; nil: it must be looked up live.
func (u *Upstream) findCopy(name string) *auth.Entry {
	t := u.replica.table.Load()
	if t == nil {
		return nil
	}
	// A name with "=" that is no DN would be one of name_filter; rare enough to be asked live.
	return t.find(name, strings.IndexByte(name, '=') >= 0, u.replica.names != nil, u.clock.now())
}

// runReplica follows the directory until Close.
func (u *Upstream) runReplica() {
	defer u.workers.Done()
	var log rareLog
	for pause := firstSessionPause; !u.closing(); {
		lived, err := u.replicaSession()
		if u.closing() {
			return
		}
		u.replica.settle(err)
		if log.allow(u.clock.now()) {
			u.log.Warn("replica is not current, binds are looked up live", "error", err)
		}
		switch {
		case lived:
			pause = firstSessionPause
		case errors.Is(err, ErrUnavailable):
			pause = min(2*pause, maxSessionPause)
		default:
			pause = refusedPause
		}
		if !u.pause(pause) {
			return
		}
	}
}

// settle records how a session fares.
func (r *replica) settle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	if !r.known {
		r.known = true
		close(r.decided)
	}
}

// errNoSync says that the kind of server cannot be followed.
var errNoSync = errors.New("app_passwords.lookup: replica follows OpenLDAP only")

// replicaSession is one session, from connecting to its end. lived: it was current once.
func (u *Upstream) replicaSession() (lived bool, err error) {
	ctx, cancel := context.WithCancelCause(u.stop)
	defer cancel(nil)
	s, err := u.newSession(ctx, cancel)
	if err != nil {
		return false, err
	}
	defer s.link.Close()
	defer u.replica.table.Store(nil)
	defer s.table.end()
	if err := s.refresh(ctx); err != nil {
		return false, sessionError(ctx, err)
	}
	for {
		if err := s.prove(ctx); err != nil {
			return lived, sessionError(ctx, err)
		}
		if !lived {
			lived = true
			u.replica.table.Store(s.table)
			if ctx.Err() != nil { // it ended meanwhile; Store(nil) follows
				return lived, sessionError(ctx, ctx.Err())
			}
			u.replica.settle(nil)
			users, _ := s.table.size()
			u.log.Info("replica is current", "upstream", s.link.Server(), "users", users)
		}
		if err := s.rest(ctx); err != nil {
			return lived, sessionError(ctx, err)
		}
	}
}

// sessionError prefers the reason for which the session was ended to what it led to.
func sessionError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// session is the state of one session.
type session struct {
	up        *Upstream
	sv        *survey
	link      *Link
	table     *table
	followers []*follower
	moved     chan struct{} // tells that a follower has got on
	suffixes  []string      // whose contextCSN is read
	turn      int           // which parents are next
}

// newSession connects to the first server that will have us.
func (u *Upstream) newSession(ctx context.Context, fail context.CancelCauseFunc) (*session, error) {
	sv := u.survey.Load()
	if !sv.read {
		if err := u.readSurvey(ctx); err != nil {
			return nil, err
		}
		sv = u.survey.Load()
	}
	if sv.kind != KindOpenLDAP {
		return nil, fmt.Errorf("%w; this is %v", errNoSync, sv.kind)
	}
	s := &session{up: u, sv: sv, table: newTable(), moved: make(chan struct{}, 1)}
	if s.suffixes = suffixesOf(sv.root.namingContexts, u.replica.bases); s.suffixes == nil {
		return nil, errors.New("users.bases are below none of the server's naming contexts")
	}
	err := u.allDown()
	for _, srv := range u.choice.Load().list {
		if err = srv.mayConnect(); err != nil {
			continue
		}
		if s.link, err = srv.connectLimited(ctx); err == nil {
			break
		}
	}
	if s.link == nil {
		return nil, err
	}
	for range u.replica.bases {
		f := &follower{table: s.table, moved: s.moved, seen: csns{}}
		f.make = func(se wire.SearchEntry) (*record, string, error) { return u.record(sv, s.table, se) }
		f.fail = func(err error) {
			s.table.end() // from here on nothing is answered from it
			fail(err)
		}
		s.followers = append(s.followers, f)
	}
	return s, nil
}

// connectLimited is connectService within half of bind_timeout.
func (s *server) connectLimited(ctx context.Context) (*Link, error) {
	limit := max(time.Duration(s.up.cfg.Upstream.BindTimeout)/2, s.up.dialer.timeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.connectService(ctx)
}

// suffixesOf are the naming contexts that hold the bases; nil if one stands below none.
func suffixesOf(contexts, bases []string) []string {
	var found []string
	for _, b := range bases {
		base, err := wire.ParseDN(b)
		best, depth := "", 0
		for _, c := range contexts {
			suffix, bad := wire.ParseDN(c)
			if err == nil && bad == nil && len(suffix) > depth && base.HasSuffix(suffix) {
				best, depth = c, len(suffix)
			}
		}
		if best == "" {
			return nil
		}
		found = appendNew(found, best)
	}
	return found
}

// refresh starts the synchronized searches and waits until all is told.
func (s *session) refresh(ctx context.Context) error {
	for i, base := range s.up.replica.bases {
		search := &wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: s.sv.eligible, Attributes: s.up.replica.selection}
		if _, err := s.link.Send(wire.OpSearchRequest, search.Append(nil), syncRequest(), s.followers[i], false); err != nil {
			return err
		}
	}
	for {
		before := s.link.heard.Load()
		silence, stop := s.up.clock.timer(refreshSilence)
		select {
		case <-s.moved:
			stop()
		case <-ctx.Done():
			stop()
			return ctx.Err()
		case <-silence:
			if s.link.heard.Load() == before {
				return fmt.Errorf("%w: %s sends nothing in the refresh", ErrUnavailable, s.link.Server())
			}
		}
		if !slices.ContainsFunc(s.followers, func(f *follower) bool { return !f.done() }) {
			return nil
		}
	}
}

// done reports whether the refresh is complete.
func (f *follower) done() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refreshed
}

// prove proves that the table is what the server holds: it asks how far the
// server is and waits until the searches have told as much.
func (s *session) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	at := s.up.clock.now()
	want, err := s.contextCSN(ctx)
	if err != nil {
		return err
	}
	if err := s.checkParents(ctx); err != nil {
		return err
	}
	for slices.ContainsFunc(s.followers, func(f *follower) bool { return !f.reached(want) }) {
		select {
		case <-s.moved:
		case <-ctx.Done():
			return fmt.Errorf("%s did not tell all changes in time", s.link.Server())
		}
	}
	if ctx.Err() == nil {
		s.table.prove(at)
	}
	return ctx.Err()
}

// contextCSN reads how far the server is.
func (s *session) contextCSN(ctx context.Context) (csns, error) {
	want := csns{}
	for _, suffix := range s.suffixes {
		found := 0
		search := &wire.SearchRequest{Base: []byte(suffix), Scope: wire.ScopeBase, Filter: presentObjectClass,
			Attributes: wire.AppendStrings(nil, "contextCSN")}
		r, err := s.link.search(ctx, search, nil, func(se wire.SearchEntry, _ []byte) error {
			return wire.EachAttribute(se.Attributes, func(a wire.Attribute) bool {
				return wire.EachString(a.Values, func(v []byte) bool { found++; want.take(string(v)); return true }) == nil
			})
		})
		if err != nil {
			return nil, err
		}
		if r.Code != wire.ResultSuccess || found == 0 {
			return nil, &unreadable{suffix: suffix, code: r.Code}
		}
	}
	return want, nil
}

// unreadable is a suffix that does not show its contextCSN.
type unreadable struct {
	suffix string
	code   int32
}

func (e *unreadable) Error() string {
	return fmt.Sprintf("contextCSN of %q is not readable (result %d): upstream.bind_dn must be able to read it, and the database needs the overlay syncprov", e.suffix, e.code)
}

// errParent ends a session when a parent is not the entry that it was.
var errParent = errors.New("an entry above users was renamed or replaced, or upstream.bind_dn cannot read its entryUUID")

// checkParents looks whether the bases and the parents of users are still the
// entries that they were; those that are new are noted.
func (s *session) checkParents(ctx context.Context) error {
	list := s.table.watched()
	slices.SortFunc(list, func(a, b parent) int { return strings.Compare(a.dn, b.dn) })
	if len(list) > parentsAtOnce {
		s.turn %= len(list)
		list = append(list[s.turn:], list[:s.turn]...)[:parentsAtOnce]
		s.turn += parentsAtOnce
	}
	for _, p := range list {
		id, err := s.identify(ctx, p.dn)
		if err != nil {
			return err
		}
		if id == "" || p.id != "" && id != p.id {
			return fmt.Errorf("%w: %q", errParent, p.dn)
		}
		if dn, err := wire.ParseDN(p.dn); err == nil && p.id == "" {
			s.table.know(dn.Key(), id)
		}
	}
	return nil
}

// identify reads the entryUUID of an entry; "" when there is none.
func (s *session) identify(ctx context.Context, dn string) (string, error) {
	id := ""
	search := &wire.SearchRequest{Base: []byte(dn), Scope: wire.ScopeBase, Filter: presentObjectClass, Attributes: wire.AppendStrings(nil, "entryUUID")}
	r, err := s.link.search(ctx, search, nil, func(se wire.SearchEntry, _ []byte) error {
		return wire.EachAttribute(se.Attributes, func(a wire.Attribute) bool { id = firstValue(a); return true })
	})
	switch {
	case err != nil:
		return "", err
	case r.Code != wire.ResultSuccess && r.Code != wire.ResultNoSuchObject:
		return "", codeError("entry above users", r)
	}
	return id, nil
}

// rest waits until the next proof is due. Its error says that the session must
// start anew, since what it asks for is no longer what it should.
func (s *session) rest(ctx context.Context) error {
	c, stop := s.up.clock.timer(s.up.replica.pause)
	defer stop()
	select {
	case <-c:
	case <-ctx.Done():
		return ctx.Err()
	}
	if now := s.up.survey.Load(); !bytes.Equal(now.eligible, s.sv.eligible) || now.useCSN != s.sv.useCSN || now.kind != s.sv.kind ||
		!slices.Equal(now.schema.Names(), s.sv.schema.Names()) {
		return errors.New("the directory's schema has changed")
	}
	return nil
}

// ReplicaInfo is how the replica fares.
type ReplicaInfo struct {
	// On says that app_passwords.lookup is replica.
	On bool
	// Current says that binds are answered from memory.
	Current bool
	// Users is how many are held.
	Users int
	// Age is the time since the last proof that they are what the directory holds.
	Age time.Duration
	// Err is why it is not current.
	Err error
}

// Replica tells how the replica fares, waiting within ctx for the first session to be current or to fail.
func (u *Upstream) Replica(ctx context.Context) ReplicaInfo {
	r := &u.replica
	if !r.on {
		return ReplicaInfo{}
	}
	select {
	case <-r.decided:
	case <-ctx.Done():
		return ReplicaInfo{On: true, Err: fmt.Errorf("the first refresh is not complete yet: %w", ctx.Err())}
	}
	r.mu.Lock()
	info := ReplicaInfo{On: true, Err: r.err}
	r.mu.Unlock()
	if t := r.table.Load(); t != nil {
		users, proven := t.size()
		now := u.clock.now()
		info.Users, info.Current = users, currentAt(proven, now)
		info.Age = now.Sub(proven)
	}
	return info
}
