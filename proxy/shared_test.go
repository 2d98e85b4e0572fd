package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// service is a client that has bound as the service account.
func (r *rig) service() *client {
	r.t.Helper()
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	return c
}

// serviceBinds counts the binds as the service account.
func (r *rig) serviceBinds() int {
	n := 0
	for _, m := range r.up.Received(wire.OpBindRequest) {
		if b, err := wire.DecodeBind(m.Body); err == nil && string(b.Name) == serviceDN {
			n++
		}
	}
	return n
}

// connOf is the number of the upstream connection of the last message of an operation.
func (r *rig) connOf(op wire.Op) int {
	for _, f := range slices.Backward(r.up.Frames()) {
		if f.Message.Op == op {
			return f.Conn
		}
	}
	return 0
}

func TestServiceAccountsShareLinks(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) {
		cfg.Upstream.ServiceLinks, cfg.Upstream.MaxLinks = 2, 30
		cfg.Upstream.IdleTimeout = config.Duration(time.Second)
	})
	clients := make([]*client, 1000)
	for i := range clients {
		clients[i] = r.dial()
		clients[i].write(bindRequest(1, serviceDN, servicePW))
	}
	for _, c := range clients {
		c.want(1, wire.OpBindResponse, wire.ResultSuccess)
	}
	if n := r.up.Open(); n > 30 {
		t.Errorf("%d connections, upstream.max_links is 30", n)
	}
	if n := r.serviceBinds(); n < len(clients) {
		t.Errorf("%d binds upstream for %d clients", n, len(clients))
	}
	if !eventually(func() bool { return r.up.Open() <= 4 }) { // two for lookups
		t.Errorf("%d connections for clients at rest", r.up.Open())
	}
	for _, c := range clients {
		c.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry), searchRequest(3, bobUser, wire.ScopeBase, anyEntry))
	}
	for _, c := range clients {
		seen := map[int32]string{}
		for len(seen) < 4 {
			m := c.read()
			if m.Op == wire.OpSearchResultDone {
				seen[-m.ID] = ""
				continue
			}
			e, err := wire.DecodeEntry(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			seen[m.ID] = string(e.DN)
		}
		if seen[2] != aliceUser || seen[3] != bobUser {
			t.Fatalf("%v", seen)
		}
	}
	if n := r.up.Open(); n > 5 { // one that comes or goes
		t.Errorf("%d connections for %d busy clients", n, len(clients))
	}
	for _, c := range clients {
		c.nc.Close()
	}
}

// TestPrivateLinks: what is more than a read of its own goes over a link of the client's
// own, bound as it, and what follows goes there too.
func TestPrivateLinks(t *testing.T) {
	control := func(oid string) []byte { return wire.AppendControl(nil, oid, false, []byte("x")) }
	search := func(oid string) []byte {
		return searchRequest(5, aliceUser, wire.ScopeBase, anyEntry, control(oid)...)
	}
	for name, c := range map[string]struct {
		request []byte
		private bool
	}{
		"search":            {searchRequest(5, aliceUser, wire.ScopeBase, anyEntry), false},
		"manageDsaIT":       {search("2.16.840.1.113730.3.4.2"), false},
		"paged results":     {search("1.2.840.113556.1.4.319"), true},
		"transaction":       {search("1.3.6.1.1.21.2"), true},
		"persistent search": {search("2.16.840.1.113730.3.4.3"), true},
		"syncrepl":          {search("1.3.6.1.4.1.4203.1.9.1.1"), true},
		"proxied":           {search("2.16.840.1.113730.3.4.18"), true},
		"unknown":           {search("1.2.3.4"), true},
		"compare":           {requests()["compare"], false},
		"delete":            {requests()["delete"], true},
		"modify":            {requests()["modify"], true},
		"add":               {requests()["add"], true},
		"modifyDN":          {requests()["modifyDN"], true},
		"extended":          {requests()["extended"], true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			a, b := r.service(), r.service()
			before := r.serviceBinds()
			a.write(c.request)
			for m := a.read(); m.Op == wire.OpSearchResultEntry; m = a.read() {
			}
			if got := r.serviceBinds() - before; (got == 1) != c.private || got > 1 {
				t.Fatalf("%d further binds", got)
			}
			a.search(9, aliceUser, wire.ScopeBase, anyEntry)
			own := r.connOf(wire.OpSearchRequest)
			for i := range int32(4) {
				b.search(10+i, aliceUser, wire.ScopeBase, anyEntry)
				if c.private && r.connOf(wire.OpSearchRequest) == own {
					t.Error("somebody else is on the private link")
				}
			}
		})
	}
}

