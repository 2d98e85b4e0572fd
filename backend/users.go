package backend

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"appbind/auth"
	"appbind/wire"
)

// maxLists is how many lists of users are read at one time; each has a link of its own.
const maxLists = 4

// EachUser calls each for every entry below users.bases that matches
// users.filter and filter (a whole filter element; nil: all), live, with the
// values of the secrets attribute. Eligible is true of those that match the
// enabled filter too. An error of each ends it. An answer that the directory cut
// short is an error (see CutShort), as is a link that is lost on the way: what is missing would be
// taken for absent.
//
// The users are read in pages (RFC 2696) where the directory offers them, over a link that
// belongs to this list alone. Only one page is held at a time, and a digest of
// each user's identity; where there are no pages, everything. Each is called by the
// caller's goroutine, while nothing is under way, and may take its time. What is changed
// meanwhile may show as it was before or after; who changes entries by
// what he sees does it when the list is whole.
func (u *Upstream) EachUser(ctx context.Context, filter []byte, each func(e *auth.Entry) error) error {
	sv, err := u.surveyed(ctx)
	if err != nil {
		return err
	}
	return u.paging(ctx, sv, func(p *pager) (bool, error) {
		l := &listing{up: u, sv: sv, pager: p, each: each, known: map[digest]trait{}}
		err := l.run(ctx, filter)
		if err != nil && l.given > 0 && errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("the list of users broke off after %d: %w", l.given, err)
		}
		return l.given > 0, err
	})
}

// paging calls f with a pager on a link of its own, bound as upstream.bind_dn, for the first server that will have us, and for the
// next where that one fails before f has begun to use what it read.
func (u *Upstream) paging(ctx context.Context, sv *survey, f func(p *pager) (begun bool, err error)) error {
	select {
	case u.lists <- struct{}{}:
		defer func() { <-u.lists }()
	case <-ctx.Done():
		return fmt.Errorf("%w: other lists of users are under way: %w", ErrUnavailable, ctx.Err())
	}
	c, turn := u.choice.Load(), u.turnOf(ctx)
	if len(c.list) == 0 {
		return u.allDown()
	}
	var last error
	for i := range c.list {
		srv := c.at(turn, i)
		if last = srv.mayConnect(); last != nil {
			continue
		}
		var l *Link
		if l, last = srv.connectLimited(ctx); last != nil {
			continue
		}
		begun, err := f(u.pager(l, sv))
		l.Close()
		if last = err; err == nil || begun || ctx.Err() != nil || !elsewhere(err) {
			break
		}
	}
	return last
}

// elsewhere reports whether another server may do better: this one is in trouble, or too busy.
func elsewhere(err error) bool {
	e, is := errors.AsType[*incomplete](err)
	return errors.Is(err, ErrUnavailable) || is && (e.code == wire.ResultBusy || e.code == wire.ResultUnavailable)
}

// digest stands for the canonical identity of an entry.
type digest [16]byte

func digestOf(key string) digest {
	sum := sha256.Sum256([]byte(key))
	return digest(sum[:len(digest{})])
}

// trait is what a listing knows of an entry.
type trait uint8

const (
	isEligible trait = 1 << iota // it matches the enabled filter
	isTaken                      // it was taken
)

// listing is one list of users.
type listing struct {
	up *Upstream
	sv *survey
	*pager
	each  func(e *auth.Entry) error
	known map[digest]trait
	page  []*auth.Entry // read, and not given yet
	given int
}

// run reads who is eligible, which the directory decides, and then all.
func (l *listing) run(ctx context.Context, filter []byte) error {
	if l.sv.enabled != nil {
		identity := wire.AppendStrings(nil, identities[:]...)
		for _, base := range l.up.lookup.outer {
			if err := l.all(ctx, base, wire.AppendAnd(nil, l.sv.eligible, filter), identity, l.note, nil); err != nil {
				return err
			}
		}
	}
	for _, base := range l.up.lookup.outer {
		err := l.all(ctx, base, wire.AppendAnd(nil, l.up.lookup.filter, filter), l.up.lookup.selection, l.take, l.give)
		if err == nil {
			err = l.give(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// note marks an entry as eligible.
func (l *listing) note(se wire.SearchEntry) error {
	key, err := keyOf(se)
	l.known[digestOf(key)] |= isEligible
	return err
}

// take takes a user into the page; one below two bases counts once.
func (l *listing) take(se wire.SearchEntry) error {
	e, err := l.up.entry(l.sv, se)
	if err != nil {
		return err
	}
	d := digestOf(e.Key)
	m := l.known[d]
	if m&isTaken == 0 {
		l.known[d] = m | isTaken
		e.Eligible = l.sv.enabled == nil || m&isEligible != 0
		l.page = append(l.page, e)
	}
	return nil
}

// give hands the page out.
func (l *listing) give(context.Context) error {
	for _, e := range l.page {
		l.given++
		if err := l.each(e); err != nil {
			return err
		}
	}
	clear(l.page)
	l.page = l.page[:0]
	return nil
}

// Counts is how many entries the filters find.
type Counts struct {
	// Users match users.filter below users.bases, Eligible the enabled filter too,
	// Readable of those show a value of the secrets attribute.
	Users, Eligible, Readable int
	// Limit is not nil where the directory cut an answer short: the numbers are lower bounds, and EachUser
	// fails likewise. It says what to do.
	Limit error
}

// Count counts the users, in pages as EachUser does; it reads them all.
func (u *Upstream) Count(ctx context.Context) (c Counts, err error) {
	sv, err := u.surveyed(ctx)
	if err != nil {
		return c, err
	}
	withSecret, err := compileFilter("app_passwords.attribute", "("+u.cfg.AppPasswords.Attribute+"=*)")
	if err != nil {
		return c, err
	}
	err = u.paging(ctx, sv, func(p *pager) (bool, error) {
		c = Counts{}
		for _, q := range []struct {
			filter []byte
			to     *int
		}{
			{u.lookup.filter, &c.Users},
			{sv.eligible, &c.Eligible},
			{wire.AppendAnd(nil, sv.eligible, withSecret), &c.Readable},
		} {
			for _, base := range u.lookup.outer {
				err := p.all(ctx, base, q.filter, wire.AppendStrings(nil, "1.1"), func(wire.SearchEntry) error { *q.to++; return nil }, nil)
				switch {
				case CutShort(err):
					c.Limit = err
				case err != nil:
					return false, err
				}
			}
		}
		return false, nil
	})
	return c, err
}
