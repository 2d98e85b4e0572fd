package proxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

func TestBindKindsHaveResults(t *testing.T) {
	for k := auth.Accepted; k <= auth.Unavailable; k++ {
		if _, ok := bindCodes[k]; !ok {
			t.Errorf("kind %d has no result code", k)
		}
	}
	if bindDiagnostics[auth.InvalidCredentials] != "" {
		t.Error("a 49 must not tell why")
	}
}

func TestBinds(t *testing.T) {
	for _, tc := range []struct {
		name, dn, password string
		code               int32
		who                string
	}{
		{"service account", serviceDN, servicePW, wire.ResultSuccess, "dn:" + serviceDN},
		{"service account, wrong", serviceDN, "wrong", wire.ResultInvalidCredentials, ""},
		{"main password", aliceUser, alicePW, wire.ResultSuccess, "dn:" + aliceUser},
		{"app password", aliceUser, phonePW, wire.ResultSuccess, "dn:" + aliceUser},
		{"wrong", aliceUser, "wrong", wire.ResultInvalidCredentials, ""},
		{"unknown user", "uid=nobody,ou=people,dc=example,dc=org", "wrong", wire.ResultInvalidCredentials, ""},
		{"empty password", aliceUser, "", wire.ResultUnwillingToPerform, ""},
		{"anonymous", "", "", wire.ResultSuccess, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			c := r.dial()
			c.bind(1, tc.dn, tc.password, tc.code)
			if got := c.whoAmI(2); got != tc.who {
				t.Errorf("who am i %q, want %q", got, tc.who)
			}
		})
	}
}

// TestDenialsAreTheSameBytes: nothing in a 49 tells why.
func TestDenialsAreTheSameBytes(t *testing.T) {
	r := newRig(t)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if b, err := wire.DecodeBind(m.Body); m.Op == wire.OpBindRequest && err == nil && string(b.Name) == bobUser {
			c.Result(m.ID, wire.OpBindResponse, wire.ResultInvalidCredentials, "80090308: data 52e")
			return
		}
		r.dir.Handle(c, m)
	})
	var first string
	for _, dn := range []string{aliceUser, bobUser, "uid=nobody,ou=people,dc=example,dc=org", "cn=x,cn=appbind"} {
		c := r.dial()
		c.write(bindRequest(1, dn, "wrong"))
		got := string(c.read().Raw)
		if first == "" {
			first = got
		}
		if got != first || !strings.Contains(got, "\x0a\x01\x31") {
			t.Errorf("%s: %x, want %x", dn, got, first)
		}
	}
}

// rebinds are ways in which a bind can fail after a good one.
var rebinds = map[string][]byte{
	"wrong password":     bindRequest(5, aliceUser, "wrong"),
	"unknown user":       bindRequest(5, "uid=nobody,ou=people,dc=example,dc=org", "x"),
	"empty password":     bindRequest(5, aliceUser, ""),
	"own name, empty":    bindRequest(5, serviceDN, ""),
	"no DN":              bindRequest(5, "not a dn", "x"),
	"version 1":          bindMessage(5, 1, serviceDN, servicePW, nil),
	"version 4":          bindMessage(5, 4, serviceDN, servicePW, nil),
	"SASL PLAIN":         saslBind(5, "PLAIN", "\x00a\x00b"),
	"SASL EXTERNAL":      saslBind(5, "EXTERNAL", ""),
	"upstream closes":    bindRequest(5, serviceDN, "close"),
	"upstream is busy":   bindRequest(5, serviceDN, "busy"),
	"untrusted context":  bindRequest(5, aliceUser+",svc=imap,cn=appbind", alicePW),
	"context of no form": bindRequest(5, aliceUser+",svc=imap,svc=imap,cn=appbind", alicePW),
	"critical control":   bindMessage(5, 3, aliceUser, phonePW, wire.AppendControl(nil, "1.2.3.4", true, nil)),
	"anonymous":          bindRequest(5, "", ""),
}