func TestStatelessControls(t *testing.T) {
	fine := wire.AppendControl(nil, "2.16.840.1.113730.3.4.2", true, nil)
	if !onlyControls(nil, statelessControls) || !onlyControls(fine, statelessControls) {
		t.Error("harmless ones are taken for others")
	}
	for _, oid := range []string{"1.2.840.113556.1.4.473", "2.16.840.1.113730.3.4.9", "1.2.840.113556.1.4.319", "1.2.840.113556.1.4.528",
		"2.16.840.1.113730.3.4.18", "1.3.6.1.1.21.2", "1.2.3"} {
		if onlyControls(wire.AppendControl(fine, oid, false, nil), statelessControls) {
			t.Errorf("%s goes over a shared link", oid)
		}
	}
}

// holdSearches is hold for searches, but those of the prober.
func (r *rig) holdSearches() chan asked {
	held := make(chan asked, 100)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if s, err := wire.DecodeSearch(m.Body); m.Op == wire.OpSearchRequest && err == nil && len(s.Base) > 0 {
			held <- asked{c, m}
			return
		}
		r.dir.Handle(c, m)
	})
	return held
}

// TestRebinds is Dovecot's pattern: one connection is the service account, then
// a user, then the service account again.
func TestRebinds(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for i := range int32(20) {
		id := 10 * i
		c.bind(id+1, serviceDN, servicePW, wire.ResultSuccess)
		if dns, code := c.search(id+2, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
			t.Fatal(dns, code)
		}
		if got := c.whoAmI(id + 3); got != "dn:"+serviceDN {
			t.Fatal(got)
		}
		c.bind(id+4, aliceUser, alicePW, wire.ResultSuccess)
		if got := c.whoAmI(id + 5); got != "dn:"+aliceUser {
			t.Fatal(got)
		}
		c.search(id+6, aliceUser, wire.ScopeBase, anyEntry)
		c.bind(id+7, serviceDN, "wrong", wire.ResultInvalidCredentials)
		if got := c.whoAmI(id + 8); got != "" {
			t.Fatal(got)
		}
	}
	if n := r.serviceBinds(); n != 40 {
		t.Errorf("%d binds as the service account upstream, want each of the client's", n)
	}
	// Every search went over a link that was bound as the client was then.
	bound, want := map[int]string{}, []string{serviceDN, aliceUser}
	n := 0
	for _, f := range r.up.Frames() {
		if f.Message.Op == wire.OpBindRequest {
			b, _ := wire.DecodeBind(f.Message.Body)
			bound[f.Conn] = string(b.Name)
		}
		if f.Message.Op == wire.OpSearchRequest && bound[f.Conn] != readerDN && bound[f.Conn] != "" {
			if bound[f.Conn] != want[n%2] {
				t.Fatalf("search %d as %q, want %q", n, bound[f.Conn], want[n%2])
			}
			n++
		}
	}
	if n != 40 {
		t.Errorf("%d searches", n)
	}
}

func TestChangedPasswordEndsSharedSessions(t *testing.T) {
	r := newRig(t)
	a, b := r.service(), r.service()
	b.nc.SetDeadline(time.Now().Add(patience))
	r.dir.Add(serviceDN, "changed", "objectClass", "person")
	// Not known yet; a failed bind of the account is a reason to look.
	r.dial().bind(1, serviceDN, servicePW, wire.ResultInvalidCredentials)
	before := r.serviceBinds()
	a.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	a.wantNotice(wire.ResultStrongerAuthRequired)
	b.wantNotice(wire.ResultStrongerAuthRequired) // idle: when it is looked after
	if n := r.serviceBinds() - before; n != 1 {
		t.Errorf("%d binds with the old password", n)
	}
	c := r.dial()
	c.bind(1, serviceDN, "changed", wire.ResultSuccess)
	if _, code := c.search(2, aliceUser, wire.ScopeBase, anyEntry); code != 0 {
		t.Error(code)
	}
}

