package backend

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/test/directories"
)

// real is a real directory with users.
type real struct {
	*directories.Server
	filter, names string
	dn            func(name string) string
	user          func(name string, more ...string) string // LDIF that adds one
	password      string                                   // of each user
	disable       string                                   // LDIF of the change
	enable        string
}

func real389(t *testing.T) *real {
	t.Helper()
	r := &real{Server: started(t, directories.Start389), filter: "(objectClass=inetOrgPerson)", names: "(|(uid=%s)(mail=%s))", password: "user-secret",
		dn:      func(name string) string { return "uid=" + name + "," + directories.People },
		disable: "replace: nsAccountLock\nnsAccountLock: true", enable: "delete: nsAccountLock"}
	r.user = func(name string, more ...string) string {
		return fmt.Sprintf("dn: %s\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\ncn: %s\nsn: %s\nuserPassword: %s\n%s\n\n",
			r.dn(name), name, name, r.password, strings.Join(more, "\n"))
	}
	return r
}

func realSamba(t *testing.T) *real {
	t.Helper()
	r := &real{Server: started(t, directories.StartSamba), filter: "(objectClass=user)", names: "(|(sAMAccountName=%s)(mail=%s))", password: "user-secret",
		dn:      func(name string) string { return "CN=" + name + ",ou=people,DC=example,DC=org" },
		disable: "replace: userAccountControl\nuserAccountControl: 514", enable: "replace: userAccountControl\nuserAccountControl: 512"}
	r.user = func(name string, more ...string) string {
		return directories.SambaUser(r.dn(name), name, r.password, more...) + "\n"
	}
	return r
}

// started starts a server, in a directory with a short path, until the test ends.
func started(t *testing.T, start func(string) (*directories.Server, error)) *directories.Server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// url is the server's address for a configuration.
func (r *real) url() config.URL {
	host, _, _ := strings.Cut(r.Address, ":")
	return config.URL{Scheme: "ldap", Address: r.Address, Host: host}
}

// config is a configuration for the server, reached under a URL.
func (r *real) config(url config.URL) *config.Config {
	cfg := testConfig(url)
	cfg.Upstream.BindDN, cfg.Upstream.BindPassword = directories.Service, directories.ServicePW
	cfg.Users = config.Users{Bases: []string{directories.People}, Filter: r.filter, EnabledFilter: "auto", NameFilter: r.names}
	cfg.AppPasswords.Lookup = "replica"
	return cfg
}

// replica is an upstream that follows the server, in pages of two entries, with polls that a hint must be faster than.
func (r *real) replica(t *testing.T, url config.URL) *Upstream {
	t.Helper()
	u := upstream(t, r.config(url), func(u *Upstream) {
		u.replica.pause, u.replica.poll, u.replica.list, u.page = 500*time.Millisecond, 2*time.Second, time.Second, 2
		u.replica.share = 1 // on a machine that has other work a list takes long, and a hundredth of the time is then too little for a test
	})
	isCurrent(t, u, true)
	return u
}

// apply applies LDIF.
func (r *real) apply(t *testing.T, ldif string) {
	t.Helper()
	if err := r.Modify(ldif); err != nil {
		t.Fatal(err)
	}
}

// change changes one user.
func (r *real) change(t *testing.T, name, change string) {
	t.Helper()
	r.apply(t, "dn: "+r.dn(name)+"\nchangetype: modify\n"+change+"\n")
}

// wrong binds once with a wrong password.
func (r *real) wrong(t *testing.T, u *Upstream, name string) {
	t.Helper()
	if code := bindCode(t, u, r.dn(name), "wrong"); code != 49 {
		t.Fatalf("a wrong password: %d", code)
	}
}

