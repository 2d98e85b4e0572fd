package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"appbind/wire"
)

// contentSync is the source of OpenLDAP: RFC 4533 refreshAndPersist below each
// base, with the eligibility filter, so that an account which is disabled arrives
// as a delete. What it tells is applied as it comes, in the link's reader.
//
// A proof reads contextCSN on the same link and waits until the synchronized
// searches have told everything up to there. It also looks whether the parents of
// the users are the entries that they were: of a renamed parent slapd tells nothing.
type contentSync struct {
	*session
	followers []*follower
	moved     chan struct{} // tells that a follower has got on
	suffixes  []string      // whose contextCSN is read
}

func newContentSync(s *session) (*contentSync, error) {
	c := &contentSync{session: s, moved: make(chan struct{}, 1)}
	if c.suffixes = suffixesOf(s.sv.root.namingContexts, s.up.lookup.outer); c.suffixes == nil {
		return nil, errNoContext
	}
	for range s.up.lookup.outer {
		f := &follower{table: s.table, moved: c.moved, seen: csns{}, fail: s.fail}
		f.make = func(se wire.SearchEntry) (*record, string, error) { return s.up.record(s.sv, s.table, se) }
		c.followers = append(c.followers, f)
	}
	return c, nil
}

// String says how changes come.
func (c *contentSync) String() string {
	return fmt.Sprintf("content synchronization (RFC 4533): changes are pushed, and proven complete every %v", c.up.replica.pause)
}

func (c *contentSync) next() (time.Duration, <-chan struct{}) { return c.up.replica.pause, nil }

// errNoContext says that a base is not the server's.
var errNoContext = errors.New("users.bases are below none of the server's naming contexts")

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

// load starts the synchronized searches and waits until all is told.
func (c *contentSync) load(ctx context.Context) error {
	for i, base := range c.up.lookup.outer {
		search := &wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: c.sv.eligible, Attributes: c.wanted}
		if _, err := c.link.Send(wire.OpSearchRequest, search.Append(nil), syncRequest(), c.followers[i], false); err != nil {
			return err
		}
	}
	for {
		before := c.link.heard.Load()
		silence, stop := c.up.clock.timer(refreshSilence)
		select {
		case <-c.moved:
			stop()
		case <-ctx.Done():
			stop()
			return ctx.Err()
		case <-silence:
			if c.link.heard.Load() == before {
				return fmt.Errorf("%w: %s sends nothing in the refresh", ErrUnavailable, c.link.Server())
			}
		}
		if !slices.ContainsFunc(c.followers, func(f *follower) bool { return !f.done() }) {
			return nil
		}
	}
}

// prove asks how far the server is and waits until the searches have told as much.
func (c *contentSync) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	at := c.up.clock.now()
	want, err := c.contextCSN(ctx)
	if err != nil {
		return err
	}
	if err := c.checkParents(ctx); err != nil {
		return err
	}
	for slices.ContainsFunc(c.followers, func(f *follower) bool { return !f.reached(want) }) {
		select {
		case <-c.moved:
		case <-ctx.Done():
			return fmt.Errorf("%s did not tell all changes in time", c.link.Server())
		}
	}
	if ctx.Err() == nil {
		c.table.prove(at)
	}
	return ctx.Err()
}

