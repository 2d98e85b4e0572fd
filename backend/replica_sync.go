package backend

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"appbind/wire"
)

// The OIDs of RFC 4533.
const (
	oidSyncRequest = "1.3.6.1.4.1.4203.1.9.1.1"
	oidSyncState   = "1.3.6.1.4.1.4203.1.9.1.2"
	oidSyncInfo    = "1.3.6.1.4.1.4203.1.9.1.4"
)

// syncRequest is the control that asks for refreshAndPersist without a cookie
// (RFC 4533 2.2): SEQUENCE { mode ENUMERATED 3 }. Resuming with a cookie is
// never asked for: slapd sends no delete then for what was removed meanwhile.
func syncRequest() []byte {
	return wire.AppendControl(nil, oidSyncRequest, true, []byte{wire.TagSequence, 3, 0x0a, 1, 3})
}

// The states of an entry (RFC 4533 2.3).
const (
	statePresent = iota
	stateAdd
	stateModify
	stateDelete
)

// uuidSize is the octets of a syncUUID (RFC 4533 2.1).
const uuidSize = 16

// errSync refuses what is not the protocol of RFC 4533, or a turn of it that
// was not asked for. A new refresh puts it right.
var errSync = errors.New("unexpected message of the content synchronization")

// syncState is a Sync State control (RFC 4533 2.3).
type syncState struct {
	state  byte
	id     string
	cookie []byte
}

// syncStateOf finds the Sync State control of an entry.
func syncStateOf(controls []byte) (syncState, error) {
	var value []byte
	err := wire.EachControl(controls, func(c wire.Control) bool {
		if string(c.OID) == oidSyncState {
			value = c.Value
		}
		return value == nil
	})
	var st syncState
	if err != nil || value == nil {
		return st, errSync
	}
	content, rest, err := wire.Expect(value, wire.TagSequence)
	if err != nil || len(rest) != 0 {
		return st, errSync
	}
	state, content, err := wire.Expect(content, 0x0a)
	if err != nil || len(state) != 1 || state[0] > stateDelete {
		return st, errSync
	}
	id, content, err := wire.Expect(content, wire.TagOctetString)
	if err != nil || len(id) != uuidSize {
		return st, errSync
	}
	st.state, st.id = state[0], string(id)
	if len(content) > 0 {
		if st.cookie, _, err = wire.Expect(content, wire.TagOctetString); err != nil {
			return st, errSync
		}
	}
	return st, nil
}

// The choices of a Sync Info message (RFC 4533 2.5).
const (
	infoNewCookie      = 0x80
	infoRefreshDelete  = 0xa1
	infoRefreshPresent = 0xa2
	infoIDSet          = 0xa3
)

// syncInfo is a Sync Info message.
type syncInfo struct {
	choice byte
	cookie []byte
	// flag is refreshDone, which is true when absent, or refreshDeletes, which is false when absent.
	flag bool
	ids  []string
}

func decodeSyncInfo(value []byte) (syncInfo, error) {
	tag, content, rest, err := wire.Element(value)
	in := syncInfo{choice: tag, flag: tag != infoIDSet}
	if err != nil || len(rest) != 0 || tag != infoNewCookie && (tag < infoRefreshDelete || tag > infoIDSet) {
		return in, errSync
	}
	if tag == infoNewCookie {
		in.cookie = content
		return in, nil
	}
	if len(content) > 0 && content[0] == wire.TagOctetString {
		if in.cookie, content, err = wire.Expect(content, wire.TagOctetString); err != nil {
			return in, errSync
		}
	}
	if len(content) > 0 && content[0] == wire.TagBoolean {
		var flag []byte
		if flag, content, err = wire.Expect(content, wire.TagBoolean); err != nil || len(flag) != 1 {
			return in, errSync
		}
		in.flag = flag[0] != 0
	}
	if tag != infoIDSet {
		return in, nil
	}
	set, rest, err := wire.Expect(content, 0x31)
	if err != nil || len(rest) != 0 {
		return in, errSync
	}
	for len(set) > 0 {
		var id []byte
		if id, set, err = wire.Expect(set, wire.TagOctetString); err != nil || len(id) != uuidSize {
			return in, errSync
		}
		in.ids = append(in.ids, string(id))
	}
	return in, nil
}

// csns are change sequence numbers, the latest by the server that gave it (the
// third part: time#count#server#mod). They compare as text.
type csns map[string]string

// take notes a number if it is later.
func (c csns) take(csn string) {
	if parts := strings.Split(csn, "#"); len(parts) == 4 && csn > c[parts[2]] {
		c[parts[2]] = csn
	}
}

// takeCookie notes the numbers of OpenLDAP's cookie: rid=000,sid=001,csn=A;B,delcsn=C.
func (c csns) takeCookie(cookie []byte) {
	for part := range strings.SplitSeq(string(cookie), ",") {
		if list, found := strings.CutPrefix(part, "csn="); found {
			for csn := range strings.SplitSeq(list, ";") {
				c.take(csn)
			}
		}
	}
}

// covers reports whether c is nowhere behind other.
func (c csns) covers(other csns) bool {
	for server, csn := range other {
		if c[server] < csn {
			return false
		}
	}
	return len(other) > 0
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

// nameKeys are the keys of an entry in table.byName, and whether an attribute came that is none of those asked for.
func (u *Upstream) nameKeys(sv *survey, se wire.SearchEntry) (keys []string, odd bool) {
	_ = wire.EachAttribute(se.Attributes, func(a wire.Attribute) bool { // checked by ValidateResponse
		name, _, _ := strings.Cut(strings.ToLower(string(a.Type)), ";")
		switch {
		case u.replica.names[name]:
			_ = wire.EachString(a.Values, func(v []byte) bool {
				if key, plain := plainName(string(v)); plain {
					keys = appendNew(keys, key)
				}
				return true
			})
		case identity(a.Type) < 0 && !sv.schema.Secrets(a.Type) && !isState(name):
			odd = true
		}
		return true
	})
	return keys, odd
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

// isState reports whether a name, in lower case, is one of stateAttributes.
func isState(name string) bool {
	for _, a := range stateAttributes {
		if len(a.name) == len(name) && strings.EqualFold(a.name, name) {
			return true
		}
	}
	return false
}

// record makes a record of an entry.
func (u *Upstream) record(sv *survey, t *table, se wire.SearchEntry) (*record, string, error) {
	e, err := u.entry(sv, se)
	if err != nil {
		return nil, "", err
	}
	e.Eligible, e.Copied = true, true
	keys, odd := u.nameKeys(sv, se)
	if odd {
		t.mu.Lock()
		t.odd = true
		t.mu.Unlock()
	}
	dn, err := wire.ParseDN(e.DN)
	if err != nil || len(dn) == 0 {
		return nil, "", errSync // unreachable: entry has parsed it
	}
	_, tail, err := wire.CutDN(e.DN, len(dn)-1)
	if err != nil {
		return nil, "", err
	}
	return &record{entry: e, parent: dn[1:].Key(), names: keys}, tail, nil
}
