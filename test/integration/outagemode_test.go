package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// outageOn has users held in memory, also for an outage.
const outageOn = "app_passwords: {lookup: replica}\n"

// The marks of an outage in the log.
const (
	outageBegan = "no server answers, app passwords are decided from the copy in memory"
	outageOver  = "outage is over, a server answers again"
	nowCurrent  = "replica is current"
)

// outages are the ways in which the directory goes: it ends, or it hangs.
var outages = []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP}

// goAway takes the directory away, and is told of it in the log of a; what it returns brings it back.
func (s *slapd) goAway(a *appbind, how syscall.Signal) (back func()) {
	s.t.Helper()
	began, over := strings.Count(a.output(), outageBegan), strings.Count(a.output(), outageOver)
	resume := s.run
	if how == syscall.SIGSTOP {
		resume = func() { s.signal(syscall.SIGCONT) }
		s.signal(how)
	} else {
		s.stop(how)
	}
	eventually(s.t, "the log tells of the outage", func() bool {
		bindOnce(a.uri(), userDN("bob"), "bob-main") // something asks the directory
		return strings.Count(a.output(), outageBegan) > began
	})
	return func() {
		s.t.Helper()
		resume()
		eventually(s.t, "the outage is over", func() bool { return strings.Count(a.output(), outageOver) > over })
	}
}

// TestOutageMode: with the directory killed, and with one that hangs, an app password logs in by IMAP in each way in
// which Dovecot asks, what is known to be revoked stays so, and main passwords
// are temporary errors; afterwards everything is as the directory has it.
func TestOutageMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"template", "lookup", "context-dn", "context-base"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := startSlapd(t, slapdOptions{Sync: true})
			phone, revoked := newPassword(t, "phone"), newPassword(t, "revoked")
			s.addSecret("alice", phone.Value)
			s.addSecret("alice", revoked.Value)
			listener := "  - url: ldap://127.0.0.1:0\n"
			if strings.HasPrefix(mode, "context") {
				listener += "    context: trusted\n"
			}
			a := startAppbind(t, baseConfig(s, listener, outageOn))
			d := startDovecot(t, mode, a.uri())
			secret := []string{phone.Password, revoked.Password, "alice-main", mailPW}
			for i, how := range outages {
				eventually(t, "the replica is current", func() bool { return strings.Count(a.output(), nowCurrent) > i })
				d.expectLogin(t, "alice", phone.Password, "203.0.113.5", loginOK)
				s.removeSecret("alice", revoked.Value)
				eventually(t, "the revocation has come", func() bool { return bindOnce(a.uri(), userDN("alice"), revoked.Password) == 49 })

				back := s.goAway(a, how)
				d.expectLogin(t, "alice", phone.Password, "203.0.113.6", loginOK)
				d.expectLogin(t, "alice", phone.Password, "203.0.113.6", loginOK)
				d.expectLogin(t, "alice", revoked.Password, "203.0.113.7", loginUnavailable)
				d.expectLogin(t, "alice", "alice-main", "203.0.113.8", loginUnavailable)
				d.expectLogin(t, "nobody", "x", "203.0.113.9", loginUnavailable)

				back()
				revoked, phone = phone, newPassword(t, fmt.Sprint("later ", i))
				s.removeSecret("alice", revoked.Value)
				s.addSecret("alice", phone.Value)
				eventually(t, "a new app password logs in", func() bool {
					return strings.HasPrefix(d.login(t, "alice", phone.Password, "203.0.113.10"), loginOK)
				})
				d.expectLogin(t, "alice", revoked.Password, "203.0.113.11", loginRefused)
				d.expectLogin(t, "alice", "alice-main", "203.0.113.12", loginOK)
				secret = append(secret, phone.Password)
				s.addSecret("alice", revoked.Value) // for the next round
			}
			canaryFree(t, a.output(), secret...)
		})
	}
}