func TestRebindLeavesTheClientAnonymous(t *testing.T) {
	for name, again := range rebinds {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
				b, err := wire.DecodeBind(m.Body)
				switch {
				case m.Op != wire.OpBindRequest || err != nil:
				case string(b.Password) == "close":
					c.Close()
					return
				case string(b.Password) == "busy":
					c.Answer(m, wire.ResultBusy)
					return
				}
				r.dir.Handle(c, m)
			})
			c := r.dial()
			c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
			c.write(again)
			if res := c.result(5, wire.OpBindResponse); name != "anonymous" && res.Code == wire.ResultSuccess {
				t.Fatal("the bind succeeded")
			}
			if who := c.whoAmI(6); who != "" {
				t.Errorf("still %q", who)
			}
			// And upstream: what follows goes over a link that nobody is bound on.
			links := map[string]string{}
			r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
				if m.Op == wire.OpDelRequest {
					links["delete"] = c.Bound()
				}
				c.Answer(m, 0)
			})
			c.write(deleteRequest(7, aliceUser))
			if name != "anonymous" { // and after a failed one nothing follows, whoever may
				c.want(7, wire.OpDelResponse, wire.ResultInsufficientAccessRights)
				if bound, ok := links["delete"]; ok {
					t.Errorf("deleted as %q", bound)
				}
				return
			}
			c.want(7, wire.OpDelResponse, wire.ResultSuccess)
			if bound, ok := links["delete"]; !ok || bound != "" {
				t.Errorf("deleted as %q", bound)
			}
		})
	}
}

// TestRequestsBehindABindWait: they run as who the bind makes the client.
func TestRequestsBehindABindWait(t *testing.T) {
	r := newRig(t)
	binds := make(chan func(), 1)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if b, err := wire.DecodeBind(m.Body); m.Op == wire.OpBindRequest && err == nil && string(b.Name) == serviceDN {
			binds <- func() { r.dir.Handle(c, m) }
			return
		}
		r.dir.Handle(c, m)
	})
	c := r.dial()
	c.write(bindRequest(1, serviceDN, servicePW), deleteRequest(2, aliceUser), extendedRequest(3, oidWhoAmI, nil))
	answer := <-binds
	if n := len(r.up.Received(wire.OpDelRequest)); n != 0 {
		t.Fatal("a request overtook the bind before it")
	}
	answer()
	c.want(1, wire.OpBindResponse, wire.ResultSuccess)
	seen := map[int32]bool{}
	for range 2 {
		seen[c.read().ID] = true
	}
	if !seen[2] || !seen[3] {
		t.Errorf("answers to %v", seen)
	}
}

// TestBindGivesUpWhatIsOutstanding: late responses of the link before never arrive.
func TestBindGivesUpWhatIsOutstanding(t *testing.T) {
	r := newRig(t)
	type late struct {
		c *fakeldap.Conn
		m wire.Message
	}
	held := make(chan late, 1)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpDelRequest {
			held <- late{c, m}
			return
		}
		r.dir.Handle(c, m)
	})
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	c.write(deleteRequest(2, "dc=x"))
	l := <-held
	c.bind(3, aliceUser, alicePW, wire.ResultSuccess)
	l.c.Answer(l.m, wire.ResultSuccess)
	if got := c.whoAmI(2); got != "dn:"+aliceUser { // the ID of the request that was given up is free
		t.Errorf("who am i: %q", got)
	}
	frames := r.up.Frames()
	last := frames[len(frames)-1]
	for _, f := range frames {
		if f.Message.Op == wire.OpDelRequest && f.Conn == last.Conn {
			t.Error("a link with something outstanding was used again")
		}
	}
}

func TestLinkGoesBackToThePool(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for i := range int32(20) {
		c.bind(2*i+1, serviceDN, servicePW, wire.ResultSuccess)
		c.bind(2*i+2, aliceUser, alicePW, wire.ResultSuccess)
	}
	if n := r.up.Accepted(); n > 4 { // one for binds, the others for lookups
		t.Errorf("%d links for one client", n)
	}
}

