package auth

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"appbind/config"
	"appbind/secrets"
)

// switchOff puts a verifier in the place of the site's by which app passwords are switched off, with the same memory.
func (s *site) switchOff(dir Directory, change func(a *config.AppPasswords)) {
	cfg := *s.cfg
	change(&cfg.AppPasswords)
	s.v = New(&cfg, dir, s.mem, discard())
}

// switches are the two ways to switch app passwords off at binds.
var switches = map[string]func(a *config.AppPasswords){
	"enabled": func(a *config.AppPasswords) { a.Enabled = false },
	"accept":  func(a *config.AppPasswords) { a.Accept = false },
}

// TestSwitchedOff: whatever is an app password is 49 and goes nowhere, whether it was accepted a moment ago or not; all else is as before.
func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	for name, change := range switches {
		s := newSite(t, nil)
		phone, value := generated(t, nil)
		smtp, smtpValue := generated(t, func(p *secrets.Params) { p.Label, p.Services = "smtp", []string{"smtp"} })
		slow, slowValue := generated(t, func(p *secrets.Params) { p.Label = "slow" })
		slowValue = "$app$slow;id=" + secrets.Parse([]byte(slowValue)).ID + "$" + slowHash(t, slow)
		revoked, _ := generated(t, nil)
		s.user("alice", aliceMain, value, smtpValue, slowValue, "$app$old$"+ssha("an old one"), "$app$chosen$"+slowHash(t, "a chosen one"))
		s.user("bob", "bob main", value, totpValue)
		for _, password := range []string{phone, "an old one", "a chosen one", slow} { // all of them are remembered
			if d := s.bind("alice", password); d.Kind != Accepted {
				t.Fatalf("%s: before: %+v", name, d)
			}
		}
		session := s.bind("alice", phone)
		if err := s.v.Recheck(context.Background(), session.Login()); err != nil {
			t.Fatal(err)
		}
		s.switchOff(s.upstream, change)
		for what, password := range map[string]string{
			"generated": phone, "for another service": smtp, "slow": slow, "revoked": revoked, "an old one": "an old one", "a chosen one": "a chosen one",
		} {
			s.expect(t, name+": "+what, s.bind("alice", password), 10, InvalidCredentials, ReasonOff)
		}
		s.expect(t, name+": mistyped", s.bind("alice", mistype(phone)), 11, InvalidCredentials, ReasonMistyped)
		s.expect(t, name+": with a code", s.bind("alice", phone+"$123456"), 11, InvalidCredentials, ReasonAppWithCode)
		s.expect(t, name+": stored", s.bind("alice", value), 9, InvalidCredentials, ReasonStoredSecret)
		s.expect(t, name+": main password", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
		s.expect(t, name+": wrong", s.bind("alice", "wrong"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" wrong")
		s.expect(t, name+": code missing", s.bind("bob", "bob main"), 13, InvalidCredentials, ReasonCodeMissing)
		bobDN := "uid=bob,ou=people,dc=example"
		s.expect(t, name+": code", s.bind("bob", "bob main$"+s.code(t)), 15, Accepted, ReasonMain, bobDN+" bob main")
		if err := s.v.Recheck(context.Background(), session.Login()); !errors.Is(err, ErrRevoked) {
			t.Errorf("%s: a session goes on: %v", name, err)
		}
		in := func(password string) Decision {
			return s.v.SignIn(context.Background(), "alice", Password(password), Client{Addr: netip.MustParseAddr("192.0.2.7")}, s.upstream)
		}
		if d := in("an old one"); d.Kind != InvalidCredentials || d.App != nil {
			t.Errorf("%s: sign-in with an app password: %+v", name, d)
		}
		s.upstream.sent()
		if d := in(aliceMain); d.Kind != Accepted {
			t.Errorf("%s: sign-in: %+v", name, d)
		}
		s.v = New(s.cfg, s.upstream, s.mem, discard())
		s.upstream.sent()
		s.expect(t, name+": on again", s.bind("alice", phone), 10, Accepted, ReasonAppPassword)
	}
}

// TestSwitchedOffInOutage: the copy of before the outage opens nothing, and what it cannot say is as unavailable as ever.
func TestSwitchedOffInOutage(t *testing.T) {
	t.Parallel()
	for name, change := range switches {
		s, c := newCutOff(t, nil)
		phone, value := generated(t, nil)
		revoked, _ := generated(t, nil)
		s.user("alice", aliceMain, value, "$app$old$"+ssha("an old one"))
		c.goDown()
		s.expect(t, name+": on", s.bind("alice", phone), 10, Accepted, ReasonAppPasswordStale)
		s.switchOff(c, change)
		for what, password := range map[string]string{"generated": phone, "not in the copy": revoked, "an old one": "an old one"} {
			s.expect(t, name+": "+what, s.bind("alice", password), 10, InvalidCredentials, ReasonOff)
		}
		if d := s.bind("alice", aliceMain); d.Kind != Unavailable {
			t.Errorf("%s: main password: %+v", name, d)
		}
	}
}

// TestSwitchedOffWithoutRoom: no room to hash, and yet the generated shape is refused for good.
func TestSwitchedOffWithoutRoom(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) { c.AppPasswords.Accept = false })
	phone, _ := generated(t, nil)
	s.user("alice", aliceMain, "$app$one$"+slowHash(t, "one"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.expect(t, "generated", s.v.Verify(ctx, request("alice", phone), s.upstream), 5, Unavailable, ReasonLookup)
	s.mem.hashing.slots.setBudget(0)
	s.expect(t, "no room", s.bind("alice", phone), 10, InvalidCredentials, ReasonOff)
}
