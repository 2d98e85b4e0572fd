package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/secrets"
	"appbind/test/relay"
)

// pushed is how long after the directory confirmed a change a copy of the users may answer by what was before.
const pushed = time.Second

// entryOf is a user as LDIF, below a container.
func entryOf(uid, below string, values ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "dn: uid=%s,%s\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: %s\ncn: %s\nsn: Example\nuserPassword: %s-main\n", uid, below, uid, uid, uid)
	for _, v := range values {
		fmt.Fprintf(&b, "appPassword: %s\n", v)
	}
	return b.String() + "\n"
}

// startReplica starts appbind with the users in memory, behind a relay, and waits until it holds them.
func startReplica(t testing.TB, s *slapd) (*appbind, *relay.Relay) {
	t.Helper()
	r, err := relay.New(hostPort(s.uri()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	a := startAppbind(t, replaceOnce(t, baseConfig(s, "", replicaOn), s.uri(), "ldap://"+r.Addr()))
	eventually(t, "the replica is current", func() bool { return strings.Contains(a.output(), "replica is current") })
	return a, r
}

// quickPassword is newPassword without a process of its own.
func quickPassword(t testing.TB, label string) appPassword {
	t.Helper()
	g, err := secrets.Generate(nil)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := secrets.Hash(secrets.SHA256, []byte(g.Password), nil)
	if err != nil {
		t.Fatal(err)
	}
	value, err := secrets.New(secrets.Params{Label: label, ID: g.ID, Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return appPassword{Label: label, ID: g.ID, Password: g.Password, Value: value}
}

// issued is one app password that will be revoked.
type issued struct {
	appPassword
	dn        string
	begun     atomic.Bool  // its revocation is under way, or over
	confirmed atomic.Int64 // when the directory confirmed it; 0: not yet
}

// revocations is many app passwords and how binds with them end.
type revocations struct {
	all                     []issued
	began                   time.Time
	accepted, refused, late atomic.Int64
}

// use binds with one after the other until stop.
func (r *revocations) use(t testing.TB, c *ldap.Conn, source *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		x := &r.all[source.IntN(len(r.all))]
		// The time comes before the bind: what is confirmed later says nothing about it.
		at, confirmed := time.Since(r.began), time.Duration(x.confirmed.Load())
		switch got := codeOf(c.Bind(x.dn, x.Password)); {
		case got == 0 && confirmed != 0 && at-confirmed > pushed:
			t.Errorf("%s is accepted %v after its revocation", x.dn, at-confirmed)
		case got == 0:
			r.accepted.Add(1)
			if confirmed != 0 {
				r.late.Add(1)
			}
		case got == 49 && x.begun.Load():
			r.refused.Add(1)
		default:
			t.Errorf("%s, revocation begun %v: code %d", x.dn, x.begun.Load(), got)
			return
		}
	}
}

// TestThousandRevocations: a thousand app passwords are revoked while all of them
// are being used. None is accepted by a bind that begins more than a second after the directory confirmed.
func TestThousandRevocations(t *testing.T) {
	t.Parallel()
	const users, each = 250, 4
	var ldif strings.Builder
	r := &revocations{all: make([]issued, users*each)}
	for u := range users {
		uid := fmt.Sprint("u", u)
		var values []string
		for k := range each {
			x := &r.all[u*each+k]
			x.dn, x.appPassword = userDN(uid), quickPassword(t, fmt.Sprint("device ", k))
			values = append(values, x.Value)
		}
		ldif.WriteString(entryOf(uid, people, values...))
	}
	s := startSlapd(t, slapdOptions{Sync: true, LDIF: ldif.String()})
	a, _ := startReplica(t, s)
	admin := bound(t, s.uri(), adminDN, adminPW)

	r.began = time.Now()
	stop := make(chan struct{})
	var load sync.WaitGroup
	for w := range 6 {
		c := dial(t, a.uri())
		load.Go(func() { r.use(t, c, rand.New(rand.NewPCG(1, uint64(w))), stop) })
	}
	eventually(t, "all are accepted", func() bool { return r.accepted.Load() > 2000 || t.Failed() })
	for _, i := range rand.New(rand.NewPCG(2, 2)).Perm(len(r.all)) {
		x := &r.all[i]
		m := ldap.NewModifyRequest(x.dn, nil)
		m.Delete("appPassword", []string{x.Value})
		x.begun.Store(true)
		if err := admin.Modify(m); err != nil {
			t.Error(err)
			break
		}
		x.confirmed.Store(int64(time.Since(r.began)))
	}
	from, last := r.refused.Load(), time.Now()
	eventually(t, "binds go on after the last one", func() bool {
		return t.Failed() || r.refused.Load() > from+2000 && time.Since(last) > 2*pushed
	})
	close(stop)
	load.Wait()
	t.Logf("%d binds accepted, %d refused, %d accepted within the second", r.accepted.Load(), r.refused.Load(), r.late.Load())
}

// freeze stops the server, and returns when none of its threads runs any more.
func (s *slapd) freeze() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	eventually(s.t, "slapd is stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		for _, name := range threads {
			text, err := os.ReadFile(name)
			if err != nil || !strings.HasPrefix(string(text[strings.LastIndexByte(string(text), ')')+1:]), " T ") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// forgotten binds until an app password is refused with 49, from the moment at which the directory
// confirmed that it no longer counts. No bind that begins more than limit later is
// accepted, also not when one was refused before; 51 and 52 are no answer yet.
func forgotten(t testing.TB, a *appbind, what, dn, password string, confirmed time.Time, limit time.Duration) {
	t.Helper()
	refusals, last := 0, time.Duration(0)
	eventually(t, what+": refused", func() bool {
		at := time.Since(confirmed)
		switch bindOnce(a.uri(), dn, password) {
		case 0:
			last = at
			if at > limit {
				t.Errorf("%s: accepted %v after it", what, at)
			}
		case 49:
			refusals++
		}
		return t.Failed() || refusals > 20 && at > limit+pushed
	})
	t.Logf("%s: the last bind that was accepted began after %v", what, last)
}

// TestRevokedWhile: what the directory has confirmed counts within a second, whatever happens at the same time.
func TestRevokedWhile(t *testing.T) {
	t.Parallel()
	names := []string{"cut", "held", "stopped", "off", "anew"}
	var ldif strings.Builder
	phone := map[string]appPassword{}
	for _, n := range names {
		phone[n] = quickPassword(t, n)
		ldif.WriteString(entryOf(n, people, phone[n].Value))
	}
	s := startSlapd(t, slapdOptions{Sync: true, LDIF: ldif.String()})
	a, r := startReplica(t, s)
	used := func(n string) {
		t.Helper()
		eventually(t, n+" is accepted from memory", func() bool { return bindOnce(a.uri(), userDN(n), phone[n].Password) == 0 })
	}
	current := func(n int) {
		t.Helper()
		eventually(t, "the replica is current", func() bool { return strings.Count(a.output(), "replica is current") > n })
	}
	sessions := func() int { return strings.Count(a.output(), "replica is current") }

	// The link is cut, the value deleted, and the link comes back.
	used("cut")
	before := sessions()
	r.Refuse(true)
	r.Cut()
	s.removeSecret("cut", phone["cut"].Value)
	confirmed := time.Now()
	for range 20 {
		if got := bindOnce(a.uri(), userDN("cut"), phone["cut"].Password); got != 52 && got != 49 {
			t.Errorf("revoked while the link is cut: code %d", got)
		}
	}
	r.Refuse(false)
	forgotten(t, a, "revoked while the link is cut", userDN("cut"), phone["cut"].Password, confirmed, pushed)
	current(before)

	// The link is silent while the value is deleted, then all arrives at once.
	used("held")
	release := r.Hold()
	s.removeSecret("held", phone["held"].Value)
	release()
	forgotten(t, a, "revoked while the link is silent", userDN("held"), phone["held"].Password, time.Now(), pushed)

	// slapd is stopped, and is told of the revocation while it is.
	used("stopped")
	admin := bound(t, s.uri(), adminDN, adminPW)
	s.freeze()
	deleted := make(chan error, 1)
	go func() {
		m := ldap.NewModifyRequest(userDN("stopped"), nil)
		m.Delete("appPassword", []string{phone["stopped"].Value})
		deleted <- admin.Modify(m)
	}()
	for range 20 { // not confirmed: as before, or no answer, but not "wrong password"
		if got := bindOnce(a.uri(), userDN("stopped"), phone["stopped"].Password); got != 0 && got != 52 {
			t.Errorf("while slapd is stopped: code %d", got)
		}
	}
	s.signal(syscall.SIGCONT)
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	forgotten(t, a, "revoked while slapd is stopped", userDN("stopped"), phone["stopped"].Password, time.Now(), pushed)

	used("off")
	s.modify("dn: " + userDN("off") + "\nchangetype: modify\nadd: employeeType\nemployeeType: disabled\n")
	forgotten(t, a, "disabled", userDN("off"), phone["off"].Password, time.Now(), pushed)

	used("anew")
	tablet := quickPassword(t, "tablet")
	s.modify("dn: " + userDN("anew") + "\nchangetype: delete\n\n" + strings.Replace(entryOf("anew", people, tablet.Value), "\n", "\nchangetype: add\n", 1))
	forgotten(t, a, "deleted and created again", userDN("anew"), phone["anew"].Password, time.Now(), pushed)
	expectBind(t, a.uri(), userDN("anew"), tablet.Password, 0)
}

// parentsWithin is how long a renamed container may go unnoticed: the directory sends nothing
// for it, and the containers are looked at every ten seconds.
const parentsWithin = 12 * time.Second

// TestParentRenamed: users whose container is moved out of users.bases are users no more.
func TestParentRenamed(t *testing.T) {
	t.Parallel()
	phone := quickPassword(t, "phone")
	const sales = "ou=sales," + people
	s := startSlapd(t, slapdOptions{Sync: true, LDIF: "dn: " + sales + "\nobjectClass: organizationalUnit\nou: sales\n\n" + entryOf("eve", sales, phone.Value)})
	a, _ := startReplica(t, s)
	eve := "uid=eve," + sales
	expectBind(t, a.uri(), eve, phone.Password, 0)
	s.modify("dn: " + sales + "\nchangetype: modrdn\nnewrdn: ou=former\ndeleteoldrdn: 1\nnewsuperior: " + suffix + "\n")
	forgotten(t, a, "container moved away", eve, phone.Password, time.Now(), parentsWithin)
	former := "uid=eve,ou=former," + suffix
	expectBind(t, a.uri(), former, phone.Password, 49)
	expectBind(t, a.uri(), former, "eve-main", 0) // no user: passed through
}

// TestTooManyForSlapd: 501 users and slapd's default size limit of 500: there is no copy, the log says which limit
// it is, and a revocation counts at once.
func TestTooManyForSlapd(t *testing.T) {
	t.Parallel()
	phone := quickPassword(t, "phone")
	var ldif strings.Builder
	for i := range 498 { // and three of the tree, one of the four there being disabled
		ldif.WriteString(entryOf(fmt.Sprint("u", i), people, phone.Value))
	}
	s := startSlapd(t, slapdOptions{Sync: true, LDIF: ldif.String()})
	a := startAppbind(t, baseConfig(s, "", replicaOn))
	eventually(t, "the log says why", func() bool { return strings.Contains(a.output(), "size limit") })
	if strings.Contains(a.output(), "replica is current") {
		t.Error("a part of the users counts as a replica")
	}
	for _, uid := range []string{"u0", "u250", "u497"} {
		expectBind(t, a.uri(), userDN(uid), phone.Password, 0)
		s.removeSecret(uid, phone.Value)
		forgotten(t, a, uid, userDN(uid), phone.Password, time.Now(), 0)
	}
}
