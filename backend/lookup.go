package backend

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// lookup is what the configuration says about users, encoded once.
type lookup struct {
	bases      []wire.DN
	outer      []string // users.bases without those below others
	filter     []byte   // users.filter
	enabled    []byte   // users.enabled_filter, unless auto; nil: none
	auto       bool
	nameFilter []byte // nil: names that are no DN are refused
	deny       []byte // fallback.deny_filter; nil: nobody
	selection  []byte // the attributes of Find
	timeLimit  int32  // seconds, so that the server drops work for which nobody waits
}

// identities are the attributes that name an entry for good, the preferred one first.
var identities = [...]string{"entryUUID", "objectGUID", "nsUniqueId", "ipaUniqueID"}

func newLookup(cfg *config.Config) (*lookup, error) {
	l := &lookup{auto: cfg.Users.EnabledFilter == "auto",
		timeLimit: int32((time.Duration(cfg.Upstream.BindTimeout) + time.Second - 1) / time.Second)}
	for _, b := range cfg.Users.Bases {
		dn, err := wire.ParseDN(b)
		if err != nil {
			return nil, fmt.Errorf("users.bases: %q is no DN: %w", b, err)
		}
		l.bases = append(l.bases, dn)
	}
	for i, b := range l.bases {
		inner := slices.ContainsFunc(l.bases[:i], func(o wire.DN) bool { return b.HasSuffix(o) }) ||
			slices.ContainsFunc(l.bases[i+1:], func(o wire.DN) bool { return b.HasSuffix(o) && o.Key() != b.Key() })
		if !inner {
			l.outer = append(l.outer, cfg.Users.Bases[i])
		}
	}
	for _, f := range []struct {
		key, text string
		to        *[]byte
	}{
		{"users.filter", cfg.Users.Filter, &l.filter},
		{"users.enabled_filter", cfg.Users.EnabledFilter, &l.enabled},
		{"users.name_filter", cfg.Users.NameFilter, &l.nameFilter},
		{"fallback.deny_filter", cfg.Fallback.DenyFilter, &l.deny},
	} {
		if f.text == "" || f.to == &l.enabled && (f.text == "auto" || f.text == "none") {
			continue
		}
		var err error
		if *f.to, err = compileFilter(f.key, f.text); err != nil {
			return nil, err
		}
	}
	if l.filter == nil {
		l.filter = presentObjectClass
	}
	l.selection = wire.AppendStrings(nil, cfg.AppPasswords.Attribute)
	l.selection = wire.AppendStrings(l.selection, identities[:]...)
	l.selection = append(l.selection, stateSelection()...)
	return l, nil
}

// search is a search of ours in a scope.
func (l *lookup) search(base string, scope int, filter, selection []byte) *wire.SearchRequest {
	s := &wire.SearchRequest{Base: []byte(base), Scope: scope, Filter: filter, Attributes: selection, TimeLimit: l.timeLimit}
	if scope != wire.ScopeBase {
		s.SizeLimit = 2 // one is wanted, two are too many
	}
	return s
}

// Find looks up a bind name, in the replica where there is one and it knows for certain, else live: a DN by a base search, anything else by
// name_filter below each of users.bases. The eligibility filter is evaluated by
// the upstream; only when nothing matches does a second search without it tell
// an entry that is not eligible, or no user at all, from one that does not exist,
// and only where the bases are visible is it said that it does not (see missing).
// Identical lookups at one time share one search, see flights.
func (u *Upstream) Find(ctx context.Context, name string) (*auth.Entry, error) {
	if name == "" || len(name) > wire.MaxDN {
		return nil, auth.ErrNotFound // the root DSE is nobody; and so long a filter would cost more here and there than it costs to send
	}
	if e := u.findCopy(name); e != nil {
		return e, nil
	}
	if u.replica.maxStale > 0 {
		return u.findOutside(ctx, name)
	}
	return u.findLive(ctx, name)
}

// findLive asks the directory, once for all who ask for the same name at the same time.
func (u *Upstream) findLive(ctx context.Context, name string) (*auth.Entry, error) {
	if u.cfg.Upstream.Balance == "spread" {
		return u.find(ctx, name) // the bind goes to the server of its own lookup, see Within
	}
	return u.flights.find(ctx, u.clock, name, u.find)
}

