package backend

import (
	"bytes"
	"slices"

	"appbind/auth"
)

// findLast is the one entry of a bind name in a table that need not be current.
func (t *table) findLast(name string, isDN, byName bool) *auth.Entry {
	key, plain := plainName(name)
	if !plain || !isDN && !byName {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := t.byDN[key]
	if !isDN {
		if list = t.byName[key]; t.odd {
			return nil
		}
	}
	if len(list) != 1 {
		return nil
	}
	return list[0].entry
}

// learn takes out of a table whose session is over what a lookup of a name did
// not find any more: e is its answer, nil for none. Nothing is added by that, so
// that two answers leave the same behind in either order.
func (t *table) learn(name string, isDN bool, e *auth.Entry) {
	key, plain := plainName(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		return // the session hears of it by itself
	}
	if plain {
		list := t.byName[key]
		if isDN {
			list = t.byDN[key]
		}
		for _, r := range slices.Clone(list) {
			if e == nil || r.entry.Key != e.Key {
				t.drop(r.id)
			}
		}
	}
	if e == nil {
		return
	}
	dn, plain := plainName(e.DN)
	if !plain {
		return
	}
	for _, r := range slices.Clone(t.byDN[dn]) {
		t.reduce(r, e)
	}
}

// narrow takes out of the table what a later one does not hold. complete: what
// is not in later at all is gone; else it may only not have come yet.
func (t *table) narrow(later *table, complete bool) {
	later.mu.RLock()
	defer later.mu.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		return
	}
	var known []*record
	for id, r := range t.byID {
		if complete || later.byID[id] != nil {
			known = append(known, r)
		}
	}
	for _, r := range known {
		if l := later.byID[r.id]; l != nil {
			t.reduce(r, l.entry)
		} else {
			t.drop(r.id)
		}
	}
}

// reduce takes from a record what the newer state of its entry has no more. An
// entry under another name, or one that may not log in, is dropped. The caller holds t.mu.
func (t *table) reduce(r *record, now *auth.Entry) {
	if now.Key != r.entry.Key || now.DN != r.entry.DN || !now.User || !now.Eligible {
		t.drop(r.id)
		return
	}
	var values [][]byte
	for _, v := range r.entry.Values {
		if slices.ContainsFunc(now.Values, func(n []byte) bool { return bytes.Equal(n, v) }) {
			values = append(values, v)
		}
	}
	if len(values) == len(r.entry.Values) && now.Ends.Equal(r.entry.Ends) {
		return
	}
	e := *r.entry // whoever found it may hold it
	e.Values, e.Index, e.Ends = values, new(auth.Index), now.Ends
	less := *r
	less.entry = &e
	parentDN := ""
	if p := t.parents[r.parent]; p != nil {
		parentDN = p.dn
	}
	t.drop(r.id)
	t.enter(r.id, &less, parentDN)
}
