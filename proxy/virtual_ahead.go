package proxy

import (
	"bytes"
	"slices"
	"strings"
	"time"
)

const (
	// aheadTime is for how long the pages of one search are those of one reading of all users.
	aheadTime = 30 * time.Second
	// aheadBytes is what is kept of it for one client, beyond its page, and maxAhead for all clients.
	aheadBytes = maxVirtual / 2
	maxAhead   = 64 << 20
)

// ahead is what a search in pages is yet to show, so that not every page reads all users
// again. It goes with the session: who may see it is asked anew with each page.
type ahead struct {
	search  []byte // the request, as the client has sent it
	st      *state
	from    string    // the entries are those behind this DN
	until   time.Time // they are read anew afterwards
	entries []viewed  // in their order
	more    bool      // there are further ones behind these
	size    int       // bytes of their bodies
}

// keepAhead keeps what the view has read, if that is within bounds.
func (c *conn) keepAhead(a *ahead) {
	c.dropAhead()
	if c.srv.ahead.Add(int64(a.size)) > maxAhead {
		c.srv.ahead.Add(-int64(a.size))
		return
	}
	c.sess.ahead = a
}

// dropAhead forgets it.
func (c *conn) dropAhead() {
	if c.sess.ahead != nil {
		c.srv.ahead.Add(-int64(c.sess.ahead.size))
		c.sess.ahead = nil
	}
}

// goOn takes the entries of the next page from what the page before has left, if
// it is the same search and not too long ago. A first page is always read anew.
func (v *virtualView) goOn() bool {
	a := v.c.sess.ahead
	if a == nil || v.page == nil || !v.page.next || a.st != v.st || !bytes.Equal(a.search, v.request) || v.page.after < a.from || !time.Now().Before(a.until) {
		return false
	}
	i, _ := slices.BinarySearchFunc(a.entries, v.page.after, func(e viewed, after string) int { return strings.Compare(e.key, after) })
	for i < len(a.entries) && a.entries[i].key == v.page.after {
		i++
	}
	if i == len(a.entries) && a.more {
		return false
	}
	v.entries, v.more, v.kept = a.entries[i:], a.more, true
	return true
}

// lookAhead keeps what all users were read for, beyond the page too.
func (v *virtualView) lookAhead() {
	if v.page == nil || !v.whole || v.kept {
		return
	}
	v.c.keepAhead(&ahead{search: copied(v.request), st: v.st, from: v.page.after, until: v.at.Add(aheadTime),
		entries: v.entries, more: v.more, size: v.size})
}

// cut leaves no more than the first entries: those of a page, and what may be kept beyond it.
func (v *virtualView) cut() {
	v.sort()
	n := 0
	v.size = 0
	for n < len(v.entries) && (n < v.page.size || v.size+len(v.entries[n].body) <= aheadBytes) {
		v.size += len(v.entries[n].body)
		n++
	}
	if n < len(v.entries) {
		clear(v.entries[n:])
		v.entries, v.more = v.entries[:n], true
	}
}

// sort puts the entries in their order.
func (v *virtualView) sort() {
	slices.SortFunc(v.entries, func(a, b viewed) int { return strings.Compare(a.key, b.key) })
}