// find is Find in the directory itself, for one caller.
func (u *Upstream) find(ctx context.Context, name string) (*auth.Entry, error) {
	sv, err := u.surveyed(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := wire.ParseDN(name); err == nil {
		return u.findDN(ctx, sv, name)
	}
	if u.lookup.nameFilter == nil {
		return nil, auth.ErrNotFound
	}
	return u.findName(ctx, sv, name)
}

// findDN reads the entry of a DN.
func (u *Upstream) findDN(ctx context.Context, sv *survey, dn string) (*auth.Entry, error) {
	r, err := u.entries(ctx, sv, u.lookup.search(dn, wire.ScopeBase, sv.eligible, u.lookup.selection))
	eligible := len(r.found) > 0
	if err == nil && !eligible {
		r, err = u.entries(ctx, sv, u.lookup.search(dn, wire.ScopeBase, presentObjectClass, u.lookup.selection))
	}
	switch {
	case err != nil:
		return nil, err
	case len(r.found) == 0:
		return nil, u.missing(ctx, dn, r)
	case len(r.found) > 1:
		return nil, fmt.Errorf("%d entries in answer to a base search", len(r.found))
	}
	r.found[0].Eligible = eligible
	return r.found[0], nil
}

// findName finds the entry that name_filter says.
func (u *Upstream) findName(ctx context.Context, sv *survey, name string) (*auth.Entry, error) {
	byName, err := wire.AppendExpandedFilter(nil, u.lookup.nameFilter, name)
	if err != nil {
		return nil, auth.ErrNotFound // a name that fits into no filter
	}
	r, err := u.below(ctx, sv, wire.AppendAnd(nil, byName, sv.eligible))
	eligible := len(r.found) > 0
	if err == nil && !eligible {
		r, err = u.below(ctx, sv, byName)
	}
	switch {
	case err != nil:
		return nil, err
	case len(r.found) == 0:
		return nil, u.missing(ctx, "", r)
	case len(r.found) > 1:
		return nil, auth.ErrAmbiguous
	}
	r.found[0].Eligible = eligible
	return r.found[0], nil
}

// below searches below each base. An entry below two bases counts once.
func (u *Upstream) below(ctx context.Context, sv *survey, filter []byte) (lookedUp, error) {
	var all lookedUp
	for _, base := range u.cfg.Users.Bases {
		r, err := u.entries(ctx, sv, u.lookup.search(base, wire.ScopeWhole, filter, u.lookup.selection))
		if err != nil {
			return lookedUp{}, err
		}
		all.from = r.from
		for _, e := range r.found {
			if len(all.found) == 0 || all.found[0].Key != e.Key {
				all.found = append(all.found, e)
			}
		}
		if len(all.found) > 1 {
			break
		}
	}
	return all, nil
}

// lookedUp is the answer to a lookup.
type lookedUp struct {
	found []*auth.Entry
	from  *server // who answered
}

// entries runs a lookup. No entry and no error: the base does not exist, is no
// DN for the server, or nothing matches. An answer that is not complete is an
// error, but for a size limit that was ours.
func (u *Upstream) entries(ctx context.Context, sv *survey, s *wire.SearchRequest) (lookedUp, error) {
	var found []*auth.Entry
	r, from, err := u.searchService(ctx, s, nil, func(se wire.SearchEntry, _ []byte) error {
		e, err := u.entry(sv, se)
		found = append(found, e)
		return err
	})
	if err != nil {
		return lookedUp{}, err
	}
	for _, e := range found {
		e.State.Server = from.name
	}
	switch {
	case r.Code == wire.ResultSuccess:
		return lookedUp{found: found, from: from}, nil
	case r.Code == wire.ResultNoSuchObject, r.Code == wire.ResultInvalidDNSyntax:
		return lookedUp{from: from}, nil
	case r.Code == wire.ResultSizeLimitExceeded && s.SizeLimit > 0 && len(found) >= int(s.SizeLimit):
		return lookedUp{found: found, from: from}, nil
	}
	return lookedUp{}, codeError("lookup", r)
}

// codeError makes an error of a result code that says nothing about a password.
func codeError(what string, r wire.Result) error {
	return fmt.Errorf("%s: the directory answered with result %d %q", what, r.Code, r.Diagnostic)
}

// entry makes an Entry of a search entry, with bytes of its own.
func (u *Upstream) entry(sv *survey, se wire.SearchEntry) (*auth.Entry, error) {
	e := &auth.Entry{DN: string(se.DN)}
	dn, err := wire.ParseDN(e.DN)
	if err != nil {
		return nil, fmt.Errorf("the directory returned a DN that is none: %w", err)
	}
	for _, base := range sv.bases {
		e.User = e.User || dn.HasSuffix(base)
	}
	var ids [len(identities)]string
	var st stateValues
	var failures failureValues
	err = wire.EachAttribute(se.Attributes, func(a wire.Attribute) bool {
		switch i := identity(a.Type); {
		case i >= 0:
			ids[i] = firstValue(a)
		case sv.schema.Secrets(a.Type):
			e.Values = appendValues(e.Values, a.Values)
		default:
			st.take(a)
			failures.take(a)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	e.State = st.state(sv.useCSN, sv.lockFor, u.clock.now())
	if u.lookup.auto {
		e.Ends = st.ends()
	}
	e.State.Failures = failures.count(sv.lockout.Interval, u.clock.now())
	e.Key = key(ids, dn)
	return e, nil
}

// appendValues appends the values in list, a set of OCTET STRINGs, with bytes of
// their own. They share one copy, since an entry may have fifty.
func appendValues(values [][]byte, list []byte) [][]byte {
	list = clone(list)
	n := 0
	count := func([]byte) bool { n++; return true }
	_ = wire.EachString(list, count) // checked by ValidateResponse
	values = slices.Grow(values, n)
	_ = wire.EachString(list, func(v []byte) bool {
		values = append(values, v) // ends in its capacity too
		return true
	})
	return values
}

// identity is the index of an identity attribute, -1 for others.
func identity(name []byte) int {
	for i, id := range identities {
		if len(id) == len(name) && strings.EqualFold(id, string(name)) {
			return i
		}
	}
	return -1
}

// key is the canonical identity of an entry.
func key(ids [len(identities)]string, dn wire.DN) string {
	for i, v := range ids {
		switch {
		case v == "":
		case identities[i] == "objectGUID": // 16 octets
			return "objectguid:" + hex.EncodeToString([]byte(v))
		default:
			return strings.ToLower(identities[i] + ":" + v)
		}
	}
	return "dn:" + dn.Key()
}

// keyOf is the canonical identity of a search entry.
func keyOf(se wire.SearchEntry) (string, error) {
	dn, err := wire.ParseDN(string(se.DN))
	if err != nil {
		return "", fmt.Errorf("the directory returned a DN that is none: %w", err)
	}
	var ids [len(identities)]string
	err = wire.EachAttribute(se.Attributes, func(a wire.Attribute) bool {
		if i := identity(a.Type); i >= 0 {
			ids[i] = firstValue(a)
		}
		return true
	})
	return key(ids, dn), err
}

// firstValue is the first value of an attribute, "" when it has none.
func firstValue(a wire.Attribute) string {
	var value string
	_ = wire.EachString(a.Values, func(v []byte) bool { // checked by ValidateResponse
		value = string(v)
		return false
	})
	return value
}

// State reads the entry's password and lock state again. Errors:
// auth.ErrNotFound when the entry is gone.
func (u *Upstream) State(ctx context.Context, e *auth.Entry) (auth.State, error) {
	sv, err := u.surveyed(ctx)
	if err != nil {
		return auth.State{}, err
	}
	r, err := u.entries(ctx, sv, u.lookup.search(e.DN, wire.ScopeBase, presentObjectClass, stateSelection()))
	switch {
	case err != nil:
		return auth.State{}, err
	case len(r.found) == 0:
		return auth.State{}, auth.ErrNotFound
	case len(r.found) > 1:
		return auth.State{}, errors.New("more than one entry in answer to a base search")
	}
	return r.found[0].State, nil
}

// FallbackDenied evaluates fallback.deny_filter on the entry, in the upstream.
func (u *Upstream) FallbackDenied(ctx context.Context, e *auth.Entry) (bool, error) {
	if u.lookup.deny == nil {
		return false, nil
	}
	matched := false
	s := u.lookup.search(e.DN, wire.ScopeBase, u.lookup.deny, wire.AppendStrings(nil, "1.1"))
	r, err := u.ServiceSearch(ctx, s, nil, func(wire.SearchEntry, []byte) error {
		matched = true
		return nil
	})
	switch {
	case err != nil:
		return false, err
	case r.Code == wire.ResultNoSuchObject:
		return false, auth.ErrNotFound
	case r.Code != wire.ResultSuccess:
		return false, codeError("fallback.deny_filter", r)
	}
	return matched, nil
}

// Lockout is the upstream's lock-out policy, as far as it is known.
func (u *Upstream) Lockout() auth.Lockout { return u.survey.Load().lockout }

// AbsentDN is a DN below the first of users.bases that does not exist.
func (u *Upstream) AbsentDN() string { return u.absent }
