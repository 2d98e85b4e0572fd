package proxy

import (
	"context"
	"errors"
	"time"

	"appbind/backend"
	"appbind/manage"
	"appbind/virtual"
	"appbind/wire"
)

// maxVirtual bounds the bytes of virtual entries in one answer; a search with
// paged results has as many as a page holds.
const maxVirtual = 4 << 20

// refuseVirtualMany says that there are more virtual entries than one answer may have.
var refuseVirtualMany = &refusal{wire.ResultAdminLimitExceeded, "too many app passwords: use paged results, or a base further below"}

// refuseVirtualCut says that a limit of the directory, which appbind's own account meets, hides some.
var refuseVirtualCut = &refusal{wire.ResultAdminLimitExceeded, "the directory's size limit for upstream.bind_dn hides users"}

// refuseVirtualRead says that they could not be read.
var refuseVirtualRead = &refusal{wire.ResultUnavailable, "the app passwords could not be read whole"}

// virtualControls are the controls of a search that leave virtual entries as they
// are. With any other (another identity, sorting, a persistent search) the
// search is the directory's alone.
var virtualControls = map[string]bool{
	oidPagedResults:           true,
	oidManageDsaIT:            true,
	"1.2.840.113556.1.4.1339": true, // domain scope
	"1.3.6.1.1.22":            true, // don't use copy, RFC 6171
	oidSessionTracking:        true,
	oidPasswordPolicy:         true,
}

// oidManageDsaIT is the control of RFC 3296.
const oidManageDsaIT = "2.16.840.1.113730.3.4.2"

// virtualSearch adds the virtual entries of app passwords to a search, where the
// client may see some: handled says that it was answered here, else it goes to the
// directory, and q.tail is what is added to its answer; nil: nothing, and it
// comes back as it is. s is the search without a context.
//
// Whoever may see none is answered by the directory, to which there is nothing of
// that name.
func (c *conn) virtualSearch(m wire.Message, q *request, s *wire.SearchRequest) (handled bool, r *refusal, err error) {
	concern := virtual.Concerns(s)
	if concern == virtual.None || !onlyControls(m.Controls, virtualControls) {
		return false, nil, nil
	}
	st := c.srv.state.Load()
	if concern == virtual.Below && st.isBase(s.Base) {
		return false, nil, nil // the usual search of a mail server, without further cost
	}
	if c.sess.entry == "" && !c.isManager(st) {
		return false, nil, nil
	}
	limit := time.Duration(st.Config.Upstream.OperationTimeout)
	if own := time.Duration(s.TimeLimit) * time.Second; own > 0 {
		limit = min(limit, own)
	}
	ctx, cancel := context.WithTimeout(c.srv.base, limit)
	defer cancel()
	page, ours := pageOf(m.Controls)
	kept := *s // only a search that comes here is on the heap
	v := &virtualView{c: c, st: st, search: &kept, request: m.Body, at: time.Now(), suffix: q.rewrite.suffix, selection: virtual.NewSelection(&kept), page: page}
	switch found, e := v.gather(ctx, concern); {
	case errors.Is(e, errVirtualMany):
		return true, refuseVirtualMany, nil
	case e != nil && s.TimeLimit > 0 && ctx.Err() != nil:
		return true, &refusal{code: wire.ResultTimeLimitExceeded}, nil
	case backend.CutShort(e):
		c.srv.limits.warn(c.srv.log, "app passwords of all users cannot be shown", "err", e)
		return true, refuseVirtualCut, nil
	case e != nil:
		c.debug("virtual entries could not be read", e)
		return true, refuseVirtualRead, nil
	case !found && !ours:
		return false, nil, nil
	}
	if concern == virtual.Self && !v.exists {
		return true, nil, c.answerHere(m.Op, q.at, func(dst []byte) []byte { return v.appendNoSuch(dst, m.ID) })
	}
	tail := v.tail(q.id)
	if concern == virtual.Self || ours {
		return true, nil, c.answerHere(m.Op, q.at, tail.appendWhole)
	}
	if len(tail.entries) > 0 {
		q.tail = tail
	}
	return false, nil, nil
}

// answerHere writes the answer to a request that did not go to the directory, and counts it as the others.
func (c *conn) answerHere(op wire.Op, at time.Time, build func(dst []byte) []byte) error {
	c.srv.counts.answered(op, time.Since(at))
	return c.w.Write(build)
}

// virtualView is what one search sees of the virtual entries.
type virtualView struct {
	c         *conn
	st        *state
	search    *wire.SearchRequest
	request   []byte // the same, as the client has sent it; valid during the call
	at        time.Time
	suffix    []byte // the context that goes behind each DN; nil: none
	selection virtual.Selection
	page      *page // nil: no paged results

	uses func(entry, id, label string) LastUse // nil: not known

	entries []viewed
	size    int    // bytes of their bodies
	user    string // the DN above an entry that was asked for
	exists  bool   // the entry that was asked for exists, whether or not it matches
	whole   bool   // all users were read
	kept    bool   // these are left of the page before
	more    bool   // some were left out: there is a next page
}

// viewed is an entry that the search shows.
type viewed struct {
	key  string // its place in the order
	body []byte
}