// TestAnotherPasswordEndsSharedSessions: nobody has failed yet, but a client has come in with a new password.
func TestAnotherPasswordEndsSharedSessions(t *testing.T) {
	r := newRig(t)
	old := r.service()
	r.dir.Add(serviceDN, "changed", "objectClass", "person")
	c := r.dial()
	c.bind(1, serviceDN, "changed", wire.ResultSuccess)
	old.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	old.wantNotice(wire.ResultStrongerAuthRequired)
	if dns, code := c.search(2, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
		t.Error(dns, code)
	}
}

// TestWhoShares: only listed service accounts, after a bind of their own that succeeded, with harmless controls.
func TestWhoShares(t *testing.T) {
	bind := func(dn, password string, controls ...byte) []byte {
		return wire.AppendMessage(nil, 1, wire.OpBindRequest, wire.AppendSimpleBind(nil, dn, []byte(password)), controls)
	}
	control := func(oid string) []byte { return wire.AppendControl(nil, oid, false, nil) }
	for name, c := range map[string]struct {
		bind   []byte
		shared bool
		as     string // who searches upstream
	}{
		"service account":            {bind(serviceDN, servicePW), true, serviceDN},
		"with password policy":       {bind(serviceDN, servicePW, control(oidPasswordPolicy)...), true, serviceDN},
		"with a control that passes": {bind(serviceDN, servicePW, control("2.16.840.1.113730.3.4.4")...), false, serviceDN},
		"with a wrong password":      {bind(serviceDN, "wrong"), false, "nobody"},
		"without a password":         {bind(serviceDN, ""), false, "nobody"},
		"below the account":          {bind("cn=x,"+serviceDN, servicePW), false, "nobody"},
		"a user":                     {bind(aliceUser, alicePW), false, aliceUser},
		"an app password":            {bind(aliceUser, phonePW), false, readerDN},
		"a manager":                  {bind(adminDN, "admin-password"), false, adminDN},
		"anonymous":                  {bind("", ""), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.service() // the group exists
			client := r.dial()
			client.write(c.bind)
			client.read()
			if n := r.upstream[0].Stats().Servers[0].Links["shared"]; c.shared != (n == 2) {
				t.Errorf("%d shared links", n)
			}
			before := len(r.up.Frames())
			client.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
			for client.read().Op == wire.OpSearchResultEntry {
			}
			bound, as := map[int]string{}, "nobody"
			for i, f := range r.up.Frames() {
				if f.Message.Op == wire.OpBindRequest {
					b, _ := wire.DecodeBind(f.Message.Body)
					bound[f.Conn] = string(b.Name)
				}
				if s, err := wire.DecodeSearch(f.Message.Body); f.Message.Op == wire.OpSearchRequest && i >= before && err == nil && string(s.Base) == aliceUser {
					as = bound[f.Conn]
				}
			}
			if as != c.as {
				t.Errorf("the search went as %q, want %q", as, c.as)
			}
		})
	}
}

// TestUnlistedAccountEndsSharedSessions: appbind binds nobody whom the configuration does not name any more.
func TestUnlistedAccountEndsSharedSessions(t *testing.T) {
	r := newRig(t)
	a := r.service()
	before := r.serviceBinds()
	if err := r.server.Reload(r.core(r.config(func(cfg *config.Config) {
		cfg.Listeners, cfg.ServiceAccounts = r.cfg.Listeners, nil
	}))); err != nil {
		t.Fatal(err)
	}
	r.closeOld()
	a.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	a.wantNotice(wire.ResultStrongerAuthRequired)
	if n := r.serviceBinds() - before; n != 0 {
		t.Errorf("%d binds", n)
	}
}

// TestSharedLookupIsJudgedPerBind: logins that wait for one lookup of a user get each what
// its own password and its own listener allow.
func TestSharedLookupIsJudgedPerBind(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) {
		smtp := cfg.Listeners[0]
		smtp.Service, cfg.Listeners[0].Service = "smtp", "imap"
		cfg.Listeners = append(cfg.Listeners, smtp)
	})
	salt := []byte("12345678")
	sum := sha256.Sum256(append([]byte(phonePW), salt...))
	r.dir.Add(aliceUser, alicePW, "objectClass", "inetOrgPerson", "uid", "alice",
		"appPassword", "$app$phone;svc=imap${SSHA256}"+base64.StdEncoding.EncodeToString(append(sum[:], salt...)))
	held := make(chan asked, 100)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if s, err := wire.DecodeSearch(m.Body); m.Op == wire.OpSearchRequest && err == nil && string(s.Base) == aliceUser {
			held <- asked{c, m}
			return
		}
		r.dir.Handle(c, m)
	})
	addrs := r.server.Addrs()
	var clients []*client
	var codes []int32
	login := func(listener int, password string, code int32) {
		c := r.dialTo(addrs[listener])
		c.write(bindRequest(1, aliceUser, password))
		clients, codes = append(clients, c), append(codes, code)
	}
	for range 5 {
		login(0, phonePW, wire.ResultSuccess)
		login(1, phonePW, wire.ResultInvalidCredentials)
		login(0, "wrong", wire.ResultInvalidCredentials)
	}
	first := next(t, held)
	r.up.SetHandler(r.dir.Handle) // who came too late to share asks for itself
	r.dir.Handle(first.c, first.m)
	for drained := false; !drained; {
		select {
		case more := <-held:
			r.dir.Handle(more.c, more.m)
		default:
			drained = true
		}
	}
	for i, c := range clients {
		c.want(1, wire.OpBindResponse, codes[i])
	}
}

