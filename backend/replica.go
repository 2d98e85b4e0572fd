package backend

import (
	"bytes"
	"errors"
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
// A session is one link to one server (replica_session.go). Its source, picked
// by what the server says of itself, fills a table and keeps it as the server is:
// by RFC 4533 (replica_content.go), or by asking every few seconds what changed
// (replica_poll.go). When the session ends, for whatever reason, all that it told
// is dropped and the next one starts from nothing, since another server numbers
// its changes otherwise and no server tells what a cookie of before has missed.
//
// The table answers only while it is current: the source proves, again and
// again, that it is what the server held a moment ago, and looks whether the
// parents of the users are the entries that they were: of a renamed parent hardly
// any server tells. Whatever the table cannot answer for certain (no or no single
// entry, an unusual spelling, not current) is looked up live.
type replica struct {
	on        bool
	names     map[string]bool       // the attributes of name_filter, in lower case; nil: names are looked up live
	selection []byte                // the attributes of the search, besides those for an outage
	table     atomic.Pointer[table] // of the session; nil: none

	last     atomic.Pointer[table] // the last that was current: that of the session, or of one before; for an outage
	maxStale time.Duration         // app_passwords.max_stale; 0: no outage mode
	wanted   []string              // attributes for searches in an outage, see copied.go
	key      string                // what the copy depends on, see copyKey

	// proofPause, pollPause and leastListPause, but in tests.
	pause, poll, list time.Duration
	share             time.Duration // listShare, but in tests

	mu      sync.Mutex    // guards the fields below
	source  source        // of the last session; nil before the first
	err     error         // how the last session ended; nil while one is current
	decided chan struct{} // closed when the first session is current or has failed
	known   bool          // decided is closed
}

func (r *replica) init(cfg *config.Config, l *lookup) {
	r.on, r.decided = cfg.AppPasswords.Lookup == "replica", make(chan struct{})
	r.pause, r.poll, r.list, r.share = proofPause, pollPause, leastListPause, listShare
	r.key, r.names = copyKey(cfg), nameAttributes(l.nameFilter)
	r.selection = l.selection
	for name := range r.names {
		r.selection = wire.AppendStrings(slices.Clip(r.selection), name)
	}
	if r.on && cfg.AppPasswords.MaxStale > 0 {
		r.maxStale, r.wanted = time.Duration(cfg.AppPasswords.MaxStale), wantedAttributes(cfg, l)
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
	if t == nil || u.Down() { // the session is about to end; in an outage nothing is refused by a copy
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

// follows notes by what source the session learns.
func (r *replica) follows(s source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.source = s
}