func TestBindControls(t *testing.T) {
	policy := wire.AppendControl(nil, oidPasswordPolicy, false, nil)
	critical := wire.AppendControl(nil, oidPasswordPolicy, true, nil)
	unknown := wire.AppendControl(nil, "1.2.3.4", true, nil)
	answer := wire.AppendControl(nil, oidPasswordPolicy, false, []byte{0x30, 0})
	for _, tc := range []struct {
		name     string
		version  byte
		dn, pw   string
		controls []byte
		code     int32
		answered bool
	}{
		{"passed, asked", 3, serviceDN, servicePW, policy, wire.ResultSuccess, true},
		{"passed, not asked", 3, serviceDN, servicePW, nil, wire.ResultSuccess, false},
		{"passed, v2", 2, serviceDN, servicePW, policy, wire.ResultSuccess, false},
		{"passed, wrong", 3, serviceDN, "wrong", policy, wire.ResultInvalidCredentials, false},
		{"app password", 3, aliceUser, phonePW, policy, wire.ResultSuccess, false},
		{"app password, critical policy", 3, aliceUser, phonePW, critical, wire.ResultSuccess, false},
		{"app password, critical unknown", 3, aliceUser, phonePW, unknown, wire.ResultUnavailableCriticalExtension, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
				if b, err := wire.DecodeBind(m.Body); m.Op == wire.OpBindRequest && err == nil && string(b.Name) == serviceDN {
					code := int32(wire.ResultInvalidCredentials)
					if string(b.Password) == servicePW {
						code = wire.ResultSuccess
					}
					res := wire.Result{Code: code}
					c.Write(wire.AppendMessage(nil, m.ID, wire.OpBindResponse, res.Append(nil), answer))
					return
				}
				r.dir.Handle(c, m)
			})
			c := r.dial()
			c.write(bindMessage(1, tc.version, tc.dn, tc.pw, tc.controls))
			m := c.read()
			res, err := wire.DecodeResult(m.Body)
			if err != nil || res.Code != tc.code {
				t.Fatalf("result %d %v, want %d", res.Code, err, tc.code)
			}
			if (m.Controls != nil) != tc.answered {
				t.Errorf("response controls %x", m.Controls)
			}
		})
	}
}

func TestCleartext(t *testing.T) {
	for policy, code := range map[string]int32{
		"loopback": wire.ResultSuccess, "allow": wire.ResultSuccess, "refuse": wire.ResultConfidentialityRequired,
	} {
		t.Run(policy, func(t *testing.T) {
			r := newRig(t, func(cfg *config.Config) { cfg.Listeners[0].Cleartext = policy })
			before := len(r.up.Received(wire.OpBindRequest))
			r.dial().bind(1, aliceUser, "wrong", map[int32]int32{0: wire.ResultInvalidCredentials}[code]+map[int32]int32{13: 13}[code])
			if n := len(r.up.Received(wire.OpBindRequest)); policy == "refuse" && n != before {
				t.Error("the password was looked at")
			}
			r.dial().bind(1, serviceDN, servicePW, code)
		})
	}
}

func TestAnonymousRefused(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Listeners[0].Anonymous = "refuse" })
	c := r.dial()
	before := len(r.up.Received(wire.OpSearchRequest))
	c.write(searchRequest(1, aliceUser, wire.ScopeBase, anyEntry))
	c.want(1, wire.OpSearchResultDone, wire.ResultStrongerAuthRequired)
	c.write(deleteRequest(2, aliceUser))
	c.want(2, wire.OpDelResponse, wire.ResultStrongerAuthRequired)
	c.write(extendedRequest(3, oidPasswordModify, nil))
	c.want(3, wire.OpExtendedResponse, wire.ResultStrongerAuthRequired)
	if n := len(r.up.Received(wire.OpSearchRequest)); n != before {
		t.Error("a search reached the upstream")
	}
	c.bind(4, "", "", wire.ResultInappropriateAuthentication)
	if who := c.whoAmI(5); who != "" {
		t.Errorf("who am i: %q", who)
	}
	if dns, code := c.search(6, "", wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
		t.Errorf("root DSE: %v, %d", dns, code)
	}
	c.bind(7, serviceDN, servicePW, wire.ResultSuccess)
	if dns, code := c.search(8, aliceUser, wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
		t.Errorf("after a bind: %v, %d", dns, code)
	}
}

