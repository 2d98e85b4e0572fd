package backend

import (
	"context"
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

// searchAll searches below every base of the replica, in pages where the server
// offers them; between, if not nil, is called between two pages. An answer that is not complete is an error.
func (s *session) searchAll(ctx context.Context, filter, selection []byte, each func(wire.SearchEntry) error, between func(context.Context) error) error {
	for _, base := range s.up.replica.bases {
		search := &wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: filter, Attributes: selection}
		for cookie, more := []byte(nil), true; more; {
			var err error
			if cookie, err = s.page(ctx, search, cookie, each); err != nil {
				return err
			}
			if more = len(cookie) > 0; more && between != nil {
				if err := between(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// page reads one page and returns the cookie of the next; empty: it was the last.
func (s *session) page(ctx context.Context, search *wire.SearchRequest, cookie []byte, each func(wire.SearchEntry) error) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	var controls []byte
	if s.sv.root.offers(oidPaged) {
		controls = wire.AppendControl(nil, oidPaged, true, pagedValue(s.up.replica.page, cookie))
	}
	sink := &searchSink{done: make(chan struct{}), each: func(se wire.SearchEntry, _ []byte) error { return each(se) }}
	r, err := s.link.searchInto(ctx, search, controls, sink)
	switch {
	case err != nil:
		return nil, err
	case r.Code != wire.ResultSuccess:
		return nil, &incomplete{kind: s.sv.kind, code: r.Code, diagnostic: string(r.Diagnostic)}
	case controls == nil:
		return nil, nil
	}
	return pageCookie(sink.controls)
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
	code       int32
	diagnostic string
}

// Error says what to do about the code, where it can be guessed.
func (e *incomplete) Error() string {
	hint := ""
	switch limited := e.code == wire.ResultSizeLimitExceeded || e.code == wire.ResultAdminLimitExceeded || e.code == wire.ResultTimeLimitExceeded; {
	case !limited:
	case e.kind == Kind389 || e.kind == KindFreeIPA:
		hint = ": give the entry of upstream.bind_dn nsSizeLimit: -1, nsPagedSizeLimit: -1, nsLookThroughLimit: -1, nsPagedLookThroughLimit: -1 and nsTimeLimit: -1"
	case e.kind == KindOpenLDAP:
		hint = `: raise the limits for upstream.bind_dn, with slapd: limits dn.exact="..." size=unlimited time=unlimited`
	case e.kind == KindActiveDirectory || e.kind == KindSamba:
		hint = ": raise MaxPageSize or MaxQueryDuration in the LDAP policy"
	default:
		hint = ": raise the directory's size and time limits for upstream.bind_dn"
	}
	return fmt.Sprintf("the list of users ended with result %d %q%s", e.code, e.diagnostic, hint)
}