func TestLostSharedLink(t *testing.T) {
	r := newRig(t)
	a, b := r.service(), r.service()
	held := r.holdSearches()
	a.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	first := next(t, held)
	b.write(searchRequest(2, bobUser, wire.ScopeBase, anyEntry))
	second := next(t, held)
	second.c.Entry(second.m.ID, bobUser)
	b.read()
	first.c.Close()
	second.c.Close()
	// Nothing had come: it is sent once more, and only once.
	next(t, held).c.Close()
	a.want(2, wire.OpSearchResultDone, wire.ResultUnavailable)
	// Something had: it is not.
	b.want(2, wire.OpSearchResultDone, wire.ResultUnavailable)
	r.up.SetHandler(r.dir.Handle)
	for _, c := range []*client{a, b} {
		if dns, code := c.search(3, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
			t.Errorf("afterwards: %v %d", dns, code)
		}
	}
	held = r.holdSearches()
	a.write(searchRequest(4, aliceUser, wire.ScopeBase, anyEntry))
	next(t, held).c.Close()
	again := next(t, held)
	r.dir.Handle(again.c, again.m)
	a.read()
	a.want(4, wire.OpSearchResultDone, wire.ResultSuccess)
}

func TestSharedAbandonAndCancel(t *testing.T) {
	r := newRig(t)
	a, b := r.service(), r.service()
	held := r.hold(wire.OpSearchRequest, wire.OpAbandonRequest, wire.OpExtendedRequest)
	a.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	sa := next(t, held)
	b.write(searchRequest(2, bobUser, wire.ScopeBase, anyEntry))
	sb := next(t, held)
	a.write(abandonRequest(3, 2))
	ab := next(t, held)
	if id, err := wire.DecodeAbandon(ab.m.Body); err != nil || id != sa.m.ID || ab.c != sa.c {
		t.Fatalf("abandoned %d on another link than %d", id, sa.m.ID)
	}
	sa.c.Entry(sa.m.ID, aliceUser) // too late
	sa.c.Answer(sa.m, wire.ResultSuccess)
	b.write(extendedRequest(3, oidCancel, []byte{0x30, 3, 2, 1, 2}))
	cancel := next(t, held)
	if cancel.c != sb.c {
		t.Error("the Cancel went over another link")
	}
	cancel.c.Answer(cancel.m, wire.ResultSuccess)
	b.want(3, wire.OpExtendedResponse, wire.ResultSuccess)
	sb.c.Answer(sb.m, wire.ResultCanceled)
	b.want(2, wire.OpSearchResultDone, wire.ResultCanceled)
	if got := a.whoAmI(9); got != "dn:"+serviceDN { // and nothing before it
		t.Error(got)
	}
	a.write(searchRequest(10, aliceUser, wire.ScopeBase, anyEntry))
	s := next(t, held)
	a.nc.Close() // a client that leaves gives up what it has, and no link with it
	if ab := next(t, held); ab.c != s.c || ab.m.Op != wire.OpAbandonRequest {
		t.Error("not abandoned")
	}
	b.write(searchRequest(11, aliceUser, wire.ScopeBase, anyEntry))
	s = next(t, held)
	s.c.Answer(s.m, wire.ResultSuccess)
	b.want(11, wire.OpSearchResultDone, wire.ResultSuccess)
}

