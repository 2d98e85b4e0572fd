package history

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"appbind/events"
)

const (
	// maxPending bounds the rows that wait to be written: some megabytes.
	maxPending = 20000
	// maxFailures bounds the rows of failures that one entry gets on one day. What
	// comes on top is counted by the day, without the address.
	maxFailures = 200
	// maxFailing bounds the entries for which failures are counted.
	maxFailing = 20000
	// maxText bounds the texts in bytes; a DN may be as long as a message.
	maxText = 512
)

// aDay is the interval of failures beyond maxFailures.
const aDay = 24 * time.Hour

// what tells the row of an event from others.
type rowKey struct {
	entry, kind, ident, denied, service string
	note                                string // issued or revoked; "": a use or a failure
	addr                                netip.Addr
	bucket                              int64 // the interval's begin, in milliseconds since 1970; of a note, its time
}

// row is events that are alike.
type row struct {
	rowKey
	dn, id, label, listener string
	peer                    netip.Addr
	first, last             int64 // milliseconds since 1970
	times                   int64
	sighting                events.Kind // what was noticed when it was written; "": nothing
}

// pending is what was recorded and is not yet written.
type pending struct {
	interval time.Duration
	rows     map[rowKey]*row
	day      int64          // for which failing counts
	failing  map[string]int // rows of failures by entry
}

func newPending(interval time.Duration) *pending {
	return &pending{interval: interval, rows: map[rowKey]*row{}, failing: map[string]int{}}
}

// add merges an event; false: there is no room.
func (p *pending) add(e *Event) bool {
	at := e.Time.UnixMilli()
	r := row{
		rowKey:   rowKey{entry: key(e.Entry), kind: e.Kind, ident: ident(e), denied: clean(e.Denied), service: clean(e.Service), addr: e.Addr.Unmap().WithZone("")},
		dn:       clean(e.DN),
		id:       clean(e.ID),
		label:    clean(e.Label),
		listener: clean(e.Listener),
		peer:     e.Peer.Unmap().WithZone(""),
		first:    at, last: at, times: 1,
	}
	r.bucket = floor(at, p.interval)
	if r.denied != "" && p.rows[r.rowKey] == nil && !p.mayFail(r.entry, at) {
		r.bucket, r.addr, r.peer = floor(at, aDay), netip.Addr{}, netip.Addr{}
	}
	return p.merge(&r)
}

// mayFail counts a new row of failures, and reports whether the entry may have it.
func (p *pending) mayFail(entry string, at int64) bool {
	if day := floor(at, aDay); day != p.day {
		p.day = day
		clear(p.failing)
	}
	n, known := p.failing[entry]
	if n >= maxFailures || !known && len(p.failing) >= maxFailing {
		return false
	}
	p.failing[entry] = n + 1
	return true
}

// merge puts a row to what is there; false: there is no room.
func (p *pending) merge(r *row) bool {
	have := p.rows[r.rowKey]
	if have == nil {
		if len(p.rows) >= maxPending {
			return false
		}
		p.rows[r.rowKey] = r
		return true
	}
	if r.last >= have.last {
		have.dn, have.listener, have.peer, have.last = r.dn, r.listener, r.peer, r.last
		have.label = cmp.Or(r.label, have.label)
	}
	have.first = min(have.first, r.first)
	have.times += r.times
	return true
}

// take hands out all rows in one order for all writers: two that take locks in
// different orders would wait for each other.
func (p *pending) take() []*row {
	rows := make([]*row, 0, len(p.rows))
	for _, r := range p.rows {
		rows = append(rows, r)
	}
	clear(p.rows)
	slices.SortFunc(rows, func(a, b *row) int {
		return cmp.Or(strings.Compare(a.entry, b.entry), strings.Compare(a.kind, b.kind), strings.Compare(a.ident, b.ident),
			cmp.Compare(a.bucket, b.bucket), strings.Compare(a.note, b.note), strings.Compare(a.denied, b.denied), strings.Compare(a.service, b.service), a.addr.Compare(b.addr))
	})
	return rows
}

// ident tells an app password from the others of its user: "i" and the selector, or "l" and the label.
func ident(e *Event) string {
	switch {
	case e.Kind != App:
		return ""
	case e.ID != "":
		return "i" + clean(e.ID)
	}
	return "l" + clean(e.Label)
}

// floor is the begin of the interval that holds at, both in milliseconds.
func floor(at int64, interval time.Duration) int64 {
	n := interval.Milliseconds()
	return at - (at%n+n)%n
}

// key is an entry's identity for the store. It may be a DN of any length: cut, it would be another's too.
func key(entry string) string {
	text := clean(entry)
	if text == entry {
		return text
	}
	sum := sha256.Sum256([]byte(entry))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// clean makes a text that every store takes: UTF-8 without control characters (PostgreSQL refuses a NUL), of bounded length.
func clean(s string) string {
	if len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > maxText {
		cut := maxText
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	return s
}
