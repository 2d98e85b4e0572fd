package manage

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"
	"time"

	"appbind/secrets"
	"appbind/wire"
)

// Set is the values that an entry holds at one moment, in the order of the directory.
type Set struct {
	Values []*secrets.Value
}

// NewSet parses the values of an entry.
func NewSet(values [][]byte) *Set {
	s := &Set{Values: make([]*secrets.Value, 0, len(values))}
	for _, v := range values {
		s.add(v)
	}
	return s
}

func (s *Set) add(raw []byte) { s.Values = append(s.Values, secrets.Parse(raw)) }

// remove takes out the value with exactly these bytes; false: there is none.
func (s *Set) remove(raw string) bool {
	i := slices.IndexFunc(s.Values, func(v *secrets.Value) bool { return v.Raw == raw })
	if i >= 0 {
		s.Values = slices.Delete(s.Values, i, i+1)
	}
	return i >= 0
}

// clone is a copy that can be changed.
func (s *Set) clone() *Set { return &Set{Values: slices.Clone(s.Values)} }

// with is the set after a change, and whether everything that it deletes was there.
func (s *Set) with(c Change) (*Set, bool) {
	after, whole := s.clone(), true
	for _, v := range c.Delete {
		whole = after.remove(v) && whole
	}
	for _, v := range c.Add {
		after.add([]byte(v))
	}
	return after, whole
}

// find is the value with exactly these bytes; nil: there is none.
func (s *Set) find(raw string) *secrets.Value {
	for _, v := range s.Values {
		if v.Raw == raw {
			return v
		}
	}
	return nil
}

// has reports whether the set holds exactly this value.
func (s *Set) has(raw string) bool { return s.find(raw) != nil }

// hasAny reports whether the set holds one of these values.
func (s *Set) hasAny(list []string) bool { return slices.ContainsFunc(list, s.has) }

// Live is how many app passwords can be used at a time: neither expired nor unusable.
func (s *Set) Live(now time.Time) int {
	n := 0
	for _, v := range s.Values {
		if isLive(v, now) {
			n++
		}
	}
	return n
}

func isLive(v *secrets.Value, now time.Time) bool {
	return v.Kind == secrets.App && v.Err == nil && (v.Expires.IsZero() || now.Before(v.Expires))
}

// IDs are the selectors in use.
func (s *Set) IDs() []string {
	var ids []string
	for _, v := range s.Values {
		if v.ID != "" {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// Ref names one app password of an entry: by its ID (see Handle), its Label, or both, which then must both fit.
type Ref struct {
	ID    string
	Label string
}

// Handle is a short public name of an app password within its entry: its ID, or
// for one without, as other tools make them, eight characters derived from NAME.
// The hash has no part in it: whoever sees a handle learns nothing to test guesses with.
func Handle(v *secrets.Value) string {
	if v.ID != "" {
		return v.ID
	}
	sum := sha256.Sum256([]byte("handle of " + v.Name))
	return strings.ToLower(base32.HexEncoding.EncodeToString(sum[:5]))
}

// names reports whether v is the one that ref names.
func (ref Ref) names(v *secrets.Value) bool {
	return (ref.ID == "" || strings.EqualFold(ref.ID, Handle(v))) && (ref.Label == "" || SameLabel(v.Label, ref.Label))
}

// Find is the one app password that ref names; labels are compared as LDAP
// compares names, without case. Errors: ErrNoSuchPassword, ErrSeveral.
func (s *Set) Find(ref Ref) (*secrets.Value, error) {
	if ref == (Ref{}) {
		return nil, ErrNoSuchPassword
	}
	var found *secrets.Value
	for _, v := range s.Values {
		if v.Kind != secrets.App || !ref.names(v) {
			continue
		}
		if found != nil {
			return nil, ErrSeveral
		}
		found = v
	}
	if found == nil {
		return nil, ErrNoSuchPassword
	}
	return found, nil
}

// SameLabel compares labels as LDAP compares names (caseIgnoreMatch): without
// case, runs of spaces as one, none at the ends.
func SameLabel(a, b string) bool { return a == b || labelKey(a) == labelKey(b) }

// labelKey is a label in the form for comparisons.
func labelKey(label string) string { return wire.DN{{{Type: "l", Value: label}}}.Key() }

// conflict is what is wrong with a value beside the others: the label or the ID
// is in use. The value itself may be in the set.
func (s *Set) conflict(v *secrets.Value) error {
	for _, other := range s.Values {
		switch {
		case other == v || other.Kind != secrets.App || v.Kind != secrets.App:
		case SameLabel(other.Label, v.Label):
			return violationf("the label %q is in use: revoke that app password first, or choose another label", v.Label).of(RuleLabelTaken, v.Label)
		case v.ID != "" && other.ID == v.ID:
			return violationf("the id %s is in use: revoke that app password first, or generate another one", v.ID)
		}
	}
	return nil
}
