package backend

import (
	"errors"
	"fmt"
	"slices"

	"appbind/wire"
)

// maxRecalled bounds the entries of one search that is answered from memory.
const maxRecalled = 1000

// Errors of Recall.
var (
	// ErrInexact says that memory cannot answer a search as the directory would.
	ErrInexact = errors.New("memory cannot answer this search exactly")
	// ErrNoMatch is ErrInexact where no user matches: one who is not in the copy may.
	ErrNoMatch = fmt.Errorf("%w: no user in the copy matches", ErrInexact)
	// ErrAnswers says that there is no outage (any more).
	ErrAnswers = errors.New("a server may answer")
)

// Recall answers a search below users.bases from the last copy, in an outage:
// bodies are the SearchResultEntries, over the copied attributes, never the secrets
// attribute and nothing like a password; the search ends with code, which is success
// or sizeLimitExceeded.
//
// The answer is the directory's or none (ErrInexact): a filter that is Undefined
// for a user (an attribute or a rule that memory does not have), a requested attribute that is not
// held, or that no user shows, "*" and "+", more than a thousand entries, and any that does not ask for the value of
// an attribute, since (objectClass=*) finds what is no user too. A search without
// a match is not answered either: who is not in the copy may be disabled, or newer than it.
//
// own, unless "", is the DN of the one user who may be found: attributes that are not held are then left out.
func (u *Upstream) Recall(s *wire.SearchRequest, own string) (bodies [][]byte, code int32, err error) {
	t := u.stale()
	if t == nil || !u.Down() {
		return nil, 0, ErrAnswers
	}
	base, err := wire.ParseDN(string(s.Base))
	if err != nil || !slices.ContainsFunc(u.lookup.bases, base.HasSuffix) {
		return nil, 0, ErrInexact
	}
	selected, err := t.copied.selected(s.Attributes, own != "")
	if err != nil {
		return nil, 0, err
	}
	found, err := t.search(s, base, own)
	if err != nil {
		return nil, 0, err
	}
	if s.SizeLimit > 0 && len(found) > int(s.SizeLimit) {
		found, code = found[:s.SizeLimit], wire.ResultSizeLimitExceeded
	}
	x := t.recollect(nil)
	for a := range selected {
		if own == "" && !x.seen[a] {
			return nil, 0, ErrInexact
		}
	}
	for _, r := range found {
		bodies = append(bodies, t.copied.body(r, selected, s.TypesOnly))
	}
	return bodies, code, nil
}

// selection is the attributes that a search asks for.
type selection map[*copiedAttribute]bool

// selected reads a requested selection (RFC 4511 4.5.1.8). lenient: what is not held is left out.
func (c *copiedAttributes) selected(requested []byte, lenient bool) (selection, error) {
	s := selection{}
	exact := len(requested) > 0 // none is all
	err := wire.EachString(requested, func(name []byte) bool {
		switch a := c.find(name); {
		case a != nil:
			s[a] = true
		case string(name) != "1.1" && !lenient:
			exact = false
		}
		return exact
	})
	if err != nil || !exact {
		return s, ErrInexact
	}
	return s, nil
}

// search finds the records of a search.
func (t *table) search(s *wire.SearchRequest, base wire.DN, own string) ([]*record, error) {
	n, err := t.copied.prepare(s.Filter)
	if err != nil {
		return nil, ErrInexact
	}
	x := t.recollect(n.indexable(nil))
	candidates, some := n.candidates(x)
	switch {
	case own != "":
		if candidates = t.recordsOf(own); len(candidates) == 0 {
			return nil, ErrInexact
		}
	case s.Scope == wire.ScopeBase:
		candidates = t.recordsOf(string(s.Base))
	case !some:
		return nil, ErrInexact // it asks for no value, and so could find what is no user, too
	}
	var found []*record
	for _, r := range candidates {
		v := n.evaluate(t.copied, x, r)
		if v == isFalse || !inScope(s.Scope, base, r.entry.DN) {
			continue
		}
		if v == undefined || len(found) == maxRecalled {
			return nil, ErrInexact
		}
		if !slices.Contains(found, r) {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return nil, ErrNoMatch
	}
	return found, nil
}

// recordsOf are the records with this DN, in one of its plain spellings.
func (t *table) recordsOf(dn string) []*record {
	key, plain := plainName(dn)
	if !plain {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.byDN[key])
}

// inScope reports whether an entry lies in the scope of a search.
func inScope(scope int, base wire.DN, dn string) bool {
	entry, err := wire.ParseDN(dn)
	switch {
	case err != nil, !entry.HasSuffix(base):
		return false
	case scope == wire.ScopeBase:
		return len(entry) == len(base)
	case scope == wire.ScopeOne:
		return len(entry) == len(base)+1
	case scope == wire.ScopeChildren:
		return len(entry) > len(base)
	}
	return true
}

// body is the SearchResultEntry of a record.
func (c *copiedAttributes) body(r *record, s selection, typesOnly bool) []byte {
	e := wire.SearchEntry{DN: []byte(r.entry.DN)}
	c.each(r, func(a *copiedAttribute, values wire.Attribute) {
		switch {
		case !s[a]:
		case typesOnly:
			e.Attributes = wire.AppendAttribute(e.Attributes, string(values.Type))
		default:
			e.Attributes = append(e.Attributes, values.Raw...)
		}
	})
	return e.Append(nil)
}
