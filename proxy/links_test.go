package proxy

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// Anonymous clients have a share of the links, and leave the rest to those with a password.
func TestAnonymousLeavesLinks(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) {
		cfg.Upstream.MaxLinks = 22 // 20 places
		cfg.Listeners[0].Anonymous = "refuse"
		cfg.Upstream.BindTimeout = config.Duration(2 * time.Second)
	})
	for range 20 {
		c := r.dial()
		defer c.nc.Close()
		if _, code := c.search(1, "", wire.ScopeBase, anyEntry); code != 0 && code != wire.ResultUnavailable {
			t.Fatal(code)
		}
	}
	c := r.dial()
	defer c.nc.Close()
	c.bind(1, aliceUser, alicePW, 0)
}

// One account has a quarter of the links, and leaves the rest to the others. Listed accounts are the administrator's own.
func TestOneAccountLeavesLinks(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) {
		cfg.Upstream.MaxLinks = 22 // 20 places
		cfg.Upstream.BindTimeout = config.Duration(5 * time.Second)
		cfg.Passthrough = append(cfg.Passthrough, adminDN)
	})
	var clients []*client
	for i := range 8 {
		c := r.dial()
		defer c.nc.Close()
		code := int32(0)
		if i >= 5 {
			code = wire.ResultUnavailable
		}
		c.bind(1, aliceUser, alicePW, code)
		clients = append(clients, c)
	}
	for range 5 {
		c := r.dial()
		defer c.nc.Close()
		c.bind(1, bobUser, "bob-main-password", 0)
	}
	for range 7 {
		c := r.dial()
		defer c.nc.Close()
		c.bind(1, adminDN, "admin-password", 0)
	}
	// What alice gives back she may have again, by leaving and by a bind as somebody else.
	clients[0].nc.Close()
	clients[1].write(bindMessage(2, 3, "", "", nil))
	clients[1].want(2, wire.OpBindResponse, 0)
	for _, c := range clients[5:7] {
		eventually(func() bool {
			c.write(bindMessage(2, 3, aliceUser, alicePW, nil))
			return c.result(2, wire.OpBindResponse).Code == 0
		})
		if got := c.whoAmI(3); got != "dn:"+aliceUser {
			t.Errorf("I am %q", got)
		}
	}
	clients[7].bind(2, aliceUser, alicePW, wire.ResultUnavailable)
}

const ctlRetain = "1.3.6.1.4.1.30221.2.5.3"

// PingDirectory's "retain identity" verifies the password and leaves the connection to whoever was bound before: it must not go upstream.
func TestBindControlThatRetainsIdentity(t *testing.T) {
	r := newRig(t)
	// PingDirectory's "retain identity": the password is verified, the connection stays who it was.
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpBindRequest && bytes.Contains(m.Controls, []byte(ctlRetain)) {
			b, _ := wire.DecodeBind(m.Body)
			if string(b.Name) == bobUser && string(b.Password) == "bob-main-password" {
				c.Answer(m, 0)
			} else {
				c.Answer(m, 49)
			}
			return
		}
		if m.Op == wire.OpDelRequest {
			c.Result(m.ID, wire.OpDelResponse, 0, "deleted by "+c.Bound())
			return
		}
		r.dir.Handle(c, m)
	})
	a := r.dial()
	a.bind(1, adminDN, "admin-password", 0)
	a.nc.Close()
	eventually(func() bool { return clientCount(r.server) == 0 })
	b := r.dial()
	defer b.nc.Close()
	b.write(bindMessage(1, 3, bobUser, "bob-main-password", wire.AppendControl(nil, ctlRetain, true, nil)))
	if res := b.result(1, wire.OpBindResponse); res.Code != 0 {
		return
	}
	b.write(deleteRequest(2, aliceUser))
	if res := b.result(2, wire.OpDelResponse); strings.Contains(string(res.Diagnostic), adminDN) {
		t.Fatalf("bob: %s", res.Diagnostic)
	}
}

// A response control of a bind can carry the own entry.
func TestBindResponseControls(t *testing.T) {
	r := newRig(t)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpBindRequest && bytes.Contains(m.Controls, []byte(controlAuthzEntry)) {
			e := wire.AppendAttribute(nil, "appPassword", []byte(phoneValue()))
			ctl := wire.AppendControl(nil, controlAuthzEntry, false, e)
			res := wire.Result{}
			c.Write(wire.AppendMessage(nil, m.ID, wire.OpBindResponse, res.Append(nil), ctl))
			return
		}
		r.dir.Handle(c, m)
	})
	b := r.dial()
	defer b.nc.Close()
	b.write(bindMessage(1, 3, bobUser, "bob-main-password", wire.AppendControl(nil, controlAuthzEntry, false, nil)))
	if m := b.read(); bytes.Contains(m.Raw, []byte("$app$")) {
		t.Fatal("the secrets attribute comes back in a response control of the bind")
	}
}

// What an operation did to a link must not meet the next client of it.
func TestOperationThatChangesALink(t *testing.T) {
	r := newRig(t)
	const fastBind = "1.2.840.113556.1.4.1781"
	fast := map[*fakeldap.Conn]bool{}
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpExtendedRequest && bytes.Contains(m.Body, []byte(fastBind)) {
			fast[c] = true
			c.Answer(m, 0)
			return
		}
		if m.Op == wire.OpBindRequest && fast[c] { // verified, never authenticated
			c.Answer(m, 0)
			return
		}
		if m.Op == wire.OpDelRequest {
			c.Result(m.ID, wire.OpDelResponse, 0, "by "+c.Bound())
			return
		}
		r.dir.Handle(c, m)
	})
	a := r.dial()
	a.write(extendedRequest(1, fastBind, nil))
	a.result(1, wire.OpExtendedResponse)
	a.nc.Close()
	eventually(func() bool { return clientCount(r.server) == 0 })
	b := r.dial()
	defer b.nc.Close()
	b.bind(1, adminDN, "admin-password", 0)
	b.write(deleteRequest(2, aliceUser))
	if res := b.result(2, wire.OpDelResponse); !strings.Contains(string(res.Diagnostic), adminDN) {
		t.Fatalf("the administrator's request ran %q", res.Diagnostic)
	}
}

