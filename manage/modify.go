package manage

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"appbind/secrets"
)

// The operations of a modification (RFC 4511 4.6, RFC 4525).
const (
	ModAdd       = 0
	ModDelete    = 1
	ModReplace   = 2
	ModIncrement = 3
)

// Mod is one modification of the secrets attribute, as a client sends it.
type Mod struct {
	Operation byte
	Values    [][]byte
	// Options says that the attribute was named with options (appPassword;x-1).
	Options bool
}

// Modify judges what a client does to the secrets attribute of an entry that
// holds s, in the order in which the client does it, and is what is to be done
// instead: the same modifications, with values replaced where they must be.
// sees says that the client can see the values that are there.
//
//   - Values that are added are judged by Admit.
//   - A value that is deleted is named exactly, or as $app$LABEL, $app$;id=ID or
//     $app$LABEL;id=ID, since hardly anybody can see the exact one.
//   - A replacement, and a deletion of all values, would remove what the client
//     cannot see, second factors among it: only those who see may.
//   - Options would be other attributes, which nobody reads; an increment makes no sense.
//
// Errors: *Violation, ErrNoSuchPassword, ErrSeveral.
func (r *Rules) Modify(s *Set, mods []Mod, sees bool, now time.Time) (after *Set, out []Mod, err error) {
	after, out = s.clone(), make([]Mod, len(mods))
	for i, m := range mods {
		out[i] = Mod{Operation: m.Operation}
		switch {
		case m.Options:
			return nil, nil, violationf("write the app password attribute without options")
		case m.Operation == ModIncrement:
			return nil, nil, violationf("an app password cannot be incremented")
		case m.Operation == ModReplace, m.Operation == ModDelete && len(m.Values) == 0:
			out[i].Values, err = r.replace(s, after, m.Values, sees, now)
		case m.Operation == ModDelete:
			out[i].Values, err = after.takeOut(m.Values)
		default:
			out[i].Values, err = r.admitAll(after, m.Values, now)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return after, out, r.room(s, after, now)
}

// admitAll admits values and puts what is to be stored into the set.
func (r *Rules) admitAll(set *Set, values [][]byte, now time.Time) ([][]byte, error) {
	var list [][]byte
	for _, raw := range values {
		stored, err := r.Admit(set, raw, now)
		if err != nil {
			return nil, err
		}
		set.add(stored)
		list = append(list, stored)
	}
	return list, nil
}

// replace judges the values that are to be the only ones. What the entry holds already stays as it is.
func (r *Rules) replace(before, set *Set, values [][]byte, sees bool, now time.Time) ([][]byte, error) {
	if !sees && (!r.Shared || before.Ours()) {
		return nil, violationf("this would remove app passwords that you cannot see: add single values, and delete one as $app$LABEL or $app$;id=ID")
	}
	held := set.clone()
	set.Values = nil
	var fresh, list [][]byte
	for _, raw := range values {
		if held.has(string(raw)) {
			set.add(raw)
			list = append(list, raw)
		} else {
			fresh = append(fresh, raw)
		}
	}
	stored, err := r.admitAll(set, fresh, now)
	return append(list, stored...), err
}

// Ours reports whether the set holds an app password or a second factor.
func (s *Set) Ours() bool {
	for _, v := range s.Values {
		if v.Kind != secrets.Foreign {
			return true
		}
	}
	return false
}

// takeOut removes values and is their exact bytes. A value that is not there and
// names none goes on as it is: the directory says that it is not there.
func (s *Set) takeOut(values [][]byte) ([][]byte, error) {
	list := make([][]byte, len(values))
	for i, raw := range values {
		list[i] = raw
		if s.remove(string(raw)) {
			continue
		}
		ref, named := refOf(raw)
		if !named {
			continue
		}
		v, err := s.Find(ref)
		if err != nil {
			return nil, err
		}
		s.remove(v.Raw)
		list[i] = []byte(v.Raw)
	}
	return list, nil
}

// refOf reads $app$LABEL, $app$;id=ID and $app$LABEL;id=ID: a value without a
// HASH. The label stands as in a stored value, or as it is shown.
func refOf(raw []byte) (Ref, bool) {
	name, isApp := bytes.CutPrefix(raw, []byte("$app$"))
	if !isApp || bytes.IndexByte(name, '$') >= 0 {
		return Ref{}, false
	}
	label, id, _ := strings.Cut(string(name), ";id=")
	// A stored label is percent-encoded; secrets reads it back where it is one.
	if v := secrets.Parse([]byte("$app$" + label + ";x-a=b$$")); strings.Contains(label, "%") && v.Label != "" {
		label = v.Label
	}
	return Ref{ID: id, Label: label}, label != "" || id != ""
}

// Sweeps reports whether a modification removes values that it does not name.
func (m Mod) Sweeps() bool {
	return m.Operation == ModReplace || m.Operation == ModDelete && len(m.Values) == 0
}

// NamesOurs reports whether a modification names a value of ours.
func (m Mod) NamesOurs() bool {
	for _, v := range m.Values {
		if secrets.Parse(v).Kind != secrets.Foreign {
			return true
		}
	}
	return false
}

// maxInClear bounds the values in clear in one request: each is hashed, which
// takes a core some 60 ms, and an Add is judged before the directory has said
// whether the client may make the entry.
const maxInClear = 10

// inClearEntry stands for the entries of such requests among those whose passwords are hashed.
const inClearEntry = "passwords in clear"

// inClear is how many values would have to be hashed.
func inClear(mods []Mod) int {
	n := 0
	for _, m := range mods {
		if m.Operation == ModDelete {
			continue
		}
		for _, raw := range m.Values {
			if v := secrets.Parse(raw); v.Kind == secrets.App && errors.Is(v.Err, secrets.ErrClearText) {
				n++
			}
		}
	}
	return n
}

// Judge is Rules.Modify with a bound on the hashing that it costs.
func (m *Manager) Judge(ctx context.Context, s *Set, mods []Mod, sees bool) (after *Set, out []Mod, err error) {
	switch n := inClear(mods); {
	case n > maxInClear:
		return nil, nil, violationf("at most %d passwords in clear in one request: send several, or write hashes", maxInClear)
	case n > 0:
		release, err := m.hash(ctx, inClearEntry, true)
		if err != nil {
			return nil, nil, err
		}
		defer release()
	}
	return m.rules.Modify(s, mods, sees, m.now())
}