var errVirtualMany = errors.New("more than one answer may have")

// gather collects the entries that the search shows. found is false where the
// client may see none, or none stand there.
func (v *virtualView) gather(ctx context.Context, concern virtual.Concern) (found bool, err error) {
	base := string(v.search.Base)
	if concern == virtual.Self {
		return v.gatherOne(ctx, base)
	}
	parsed, err := wire.ParseDN(base)
	if err != nil {
		return false, nil // the directory says so
	}
	whole := concern == virtual.Named && (v.search.Scope == wire.ScopeWhole || v.search.Scope == wire.ScopeChildren)
	own := v.c.ownDN()
	self := own != nil && own.HasSuffix(parsed) // the client's own entry stands there, or below
	switch {
	case self && len(own) == len(parsed):
		return v.gatherUser(ctx, base)
	case v.c.isManager(v.st):
		found, err := v.gatherUser(ctx, base)
		if found || err != nil || !whole || !v.st.touchesBases(parsed) {
			return found, err
		}
		return true, v.gatherAll(ctx, parsed)
	case self && whole:
		return v.gatherUser(ctx, v.c.sess.dn)
	}
	return false, nil
}

// gatherUser collects those of one user. found is false if the DN is none's that
// the client may see; what has no values and could not log in is taken for a container.
func (v *virtualView) gatherUser(ctx context.Context, dn string) (found bool, err error) {
	u, err := v.c.virtualUser(ctx, v.st, dn)
	if err != nil || u == nil {
		return false, err
	}
	if err := v.recallUses(ctx, u.Key); err != nil {
		return false, err
	}
	return u.Eligible || len(u.Set.Values) > 0, v.add(u)
}

// usesTime bounds the wait for the history, which may be slow.
const usesTime = 2 * time.Second

// recallUses asks the history for the last uses of an entry's app passwords, or
// with "" of all, where the search is about them. One that cannot be read is an
// error only where the filter asks: an answer without them would be a wrong one.
func (v *virtualView) recallUses(ctx context.Context, entry string) error {
	shown, filtered := virtual.AsksForUses(v.search, v.selection)
	if v.st.Uses == nil || !shown && !filtered {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, usesTime)
	defer cancel()
	uses, err := v.st.Uses.LastUses(ctx, entry)
	if err != nil {
		v.c.debug("last uses cannot be read", err)
		if filtered {
			return err
		}
		return nil
	}
	v.uses = uses
	return nil
}

// gatherOne looks the entry up that is the base.
func (v *virtualView) gatherOne(ctx context.Context, base string) (found bool, err error) {
	handle, userDN, err := virtual.Split(base)
	if err != nil {
		return false, nil // the directory says so
	}
	u, err := v.c.virtualUser(ctx, v.st, userDN)
	if err != nil || u == nil {
		return false, err
	}
	v.user = u.DN
	if err := v.recallUses(ctx, u.Key); err != nil {
		return false, err
	}
	for _, e := range virtual.List(u.DN, u.Set) {
		if e.Is(handle) {
			v.exists = true
			if v.search.Scope == wire.ScopeBase || v.search.Scope == wire.ScopeWhole {
				v.addEntry(u, e)
			}
		}
	}
	return true, nil
}

// gatherAll collects from all users below a base.
func (v *virtualView) gatherAll(ctx context.Context, base wire.DN) error {
	if v.goOn() {
		return nil
	}
	v.whole = true
	if err := v.recallUses(ctx, ""); err != nil {
		return err
	}
	return v.st.manager.Each(ctx, func(u *manage.User) error {
		dn, err := wire.ParseDN(u.DN)
		if err != nil || !dn.HasSuffix(base) {
			return nil
		}
		return v.add(u)
	})
}

// add adds those of a user.
func (v *virtualView) add(u *manage.User) error {
	for _, e := range virtual.List(u.DN, u.Set) {
		v.addEntry(u, e)
	}
	switch {
	case v.page != nil && v.size > maxVirtual:
		v.cut()
	case v.page == nil && v.size > maxVirtual:
		return errVirtualMany
	}
	return nil
}

// addEntry adds an entry that the search selects.
func (v *virtualView) addEntry(u *manage.User, e *virtual.Entry) {
	if v.uses != nil {
		last := v.uses(u.Key, e.ID, e.Label)
		e.SetLastUse(last.At, last.Addr)
	}
	if !e.Matches(v.search.Filter) || v.page != nil && e.DN <= v.page.after {
		return
	}
	dn := []byte(e.DN)
	if v.suffix != nil {
		dn = joinContext(dn, v.suffix)
	}
	body := e.Append(nil, dn, v.selection)
	v.size += len(body)
	v.entries = append(v.entries, viewed{e.DN, body})
}

// appendNoSuch appends the result of a search whose base, an entry below a user, does not exist.
func (v *virtualView) appendNoSuch(dst []byte, id int32) []byte {
	r := wire.Result{Code: wire.ResultNoSuchObject, MatchedDN: []byte(v.user)}
	if v.suffix != nil {
		r.MatchedDN = joinContext(r.MatchedDN, v.suffix)
	}
	return wire.AppendMessage(dst, id, wire.OpSearchResultDone, r.Append(nil), nil)
}