// A client abandons a search that it did not read: the link is held up by it, and of no use to others.
func TestStuckLinkIsNotPooled(t *testing.T) {
	r := newRig(t)
	big := strings.Repeat("x", 1<<20)
	var sent atomic.Int64
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpSearchRequest {
			s, _ := wire.DecodeSearch(m.Body)
			if string(s.Base) == "dc=big" {
				go func() {
					for range 64 {
						c.Entry(m.ID, "dc=big", "description", big)
						sent.Add(1)
					}
				}()
				return
			}
		}
		r.dir.Handle(c, m)
	})
	a := r.dial()
	defer a.nc.Close()
	a.bind(9, serviceDN, servicePW, 0) // so that the link is one of the pool
	a.write(searchRequest(1, "dc=big", wire.ScopeBase, anyEntry))
	last, still := int64(0), 0
	if !eventually(func() bool { // nothing moves any more: all buffers on the way are full
		now := sent.Load()
		if still++; now != last || now == 0 {
			last, still = now, 0
		}
		return still > 50
	}) {
		t.Fatal("the flood does not end")
	}
	a.write(abandonRequest(2, 1), bindRequest(3, "uid=nobody,ou=people,dc=example,dc=org", "$app$x"))
	if !eventually(func() bool { return strings.Contains(r.log.String(), "uid=nobody") }) {
		t.Fatal("the second bind was not answered")
	}
	b := r.dial()
	defer b.nc.Close()
	b.bind(1, bobUser, "bob-main-password", 0)
}

// A session with an app password sees no password hash under proxied authorization.
func TestProxiedHidesPasswords(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.AppPasswords.AfterBind = afterBindProxied })
	r.dir.Add(aliceUser, alicePW, "objectClass", "inetOrgPerson", "uid", "alice", "appPassword", phoneValue(), "userPassword", "{SSHA}main")
	c := r.dial()
	defer c.nc.Close()
	c.bind(1, aliceUser, phonePW, 0)
	c.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	m := c.read()
	if bytes.Contains(m.Raw, []byte("{SSHA}main")) {
		t.Error("userPassword is shown to an app-password session")
	}
	c.read()
	if _, code := c.search(3, aliceUser, wire.ScopeBase, present("userPassword")); code != 50 {
		t.Error("filter on userPassword:", code)
	}
}

// Who may see the secrets attribute is asked of the present configuration.
func TestReloadTakesVisibility(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.SecretsVisibleTo = []string{adminDN} })
	c := r.dial()
	defer c.nc.Close()
	c.bind(1, adminDN, "admin-password", 0)
	cfg := *r.cfg
	cfg.SecretsVisibleTo = nil
	if err := r.server.Reload(r.core(&cfg)); err != nil {
		t.Fatal(err)
	}
	r.closeOld()
	if _, code := c.search(2, aliceUser, wire.ScopeBase, present("appPassword")); code != 50 {
		t.Error("after the reload: code", code)
	}
}

// Two servers in turn, the second some moments behind: the right new password is not refused for good.
func TestSpreadServersOutOfStep(t *testing.T) {
	for _, odd := range []bool{false, true} {
		t.Run("", func(t *testing.T) {
			r := newRig(t)
			behind := fakeldap.NewDirectory()
			second, err := fakeldap.Start(fakeldap.Options{Handler: behind.Handle})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(second.Close)
			r.dir.Add(aliceUser, "new-password", "objectClass", "inetOrgPerson", "uid", "alice", "pwdChangedTime", "20260102000000Z")
			behind.Add("dc=example,dc=org", "", "objectClass", "domain")
			behind.Add("ou=people,dc=example,dc=org", "", "objectClass", "organizationalUnit")
			behind.Add(readerDN, "reader-password", "objectClass", "person")
			behind.Add(aliceUser, alicePW, "objectClass", "inetOrgPerson", "uid", "alice", "pwdChangedTime", "20260101000000Z")
			cfg := *r.cfg
			cfg.Upstream.Balance = "spread"
			cfg.Upstream.URLs = append(cfg.Upstream.URLs, config.URL{Scheme: "ldap", Address: second.Addr(), Host: "127.0.0.1"})
			if err := r.server.Reload(r.core(&cfg)); err != nil {
				t.Fatal(err)
			}
			r.closeOld()
			c := r.dial()
			defer c.nc.Close()
			if odd { // one request of anybody, so that the turns begin with the other server
				c.search(100, "", wire.ScopeBase, anyEntry)
			}
			c.write(bindRequest(1, aliceUser, "new-password"))
			t.Log("while the second is behind:", c.result(1, wire.OpBindResponse).Code)
			behind.Add(aliceUser, "new-password", "objectClass", "inetOrgPerson", "uid", "alice", "pwdChangedTime", "20260102000000Z")
			for i := range int32(6) {
				c.write(bindRequest(i+10, aliceUser, "new-password"))
				if code := c.result(i+10, wire.OpBindResponse).Code; code != 0 {
					t.Errorf("both servers have the new password: code %d", code)
				}
			}
		})
	}
}
