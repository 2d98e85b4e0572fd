package backend

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"appbind/wire"
)

// The controls that make a server tell of changes, besides that of RFC 4533.
const (
	oidNotification     = "1.2.840.113556.1.4.528"  // Active Directory, MS-ADTS 3.1.1.3.4.1.9
	oidPersistentSearch = "2.16.840.1.113730.3.4.3" // draft-ietf-ldapext-psearch
)

// hintKind is one way in which a server tells of changes.
type hintKind struct {
	name    string
	oid     string
	control []byte
	// refresh: everything is told first, until a Sync Info message ends that.
	refresh bool
	// contexts: below the naming contexts instead of below the bases.
	contexts bool
}

// hintKinds are the ways, the best one first. What they tell is never believed,
// only looked into: 389 DS tells of failed binds too, applies no access control to what it tells (2.3.1), and
// does not resume without losing changes. Active Directory takes a whole subtree at the root of a naming context only
// (Windows, by its documentation), and there it also tells where an entry went that was moved out of the bases.
var hintKinds = [...]hintKind{
	{name: "change notification", oid: oidNotification, control: wire.AppendControl(nil, oidNotification, true, nil), contexts: true},
	{name: "content synchronization (RFC 4533)", oid: oidSyncRequest, control: syncRequest(), refresh: true},
	// SEQUENCE { changeTypes INTEGER 15 (all), changesOnly TRUE, returnECs FALSE }
	{name: "persistent search", oid: oidPersistentSearch,
		control: wire.AppendControl(nil, oidPersistentSearch, true, []byte{wire.TagSequence, 9, wire.TagInteger, 1, 15, wire.TagBoolean, 1, 0xff, wire.TagBoolean, 1, 0})},
}

// hinter has the server tell of changes, as long as it will. A server that
// does not, or stops, is polled all the same: a hint only makes it sooner.
type hinter struct {
	*session
	touched *touched
	hints   chan struct{} // calls for a look
	parents atomic.Bool   // an entry above users has changed
	started *hintRound    // the last one; used by the session's goroutine alone
	log     rareLog

	mu    sync.Mutex // guards the fields below; no I/O under it
	kinds []hintKind // those that the server offers
	next  int        // which is tried next
	round *hintRound // the one that tells; nil: none
}

// hintRound is one kind tried once.
type hintRound struct {
	kind hintKind
	ids  []int32 // of its searches; used by the session's goroutine alone
}

func newHinter(s *session, t *touched) *hinter {
	h := &hinter{session: s, touched: t, hints: make(chan struct{}, 1)}
	for _, k := range hintKinds {
		if s.sv.root.offers(k.oid) {
			h.kinds = append(h.kinds, k)
		}
	}
	return h
}

// active names the kind that tells; "": none does.
func (h *hinter) active() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.round == nil {
		return ""
	}
	return h.round.kind.name
}

// retry lets the kinds that were refused or have ended be tried again.
func (h *hinter) retry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.round == nil {
		h.next = 0
	}
}

// tend starts the next kind where none tells.
func (h *hinter) tend(l *Link) {
	h.mu.Lock()
	if h.round != nil || h.next == len(h.kinds) {
		h.mu.Unlock()
		return
	}
	round := &hintRound{kind: h.kinds[h.next]}
	h.next++
	h.round = round
	h.mu.Unlock()
	if h.started != nil {
		for _, id := range h.started.ids {
			l.Abandon(id) // those of several bases that have not ended
		}
	}
	h.started = round
	bases := h.up.lookup.outer
	if round.kind.contexts {
		bases = suffixesOf(h.sv.root.namingContexts, bases)
	}
	for _, base := range bases {
		search := &wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: presentObjectClass, Attributes: wire.AppendStrings(nil, identities[:]...)}
		sink := &hintSink{hinter: h, round: round, refresh: round.kind.refresh}
		id, err := l.Send(wire.OpSearchRequest, search.Append(nil), round.kind.control, sink, false)
		if err != nil {
			return // the link is lost, and the next search says so
		}
		round.ids = append(round.ids, id)
	}
}

// ended ends a round that the server has ended.
func (h *hinter) ended(round *hintRound, err error) {
	h.mu.Lock()
	ours := h.round == round
	if ours {
		h.round = nil
	}
	h.mu.Unlock()
	if ours && h.log.allow(h.up.clock.now()) {
		h.up.log.Warn("the directory tells of no changes, they are polled", "upstream", h.link.Server(), "by", round.kind.name, "error", err)
	}
	h.call()
}

// call calls for a look.
func (h *hinter) call() {
	select {
	case h.hints <- struct{}{}:
	default: // it is called for already
	}
}

// changed takes a changed entry out of the table: until the next look it is
// looked up live. What lies elsewhere is no matter of ours, unless it was a user or has users below.
func (h *hinter) changed(dn string, keys ...string) {
	ours := false
	for _, k := range keys {
		ours = h.table.remove(k) || ours
		if h.table.isParent(k) {
			h.parents.Store(true)
			ours = true
		}
	}
	h.table.vacate(dn, "")
	h.touched.note(append(keys, strings.ToLower(dn))...)
	parsed, err := wire.ParseDN(dn)
	if ours || err != nil || slices.ContainsFunc(h.sv.bases, parsed.HasSuffix) {
		h.call()
	}
}

// hintSink is the sink of one of a round's searches.
type hintSink struct {
	hinter  *hinter
	round   *hintRound
	refresh bool // what comes is not a change yet
}

// Deliver takes one message.
func (s *hintSink) Deliver(m wire.Message, final, _ bool) {
	switch {
	case final:
		r, err := wire.DecodeResult(m.Body)
		if err == nil {
			err = fmt.Errorf("result %d %q", r.Code, r.Diagnostic)
		}
		s.hinter.ended(s.round, err)
	case m.Op == wire.OpIntermediateResponse:
		s.info(m)
	case m.Op == wire.OpSearchResultEntry && !s.refresh:
		s.entry(m)
	}
}

// Lost takes the end of the link, with which the session ends.
func (s *hintSink) Lost(error) {}

// entry takes an entry that may have changed, or, with a Sync State control, may be gone.
func (s *hintSink) entry(m wire.Message) {
	se, err := wire.DecodeEntry(m.Body)
	if err != nil {
		s.hinter.fail(err) // unreachable: the link has checked it
		return
	}
	keys := []string{}
	if st, err := syncStateOf(m.Controls); err == nil {
		keys = uuidKeys(st.id)
	}
	if key, err := keyOf(se); err == nil {
		keys = append(keys, key)
	}
	s.hinter.changed(string(se.DN), keys...)
}

// info takes a Sync Info message: the end of the refresh, or a set of entries that are gone.
func (s *hintSink) info(m wire.Message) {
	name, value, err := wire.IntermediateBody(m.Body)
	if err != nil || !bytes.Equal(name, []byte(oidSyncInfo)) {
		return
	}
	in, err := decodeSyncInfo(value)
	if err != nil {
		return
	}
	if (in.choice == infoRefreshDelete || in.choice == infoRefreshPresent) && in.flag {
		s.refresh = false
	}
	for _, id := range in.ids {
		s.hinter.changed("", uuidKeys(id)...)
	}
}

// uuidKeys are the keys that an entry with a syncUUID may have: 389 DS puts
// the dashes of nsUniqueId elsewhere than RFC 4122 does.
func uuidKeys(id string) []string {
	x := hex.EncodeToString([]byte(id))
	return []string{
		"entryuuid:" + x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:],
		"nsuniqueid:" + x[:8] + "-" + x[8:16] + "-" + x[16:24] + "-" + x[24:],
	}
}
