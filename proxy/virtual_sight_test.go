package proxy

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// TestVirtualHidden: where they are hidden, everything goes to the directory as it came, and costs nothing.
func TestVirtualHidden(t *testing.T) {
	shown := newRig(t)
	dn := shown.virtualDN()
	r := newRig(t, func(cfg *config.Config) {
		cfg.AppPasswords.VirtualEntries = "hide"
		cfg.Managers = []string{adminDN}
	})
	r.writable()
	for _, who := range [][2]string{{aliceUser, alicePW}, {adminDN, "admin-password"}} {
		c := r.dial()
		c.bind(1, who[0], who[1], wire.ResultSuccess)
		before := len(r.up.Received(wire.OpSearchRequest))
		for i, base := range []string{aliceUser, dn, "dc=example,dc=org"} {
			dns, _ := c.search(int32(2+i), base, wire.ScopeWhole, isClass)
			if len(dns) != 0 {
				t.Errorf("%s below %q: %q", who[0], base, dns)
			}
		}
		if n := len(r.up.Received(wire.OpSearchRequest)) - before; n != 3 {
			t.Errorf("%s: %d searches upstream, want 3", who[0], n)
		}
		c.write(deleteRequest(9, dn))
		c.result(9, wire.OpDelResponse)
	}
	if got := r.up.Received(wire.OpDelRequest); len(got) != 2 || string(got[0].Body) != dn {
		t.Errorf("%d deletes went upstream", len(got))
	}
	if n := len(r.dir.Values(aliceUser, "appPassword")); n != 1 {
		t.Errorf("%d app passwords are left", n)
	}
}

// TestVirtualLeavesBytes: an answer to which nothing is added comes as the
// directory wrote it, also where something could have been.
func TestVirtualLeavesBytes(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN} })
	// A result with padded lengths, as Windows writes them.
	done := []byte{0x30, 0x84, 0, 0, 0, 16, 2, 1, 0, 0x65, 0x84, 0, 0, 0, 7, 0x0a, 1, 0, 4, 0, 4, 0}
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		s, err := wire.DecodeSearch(m.Body)
		if m.Op != wire.OpSearchRequest || err != nil || !bytes.Equal(s.Filter, present("carLicense")) {
			r.dir.Handle(c, m)
			return
		}
		raw := bytes.Clone(done)
		raw[8] = byte(m.ID)
		c.Write(raw)
	})
	for _, who := range [][2]string{{aliceUser, alicePW}, {adminDN, "admin-password"}, {serviceDN, servicePW}} {
		c := r.dial()
		c.bind(1, who[0], who[1], wire.ResultSuccess)
		for i, base := range []string{aliceUser, "ou=people,dc=example,dc=org", "dc=example,dc=org"} {
			c.write(searchRequest(int32(i)+2, base, wire.ScopeWhole, present("carLicense")))
			if m := c.read(); m.Op != wire.OpSearchResultDone || !bytes.HasSuffix(m.Raw, done[len(done)-7:]) || !bytes.Contains(m.Raw, []byte{0x0a, 1, 0, 4, 0, 4, 0}) ||
				!bytes.Contains(m.Raw, []byte{0x65, 0x84}) {
				t.Errorf("%s below %s: % x", who[0], base, m.Raw)
			}
		}
	}
}

// TestRosterIsShared: one account is looked up once, however many connections it has.
func TestRosterIsShared(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) {
		cfg.Managers = []string{"cn=desk,dc=example,dc=org"}
		cfg.Users.Bases = []string{"dc=example,dc=org"}
	})
	r.dir.Add("cn=desk,dc=example,dc=org", "", "objectClass", "groupOfNames", "member", aliceUser)
	asked := func() int {
		n := 0
		for _, m := range r.up.Received(wire.OpSearchRequest) {
			if s, err := wire.DecodeSearch(m.Body); err == nil && string(s.Base) == "cn=desk,dc=example,dc=org" {
				n++
			}
		}
		return n
	}
	for range 5 {
		c := r.dial()
		c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
		if dns, code := c.search(2, "ou=people,dc=example,dc=org", wire.ScopeWhole, present("uid")); code != 0 || len(dns) != 2 {
			t.Fatalf("%q %d", dns, code)
		}
	}
	if n := asked(); n != 1 {
		t.Errorf("the group was asked %d times", n)
	}
}

