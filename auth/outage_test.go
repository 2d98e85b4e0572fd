package auth

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"appbind/config"
	"appbind/secrets"
)

// cutOff is an upstream that tells of outages.
type cutOff struct {
	*upstream
	down bool
}

func (c *cutOff) Outage(context.Context) bool { return c.down }

// newCutOff is a site with an outage mode of a day.
func newCutOff(t *testing.T, change func(*config.Config)) (*site, *cutOff) {
	t.Helper()
	s := newSite(t, func(c *config.Config) {
		c.AppPasswords.Lookup, c.AppPasswords.MaxStale = "replica", config.Duration(24*time.Hour)
		if change != nil {
			change(c)
		}
	})
	c := &cutOff{upstream: s.upstream}
	s.v = New(s.cfg, c, s.mem, discard())
	return s, c
}

// goDown begins the outage: the entries become those of an old copy.
func (c *cutOff) goDown() {
	c.down, c.bindErr, c.stateErr, c.denyErr = true, errTest, errTest, errTest
	for name, e := range c.entries {
		old := *e
		old.Stale, old.Copied = true, true
		c.entries[name] = &old
	}
}

// comeBack ends it.
func (c *cutOff) comeBack() {
	c.down, c.bindErr, c.stateErr, c.denyErr = false, nil, nil, nil
}

// mistype changes the last character.
func mistype(password string) string {
	last := "0"
	if strings.HasSuffix(password, last) {
		last = "1"
	}
	return password[:len(password)-1] + last
}

const dovecot = "cn=dovecot,dc=example"

// TestOldCopy: an old copy accepts app passwords, and refuses nothing; nothing is sent upstream by it.
func TestOldCopy(t *testing.T) {
	t.Parallel()
	s, c := newCutOff(t, nil)
	phone, value := generated(t, nil)
	smtp, smtpValue := generated(t, func(p *secrets.Params) { p.Label, p.Services = "smtp", []string{"smtp"} })
	revoked, _ := generated(t, nil)
	s.user("alice", aliceMain, value, smtpValue, "$app$old$"+ssha("old one"), totpValue)
	c.goDown()
	s.expect(t, "app password", s.bind("alice", phone), 10, Accepted, ReasonAppPasswordStale)
	s.expect(t, "one without an id", s.bind("alice", "old one"), 10, Accepted, ReasonAppPasswordStale)
	for what, password := range map[string]string{
		"main password": aliceMain, "with code": aliceMain + "$" + s.code(t), "not in the copy": revoked, "mistyped": mistype(phone),
		"another service": smtp, "a stored value": value, "with code behind": phone + "$" + s.code(t), "prefix": "$app$x",
	} {
		d := s.bind("alice", password)
		if d.Kind != Unavailable || d.Reason != ReasonOutage || d.Err == nil || d.DN != "" || d.App != nil {
			t.Errorf("%s: %+v", what, d)
		}
	}
	c.bindErr = nil // the link is back, the entry is still that of the old copy
	if d := s.bind("alice", aliceMain); d.Kind != Unavailable {
		t.Errorf("main password by an old copy: %+v", d)
	}
	if sent := s.upstream.sent(); sent != nil {
		t.Errorf("sent %q", sent)
	}
	for _, change := range []func(*Entry){func(e *Entry) { e.User = false }, func(e *Entry) { e.Eligible = false }, func(e *Entry) { e.Ends = time.Unix(1, 0) }} {
		change(c.entries["alice"])
		s.expect(t, "no user", s.bind("alice", phone), 5, Unavailable, ReasonOutage)
		c.entries["alice"].User, c.entries["alice"].Eligible, c.entries["alice"].Ends = true, true, time.Time{}
	}
}

// apart is at with a monotonic reading of its own: later by d, the wall clock staying, as after a machine slept.
func apart(t *testing.T, at time.Time, d time.Duration) time.Time {
	t.Helper()
	before := at
	(*struct {
		wall uint64
		ext  int64 // nanoseconds of the monotonic clock
	})(unsafe.Pointer(&at)).ext += int64(d)
	if at.Sub(before) != d || !at.Round(0).Equal(before.Round(0)) {
		t.Fatal("time.Time has another form by now")
	}
	return at
}

