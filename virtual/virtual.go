// Package virtual is the entries that stand below a user for an LDAP client that
// manages app passwords: one for each, which is not in the directory.
//
//	dn: appPasswordId=k7qm,uid=alice,ou=people,dc=example,dc=org
//	objectClass: top
//	objectClass: appPasswordEntry
//	appPasswordId: k7qm
//	appPasswordLabel: phone
//	appPasswordCreated: 20260102030405Z
//	appPasswordExpires: 20270102030405Z
//	appPasswordService: imap
//	appPasswordNetwork: 192.0.2.0/24
//	appPasswordLastUsed: 20260304050607Z
//	appPasswordLastAddress: 192.0.2.77
//
// # Order of steps
//
// [Concerns] tells at the cost of a few comparisons whether a search may show
// such entries at all. [List] makes them of the values that a user has,
// [Entry.SetLastUse] adds what the history knows;
// [Entry.Matches] evaluates a filter and [Entry.Append] writes what a [Selection]
// asks for. [DecodeChanges] and [Changes.Apply] are a modify of one. [Definitions]
// are what the subschema says of them. Who may see them, and how a change gets into
// the directory, is decided elsewhere.
//
// # Security
//
// An entry has neither the hash nor the stored value, nor anything that is
// computed from them. It does not know of other attributes, so that no filter asks
// about any.
//
// # Limits
//
// The entries have no operational attributes but hasSubordinates and
// structuralObjectClass. Matching is that of the schema, with simple case folding;
// of extensible matches those that name an attribute, with its own rule or none.
package virtual

import (
	"bytes"
	"net/netip"
	"strings"
	"time"

	"appbind/manage"
	"appbind/secrets"
	"appbind/wire"
)

// Entry is one app password as an entry.
type Entry struct {
	DN     string // with the DN of its user as the directory spells it
	Handle string // the value of appPasswordId
	// ID and Label are those of the value, by which its uses are known. ID is "" where it has none.
	ID, Label string
	recalled  bool // whether it was used is known
	values    [attributes][]string
}

// List is the entries of a user's app passwords, in the order of their values.
// Values that share one handle, as two of one NAME made by other tools do, are
// one entry, which shows the first of them.
func List(userDN string, set *manage.Set) []*Entry {
	var list []*Entry
	seen := map[string]bool{} // by what Is compares
	for _, v := range set.Values {
		if v.Kind != secrets.App {
			continue
		}
		handle := manage.Handle(v)
		if key := fold(handle); !seen[key] {
			seen[key] = true
			list = append(list, newEntry(userDN, handle, v))
		}
	}
	return list
}

func newEntry(userDN, handle string, v *secrets.Value) *Entry {
	e := &Entry{Handle: handle, ID: v.ID, Label: v.Label, DN: wire.DN{{{Type: specs[id].name, Value: handle}}}.String() + "," + userDN}
	e.values = ofParams(&secrets.Params{Label: v.Label, Created: v.Created, Expires: v.Expires, Services: v.Services, Networks: v.Networks})
	e.values[objectClass] = []string{"top", Class}
	e.values[structuralClass] = []string{Class}
	e.values[hasSubordinates] = []string{"FALSE"}
	e.values[id] = []string{handle}
	return e
}

// SetLastUse says when the app password was last used, and from where. The zero
// time: never, as far as is known. Without this call nothing is known: what a
// filter asks about it is Undefined.
func (e *Entry) SetLastUse(at time.Time, from netip.Addr) {
	e.recalled = true
	e.values[lastUsed], e.values[lastFrom] = moment(at), nil
	if !at.IsZero() && from.IsValid() {
		e.values[lastFrom] = []string{from.Unmap().WithZone("").String()}
	}
}

// AsksForUses reports whether a search shows last uses, and whether its filter is about them.
func AsksForUses(s *wire.SearchRequest, sel Selection) (shown, filtered bool) {
	_ = wire.EachFilterItem(s.Filter, func(i wire.FilterItem) bool { // validated before
		filtered = isUse(find(i.Attribute))
		return !filtered
	})
	return sel.wanted[lastUsed] || sel.wanted[lastFrom], filtered
}

// isUse reports whether an attribute is about the last use.
func isUse(n int) bool { return n == lastUsed || n == lastFrom }

// ofParams is the values of what can be changed, and of the date of creation.
func ofParams(p *secrets.Params) (values [attributes][]string) {
	if p.Label != "" {
		values[label] = []string{strings.ToValidUTF8(p.Label, "\uFFFD")}
	}
	values[created], values[expires] = moment(p.Created), moment(p.Expires)
	values[service] = p.Services
	for _, n := range p.Networks {
		values[network] = append(values[network], n.String())
	}
	return values
}

// moment is a time as a GeneralizedTime; the zero time is no value.
func moment(t time.Time) []string {
	if t.IsZero() {
		return nil
	}
	return []string{t.UTC().Format("20060102150405Z")}
}

// Concern is why a search may show entries of this package.
type Concern int

const (
	// None: it cannot.
	None Concern = iota
	// Below: its scope reaches below its base, which may be a user.
	Below
	// Named: its filter names the class, wherever its base stands.
	Named
	// Self: its base is such an entry.
	Self
)

// Concerns tells why a search may show such entries. It does not allocate.
func Concerns(s *wire.SearchRequest) Concern {
	switch {
	case IsEntry(s.Base):
		return Self
	case s.Scope == wire.ScopeBase:
		return None
	case namesClass(s.Filter):
		return Named
	}
	return Below
}

// namesClass reports whether an item of a filter compares objectClass with the class.
func namesClass(filter []byte) bool {
	found := false
	_ = wire.EachFilterItem(filter, func(i wire.FilterItem) bool { // validated before
		found = len(i.Value) > 0 && specs[objectClass].is(i.Attribute) && isClass(i.Value)
		return !found
	})
	return found
}

func isClass(value []byte) bool {
	return equalFold(Class, value) || string(value) == classOID
}

// IsEntry reports whether a DN begins as that of such an entry does. It does not allocate.
func IsEntry(dn []byte) bool {
	i := bytes.IndexByte(dn, '=')
	if i < 0 {
		return false
	}
	name := bytes.TrimSpace(dn[:i])
	if len(name) > 4 && equalFold("oid.", name[:4]) {
		name = name[4:]
	}
	return specs[id].is(name)
}

// Split takes the DN of an entry apart: the value of its appPasswordId, and the
// DN of its user as it is spelled. Errors: wire.ErrMalformed, also for what is not the DN of such an entry.
func Split(dn string) (handle, userDN string, err error) {
	parsed, err := wire.ParseDN(dn)
	if err != nil || len(parsed) < 2 || len(parsed[0]) != 1 || parsed[0][0].Hex || !specs[id].is([]byte(parsed[0][0].Type)) {
		return "", "", wire.ErrMalformed
	}
	_, userDN, err = wire.CutDN(dn, len(parsed)-1)
	return parsed[0][0].Value, userDN, err
}

// Is reports whether the entry is the one of a handle.
func (e *Entry) Is(handle string) bool { return fold(e.Handle) == fold(handle) }

// Holds reports whether a value is one of those that the entry of a handle stands for.
func Holds(handle string, v *secrets.Value) bool {
	return v.Kind == secrets.App && fold(manage.Handle(v)) == fold(handle)
}