// TestUnreadableGroupDelaysOnce: a group that cannot be read makes nobody a manager, and is not asked at each search.
func TestUnreadableGroupDelaysOnce(t *testing.T) {
	const group = "cn=desk,dc=example,dc=org"
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{group} })
	r.dir.Add(group, "", "objectClass", "groupOfNames", "member", bobUser)
	n := 0
	asked := make(chan bool, 100)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if s, err := wire.DecodeSearch(m.Body); m.Op == wire.OpSearchRequest && err == nil && string(s.Base) == group {
			asked <- true
			c.Answer(m, wire.ResultBusy)
			return
		}
		r.dir.Handle(c, m)
	})
	c := r.dial()
	c.bind(1, bobUser, "bob-main-password", wire.ResultSuccess)
	for i := range int32(3) {
		if dns, _ := c.search(2+i, aliceUser, wire.ScopeOne, anyEntry); len(dns) != 0 {
			t.Errorf("%q", dns)
		}
	}
	for len(asked) > 0 {
		<-asked
		n++
	}
	if n == 0 || n > 2 { // a busy server is asked once more
		t.Errorf("the group was asked %d times", n)
	}
}

// TestVirtualCostsOthersNoAllocation: a mail server's searches, also where there are managers and its base is not that of users.
func TestVirtualCostsOthersNoAllocation(t *testing.T) {
	for _, managers := range []map[string]bool{{}, {"dc=org": true}} {
		st := &state{virtual: true, managers: managers, roster: &roster{known: map[string]membership{}}}
		st.Config = config.Default()
		st.Config.Users.Bases = []string{"dc=example,dc=org"}
		st.roster.note(serviceDN, membership{false, time.Now().Add(time.Hour)})
		srv := &Server{}
		srv.state.Store(st)
		c := &conn{srv: srv, sess: session{kind: passed, dn: serviceDN}}
		q := &request{}
		s := &wire.SearchRequest{Base: []byte("ou=people,dc=example,dc=org"), Scope: wire.ScopeWhole, Filter: present("uid")}
		n := testing.AllocsPerRun(1000, func() {
			if !c.maySeeVirtual() {
				return
			}
			if handled, _, _ := c.virtualSearch(wire.Message{}, q, s); handled || q.tail != nil || c.showsDefinitions(s) {
				t.Error("something is shown")
			}
		})
		if n > 0 {
			t.Errorf("with %d managers: %v allocations", len(managers), n)
		}
	}
}

// TestRosterIsBounded: strangers cannot fill the memory.
func TestRosterIsBounded(t *testing.T) {
	t.Parallel()
	r := &roster{known: map[string]membership{}}
	now := time.Now()
	for i := range maxRoster + 10 {
		r.note(strings.Repeat("x", i%100)+string(rune(i)), membership{true, now.Add(time.Hour)})
	}
	if len(r.known) > maxRoster {
		t.Errorf("%d are known", len(r.known))
	}
	r.note("a", membership{true, now})
	if _, known := r.look("a", now); known {
		t.Error("what is over is known")
	}
}

