package proxy

import (
	"strings"

	"appbind/wire"
)

// oidPagedResults is the control of RFC 2696.
const oidPagedResults = "1.2.840.113556.1.4.319"

// maxPage is how many virtual entries a page has at most.
const maxPage = 1000

// pageCookie begins the cookies of pages that have virtual entries only; behind it
// stands the DN of the last one that the client has got.
const pageCookie = "appbind-page:"

// decodePage reads the value of the control, which is the same in both directions.
// Lengths may be padded, as Windows pads them.
func decodePage(value []byte) (size int, cookie []byte, ok bool) {
	list, err := berWhole(value, wire.TagSequence)
	if err != nil {
		return 0, nil, false
	}
	number, rest, err := wire.Expect(list, wire.TagInteger)
	if err != nil || len(number) == 0 || len(number) > 4 || number[0] >= 0x80 {
		return 0, nil, false
	}
	for _, b := range number {
		size = size<<8 | int(b)
	}
	cookie, err = berWhole(rest, wire.TagOctetString)
	return size, cookie, err == nil
}

// page is what a client asks for by the control.
type page struct {
	size  int    // entries; at most maxPage
	after string // the DN of the entry after which it begins
	next  bool   // it is not the first page of the search
}

// pageOf reads the control. ours says that its cookie is one of a page with
// virtual entries only: there is nothing more to come from the directory.
func pageOf(controls []byte) (p *page, ours bool) {
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
		if string(c.OID) != oidPagedResults {
			return true
		}
		size, cookie, ok := decodePage(c.Value)
		if !ok || size == 0 {
			return false // the directory says what is wrong, or what it has of no use
		}
		p = &page{size: min(size, maxPage), next: len(cookie) > 0}
		p.after, ours = strings.CutPrefix(string(cookie), pageCookie)
		if !ours {
			p.after = ""
		}
		return false
	})
	return p, ours
}

// virtualTail is the virtual entries that are added to an answer, before its result.
type virtualTail struct {
	id      int32
	entries []viewed
	more    bool  // there are further ones
	limit   int   // of entries in the whole answer; 0: none
	page    *page // nil: no paged results
	sent    int   // entries of the directory's before; of the link's reader
}

// tail is what the view adds: the first of its entries, and the rest is kept for the next page.
func (v *virtualView) tail(id int32) *virtualTail {
	if !v.kept {
		v.sort()
	}
	v.lookAhead()
	t := &virtualTail{id: id, entries: v.entries, more: v.more, limit: int(v.search.SizeLimit), page: v.page}
	if v.page != nil && len(t.entries) > v.page.size {
		t.entries, t.more = t.entries[:v.page.size], true
	}
	return t
}

// end is the entries that come before the result, and what becomes of the result.
func (t *virtualTail) end(dst []byte, r wire.Result, controls []byte) (before []byte, result wire.Result, out []byte) {
	if r.Code != wire.ResultSuccess {
		return dst, r, controls
	}
	cookie, paged := cookieOf(controls)
	if paged && len(cookie) > 0 {
		return dst, r, controls // the directory has more first
	}
	room, full := len(t.entries), false
	if t.limit > 0 && t.limit-t.sent < room {
		room, full = max(t.limit-t.sent, 0), true
	}
	rest := false
	if paged && t.page != nil {
		if left := max(t.page.size-t.sent, 0); left < room {
			room, rest, full = left, true, false
		}
		rest = rest || t.more && !full
	}
	last := ""
	for _, e := range t.entries[:room] {
		dst = wire.AppendMessage(dst, t.id, wire.OpSearchResultEntry, e.body, nil)
		last = e.key
	}
	if full || t.more && !paged {
		r.Code = wire.ResultSizeLimitExceeded
	}
	if rest {
		if last == "" && t.page != nil {
			last = t.page.after
		}
		controls = withCookie(controls, pageCookie+last)
	}
	return dst, r, controls
}

// appendWhole appends an answer that has nothing of the directory's.
func (t *virtualTail) appendWhole(dst []byte) []byte {
	var controls []byte
	if t.page != nil {
		controls = pageControl("")
	}
	dst, r, controls := t.end(dst, wire.Result{}, controls)
	return wire.AppendMessage(dst, t.id, wire.OpSearchResultDone, r.Append(nil), controls)
}

// cookieOf is the cookie of a response's control; paged: there is one.
func cookieOf(controls []byte) (cookie []byte, paged bool) {
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
		if string(c.OID) == oidPagedResults {
			_, cookie, paged = decodePage(c.Value)
		}
		return !paged
	})
	return cookie, paged
}

// withCookie is controls with another cookie in that of paged results.
func withCookie(controls []byte, cookie string) []byte {
	out := pageControl(cookie)
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
		if string(c.OID) != oidPagedResults {
			out = append(out, c.Raw...)
		}
		return true
	})
	return out
}

// pageControl is the control of a response.
func pageControl(cookie string) []byte {
	value := wire.AppendElement([]byte{wire.TagInteger, 1, 0}, wire.TagOctetString, []byte(cookie)) // no estimate of the size
	return wire.AppendControl(nil, oidPagedResults, false, wire.CloseElement(value, 0, wire.TagSequence))
}
