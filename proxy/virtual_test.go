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

// isClass is the filter (objectClass=appPasswordEntry).
var isClass = wire.CloseElement(wire.AppendStrings(nil, "objectClass", "appPasswordEntry"), 0, filterEquality)

// virtualDN is the DN of the one app password that alice has.
func (r *rig) virtualDN() string {
	r.t.Helper()
	c := r.dial()
	c.bind(1, aliceUser, alicePW, wire.ResultSuccess)
	dns, code := c.search(2, aliceUser, wire.ScopeOne, anyEntry)
	if code != 0 || len(dns) != 1 || !strings.HasPrefix(dns[0], "appPasswordId=") || !strings.HasSuffix(dns[0], ","+aliceUser) {
		r.t.Fatalf("%q %d", dns, code)
	}
	return dns[0]
}

// TestVirtualNeedsPlainControls: a search that is another's, or ordered, or goes on,
// has nothing added, whatever the directory makes of its control.
func TestVirtualNeedsPlainControls(t *testing.T) {
	r := newRig(t)
	r.virtualDN()
	for oid, want := range map[string]int{
		oidManageDsaIT: 1, oidSessionTracking: 1, "1.2.840.113556.1.4.1339": 1,
		oidProxiedAuthorization: 0, oidProxiedAuthorization1: 0, "1.2.840.113556.1.4.473": 0, "2.16.840.1.113730.3.4.9": 0,
		"2.16.840.1.113730.3.4.3": 0, "1.3.6.1.4.1.4203.1.9.1.1": 0, "1.3.6.1.4.1.4203.1.10.1": 0, "1.2.3.4": 0,
	} {
		c := r.dial()
		c.bind(1, aliceUser, alicePW, wire.ResultSuccess)
		c.write(searchRequest(2, aliceUser, wire.ScopeOne, anyEntry, wire.AppendControl(nil, oid, false, nil)...))
		n := 0
		for m := c.read(); m.Op == wire.OpSearchResultEntry; m = c.read() {
			n++
		}
		if n != want {
			t.Errorf("with %s: %d entries, want %d", oid, n, want)
		}
	}
}

// TestVirtualIdentity: the session is that of an entry, not of a name: who takes its place is somebody else.
func TestVirtualIdentity(t *testing.T) {
	r := newRig(t)
	add := func(uuid string) {
		r.dir.Add(aliceUser, alicePW, "objectClass", "inetOrgPerson", "uid", "alice", "entryUUID", uuid, "appPassword", phoneValue())
	}
	add("a7b5e2f0-0000-4000-8000-000000000001")
	dn := r.virtualDN()
	c := r.dial()
	c.bind(1, aliceUser, alicePW, wire.ResultSuccess)
	if dns, code := c.search(2, dn, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
		t.Fatal(dns, code)
	}
	add("a7b5e2f0-0000-4000-8000-000000000002")
	for i, base := range []string{dn, aliceUser, "ou=people,dc=example,dc=org"} {
		if dns, _ := c.search(int32(10+i), base, wire.ScopeWhole, isClass); len(dns) != 0 {
			t.Errorf("below %q after the entry was made anew: %q", base, dns)
		}
	}
}

// TestVirtualManagers: by DN, by membership, and no longer when the directory says so.
func TestVirtualManagers(t *testing.T) {
	const group = "cn=desk,dc=example,dc=org"
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN, group} })
	r.dir.Add(group, "", "objectClass", "groupOfNames", "member", bobUser)
	dn := r.virtualDN()
	for _, c := range []struct {
		dn, password string
		manager      bool
	}{
		{adminDN, "admin-password", true},
		{bobUser, "bob-main-password", true},
		{serviceDN, servicePW, false},
	} {
		client := r.dial()
		client.bind(1, c.dn, c.password, wire.ResultSuccess)
		for i, s := range []struct {
			base   string
			scope  int
			filter []byte
		}{{aliceUser, wire.ScopeOne, anyEntry}, {dn, wire.ScopeBase, anyEntry}, {"dc=example,dc=org", wire.ScopeWhole, isClass}, {aliceUser, wire.ScopeWhole, isClass}} {
			if dns, _ := client.search(int32(10+i), s.base, s.scope, s.filter); slices.Contains(dns, dn) != c.manager {
				t.Errorf("%s sees %q below %q", c.dn, dns, s.base)
			}
		}
	}
	r.dir.Add(group, "", "objectClass", "groupOfNames", "member", serviceDN)
	roster := r.server.state.Load().roster
	roster.note(strings.ToLower(bobUser), membership{true, time.Now().Add(-time.Second)}) // not by another name
	roster.note(bobUser, membership{true, time.Now().Add(-time.Second)})                  // what was known is over
	client := r.dial()
	client.bind(1, bobUser, "bob-main-password", wire.ResultSuccess)
	if dns, _ := client.search(2, aliceUser, wire.ScopeOne, anyEntry); len(dns) != 0 {
		t.Errorf("no member any more, and sees %q", dns)
	}
}