// TestVirtualConditions: a control by which a request is not to be done as it stands is never overlooked.
func TestVirtualConditions(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN} })
	r.writable()
	dn := r.virtualDN()
	c := r.asAdmin()
	id := int32(10)
	for oid, code := range map[string]int32{
		controlAssertion: wire.ResultUnavailableCriticalExtension, "1.3.6.1.4.1.4203.666.5.2": wire.ResultUnavailableCriticalExtension,
		"1.3.6.1.4.1.4203.1.10.2": wire.ResultUnavailableCriticalExtension, oidProxiedAuthorization: wire.ResultUnavailableCriticalExtension,
		oidProxiedAuthorization1: wire.ResultUnavailableCriticalExtension, controlTransaction: wire.ResultUnwillingToPerform,
	} {
		for _, critical := range []bool{true, false} {
			id++
			c.write(wire.AppendMessage(nil, id, wire.OpDelRequest, []byte(dn), wire.AppendControl(nil, oid, critical, anyEntry)))
			if m := c.read(); m.ID != id {
				t.Fatal(m.ID)
			} else if res, err := wire.DecodeResult(m.Body); err != nil || res.Code != code {
				t.Errorf("%s, critical %v: %d %v, want %d", oid, critical, res.Code, err, code)
			}
		}
	}
	if n := len(r.dir.Values(aliceUser, "appPassword")); n != 1 {
		t.Fatalf("%d app passwords are left", n)
	}
	// A password of it is not set either.
	c.write(passwordModifyMessage(90, dn, nil, nil))
	c.want(90, wire.OpExtendedResponse, wire.ResultUnwillingToPerform)
	if n := len(r.up.Received(wire.OpExtendedRequest)); n != 0 {
		t.Errorf("%d password modifies went upstream", n)
	}
	denied := r.server.Stats().Denied["delete"]
	c.write(deleteRequest(91, dn))
	c.want(91, wire.OpDelResponse, wire.ResultSuccess)
	st := r.server.Stats()
	if done := st.Operations["delete"]; st.Denied["delete"] != denied || done.Total() != 1 {
		t.Errorf("a delete that was made: refused %d, done %d", st.Denied["delete"]-denied, done.Total())
	}
	if n := len(r.dir.Values(aliceUser, "appPassword")); n != 0 {
		t.Errorf("%d app passwords are left", n)
	}
	c.write(deleteRequest(92, dn))
	c.want(92, wire.OpDelResponse, wire.ResultNoSuchObject)
}

// TestVirtualIsNotReadForNothing: a manager's search in another part of the directory reads no users.
func TestVirtualIsNotReadForNothing(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN} })
	c := r.asAdmin()
	before := len(r.up.Received(wire.OpSearchRequest))
	c.search(2, "ou=groups,dc=example,dc=org", wire.ScopeWhole, isClass)
	if n := len(r.up.Received(wire.OpSearchRequest)) - before; n != 1 {
		t.Errorf("%d searches upstream", n)
	}
}

// TestStrangersCostNoLookup: nothing is asked on behalf of who sees none, so that
// neither an answer nor its delay tells who has what.
func TestStrangersCostNoLookup(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN} })
	dn := r.virtualDN()
	c := r.dial()
	c.bind(1, bobUser, "bob-main-password", wire.ResultSuccess)
	c.search(2, "dc=example,dc=org", wire.ScopeWhole, isClass) // who is a manager is known from here on
	id := int32(10)
	for _, target := range []string{dn, "appPasswordId=none," + aliceUser, "appPasswordId=none,uid=nobody,ou=people,dc=example,dc=org"} {
		before := len(r.up.Received(wire.OpSearchRequest))
		for _, scope := range []int{wire.ScopeBase, wire.ScopeOne, wire.ScopeWhole} {
			id++
			if dns, _ := c.search(id, target, scope, anyEntry); len(dns) != 0 {
				t.Errorf("%q", dns)
			}
		}
		c.write(deleteRequest(id+100, target))
		c.result(id+100, wire.OpDelResponse)
		c.write(passwordModifyMessage(id+200, target, nil, nil))
		c.result(id+200, wire.OpExtendedResponse)
		if n := len(r.up.Received(wire.OpSearchRequest)) - before; n != 3 {
			t.Errorf("%s: %d searches upstream, want the 3 of the client", target, n)
		}
	}
	if n := len(r.up.Received(wire.OpDelRequest)); n != 3 {
		t.Errorf("%d deletes went to the directory, want 3", n)
	}
}