// contextCSN reads how far the server is.
func (c *contentSync) contextCSN(ctx context.Context) (csns, error) {
	want := csns{}
	for _, suffix := range c.suffixes {
		found := 0
		search := &wire.SearchRequest{Base: []byte(suffix), Scope: wire.ScopeBase, Filter: presentObjectClass,
			Attributes: wire.AppendStrings(nil, "contextCSN")}
		r, err := c.link.search(ctx, search, nil, func(se wire.SearchEntry, _ []byte) error {
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

// follower is the sink of one synchronized search, below one base. It applies
// what it hears to the table itself, in the link's reader.
type follower struct {
	table *table
	make  func(se wire.SearchEntry) (r *record, parentDN string, err error)
	fail  func(error) // ends the session; the first error counts
	moved chan<- struct{}

	mu        sync.Mutex // guards the fields below; no I/O under it
	seen      csns
	refreshed bool
}

// Deliver takes one message. Whatever is not expected ends the session, and a
// new refresh follows.
func (f *follower) Deliver(m wire.Message, final, _ bool) {
	var err error
	switch {
	case final:
		err = f.ended(m)
	case m.Op == wire.OpSearchResultEntry:
		err = f.entry(m)
	case m.Op == wire.OpIntermediateResponse:
		err = f.info(m)
	case m.Op == wire.OpSearchResultReference: // never followed
	}
	if err != nil {
		f.fail(err)
	}
}

// Lost takes the end of the link.
func (f *follower) Lost(err error) { f.fail(err) }

// ended makes an error of the final response: there is none that is good, since
// the search was to go on.
func (f *follower) ended(m wire.Message) error {
	r, err := wire.DecodeResult(m.Body)
	if err != nil {
		return err
	}
	return &syncRefused{code: r.Code, diagnostic: string(r.Diagnostic)}
}

// entry takes a SearchResultEntry: what it says replaces what was held under its ID.
func (f *follower) entry(m wire.Message) error {
	st, err := syncStateOf(m.Controls)
	if err != nil {
		return err
	}
	switch st.state {
	case stateAdd, stateModify:
		se, err := wire.DecodeEntry(m.Body)
		if err != nil {
			return err
		}
		r, parentDN, err := f.make(se)
		if err != nil {
			return err
		}
		f.table.put(st.id, r, parentDN)
	case stateDelete:
		f.table.remove(st.id)
	case statePresent:
		return errSync // only in an answer to a cookie
	}
	f.takeCookie(st.cookie, false)
	return nil
}

// info takes a Sync Info message; other intermediate responses mean nothing to us.
func (f *follower) info(m wire.Message) error {
	name, value, err := wire.IntermediateBody(m.Body)
	if err != nil || !bytes.Equal(name, []byte(oidSyncInfo)) {
		return err
	}
	in, err := decodeSyncInfo(value)
	if err != nil {
		return err
	}
	done := false
	switch in.choice {
	case infoRefreshDelete, infoRefreshPresent:
		done = in.flag
	case infoIDSet:
		if !in.flag {
			return errSync // a set of those that are still there: only in an answer to a cookie
		}
		for _, id := range in.ids {
			f.table.remove(id)
		}
	}
	f.takeCookie(in.cookie, done)
	return nil
}

// takeCookie notes how far the server has told; done: the refresh is complete.
func (f *follower) takeCookie(cookie []byte, done bool) {
	if cookie == nil && !done {
		return
	}
	f.mu.Lock()
	f.seen.takeCookie(cookie)
	f.refreshed = f.refreshed || done
	f.mu.Unlock()
	select {
	case f.moved <- struct{}{}:
	default: // it is told already
	}
}

// reached reports whether the refresh is complete and everything up to these
// numbers was heard.
func (f *follower) reached(want csns) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refreshed && f.seen.covers(want)
}

// done reports whether the refresh is complete.
func (f *follower) done() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refreshed
}

// syncRefused is a synchronized search that ended.
type syncRefused struct {
	code       int32
	diagnostic string
}

// Error says what to do about the code, where it can be guessed.
func (e *syncRefused) Error() string {
	hint := ""
	switch e.code {
	case wire.ResultSizeLimitExceeded, wire.ResultAdminLimitExceeded:
		hint = `: raise the size limit for upstream.bind_dn, with slapd: limits dn.exact="..." size=unlimited`
	case wire.ResultTimeLimitExceeded:
		hint = `: raise the time limit for upstream.bind_dn, with slapd: limits dn.exact="..." time=unlimited`
	case wire.ResultUnavailableCriticalExtension:
		hint = ": the database needs the overlay syncprov"
	}
	return fmt.Sprintf("the synchronized search ended with result %d %q%s", e.code, e.diagnostic, hint)
}