// TestReal389 holds what doc/replica.md says of 389 DS against the server.
func TestReal389(t *testing.T) {
	t.Parallel()
	r := real389(t)
	r.apply(t, r.user("max")+r.user("sue")+r.user("eve", "mail: Eve@example.org", "appPassword: $app$x$h"))
	u := r.replica(t, r.url())
	if i := u.Replica(t.Context()); !strings.Contains(i.Source, "content synchronization (RFC 4533)") || i.Users != 3 {
		t.Errorf("%+v", i)
	}
	r.follows(t, u)
	r.cuts(t)
	r.counts(t, u, "passwordRetryCount")
	r.stops(t, u)
	// Content synchronization is refused, and persistent search tells.
	r.apply(t, `dn: oid=1.3.6.1.4.1.4203.1.9.1.1,cn=features,cn=config
changetype: modify
replace: aci
aci: (targetattr != "aci")(version 3.0; acl "Sync Request Control"; allow (read, search) userdn = "ldap:///cn=nobody,dc=example,dc=org";)
`)
	u = r.replica(t, r.url())
	until(t, "persistent search", soon, func() bool {
		return strings.Contains(u.Replica(t.Context()).Source, "persistent search")
	})
	r.follows(t, u)
	// A list cut short is not used.
	r.apply(t, "dn: cn=config\nchangetype: modify\nreplace: nsslapd-sizelimit\nnsslapd-sizelimit: 2\n")
	cut := upstream(t, r.config(r.url()), func(u *Upstream) { u.page = 2 })
	if i := isCurrent(t, cut, false); i.Err == nil || !strings.Contains(i.Err.Error(), "nsSizeLimit") {
		t.Errorf("%+v", i)
	}
	r.apply(t, "dn: "+directories.Service+"\nchangetype: modify\nreplace: nsSizeLimit\nnsSizeLimit: -1\n-\nreplace: nsPagedSizeLimit\nnsPagedSizeLimit: -1\n")
	isCurrent(t, upstream(t, r.config(r.url()), func(u *Upstream) { u.page = 2 }), true)
}

// TestRealSamba holds what doc/replica.md says of Samba AD against the server.
func TestRealSamba(t *testing.T) {
	t.Parallel()
	r := realSamba(t)
	r.apply(t, r.user("max")+r.user("sue")+r.user("eve", "mail: Eve@example.org", "appPassword: $app$x$h"))
	u := r.replica(t, r.url())
	if i := u.Replica(t.Context()); !strings.Contains(i.Source, "change notification") || i.Users != 3 {
		t.Errorf("%+v", i)
	}
	r.follows(t, u)
	r.cuts(t)
	r.counts(t, u, "badPwdCount")
	r.stops(t, u)
}

// follows: each kind of change shows soon. eve has one value and is left so.
func (r *real) follows(t *testing.T, u *Upstream) {
	t.Helper()
	eve := r.dn("eve")
	within := func(what, name, want string) {
		t.Helper()
		began := time.Now()
		until(t, what, 2*soon, func() bool { return heldCopy(u, name) == want })
		t.Logf("%s after %v", what, time.Since(began).Round(time.Millisecond))
	}
	for _, name := range []string{eve, "eve", "eve@EXAMPLE.org"} {
		within("first content of "+name, name, "$app$x$h ")
	}
	e, err := u.Find(testContext(t, soon), eve)
	if err != nil || !e.Copied || !e.Eligible || !e.User {
		t.Fatalf("%+v, %v", e, err)
	}
	if st, err := u.State(testContext(t, soon), e); err != nil || st != e.State || st.Server == "" {
		t.Errorf("state %+v, %v; that of the copy is %+v", st, err, e.State)
	}
	r.change(t, "eve", "add: appPassword\nappPassword: $app$y$h")
	until(t, "value added", 2*soon, func() bool { return len(heldCopy(u, eve)) == len("$app$x$h $app$y$h ") })
	r.change(t, "eve", "delete: appPassword\nappPassword: $app$x$h")
	within("value removed", eve, "$app$y$h ")
	r.change(t, "eve", "delete: appPassword")
	within("cleared", eve, "")
	r.change(t, "eve", r.disable)
	within("disabled", eve, "none")
	if e, err := u.Find(testContext(t, soon), eve); err != nil || e.Eligible {
		t.Errorf("disabled: %+v, %v", e, err)
	}
	r.change(t, "eve", r.enable)
	within("enabled", "eve", "")
	attribute, _, _ := strings.Cut(eve, "=")
	rename := func(dn, rdn, superior string) {
		t.Helper()
		if superior != "" {
			superior = "newsuperior: " + superior + "\n"
		}
		r.apply(t, "dn: "+dn+"\nchangetype: modrdn\nnewrdn: "+rdn+"\ndeleteoldrdn: 1\n"+superior)
	}
	rename(eve, attribute+"=eva", "")
	within("renamed, old", eve, "none")
	within("renamed, new", r.dn("eva"), "")
	rename(r.dn("eva"), attribute+"=eve", "")
	within("renamed back", eve, "")
	rename(eve, attribute+"=eve", "ou=services,"+directories.Suffix)
	within("moved out", eve, "none")
	outside := strings.Replace(eve, "people", "services", 1)
	if got := heldCopy(u, outside); got != "none" {
		t.Errorf("held outside the bases: %q", got)
	}
	rename(outside, attribute+"=eve", directories.People)
	within("moved in", eve, "")
	r.apply(t, "dn: "+eve+"\nchangetype: delete\n")
	within("deleted", eve, "none")
	if _, err := u.Find(testContext(t, soon), eve); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	r.apply(t, r.user("eve", "mail: Eve@example.org", "appPassword: $app$x$h"))
	within("created again", eve, "$app$x$h ")
	if u.findCopy(eve).Key == e.Key {
		t.Error("another entry has the key of the one before")
	}
	r.parents(t, u)
}