func TestUnavailable(t *testing.T) {
	for name, tc := range map[string]struct {
		policy string
		down   func(r *rig)
	}{
		"result, down":       {"result", func(r *rig) { r.up.Pause() }},
		"disconnect, down":   {"disconnect", func(r *rig) { r.up.Pause() }},
		"result, silent":     {"result", func(r *rig) { r.up.SetHandler(nil) }},
		"disconnect, silent": {"disconnect", func(r *rig) { r.up.SetHandler(nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(cfg *config.Config) {
				cfg.Listeners[0].OnUnavailable = tc.policy
				cfg.Upstream.BindTimeout = config.Duration(300 * time.Millisecond)
			})
			tc.down(r)
			for _, dn := range []string{aliceUser, serviceDN} {
				c := r.dial()
				c.write(bindRequest(1, dn, "whatever"))
				if tc.policy == "disconnect" {
					c.wantEnd()
				} else {
					c.want(1, wire.OpBindResponse, wire.ResultUnavailable)
				}
			}
		})
	}
}

func TestContext(t *testing.T) {
	const suffix = ",svc=IMAP,rip=192.0.2.7,sid=s1,cn=appbind"
	r := newRig(t, func(cfg *config.Config) {
		other := cfg.Listeners[0]
		cfg.Listeners[0].Context = "trusted"
		cfg.Listeners[0].Service = "smtp"
		cfg.Listeners = append(cfg.Listeners, other)
	})
	c := r.dial()
	c.bind(1, aliceUser+suffix, phonePW, wire.ResultSuccess)
	if got := c.whoAmI(2); got != "dn:"+aliceUser {
		t.Errorf("who am i: %q", got)
	}
	for _, want := range []string{"client=192.0.2.7 service=imap ", "session=s1 "} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no %q in the log", want)
		}
	}
	r.dial().bind(1, aliceUser, phonePW, wire.ResultSuccess)
	if !strings.Contains(r.log.String(), "service=smtp ") {
		t.Error("the listener's service is not in the log")
	}
	r.dialTo(r.server.Addrs()[1]).bind(1, aliceUser+suffix, phonePW, wire.ResultInvalidCredentials)
	for _, f := range r.up.Frames() {
		if strings.Contains(string(f.Message.Raw), "cn=appbind,") {
			continue // appbind's own account
		}
		if strings.Contains(string(f.Message.Raw), "rip=") {
			t.Errorf("the context went upstream: %q", f.Message.Raw)
		}
	}
}

func TestDirectClients(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Listeners[0].Clients = "direct" })
	r.dial().bind(1, aliceUser, phonePW, wire.ResultSuccess)
	if !strings.Contains(r.log.String(), "client=127.0.0.1 ") {
		t.Error("the peer is the user here, and not in the log as such")
	}
}

func TestExternalByUID(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte(servicePW+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		uid         int
		credentials string
		code        int32
	}{
		"mapped":           {os.Getuid(), "", wire.ResultSuccess},
		"own identity":     {os.Getuid(), "dn:" + serviceDN, wire.ResultSuccess},
		"another identity": {os.Getuid(), "dn:" + adminDN, wire.ResultInvalidCredentials},
		"another user":     {os.Getuid() + 1, "", wire.ResultInvalidCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(cfg *config.Config) {
				cfg.External = []config.External{{UID: &tc.uid, DN: serviceDN, Password: servicePW}}
				l := cfg.Listeners[0]
				l.URL = config.URL{Scheme: "ldapi", Address: filepath.Join(t.TempDir(), "s")}
				cfg.Listeners = append(cfg.Listeners, l)
			})
			c := r.dialTo(r.server.Addrs()[1])
			c.write(saslBind(1, "EXTERNAL", tc.credentials))
			c.want(1, wire.OpBindResponse, tc.code)
			who := map[int32]string{0: "dn:" + serviceDN}[tc.code]
			if got := c.whoAmI(2); got != who {
				t.Errorf("who am i: %q, want %q", got, who)
			}
			tcp := r.dial() // no uid there
			tcp.write(saslBind(1, "EXTERNAL", ""))
			tcp.want(1, wire.OpBindResponse, wire.ResultInvalidCredentials)
			for _, m := range r.up.Received(wire.OpBindRequest) {
				if b, err := wire.DecodeBind(m.Body); err != nil || b.SASL {
					t.Error("a SASL bind went upstream")
				}
			}
		})
	}
}
