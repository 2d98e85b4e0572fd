package proxy

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"appbind/config"
	"appbind/wire"
)

// app is a client that has bound with an app password.
func (r *rig) app() *client {
	r.t.Helper()
	c := r.dial()
	c.bind(1, aliceUser, phonePW, wire.ResultSuccess)
	return c
}

func TestAppSessionForwardsNothing(t *testing.T) {
	r := newRig(t)
	c := r.app()
	before := len(r.up.Frames())
	for name, raw := range requests() {
		sent, _ := wire.Parse(raw)
		c.write(raw)
		want := int32(wire.ResultInsufficientAccessRights)
		if sent.Op == wire.OpSearchRequest {
			want = wire.ResultSuccess // of another entry: nothing there
		}
		if res := c.result(2, wire.ResponseTo(sent.Op)); res.Code != want {
			t.Errorf("%s: result %d", name, res.Code)
		}
	}
	for _, f := range r.up.Frames()[before:] {
		t.Errorf("%#x went upstream", f.Message.Op)
	}
	if got := c.whoAmI(3); got != "dn:"+aliceUser {
		t.Errorf("who am i: %q", got)
	}
}

func TestAppSessionSeesItsOwnEntry(t *testing.T) {
	r := newRig(t)
	c := r.app()
	for i, tc := range []struct {
		base    string
		scope   int
		entries int
	}{
		{aliceUser, wire.ScopeBase, 1},
		{"UID=Alice,ou=people,dc=example,dc=org", wire.ScopeBase, 1},
		{"dc=example,dc=org", wire.ScopeWhole, 1},
		{"ou=people,dc=example,dc=org", wire.ScopeOne, 1},
		{"dc=example,dc=org", wire.ScopeOne, 0},
		{bobUser, wire.ScopeBase, 0},
	} {
		id := int32(10 + i)
		c.write(searchRequest(id, tc.base, tc.scope, anyEntry))
		n := 0
		for m := c.read(); m.Op != wire.OpSearchResultDone; m = c.read() {
			n++
			if bytes.Contains(m.Raw, []byte("$app$")) || !bytes.Contains(m.Raw, []byte("alice@example.org")) {
				t.Errorf("%s: entry %q", tc.base, m.Raw)
			}
		}
		if n != tc.entries {
			t.Errorf("%s scope %d: %d entries, want %d", tc.base, tc.scope, n, tc.entries)
		}
	}
	critical := wire.AppendControl(nil, "1.2.840.113556.1.4.319", true, nil)
	c.write(searchRequest(30, aliceUser, wire.ScopeBase, anyEntry, critical...))
	c.want(30, wire.OpSearchResultDone, wire.ResultUnavailableCriticalExtension)
	if dns, code := c.search(31, "", wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
		t.Errorf("root DSE: %v, %d", dns, code)
	}
}

func TestAppSessionContext(t *testing.T) {
	const suffix = ",svc=imap,rip=192.0.2.7,cn=appbind"
	r := newRig(t, func(cfg *config.Config) { cfg.Listeners[0].Context = "trusted" })
	c := r.app()
	dns, code := c.search(2, aliceUser+suffix, wire.ScopeBase, anyEntry)
	if code != 0 || len(dns) != 1 || dns[0] != aliceUser+suffix {
		t.Errorf("%v, %d", dns, code)
	}
}

func TestAppSessionAfterBindNone(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.AppPasswords.AfterBind = afterBindNone })
	c := r.app()
	if dns, code := c.search(2, aliceUser, wire.ScopeBase, anyEntry); len(dns) != 0 || code != wire.ResultInsufficientAccessRights {
		t.Errorf("%v, %d", dns, code)
	}
}

// revoke takes alice's app password away.
func (r *rig) revoke() {
	r.dir.Add(aliceUser, alicePW, "objectClass", "inetOrgPerson", "uid", "alice", "mail", "alice@example.org")
}

func TestAppSessionEndsWithItsPassword(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		r := newRig(t)
		c := r.app()
		r.revoke()
		c.wantNotice(wire.ResultStrongerAuthRequired)
	})
	t.Run("at a search", func(t *testing.T) {
		r := newRig(t)
		r.server.recheck = time.Hour
		c := r.app()
		r.revoke()
		c.t = t
		// The last look may be a second old; polled, since the clock is the real one.
		if !eventually(func() bool {
			c.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
			for {
				m, err := c.r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if m.ID == 0 {
					return true
				}
				if m.Op == wire.OpSearchResultDone {
					return false
				}
			}
		}) {
			t.Fatal("still served")
		}
		c.wantEnd()
	})
	t.Run("trouble keeps it", func(t *testing.T) {
		r := newRig(t)
		c := r.app()
		r.up.Pause()
		timer := time.NewTimer(4 * r.server.recheck)
		defer timer.Stop()
		<-timer.C
		if got := c.whoAmI(2); got != "dn:"+aliceUser {
			t.Errorf("who am i: %q", got)
		}
	})
}

func TestProxiedAuthorization(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.AppPasswords.AfterBind = afterBindProxied })
	c := r.app()
	held := r.hold(wire.OpSearchRequest, wire.OpCompareRequest)
	sort := wire.AppendControl(nil, "1.2.3.4", false, nil)
	other := wire.AppendControl(sort, oidProxiedAuthorization, false, []byte("dn:"+adminDN))
	compare := wire.CompareRequest{DN: []byte(bobUser), Attribute: []byte("uid"), Value: []byte("bob")}
	for _, raw := range [][]byte{
		searchRequest(2, "dc=example,dc=org", wire.ScopeWhole, anyEntry, other...),
		wire.AppendMessage(nil, 2, wire.OpCompareRequest, compare.Append(nil), other),
	} {
		c.write(raw)
		a := next(t, held)
		if a.c.Bound() != readerDN {
			t.Errorf("the link is bound as %q", a.c.Bound())
		}
		var identities []string
		err := wire.EachControl(a.m.Controls, func(ctl wire.Control) bool {
			if string(ctl.OID) == oidProxiedAuthorization {
				identities = append(identities, string(ctl.Value))
				if !ctl.Critical {
					t.Error("not critical: a server that does not know it would answer as appbind")
				}
			}
			return true
		})
		if err != nil || len(identities) != 1 || identities[0] != "dn:"+aliceUser {
			t.Errorf("as %q, %v", identities, err)
		}
		if a.m.Op == wire.OpSearchRequest {
			a.c.Entry(a.m.ID, bobUser, "uid", "bob", "appPassword", phoneValue())
		}
		a.c.Answer(a.m, wire.ResultSuccess)
		m := c.read()
		if m.Op == wire.OpSearchResultEntry {
			if strings.Contains(string(m.Raw), "$app$") {
				t.Error("the secrets attribute is shown")
			}
			c.want(2, wire.OpSearchResultDone, wire.ResultSuccess)
		}
	}
	critical := wire.AppendControl(nil, oidProxiedAuthorization, true, []byte("dn:"+adminDN))
	c.write(searchRequest(3, aliceUser, wire.ScopeBase, anyEntry, critical...))
	if res := c.result(3, wire.OpSearchResultDone); res.Code == wire.ResultSuccess {
		t.Error("an identity of the client's choice was accepted")
	}
	c.write(deleteRequest(4, bobUser))
	c.want(4, wire.OpDelResponse, wire.ResultInsufficientAccessRights)
	if n := len(r.up.Received(wire.OpDelRequest)); n != 0 {
		t.Error("a delete went upstream")
	}
}