// parents: a renamed container, and a user below it.
func (r *real) parents(t *testing.T, u *Upstream) {
	t.Helper()
	sub := "ou=sub," + directories.People
	low := strings.Replace(r.dn("low"), ",ou=people", ",ou=sub,ou=people", 1)
	r.apply(t, "dn: "+sub+"\nchangetype: add\nobjectClass: organizationalUnit\n\n"+
		strings.ReplaceAll(r.user("low", "appPassword: $app$l$h"), r.dn("low"), low))
	until(t, "below a container", 2*soon, func() bool { return heldCopy(u, low) == "$app$l$h " })
	until(t, "the container is watched", soon, func() bool {
		for _, p := range u.replica.table.Load().watched() {
			if strings.EqualFold(p.dn, sub) && p.id != "" {
				return true
			}
		}
		return false
	})
	until(t, "the container is renamed", soon, func() bool { // 389 DS sometimes answers 1 to this at first
		err := r.Modify("dn: " + sub + "\nchangetype: modrdn\nnewrdn: ou=former\ndeleteoldrdn: 1\n")
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	until(t, "parent renamed, old", 2*soon, func() bool { return heldCopy(u, low) == "none" })
	renamed := strings.Replace(low, "ou=sub", "ou=former", 1)
	until(t, "parent renamed, new", 2*soon, func() bool { return heldCopy(u, renamed) == "$app$l$h " })
	r.apply(t, "dn: "+renamed+"\nchangetype: delete\n\ndn: ou=former,"+directories.People+"\nchangetype: delete\n")
}

// cuts: a value revoked while the link is cut is never seen again.
func (r *real) cuts(t *testing.T) {
	t.Helper()
	relay, url := newRelay(t, r.url())
	u := r.replica(t, url)
	eve := r.dn("eve")
	until(t, "held", soon, func() bool { return heldCopy(u, eve) == "$app$x$h " })
	relay.cut()
	r.change(t, "eve", "delete: appPassword")
	until(t, "not answered from memory", soon, func() bool { return heldCopy(u, eve) == "none" })
	if _, err := u.Find(testContext(t, soon), eve); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while it is cut: %v", err)
	}
	relay.open.Store(true)
	until(t, "current again", 3*soon, func() bool {
		got := heldCopy(u, eve)
		if got != "none" && got != "" {
			t.Fatalf("the revoked value is back: %q", got)
		}
		return got == ""
	})
	r.change(t, "eve", "add: appPassword\nappPassword: $app$x$h")
}

// counts: the server's own count of failures is read, and ends with a success.
func (r *real) counts(t *testing.T, u *Upstream, attribute string) {
	t.Helper()
	if l := u.Lockout(); l.MaxFailures != directories.Failures || l.Interval != 10*time.Minute {
		t.Errorf("policy %+v", l)
	}
	e, err := u.Find(testContext(t, soon), r.dn("max"))
	if err != nil {
		t.Fatal(err)
	}
	state := func(what string, failures int, locked bool) {
		t.Helper()
		st, err := u.State(testContext(t, soon), e)
		if err != nil || st.Failures != failures || st.Locked != locked {
			t.Errorf("%s: %+v, %v; want %d failures by %s", what, st, err, failures, attribute)
		}
	}
	state("at first", 0, false)
	r.wrong(t, u, "max")
	state("one failure", 1, false)
	r.wrong(t, u, "max")
	state("two failures", 2, false)
	if code := bindCode(t, u, r.dn("max"), r.password); code != 0 {
		t.Errorf("code %d", code)
	}
	state("after a success", 0, false)
	for range directories.Failures {
		r.wrong(t, u, "max")
	}
	state("locked", directories.Failures, true)
}

// stops: a server that hangs is not answered for, and nobody is told that a password is wrong.
func (r *real) stops(t *testing.T, u *Upstream) {
	t.Helper()
	eve := r.dn("eve")
	until(t, "held", soon, func() bool { return heldCopy(u, eve) == "$app$x$h " })
	r.Signal(syscall.SIGSTOP)
	until(t, "the copy is not used any more", maxAge+soon, func() bool { return heldCopy(u, eve) == "none" })
	if _, err := u.Find(testContext(t, soon), eve); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while it hangs: %v", err)
	}
	r.Signal(syscall.SIGCONT)
	until(t, "current again", 3*soon, func() bool { return heldCopy(u, eve) == "$app$x$h " })
}
