package proxy

import (
	"context"
	"testing"
	"time"

	"appbind/backend"
	"appbind/config"
	"appbind/wire"
)

// newOutageRig is a rig whose users are held in memory, of which the service account has bound.
func newOutageRig(t *testing.T) (*rig, *backend.Upstream) {
	t.Helper()
	r := newRig(t)
	for _, dn := range []string{aliceUser, bobUser} {
		r.dir.Remove(dn)
	}
	r.dir.Add(aliceUser, alicePW, "objectClass", "inetOrgPerson", "uid", "alice", "cn", "Alice", "mail", "alice@example.org",
		"modifyTimestamp", "20260101000000Z", "appPassword", phoneValue())
	r.dir.Add(bobUser, "bob-main-password", "objectClass", "inetOrgPerson", "uid", "bob", "mail", "bob@example.org", "modifyTimestamp", "20260101000000Z")
	cfg := *r.cfg
	cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(time.Hour)
	r.cfg = &cfg
	u := r.reloadOn()
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	return r, u
}

// reloadOn has the configuration put into force again, and waits until its replica is current.
func (r *rig) reloadOn() *backend.Upstream {
	r.t.Helper()
	core := r.core(r.cfg)
	if err := r.server.Reload(core); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if i := core.Upstream.Replica(ctx); !i.Current && !core.Upstream.Down() {
		r.t.Fatalf("replica: %+v", i)
	}
	return core.Upstream
}

// goDown takes the directory away.
func (r *rig) goDown(u *backend.Upstream) {
	r.t.Helper()
	r.up.Pause()
	r.up.CloseConns()
	c := r.dial()
	if !eventually(func() bool { c.bind(1, bobUser, "bob-main-password", wire.ResultUnavailable); return u.Down() }) {
		r.t.Fatal("no outage")
	}
}

// equals is the filter (name=value).
func equals(name, value string) []byte {
	content := wire.AppendStrings(nil, name, value)
	return append([]byte{0xa3, byte(len(content))}, content...)
}

// TestRecalledSession: a service account's session of an outage is answered from memory and in no other way, and ends with it.
func TestRecalledSession(t *testing.T) {
	r, u := newOutageRig(t)
	r.goDown(u)
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	base := "ou=people,dc=example,dc=org"
	ask := func(what string, filter []byte, attribute string, code int32, entries int, controls ...byte) {
		t.Helper()
		s := wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: filter, Attributes: wire.AppendStrings(nil, attribute)}
		c.write(wire.AppendMessage(nil, 7, wire.OpSearchRequest, s.Append(nil), controls))
		got := 0
		for {
			m := c.read()
			if m.Op == wire.OpSearchResultEntry {
				got++
				continue
			}
			if res, err := wire.DecodeResult(m.Body); err != nil || res.Code != code || got != entries {
				t.Errorf("%s: code %d, %d entries, %v", what, res.Code, got, err)
			}
			return
		}
	}
	ask("a user", equals("uid", "alice"), "mail", wire.ResultSuccess, 1)
	ask("a control that is not critical", equals("uid", "alice"), "mail", wire.ResultSuccess, 1, wire.AppendControl(nil, "1.2.3.4", false, nil)...)
	ask("a critical control", equals("uid", "alice"), "mail", wire.ResultUnavailable, 0, wire.AppendControl(nil, "1.2.3.4", true, nil)...)
	ask("the secrets attribute in the filter", equals("appPassword", phoneValue()), "mail", wire.ResultInsufficientAccessRights, 0)
	ask("somebody unknown", equals("uid", "nobody"), "mail", wire.ResultUnavailable, 0)
	c.write(deleteRequest(8, aliceUser))
	c.want(8, wire.OpDelResponse, wire.ResultUnavailable)
	if n := len(r.up.Received(wire.OpDelRequest)); n != 0 {
		t.Errorf("%d deletes were sent", n)
	}

	phone := r.dial()
	phone.bind(1, aliceUser, phonePW, wire.ResultSuccess)
	if entries, code := phone.search(2, base, wire.ScopeWhole, present("uid")); code != wire.ResultSuccess || len(entries) != 1 || entries[0] != aliceUser {
		t.Errorf("own entry: %q, code %d", entries, code)
	}
	if err := r.up.Resume(); err != nil {
		t.Fatal(err)
	}
	c.wantNotice(wire.ResultUnavailable)
}

// TestStillOutage: each of the four ends of a session that is served from memory.
func TestStillOutage(t *testing.T) {
	r, u := newOutageRig(t)
	session := func(until time.Duration) *conn {
		return &conn{srv: r.server, sess: session{kind: recalled, home: u, until: time.Now().Add(until)}}
	}
	if session(time.Hour).stillOutage() == nil {
		t.Error("a server answers")
	}
	r.goDown(u)
	if err := session(time.Hour).stillOutage(); err != nil {
		t.Errorf("in the outage: %v", err)
	}
	if session(0).stillOutage() == nil || session(-time.Second).stillOutage() == nil {
		t.Error("its password was verified too long ago")
	}
	c := session(time.Hour)
	if link, refused, err := c.ownLink(); link != nil || refused != refuseUnavailable || err != nil {
		t.Errorf("link %v, %v, %v", link, refused, err)
	}
	c.sess.until = time.Now()
	if link, _, err := c.ownLink(); link != nil || err == nil {
		t.Error("a session that is over gets a link")
	}
	r.reloadOn()
	if session(time.Hour).stillOutage() == nil {
		t.Error("the configuration has changed")
	}
}