// TestOutagePostfix: SMTP AUTH and the maps, with the directory killed, and with one that hangs.
func TestOutagePostfix(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Sync: true})
	smtp := newPassword(t, "smtp only", "--service", "smtp", "--net", "198.51.100.0/24")
	s.addSecret("alice", smtp.Value)
	a := startAppbind(t, baseConfig(s, "  - url: ldap://127.0.0.1:0\n    context: trusted\n", outageOn))
	d := startDovecot(t, "context-dn", a.uri())
	p := startPostfix(t, d, a.uri(), 3)
	for i, how := range outages {
		eventually(t, "the replica is current", func() bool { return strings.Count(a.output(), nowCurrent) > i })
		if r := p.postmap(t, "vmailbox", "alice@example.org"); strings.TrimSpace(r.out) != "alice" {
			t.Fatalf("postmap: %d %q %s", r.code, r.out, r.err)
		}
		back := s.goAway(a, how)
		if got := p.auth(t, "alice", smtp.Password, "198.51.100.7"); !strings.HasPrefix(got, "235") {
			t.Errorf("%v: AUTH in the outage: %s", how, got)
		}
		if got := p.auth(t, "alice", smtp.Password, "203.0.113.7"); strings.HasPrefix(got, "235") {
			t.Errorf("%v: AUTH from elsewhere: %s", how, got)
		}
		if r := p.postmap(t, "vmailbox", "alice@example.org"); strings.TrimSpace(r.out) != "alice" || r.code != 0 {
			t.Errorf("%v: postmap in the outage: %d %q %s", how, r.code, r.out, r.err)
		}
		if r := p.postmap(t, "vmailbox", "nobody@example.org"); r.code != 1 || r.err == "" {
			t.Errorf("%v: an address that is not in the copy is unknown: %d %q %q", how, r.code, r.out, r.err)
		}
		back()
		if got := p.auth(t, "alice", smtp.Password, "198.51.100.7"); !strings.HasPrefix(got, "235") {
			t.Errorf("%v: AUTH after the outage: %s", how, got)
		}
	}
}

