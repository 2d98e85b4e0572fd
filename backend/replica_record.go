package backend

import (
	"bytes"
	"slices"
	"strings"

	"appbind/auth"
	"appbind/wire"
)

// nameKeys are the keys of an entry in table.byName, and whether an attribute came that is none of those asked for.
func (u *Upstream) nameKeys(sv *survey, t *table, se wire.SearchEntry) (keys []string, odd bool) {
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
		case identity(a.Type) < 0 && !sv.schema.Secrets(a.Type) && !isState(name) && !isStamp(name) && !u.replica.asked(t, name):
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

// isState reports whether a name, in lower case, is one of stateSelection.
func isState(name string) bool {
	for _, a := range stateAttributes {
		if len(a.name) == len(name) && strings.EqualFold(a.name, name) {
			return true
		}
	}
	return isFailure(name)
}

// record makes a record of an entry.
func (u *Upstream) record(sv *survey, t *table, se wire.SearchEntry) (*record, string, error) {
	e, err := u.entry(sv, se)
	if err != nil {
		return nil, "", err
	}
	e.Eligible, e.Copied, e.Index, e.State.Server = true, true, new(auth.Index), t.server
	keys, odd := u.nameKeys(sv, t, se)
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
	return &record{entry: e, parent: dn[1:].Key(), names: keys, copied: t.copied.take(se.Attributes)}, tail, nil
}

// same reports whether another record of the entry says the same of it. Its
// state does not count: it changes by failed logins, and is read where it matters.
func (r *record) same(other *record) bool {
	sorted := func(values [][]byte) [][]byte {
		list := slices.Clone(values)
		slices.SortFunc(list, bytes.Compare)
		return list
	}
	return r.entry.DN == other.entry.DN && r.entry.Ends.Equal(other.entry.Ends) && bytes.Equal(r.copied, other.copied) && slices.Equal(r.names, other.names) &&
		slices.EqualFunc(sorted(r.entry.Values), sorted(other.entry.Values), bytes.Equal)
}
