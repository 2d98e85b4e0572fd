package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/config"
	"appbind/wire"
)

// page asks for one page of virtual entries; more is the cookie of the next.
func (c *client) page(id int32, size int, cookie string, filter []byte) (dns []string, more string, code int32) {
	c.t.Helper()
	value := wire.AppendElement(wire.AppendElement(nil, wire.TagInteger, []byte{byte(size >> 8), byte(size)}), wire.TagOctetString, []byte(cookie))
	c.write(searchRequest(id, "ou=people,dc=example,dc=org", wire.ScopeWhole, filter,
		wire.AppendControl(nil, oidPagedResults, true, wire.CloseElement(value, 0, wire.TagSequence))...))
	for {
		m := c.read()
		if m.Op == wire.OpSearchResultDone {
			r, err := wire.DecodeResult(m.Body)
			if err != nil {
				c.t.Fatal(err)
			}
			next, _ := cookieOf(m.Controls)
			return dns, string(next), r.Code
		}
		e, err := wire.DecodeEntry(m.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		dns = append(dns, string(e.DN))
	}
}

// pages asks for all pages; behind the first it calls between.
func (c *client) pages(size int, filter []byte, between func()) (all []string) {
	c.t.Helper()
	id, cookie := int32(100), ""
	for {
		id++
		dns, more, code := c.page(id, size, cookie, filter)
		if code != 0 || len(dns) > size || len(dns) == 0 && more != "" {
			c.t.Fatalf("page %d: %d entries, code %d", id-100, len(dns), code)
		}
		all = append(all, dns...)
		if cookie = more; more == "" {
			return all
		}
		if between != nil && id == 101 {
			between()
		}
	}
}

// lists is how often all users were read.
func (r *rig) lists() (n int) {
	for _, m := range r.up.Received(wire.OpSearchRequest) {
		if s, err := wire.DecodeSearch(m.Body); err == nil && s.Scope == wire.ScopeWhole && strings.Contains(string(s.Filter), "appPassword") && !strings.Contains(string(s.Filter), "appPasswordEntry") {
			n++
		}
	}
	return n
}

// crowdedRig has 90 users with an app password each; adminDN and bob are managers.
func crowdedRig(t *testing.T) *rig {
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN, bobUser} })
	for i := range 89 {
		r.dir.Add(fmt.Sprintf("uid=u%02d,ou=people,dc=example,dc=org", i), "", "objectClass", "inetOrgPerson", "uid", fmt.Sprintf("u%02d", i), "appPassword", phoneValue())
	}
	return r
}

func (r *rig) manager() *client {
	c := r.dial()
	c.bind(1, adminDN, "admin-password", wire.ResultSuccess)
	return c
}

// TestVirtualAhead: the pages of a search are those of one reading of all users, whole and each entry once.
func TestVirtualAhead(t *testing.T) {
	r := crowdedRig(t)
	whole := func(what string, lists int, c *client, size int, between func()) {
		t.Helper()
		before := r.lists()
		got := c.pages(size, isClass, between)
		if unique := slices.Compact(slices.Sorted(slices.Values(got))); len(got) != 90 || len(unique) != 90 {
			t.Errorf("%s: %d entries, %d different", what, len(got), len(unique))
		}
		if n := r.lists() - before; n != lists {
			t.Errorf("%s: %d times all users, want %d", what, n, lists)
		}
	}
	labelled := wire.CloseElement(append(slices.Clone(isClass), present("appPasswordLabel")...), 0, filterAnd)
	c := r.manager()
	for _, size := range []int{1, 7, 30, 45, 89, 90, 500} {
		whole(fmt.Sprint("pages of ", size), 1, c, size, nil)
	}
	whole("another search in between", 3, c, 30, func() { c.pages(500, labelled, nil) })
	whole("a page asked for again", 2, c, 30, func() { c.page(90, 30, "", isClass) })
	whole("a bind in between", 2, c, 50, func() { c.bind(2, adminDN, "admin-password", wire.ResultSuccess) })
	whole("the same bind on another connection", 3, c, 50, func() {
		whole("it", 1, r.manager(), 90, nil)
		c.bind(3, bobUser, "bob-main-password", wire.ResultSuccess)
	})
	r.server.ahead.Add(maxAhead)
	whole("no room", 3, c, 30, nil)
	r.server.ahead.Add(-maxAhead)
	if err := r.server.Reload(r.core(r.cfg)); err != nil {
		t.Fatal(err)
	}
	whole("a reload in between", 2, c, 50, func() {
		if err := r.server.Reload(r.core(r.cfg)); err != nil {
			t.Fatal(err)
		}
	})
	c.bind(4, adminDN, "admin-password", wire.ResultSuccess)
	others := r.server.ahead.Load()
	_, cookie, _ := c.page(70, 10, "", isClass)
	if n := r.server.ahead.Load(); n <= others {
		t.Errorf("%d bytes are kept", n)
	}
	// Who has become somebody else sees nothing of it.
	c.bind(5, serviceDN, servicePW, wire.ResultSuccess)
	if dns, _, _ := c.page(71, 10, cookie, isClass); len(dns) != 0 {
		t.Errorf("a mail server sees %q", dns)
	}
	if n := r.server.ahead.Load(); n != others {
		t.Errorf("%d bytes are kept of who has left", n)
	}
}