// TestOutageRules: who is served what, seen at the protocol.
func TestOutageRules(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Sync: true})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", outageOn+"observe: {listen: 127.0.0.1:0}\n"))
	eventually(t, "the replica is current", func() bool { return strings.Contains(a.output(), nowCurrent) })
	expectBind(t, a.uri(), mailDN, mailPW, 0)
	expectBind(t, a.uri(), adminDN, adminPW, 0) // passthrough, not remembered
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
	session := bound(t, a.uri(), userDN("alice"), phone.Password)

	s.signal(syscall.SIGSTOP)
	began := time.Now()
	expectBind(t, a.uri(), mailDN, mailPW, 0)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the first bind while the directory hangs took %v", took)
	}
	for _, c := range []struct {
		dn, password string
		want         int
	}{
		{userDN("alice"), phone.Password, 0},
		{userDN("alice"), phone.Value, 52},
		{userDN("alice"), "alice-main", 52},
		{userDN("alice"), newPassword(t, "unknown").Password, 52},
		{userDN("bob"), "bob-main", 52},
		{userDN("nobody"), "x", 52},
		{"userid=alice," + people, phone.Password, 52},
		{adminDN, adminPW, 52},
		{serviceDN, servicePW, 52},
		{mailDN, "wrong", 52},
		{mailDN, mailPW, 0},
	} {
		if got := bindOnce(a.uri(), c.dn, c.password); got != c.want {
			t.Errorf("bind as %s: code %d, want %d", c.dn, got, c.want)
		}
	}
	code, body := httpGet(a.endpoint() + "/readyz")
	if code != 200 || !strings.Contains(body, "from a copy that is") {
		t.Errorf("readyz: %d %q", code, body)
	}
	_, body = httpGet(a.endpoint() + "/metrics")
	if metric(t, body, "appbind_outage") != 1 || metric(t, body, "appbind_replica_users") != 3 || metric(t, body, "appbind_replica_current") != 0 {
		t.Error("the metrics do not tell of the outage")
	}

	own, err := session.Search(ldap.NewSearchRequest(people, 2, 0, 0, 0, false, "(uid=alice)", []string{"mail", "appPassword"}, nil))
	if err != nil || len(own.Entries) != 1 || own.Entries[0].GetAttributeValue("mail") != "alice@example.org" || len(own.Entries[0].Attributes) != 1 {
		t.Errorf("own entry: %+v, %v", own, err)
	}
	mail := bound(t, a.uri(), mailDN, mailPW)
	for _, c := range []struct {
		base, filter string
		attributes   []string
		want         string
	}{
		{people, "(&(objectClass=inetOrgPerson)(uid=ALICE))", []string{"uid"}, "0 uid=alice," + people + " uid=alice"},
		{people, "(mail=alice@EXAMPLE.org)", []string{"CN"}, "0 uid=alice," + people + " cn=Alice Example"},
		{people, "(uid=alice)", []string{"1.1"}, "0 uid=alice," + people},
		{people, "(uid=nobody)", []string{"uid"}, "52"},
		{people, "(uid=carol)", []string{"uid"}, "52"}, // disabled
		{people, "(uid=alice)", nil, "52"},
		{people, "(uid=alice)", []string{"uid", "userPassword"}, "52"},
		{people, "(uid=alice)", []string{"uid", "appPassword"}, "52"},
		{people, "(uid=alice)", []string{"uid", "jpegPhoto"}, "52"},
		{people, "(|(uid=alice)(jpegPhoto=x))", []string{"uid"}, "52"},
		{people, "(appPassword=*)", []string{"uid"}, "50"},
		{suffix, "(uid=alice)", []string{"uid"}, "52"},
		{"ou=services," + suffix, "(cn=mail)", []string{"cn"}, "52"},
	} {
		r, err := mail.Search(ldap.NewSearchRequest(c.base, 2, 0, 0, 0, false, c.filter, c.attributes, nil))
		got := fmt.Sprint(codeOf(err))
		if err == nil {
			for _, e := range r.Entries {
				got += " " + e.DN
				for _, a := range e.Attributes {
					got += " " + a.Name + "=" + strings.Join(a.Values, ",")
				}
			}
		}
		if got != c.want {
			t.Errorf("search %s below %s for %v: %s, want %s", c.filter, c.base, c.attributes, got, c.want)
		}
	}
	if _, err := dial(t, a.uri()).Search(ldap.NewSearchRequest(people, 2, 0, 0, 0, false, "(uid=alice)", []string{"uid"}, nil)); codeOf(err) != 52 {
		t.Errorf("anonymous search: %v", err)
	}
	if err := mail.Modify(&ldap.ModifyRequest{DN: userDN("alice"), Changes: []ldap.Change{{Operation: 2, Modification: ldap.PartialAttribute{Type: "sn", Vals: []string{"x"}}}}}); codeOf(err) != 52 {
		t.Errorf("modify: %v", err)
	}

	late := bound(t, a.uri(), mailDN, mailPW)
	s.signal(syscall.SIGCONT)
	eventually(t, "the outage is over", func() bool { return strings.Contains(a.output(), outageOver) })
	if _, err := mail.Search(ldap.NewSearchRequest(people, 2, 0, 0, 0, false, "(uid=alice)", []string{"uid"}, nil)); err == nil {
		t.Error("a session of the outage is served on without an identity in the directory")
	}
	if err := late.Modify(&ldap.ModifyRequest{DN: userDN("alice"), Changes: []ldap.Change{{Operation: 2, Modification: ldap.PartialAttribute{Type: "sn", Vals: []string{"x"}}}}}); err == nil || codeOf(err) >= 0 {
		t.Errorf("a write of a session without an identity: %v", err)
	}
	expectBind(t, a.uri(), mailDN, "wrong", 49)
	expectBind(t, a.uri(), userDN("alice"), "alice-main", 0)
	canaryFree(t, a.output(), phone.Password, "alice-main", mailPW)
}