func TestSharedTimeoutIsTheRequestsOwn(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Upstream.OperationTimeout = config.Duration(200 * time.Millisecond) })
	a := r.service()
	held := r.hold(wire.OpSearchRequest)
	a.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	late := next(t, held)
	a.want(2, wire.OpSearchResultDone, wire.ResultUnavailable)
	r.up.SetHandler(r.dir.Handle)
	late.c.Answer(late.m, wire.ResultSuccess)
	if dns, code := a.search(3, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
		t.Error(dns, code)
	}
}

// TestSlowClientOnASharedLink: whoever does not read holds nobody up.
func TestSlowClientOnASharedLink(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Upstream.ServiceLinks = 1 })
	slow, fast := r.service(), r.service()
	entry := make([]byte, 32<<10)
	const entries = 600 // more than the sockets hold
	started := make(chan asked, 1)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if s, err := wire.DecodeSearch(m.Body); m.Op != wire.OpSearchRequest || err != nil || string(s.Base) != "cn=flood" {
			r.dir.Handle(c, m)
			return
		}
		started <- asked{c, m}
	})
	slow.write(searchRequest(2, "cn=flood", wire.ScopeBase, anyEntry))
	flood := next(t, started)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range entries {
			flood.c.Entry(flood.m.ID, fmt.Sprintf("cn=%d", i), "a", string(entry))
		}
		flood.c.Answer(flood.m, wire.ResultSuccess)
	}()
	for i := range int32(200) { // while the flood goes on, and after it has come to a halt
		if dns, code := fast.search(i+2, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
			t.Fatal(dns, code)
		}
	}
	if !eventually(func() bool { return slowClients(r.server) == 1 }) {
		t.Fatal("the slow client was not noticed")
	}
	for i := range int32(200) {
		if dns, code := fast.search(i+1000, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
			t.Fatal(dns, code)
		}
	}
	// Slow is not wrong: it gets all of it, in order.
	_ = slow.nc.SetDeadline(time.Now().Add(patience))
	for i := range entries {
		e, err := wire.DecodeEntry(slow.read().Body)
		if err != nil || string(e.DN) != fmt.Sprintf("cn=%d", i) {
			t.Fatalf("entry %d: %q %v", i, e.DN, err)
		}
	}
	slow.want(2, wire.OpSearchResultDone, wire.ResultSuccess)
	<-done
}

func slowClients(s *Server) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.clients {
		if c.slow.Load() {
			n++
		}
	}
	return n
}

// TestFloodBesidesOthersIsBounded: what waits for a slow client while others use its
// link is bounded; then it is closed, and the others do not notice.
func TestFloodBesidesOthersIsBounded(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Upstream.ServiceLinks = 1 })
	slow, other := r.service(), r.service()
	held := r.hold(wire.OpSearchRequest)
	other.write(searchRequest(2, bobUser, wire.ScopeBase, anyEntry))
	waits := next(t, held)
	slow.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	flood := next(t, held)
	if flood.c != waits.c {
		t.Fatal("two links")
	}
	value := string(make([]byte, 256<<10))
	for range 100 { // 25 MiB
		flood.c.Entry(flood.m.ID, aliceUser, "a", value)
	}
	waits.c.Answer(waits.m, wire.ResultSuccess)
	other.want(2, wire.OpSearchResultDone, wire.ResultSuccess)
	if !eventually(func() bool { return clientCount(r.server) == 1 }) {
		t.Error("the slow client is still there")
	}
}

func TestReloadMovesSharedSessions(t *testing.T) {
	r := newRig(t)
	a, idle := r.service(), r.service()
	held := r.hold(wire.OpSearchRequest)
	a.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	under := next(t, held)
	r.up.SetHandler(r.dir.Handle)
	if err := r.server.Reload(r.core(r.config(func(cfg *config.Config) { cfg.Listeners = r.cfg.Listeners }))); err != nil {
		t.Fatal(err)
	}
	old := r.upstream[0]
	r.upstream = r.upstream[1:]
	closed := make(chan struct{})
	go func() {
		old.Close()
		close(closed)
	}()
	before := r.serviceBinds()
	for _, c := range []*client{a, idle, a} {
		if dns, code := c.search(3, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
			t.Fatal(dns, code)
		}
	}
	if n := r.serviceBinds() - before; n != 1 {
		t.Errorf("%d binds on the new links", n)
	}
	under.c.Answer(under.m, wire.ResultSuccess) // what was under way ends where it began
	a.want(2, wire.OpSearchResultDone, wire.ResultSuccess)
	<-closed // and nobody holds the old one up
}
