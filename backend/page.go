package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"appbind/wire"
)

const (
	// pageTime bounds one page, or the whole answer where the server has no pages.
	pageTime = time.Minute
	// pageSize stays below what servers allow (Active Directory: MaxPageSize, 1000).
	pageSize = 500
)

// oidPaged is the control of RFC 2696.
const oidPaged = "1.2.840.113556.1.4.319"

// pager reads answers of any length over one link, in pages where the server offers them. The pages
// of one answer belong to that link (RFC 2696 3), on which nothing else is read in pages meanwhile:
// slapd keeps one cookie for each connection.
type pager struct {
	link  *Link
	kind  Kind
	paged bool // the server takes the control
	size  uint16
}

// pager makes one of a link, by what the server says of itself.
func (u *Upstream) pager(l *Link, sv *survey) *pager {
	return &pager{link: l, kind: sv.kind, paged: sv.root.offers(oidPaged), size: u.page}
}

// all searches the whole subtree of a base. each is called for every entry, from
// another goroutine, and must not block; between, if not nil, is called between two pages, by the
// caller's, and may take its time. An answer that is not complete is an error.
func (p *pager) all(ctx context.Context, base string, filter, selection []byte, each func(wire.SearchEntry) error, between func(context.Context) error) error {
	search := &wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: filter, Attributes: selection}
	for cookie := []byte(nil); ; {
		next, n, err := p.next(ctx, search, cookie, each)
		switch {
		case err != nil:
			return err
		case len(next) == 0:
			return nil
		case n == 0 && bytes.Equal(next, cookie):
			return fmt.Errorf("%w: %s sends an empty page again and again", ErrUnavailable, p.link.Server())
		}
		cookie = next
		if between != nil {
			if err := between(ctx); err != nil {
				return err
			}
		}
	}
}

// next reads one page of n entries and returns the cookie of the next; empty: it was the last.
func (p *pager) next(ctx context.Context, search *wire.SearchRequest, cookie []byte, each func(wire.SearchEntry) error) (next []byte, n int, err error) {
	page, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	var controls []byte
	if p.paged {
		controls = wire.AppendControl(nil, oidPaged, true, pagedValue(p.size, cookie))
	}
	sink := &searchSink{done: make(chan struct{}), each: func(se wire.SearchEntry, _ []byte) error { return each(se) }}
	r, err := p.link.searchInto(page, search, controls, sink)
	switch {
	case err != nil:
		return nil, 0, err
	case p.paged && cookie == nil && sink.entries == 0 && refusesPages(r.Code):
		p.paged = false
		return p.next(ctx, search, nil, each)
	case r.Code != wire.ResultSuccess:
		return nil, 0, &incomplete{kind: p.kind, base: string(search.Base), code: r.Code, diagnostic: string(r.Diagnostic)}
	case !p.paged:
		return nil, sink.entries, nil
	}
	next, err = pageCookie(sink.controls)
	return next, sink.entries, err
}

// refusesPages reports whether a server that knows the control does not let
// us use it (slapd: size.prtotal=disabled, 11), so that the whole answer at once is worth a try.
func refusesPages(code int32) bool {
	return code == wire.ResultAdminLimitExceeded || code == wire.ResultUnavailableCriticalExtension || code == wire.ResultUnwillingToPerform
}

// pagedValue is realSearchControlValue (RFC 2696 2): SEQUENCE { size INTEGER, cookie OCTET STRING }.
func pagedValue(size uint16, cookie []byte) []byte {
	content := wire.AppendElement(nil, wire.TagInteger, []byte{byte(size >> 8), byte(size)})
	return wire.AppendElement(nil, wire.TagSequence, wire.AppendElement(content, wire.TagOctetString, cookie))
}

// pageCookie is the cookie of a page's final response. A server that took the
// control and answers without it has told everything.
func pageCookie(controls []byte) ([]byte, error) {
	var cookie []byte
	var bad error
	err := wire.EachControl(controls, func(c wire.Control) bool {
		if string(c.OID) != oidPaged {
			return true
		}
		content, _, err := wire.Expect(c.Value, wire.TagSequence)
		if err == nil {
			_, content, err = wire.Expect(content, wire.TagInteger)
		}
		if err == nil {
			cookie, _, err = wire.Expect(content, wire.TagOctetString)
		}
		bad = err
		return false
	})
	if bad != nil {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("paged results: %w", err)
	}
	return cookie, nil
}

// incomplete is a list or a look that the server did not answer in full.
type incomplete struct {
	kind       Kind
	base       string
	code       int32
	diagnostic string
}

// Error says what to do about the code, where it can be guessed.
func (e *incomplete) Error() string {
	hint := ""
	switch {
	case !e.limited():
	case e.kind == Kind389 || e.kind == KindFreeIPA:
		hint = ": give the entry of upstream.bind_dn nsSizeLimit: -1, nsPagedSizeLimit: -1, nsLookThroughLimit: -1, nsPagedLookThroughLimit: -1 and nsTimeLimit: -1"
	case e.kind == KindOpenLDAP:
		hint = `: raise the limits for upstream.bind_dn, with slapd: limits dn.exact="..." size=unlimited time=unlimited`
	case e.kind == KindActiveDirectory || e.kind == KindSamba:
		hint = ": raise MaxPageSize or MaxQueryDuration in the LDAP policy"
	default:
		hint = ": raise the directory's size and time limits for upstream.bind_dn"
	}
	return fmt.Sprintf("the list of users below %q ended with result %d %q%s", e.base, e.code, e.diagnostic, hint)
}

// limited reports whether a limit of the server cut the list short.
func (e *incomplete) limited() bool {
	return e.code == wire.ResultSizeLimitExceeded || e.code == wire.ResultAdminLimitExceeded || e.code == wire.ResultTimeLimitExceeded
}

// CutShort reports whether an error says that a limit of the directory kept it from telling of all users.
func CutShort(err error) bool {
	e, ok := errors.AsType[*incomplete](err)
	return ok && e.limited()
}