// TestVirtualInContext: a mail server's context comes back behind the DNs of these entries too.
func TestVirtualInContext(t *testing.T) {
	const suffix = ",svc=imap,rip=192.0.2.9,sid=1,cn=appbind"
	r := newRig(t, func(cfg *config.Config) { cfg.Listeners[0].Context = "trusted" })
	dn := r.virtualDN()
	c := r.dial()
	c.bind(1, aliceUser+suffix, alicePW, wire.ResultSuccess)
	for i, base := range []string{aliceUser, dn} {
		if dns, code := c.search(int32(2+i), base+suffix, wire.ScopeWhole, isClass); code != 0 || len(dns) != 1 || dns[0] != dn+suffix {
			t.Errorf("%q %d", dns, code)
		}
	}
}

// TestUsualSearchesCostNothing: what mail servers ask is one search upstream, as before.
func TestUsualSearchesCostNothing(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN, "cn=desk,dc=example,dc=org"} })
	for _, who := range [][2]string{{serviceDN, servicePW}, {aliceUser, alicePW}, {adminDN, "admin-password"}} {
		c := r.dial()
		c.bind(1, who[0], who[1], wire.ResultSuccess)
		for i, s := range []struct {
			base  string
			scope int
		}{{"ou=people,dc=example,dc=org", wire.ScopeWhole}, {"ou=people,dc=example,dc=org", wire.ScopeOne}, {aliceUser, wire.ScopeBase}, {bobUser, wire.ScopeBase}} {
			before := len(r.up.Received(wire.OpSearchRequest))
			c.search(int32(2+i), s.base, s.scope, present("uid"))
			if n := len(r.up.Received(wire.OpSearchRequest)) - before; n != 1 {
				t.Errorf("%s below %s: %d searches", who[0], s.base, n)
			}
		}
	}
}

// TestVirtualTail: what is added to an answer, and where the rest of it begins.
func TestVirtualTail(t *testing.T) {
	t.Parallel()
	entries := func(n int) (list []viewed) {
		for i := range n {
			list = append(list, viewed{key: fmt.Sprint(i), body: wire.AppendElement(nil, wire.TagOctetString, nil)})
		}
		return list
	}
	for name, c := range map[string]struct {
		tail     virtualTail
		controls []byte
		code     int32
		want     int
		cookie   string
		wantCode int32
	}{
		"plain":                           {tail: virtualTail{entries: entries(3)}, want: 3},
		"a refusal":                       {tail: virtualTail{entries: entries(3)}, code: 50, wantCode: 50},
		"at the limit":                    {tail: virtualTail{entries: entries(3), limit: 5, sent: 2}, want: 3},
		"over the limit":                  {tail: virtualTail{entries: entries(3), limit: 4, sent: 2}, want: 2, wantCode: 4},
		"far over the limit":              {tail: virtualTail{entries: entries(3), limit: 2, sent: 2}, wantCode: 4},
		"the directory has more pages":    {tail: virtualTail{entries: entries(3), page: &page{size: 9}}, controls: pageControl("its own"), cookie: "its own"},
		"the last page has room":          {tail: virtualTail{entries: entries(3), page: &page{size: 5}, sent: 2}, controls: pageControl(""), want: 3},
		"the last page has too little":    {tail: virtualTail{entries: entries(3), page: &page{size: 4}, sent: 2}, controls: pageControl(""), want: 2, cookie: pageCookie + "1"},
		"the last page has none":          {tail: virtualTail{entries: entries(3), page: &page{size: 2, after: ""}, sent: 2}, controls: pageControl(""), cookie: pageCookie},
		"a page of ours, and more":        {tail: virtualTail{entries: entries(2), more: true, page: &page{size: 2}}, controls: pageControl(""), want: 2, cookie: pageCookie + "1"},
		"a limit within the page":         {tail: virtualTail{entries: entries(3), limit: 2, page: &page{size: 9}}, controls: pageControl(""), want: 2, wantCode: 4},
		"pages that the directory forgot": {tail: virtualTail{entries: entries(3), page: &page{size: 2}}, want: 3},
	} {
		before, r, controls := c.tail.end(nil, wire.Result{Code: c.code}, c.controls)
		n := 0
		for len(before) > 0 {
			_, _, rest, err := wire.Element(before)
			if err != nil {
				t.Fatal(err)
			}
			before = rest
			n++
		}
		cookie, _ := cookieOf(controls)
		if n != c.want || string(cookie) != c.cookie || r.Code != c.wantCode {
			t.Errorf("%s: %d entries, cookie %q, code %d", name, n, cookie, r.Code)
		}
	}
}

// FuzzPage: no value of the control is taken for a page that it is not.
func FuzzPage(f *testing.F) {
	f.Add([]byte{0x30, 0x05, 0x02, 0x01, 0x02, 0x04, 0x00})
	f.Add([]byte{0x30, 0x84, 0, 0, 0, 5, 0x02, 0x01, 0x02, 0x04, 0x00})
	f.Add(wire.CloseElement(wire.AppendElement([]byte{2, 1, 9}, wire.TagOctetString, []byte(pageCookie+"x")), 0, wire.TagSequence))
	f.Fuzz(func(t *testing.T, value []byte) {
		p, ours := pageOf(wire.AppendControl(nil, oidPagedResults, true, value))
		if p != nil && (p.size < 1 || p.size > maxPage || !ours && p.after != "") || p == nil && ours {
			t.Errorf("% x: %+v %v", value, p, ours)
		}
	})
}
