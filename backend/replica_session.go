package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"appbind/wire"
)

// source is how a session learns what its server holds. Only load and prove
// answer for the table; both are called by the session's goroutine alone.
type source interface {
	// load fills the table with every user.
	load(ctx context.Context) error
	// prove brings the table to what the server held at some time not before the call, and
	// records that with table.prove. An error ends the session.
	prove(ctx context.Context) error
	// next is when the next proof is due, and a channel that calls for it sooner; nil: nothing does.
	next() (pause time.Duration, sooner <-chan struct{})
	// String tells an administrator how changes come and with what delay. Safe for concurrent use.
	String() string
}

// session is the state of one session.
type session struct {
	up     *Upstream
	sv     *survey
	link   *Link
	pager  *pager // on link
	table  *table
	wanted []byte      // the attributes of the searches
	fail   func(error) // ends the session; the first error counts
	source source
	turn   int // which parents are next
}

// sourceOf picks the source by what the server says of itself. Content
// synchronization alone is trusted where contextCSN proves that it told
// everything, which is OpenLDAP's; elsewhere the session asks what changed, and
// whatever pushes is a hint to ask at once.
func (s *session) sourceOf() (source, error) {
	switch {
	case s.sv.kind == KindOpenLDAP && s.sv.root.offers(oidSyncRequest):
		return newContentSync(s)
	case s.sv.kind == KindActiveDirectory || s.sv.kind == KindSamba:
		return newPoll(s, &usnMark{session: s}), nil
	}
	return newPoll(s, &stampMark{}), nil
}

// replicaSession is one session, from connecting to its end. lived: it was current once.
func (u *Upstream) replicaSession() (lived bool, err error) {
	ctx, cancel := context.WithCancelCause(u.stop)
	defer cancel(nil)
	s, err := u.newSession(ctx, cancel)
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(u.choice.Load().alive, func() { cancel(errAllDown) })()
	defer s.link.Close()
	loaded := false
	defer func() { u.sessionEnded(s, lived, loaded) }()
	defer u.replica.table.Store(nil)
	defer s.table.end()
	if err := s.source.load(ctx); err != nil {
		return false, sessionError(ctx, err)
	}
	loaded = true
	for {
		if err := s.source.prove(ctx); err != nil {
			return lived, sessionError(ctx, err)
		}
		if !lived {
			lived = true
			u.replica.last.Store(s.table)
			u.replica.table.Store(s.table)
			if ctx.Err() != nil { // it ended meanwhile; Store(nil) follows
				return lived, sessionError(ctx, ctx.Err())
			}
			u.replica.settle(nil)
			users, _ := s.table.size()
			u.log.Info("replica is current", "upstream", s.link.Server(), "users", users, "by", s.source.String())
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

// newSession connects to the first server that will have us.
func (u *Upstream) newSession(ctx context.Context, fail context.CancelCauseFunc) (*session, error) {
	sv := u.survey.Load()
	if !sv.read {
		if err := u.readSurvey(ctx); err != nil {
			return nil, err
		}
		sv = u.survey.Load()
	}
	copied := newCopied(u.replica.wanted, sv.schema)
	s := &session{up: u, sv: sv, table: newTable(copied), wanted: copied.selection(u.replica.selection)}
	s.fail = func(err error) {
		s.table.end() // from here on nothing is answered from it
		fail(err)
	}
	var err error
	if s.source, err = s.sourceOf(); err != nil {
		return nil, err
	}
	u.replica.follows(s.source)
	err = u.allDown()
	for _, srv := range u.choice.Load().list {
		if err = srv.mayConnect(); err != nil {
			continue
		}
		if s.link, err = srv.connectLimited(ctx); err == nil {
			s.pager = u.pager(s.link, sv)
			break
		}
	}
	if s.link == nil {
		return nil, err
	}
	s.table.server = s.link.Server()
	return s, nil
}

// searchAll searches below every base of the replica, see pager.all.
func (s *session) searchAll(ctx context.Context, filter, selection []byte, each func(wire.SearchEntry) error, between func(context.Context) error) error {
	for _, base := range s.up.lookup.outer {
		if err := s.pager.all(ctx, base, filter, selection, each, between); err != nil {
			return err
		}
	}
	return nil
}

// connectLimited is connectService within half of bind_timeout.
func (s *server) connectLimited(ctx context.Context) (*Link, error) {
	limit := max(time.Duration(s.up.cfg.Upstream.BindTimeout)/2, s.up.dialer.timeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.connectService(ctx)
}

// errParent ends a session when a parent is not the entry that it was.
var errParent = errors.New("an entry above users was renamed or replaced, or upstream.bind_dn cannot read its identity (entryUUID, objectGUID, nsUniqueId)")

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

// identify reads the identity of an entry; "" when there is none. A directory
// that has no identities is left with its DNs; in one that has, a DN alone does not
// show that another entry took the place.
func (s *session) identify(ctx context.Context, dn string) (string, error) {
	id := ""
	search := &wire.SearchRequest{Base: []byte(dn), Scope: wire.ScopeBase, Filter: presentObjectClass, Attributes: wire.AppendStrings(nil, identities[:]...)}
	r, err := s.link.search(ctx, search, nil, func(se wire.SearchEntry, _ []byte) error {
		var err error
		id, err = keyOf(se)
		return err
	})
	switch {
	case err != nil:
		return "", err
	case r.Code != wire.ResultSuccess && r.Code != wire.ResultNoSuchObject:
		return "", codeError("entry above users", r)
	case s.sv.kind < KindLLDAP && strings.HasPrefix(id, "dn:"):
		return "", nil
	}
	return id, nil
}

// hintPause is the least time between two proofs, however much calls for them.
const hintPause = 100 * time.Millisecond

// rest waits until the next proof is due. Its error says that the session must
// start anew, since what it asks for is no longer what it should.
func (s *session) rest(ctx context.Context) error {
	pause, sooner := s.source.next()
	due, stopDue := s.up.clock.timer(pause)
	defer stopDue()
	listen, stopListen := s.up.clock.timer(min(hintPause, pause))
	defer stopListen()
	var hints <-chan struct{} // nil until hintPause is over
	for waiting := true; waiting; {
		select {
		case <-due:
			waiting = false
		case <-hints:
			waiting = false
		case <-listen:
			hints = sooner
		case <-s.link.Done():
			return fmt.Errorf("%w: the link to %s ended", ErrUnavailable, s.link.Server())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if now := s.up.survey.Load(); !bytes.Equal(now.eligible, s.sv.eligible) || now.useCSN != s.sv.useCSN || now.kind != s.sv.kind ||
		!slices.Equal(now.schema.Names(), s.sv.schema.Names()) {
		return errors.New("the directory's schema has changed")
	}
	return nil
}