// TestVirtualAheadManager: who is a manager no more does not get the next page.
func TestVirtualAheadManager(t *testing.T) {
	const group = "cn=desk,dc=example,dc=org"
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{group} })
	r.dir.Add(group, "", "objectClass", "groupOfNames", "member", bobUser)
	for i := range 10 {
		r.dir.Add(fmt.Sprintf("uid=u%d,ou=people,dc=example,dc=org", i), "", "objectClass", "inetOrgPerson", "uid", fmt.Sprint("u", i), "appPassword", phoneValue())
	}
	c := r.dial()
	c.bind(1, bobUser, "bob-main-password", wire.ResultSuccess)
	dns, cookie, code := c.page(2, 5, "", isClass)
	if len(dns) != 5 || cookie == "" || code != 0 {
		t.Fatal(dns, code)
	}
	r.dir.Add(group, "", "objectClass", "groupOfNames", "member", serviceDN)
	r.server.state.Load().roster.note(bobUser, membership{true, time.Now().Add(-time.Second)}) // what was known is over
	if dns, _, _ := c.page(3, 5, cookie, isClass); len(dns) != 0 {
		t.Errorf("a manager no more, and sees %q", dns)
	}
}

// TestAheadBounds: what is kept is bounded, the rest is read again when its turn comes, and what is old is not used.
func TestAheadBounds(t *testing.T) {
	t.Parallel()
	st, request := &state{}, []byte("search")
	view := func(after string) *virtualView {
		return &virtualView{c: &conn{srv: &Server{}}, st: st, request: request, at: time.Now(), whole: true, search: &wire.SearchRequest{}, page: &page{size: 2, after: after, next: after != ""}}
	}
	v := view("")
	for i := 9; i >= 0; i-- {
		v.entries = append(v.entries, viewed{key: fmt.Sprint(i), body: make([]byte, aheadBytes/4)})
	}
	v.cut()
	keys := func(list []viewed) (s string) {
		for _, e := range list {
			s += e.key
		}
		return s
	}
	if keys(v.entries) != "0123" || !v.more || v.size != aheadBytes {
		t.Fatalf("%s, %v, %d", keys(v.entries), v.more, v.size)
	}
	if tail := v.tail(1); keys(tail.entries) != "01" || !tail.more {
		t.Errorf("%s, %v", keys(tail.entries), tail.more)
	}
	for after, want := range map[string]string{"0": "123", "1": "23", "11": "23", "2": "3", "3": "-", "9": "-"} {
		next := view(after)
		next.c = v.c
		if got := next.goOn(); got != (want != "-") || got && (keys(next.entries) != want || !next.more) {
			t.Errorf("after %s: %v %s", after, got, keys(next.entries))
		}
	}
	for what, spoil := range map[string]func(v *virtualView, a *ahead){
		"another search":      func(v *virtualView, _ *ahead) { v.request = []byte("Search") },
		"another state":       func(v *virtualView, _ *ahead) { v.st = &state{} },
		"a first page":        func(v *virtualView, _ *ahead) { v.page.next = false },
		"no pages":            func(v *virtualView, _ *ahead) { v.page = nil },
		"too late":            func(_ *virtualView, a *ahead) { a.until = time.Now() },
		"from further before": func(_ *virtualView, a *ahead) { a.from = "15" },
	} {
		next, a := view("1"), *v.c.sess.ahead
		next.c = &conn{srv: v.c.srv, sess: session{ahead: &a}}
		if spoil(next, &a); next.goOn() {
			t.Error(what)
		}
	}
	big := view("")
	big.page.size = 5
	for i := range 5 {
		big.entries = append(big.entries, viewed{key: fmt.Sprint(i), body: make([]byte, aheadBytes/2)})
	}
	if big.cut(); len(big.entries) != 5 || big.more {
		t.Errorf("a page is cut: %d", len(big.entries))
	}
}
