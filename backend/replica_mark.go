package backend

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"appbind/wire"
)

// mark selects the entries that were changed since the last look, by what the
// server itself writes into them. Neither the secrets nor the state of the account
// are in its filter: a value removed, an account disabled would never be seen.
type mark interface {
	// about is what the server writes, for an administrator, and the attributes that listed and saw need.
	about() (name string, attributes []string)
	// since is the filter of what changed, or may have, since the last look that ended with
	// looked; nil: nothing did. The first call marks the beginning and is followed by a list.
	since(ctx context.Context, now time.Time) ([]byte, error)
	// listed takes an entry of a list; false: it does not show what tells of its changes.
	listed(se wire.SearchEntry, now time.Time) bool
	// saw takes an entry of a look.
	saw(se wire.SearchEntry, now time.Time)
	// looked says that the look that began at that time saw everything.
	looked(began time.Time)
}

// usnMark is Active Directory's: each change of an entry gives it the server's
// next update sequence number. The numbers are the server's own: another server has others.
// The root DSE's highestCommittedUSN is read first, and whatever has a higher number comes with the next look.
type usnMark struct {
	session *session
	last    int64 // everything up to here was seen; 0: not begun
	high    int64 // highestCommittedUSN of the look under way
}

func (m *usnMark) about() (string, []string) { return "uSNChanged", nil }

func (m *usnMark) since(ctx context.Context, _ time.Time) ([]byte, error) {
	text := ""
	search := &wire.SearchRequest{Scope: wire.ScopeBase, Filter: presentObjectClass, Attributes: wire.AppendStrings(nil, "highestCommittedUSN")}
	r, err := m.session.link.search(ctx, search, nil, func(se wire.SearchEntry, _ []byte) error {
		return wire.EachAttribute(se.Attributes, func(a wire.Attribute) bool { text = firstValue(a); return true })
	})
	if err != nil {
		return nil, err
	}
	m.high, err = strconv.ParseInt(text, 10, 64)
	switch {
	case r.Code != wire.ResultSuccess:
		return nil, codeError("highestCommittedUSN", r)
	case err != nil || m.high <= 0:
		return nil, errors.New("the root DSE does not show highestCommittedUSN")
	case m.high < m.last:
		return nil, errors.New("highestCommittedUSN went back: the server was restored, or is another one")
	case m.last == 0:
		m.last = m.high
	}
	if m.high == m.last {
		return nil, nil
	}
	return compileFilter("uSNChanged", fmt.Sprintf("(uSNChanged>=%d)", m.last+1))
}

func (m *usnMark) listed(wire.SearchEntry, time.Time) bool { return true }

func (m *usnMark) saw(wire.SearchEntry, time.Time) {}

func (m *usnMark) looked(time.Time) { m.last = max(m.last, m.high) }

// overlap is how much later than its time stamp a change may become visible: the
// server stamps it when it begins, and small steps of its clock must do no harm.
const overlap = 30 * time.Second

// stampMark is that of all other servers: modifyTimestamp (RFC 4512 3.4.4), and
// createTimestamp for those that set the first only at a change. Only the server's own
// stamps are compared, never our clock with its.
//
// Stamps have whole seconds, and changes may become visible in another order than
// their stamps: what is asked for begins at the latest stamp seen, less overlap. Once a look
// that began an overlap after that stamp was first seen finds nothing later, it begins a second after the stamp: else all that an
// import stamped with one second would be read with every look. A list raises the stamp before the first look only: what it read early may
// have changed before what it read late. For the same reason the first look begins earlier, by the time that the list took.
//
// What arrives from another server with an older stamp, by a replication that was interrupted, is seen by the full list only.
type stampMark struct {
	begun   time.Time // when the first list began, by our clock
	looks   bool      // a look is complete
	last    time.Time // the latest stamp seen
	seenAt  time.Time // when it was seen first, by our clock
	settled bool      // everything up to last was seen
}

func (m *stampMark) about() (string, []string) {
	return "modifyTimestamp", []string{"modifyTimestamp", "createTimestamp"}
}

func (m *stampMark) since(_ context.Context, now time.Time) ([]byte, error) {
	if m.begun.IsZero() {
		m.begun = now
		return nil, nil
	}
	from := time.Unix(0, 0)
	switch {
	case m.last.IsZero(): // no user was there
	case m.settled:
		from = m.last.Truncate(time.Second).Add(time.Second)
	case !m.looks:
		from = m.last.Add(-overlap - now.Sub(m.begun))
	default:
		from = m.last.Add(-overlap)
	}
	text := from.UTC().Format("20060102150405Z")
	return compileFilter("modifyTimestamp", fmt.Sprintf("(|(modifyTimestamp>=%s)(createTimestamp>=%s))", text, text))
}

func (m *stampMark) listed(se wire.SearchEntry, now time.Time) bool {
	t := stampOf(se)
	if !m.looks {
		m.take(t, now)
	}
	return !t.IsZero()
}

func (m *stampMark) saw(se wire.SearchEntry, now time.Time) { m.take(stampOf(se), now) }

func (m *stampMark) take(t, now time.Time) {
	if t.After(m.last) {
		m.last, m.seenAt, m.settled = t, now, false
	}
}

func (m *stampMark) looked(began time.Time) {
	m.looks = true
	if began.Sub(m.seenAt) >= overlap {
		m.settled = true
	}
}

// stampOf is the later of an entry's stamps; zero: it shows none.
func stampOf(se wire.SearchEntry) (stamp time.Time) {
	_ = wire.EachAttribute(se.Attributes, func(a wire.Attribute) bool { // checked by ValidateResponse
		if t, err := generalizedTime(firstValue(a)); isStamp(string(a.Type)) && err == nil && t.After(stamp) {
			stamp = t
		}
		return true
	})
	return stamp
}

// isStamp reports whether an attribute is one of stampMark's.
func isStamp(name string) bool {
	return strings.EqualFold(name, "modifyTimestamp") || strings.EqualFold(name, "createTimestamp")
}