// TestServiceInOutage: a service account is known by the password that the upstream took last, and nobody else is.
func TestServiceInOutage(t *testing.T) {
	t.Parallel()
	accepted := func(s *site, what, name, password string, want bool) {
		t.Helper()
		d := s.bind(name, password)
		if want && (d.Kind != Accepted || d.Reason != ReasonRemembered || d.DN != dovecot || d.Until.IsZero() || d.Err != nil) ||
			!want && (d.Kind != Unavailable || d.DN != "" || !d.Until.IsZero()) {
			t.Errorf("%s: %+v", what, d)
		}
	}
	both := func(c *config.Config) {
		c.ServiceAccounts = append(c.ServiceAccounts, "uid=alice,ou=people,dc=example")
	}
	s, c := newCutOff(t, nil)
	s.user("alice", aliceMain)
	s.entries["printer"] = &Entry{Key: "k", DN: "cn=printer,dc=example"}
	s.passwords["cn=printer,dc=example"] = "printer secret"
	c.goDown()
	accepted(s, "never seen", dovecot, "dovecot secret", false)
	c.comeBack()
	for _, b := range [][2]string{{dovecot, "dovecot secret"}, {"cn=Admin,dc=Example", "admin secret"}} {
		if d := s.bind(b[0], b[1]); d.Kind != Accepted || !d.Until.IsZero() {
			t.Fatalf("%+v", d)
		}
	}
	s.bind("printer", "printer secret")
	s.bind("alice", aliceMain)
	c.goDown()
	accepted(s, "seen", dovecot, "dovecot secret", true)
	accepted(s, "another spelling", "CN=Dovecot, dc=example", "dovecot secret", true)
	accepted(s, "wrong", dovecot, "wrong", false)
	accepted(s, "after a wrong one", dovecot, "dovecot secret", true)
	accepted(s, "passthrough", "cn=Admin,dc=Example", "admin secret", false)
	accepted(s, "no user", "printer", "printer secret", false)
	accepted(s, "a user", "alice", aliceMain, false)
	accepted(s, "the password of another", "alice", "dovecot secret", false)
	c.down = false
	accepted(s, "trouble, but no outage", dovecot, "dovecot secret", false)
	c.down = true
	s.clock.add(24*time.Hour - time.Second)
	accepted(s, "just within", dovecot, "dovecot secret", true)
	s.clock.add(time.Second)
	accepted(s, "too long ago", dovecot, "dovecot secret", false)
	s.mem.services.accepted(dovecot, s.mem.digest(useService, dovecot, []byte("dovecot secret")), s.clock.now())
	accepted(s, "seen again", dovecot, "dovecot secret", true)
	s.mem.services.known[dovecot].at = apart(t, time.Now().Add(-24*time.Hour), 12*time.Hour)
	s.mem.now = time.Now
	accepted(s, "too long ago, the machine having slept", dovecot, "dovecot secret", false)

	// Whoever is no service account (any more) is not remembered, and not known from before.
	s, c = newCutOff(t, nil)
	if s.v.ServiceBound("cn=Admin,dc=Example", []byte("admin secret"), codeSuccess); s.mem.services.size() != 0 {
		t.Error("an account of passthrough is remembered")
	}
	s.bind(dovecot, "dovecot secret")
	s.cfg.Passthrough, s.cfg.ServiceAccounts = append(s.cfg.Passthrough, dovecot), nil
	s.v = New(s.cfg, c, s.mem, discard())
	c.goDown()
	accepted(s, "a service account before the reload", dovecot, "dovecot secret", false)

	// A user's name in service_accounts is a service account, and by that name only.
	s, c = newCutOff(t, both)
	s.user("alice", aliceMain)
	s.bind("alice", aliceMain)
	c.goDown()
	accepted(s, "a user who is listed, by another name", "uid=alice,ou=people,dc=example", aliceMain, false)
}

// TestServiceForgotten: what the upstream says of a password counts, guesses are bounded, and without outage mode nothing is kept.
func TestServiceForgotten(t *testing.T) {
	t.Parallel()
	remembered := func(s *site, c *cutOff, password string) bool {
		c.goDown()
		defer c.comeBack()
		return s.bind(dovecot, password).Kind == Accepted
	}
	s, c := newCutOff(t, nil)
	s.bind(dovecot, "dovecot secret")
	s.bind(dovecot, "wrong")
	if !remembered(s, c, "dovecot secret") {
		t.Error("somebody's wrong password had the right one forgotten")
	}
	s.passwords[dovecot] = "new secret"
	s.bind(dovecot, "dovecot secret")
	if remembered(s, c, "dovecot secret") {
		t.Error("a refused password is remembered")
	}
	s.bind(dovecot, "new secret")
	if !remembered(s, c, "new secret") || remembered(s, c, "dovecot secret") {
		t.Error("the new password does not take the place of the old one")
	}
	for code, keeps := range map[int32]bool{51: true, 52: true, 53: false, 19: false, 49: false, 32: false, 80: false} {
		s.bind(dovecot, "new secret")
		s.answer = func(string, string) *Answer { return &Answer{Code: code} }
		s.bind(dovecot, "new secret")
		s.answer = nil
		if remembered(s, c, "new secret") != keeps {
			t.Errorf("after code %d: kept %v, want %v", code, !keeps, keeps)
		}
	}
	s.bind(dovecot, "new secret")
	c.goDown()
	for i := range maxServiceWrong - 1 {
		s.bind(dovecot, fmt.Sprint("guess ", i))
		s.bind(dovecot, "guess 0") // the same one again is no other guess
	}
	if s.bind(dovecot, "new secret").Kind != Accepted {
		t.Error("forgotten too early")
	}
	s.bind(dovecot, "one more")
	if s.bind(dovecot, "new secret").Kind == Accepted {
		t.Error("guesses are not bounded")
	}

	for _, off := range []func(*config.Config){
		func(c *config.Config) { c.AppPasswords.MaxStale = 0 }, func(c *config.Config) { c.AppPasswords.Lookup = "live" },
	} {
		s, c := newCutOff(t, off)
		s.bind(dovecot, "dovecot secret")
		if remembered(s, c, "dovecot secret") || s.mem.services.size() != 0 {
			t.Error("remembered without an outage mode")
		}
	}
}

// TestExternalInOutage: the password of the configuration is remembered like one that a client sends.
func TestExternalInOutage(t *testing.T) {
	t.Parallel()
	s, c := newCutOff(t, nil)
	external := func() Decision {
		b := request("", "")
		b.SASL, b.External = "EXTERNAL", &ServiceLogin{DN: dovecot, Password: Password("dovecot secret")}
		return s.v.Verify(context.Background(), b, s.upstream)
	}
	if d := external(); d.Kind != Accepted {
		t.Fatalf("%+v", d)
	}
	c.goDown()
	if d := external(); d.Kind != Accepted || d.Row != 0 || d.DN != dovecot || d.Until.IsZero() {
		t.Errorf("%+v", d)
	}
}