// uses is a history.
type uses struct {
	asked []string // the entries; of the client's goroutine, read when it has answered
	err   error
	last  LastUse
}

func (u *uses) LastUses(_ context.Context, entry string) (func(entry, id, label string) LastUse, error) {
	u.asked = append(u.asked, entry)
	return func(string, string, string) LastUse { return u.last }, u.err
}

// TestVirtualLastUses: the history is asked where a search is about it, and an answer that needs it is none without it.
func TestVirtualLastUses(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Managers = []string{adminDN} })
	dn := r.virtualDN()
	h := &uses{last: LastUse{At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}}
	st := *r.server.state.Load()
	st.Uses = h
	r.server.state.Store(&st)
	used := present("appPasswordLastUsed")
	notUsed := wire.CloseElement(bytes.Clone(used), 0, filterNot)
	alice, admin, bob := r.dial(), r.asAdmin(), r.dial()
	alice.bind(1, aliceUser, alicePW, wire.ResultSuccess)
	bob.bind(1, bobUser, "bob-main-password", wire.ResultSuccess)
	for i, c := range []struct {
		who    *client
		base   string
		filter []byte
		err    error
		want   int
		code   int32
		asked  int
	}{
		{alice, aliceUser, used, nil, 1, 0, 1},
		{alice, dn, used, nil, 1, 0, 1},
		{admin, "dc=example,dc=org", used, nil, 1, 0, 1},
		{admin, "dc=example,dc=org", notUsed, nil, 0, 0, 1},
		{alice, aliceUser, used, errors.ErrUnsupported, 0, wire.ResultUnavailable, 1},
		{admin, dn, notUsed, errors.ErrUnsupported, 0, wire.ResultUnavailable, 1},
		{alice, dn, anyEntry, errors.ErrUnsupported, 1, 0, 1}, // shown without
		{bob, aliceUser, used, nil, 0, 0, 0},
	} {
		filter := wire.CloseElement(append(bytes.Clone(isClass), c.filter...), 0, filterAnd)
		h.err, h.asked = c.err, nil
		dns, code := c.who.search(int32(10+i), c.base, wire.ScopeWhole, filter)
		if len(dns) != c.want || code != c.code || len(h.asked) != c.asked {
			t.Errorf("%d: %q, code %d, asked %q", i, dns, code, h.asked)
		}
	}
	// Without a history nothing is known, and nothing found.
	st2 := st
	st2.Uses = nil
	r.server.state.Store(&st2)
	for i, f := range [][]byte{used, notUsed} {
		filter := wire.CloseElement(append(bytes.Clone(isClass), f...), 0, filterAnd)
		if dns, code := alice.search(int32(50+i), aliceUser, wire.ScopeWhole, filter); len(dns) != 0 || code != 0 {
			t.Errorf("%q %d", dns, code)
		}
	}
}

// FuzzDefinitions: whatever the subschema's entry is, it stays an entry with all that it had.
func FuzzDefinitions(f *testing.F) {
	e := wire.SearchEntry{DN: []byte("cn=Subschema")}
	e.Attributes = wire.AppendAttribute(e.Attributes, "attributeTypes", []byte("( 2.5.4.3 NAME 'cn' )"))
	e.Attributes = wire.AppendAttribute(e.Attributes, "2.5.21.6")
	f.Add(e.Append(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		out, changed, err := withDefinitions(body)
		if err != nil {
			return
		}
		if !changed {
			if !bytes.Equal(out, body) {
				t.Error("changed, and said not to be")
			}
			return
		}
		again, _, err := withDefinitions(out)
		if err != nil || !bytes.Equal(again, out) || len(out) <= len(body)/8 {
			t.Errorf("% x: %v", body, err)
		}
	})
}
