package backend

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// relay passes TCP on to slapd until it is cut.
type relay struct {
	listener net.Listener
	to       string
	open     atomic.Bool

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newRelay(t *testing.T, to config.URL) (*relay, config.URL) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, to: to.Address}
	r.open.Store(true)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.cut()
		all.Wait()
	})
	return r, config.URL{Scheme: "ldap", Address: l.Addr().String(), Host: "127.0.0.1"}
}

func (r *relay) pass(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer s.Close()
	r.mu.Lock()
	if r.conns = append(r.conns, c, s); !r.open.Load() {
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(c, s); c.Close() })
	_, _ = io.Copy(s, c)
	s.Close()
	back.Wait()
}

// cut ends all connections and lets no other through.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open.Store(false)
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// replicaOf is an upstream with a replica whose proofs come fast.
func replicaOf(t *testing.T, url config.URL, current bool) *Upstream {
	t.Helper()
	cfg := slapdConfig(url)
	cfg.AppPasswords.Lookup = "replica"
	u := upstream(t, cfg, func(u *Upstream) { u.replica.pause = 50 * time.Millisecond })
	if i := u.Replica(testContext(t, 10*time.Second)); i.Current != current || !i.On {
		t.Fatalf("replica: %+v", i)
	}
	return u
}

// soon is what a push may take on a machine that has other work; on an idle one it takes milliseconds.
const soon = 10 * time.Second

// until polls a condition on a real server.
func until(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// admin is a connection as rootdn.
func admin(t *testing.T, url config.URL) *ldap.Conn {
	t.Helper()
	c, err := ldap.DialURL("ldap://" + url.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Bind("cn=admin,dc=example,dc=org", "adminpw"); err != nil {
		t.Fatal(err)
	}
	return c
}

// user is the LDIF of one user.
func user(uid string, more ...string) string {
	return fmt.Sprintf("dn: uid=%s,%s\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: %s\ncn: %s\nsn: %s\n%s\n\n",
		uid, people, uid, uid, uid, strings.Join(more, "\n"))
}

// heldCopy is the values of a name in memory; "none" where memory has no answer.
func heldCopy(u *Upstream, name string) string {
	e := u.findCopy(name)
	if e == nil {
		return "none"
	}
	return string(joinValues(e))
}

func joinValues(e *auth.Entry) (all []byte) {
	for _, v := range e.Values {
		all = append(append(all, v...), ' ')
	}
	return all
}

// TestReplicaFollows: what happens in the directory shows in memory soon.
func TestReplicaFollows(t *testing.T) {
	url := slapd(t, true, "dn: ou=a,"+people+"\nobjectClass: organizationalUnit\nou: a\n\n"+user("eve", "mail: Eve@example.org", "appPassword: $app$x$h"))
	u, c := replicaOf(t, url, true), admin(t, url)
	eve := "uid=eve," + people
	within := func(what, name, want string) {
		t.Helper()
		until(t, what, soon, func() bool { return heldCopy(u, name) == want })
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	change := func(kind func(*ldap.ModifyRequest)) {
		t.Helper()
		m := ldap.NewModifyRequest(eve, nil)
		kind(m)
		ok(c.Modify(m))
	}
	for _, name := range []string{eve, "UID=Eve,OU=People,DC=example,DC=org", "eve", "eve@EXAMPLE.org"} {
		within("first content", name, "$app$x$h ")
	}
	for _, odd := range []string{"userid=eve," + people, `uid=\65ve,` + people, "uid=eve, " + people, `uid="eve",` + people, "uid=nobody," + people, "", "nobody"} {
		if got := heldCopy(u, odd); got != "none" {
			t.Errorf("%q is answered from memory: %q", odd, got)
		}
	}
	if e, err := u.Find(testContext(t, soon), "userid=eve,"+people); err != nil || e.Copied || e.DN != eve {
		t.Errorf("unusual spelling: %+v, %v", e, err)
	}
	if e, err := u.Find(testContext(t, soon), eve); err != nil || !e.Copied || !e.Eligible || !e.User || !strings.HasPrefix(e.Key, "entryuuid:") {
		t.Errorf("from memory: %+v, %v", e, err)
	}
	change(func(m *ldap.ModifyRequest) { m.Add("appPassword", []string{"$app$y$h"}) })
	within("value added", eve, "$app$x$h $app$y$h ")
	change(func(m *ldap.ModifyRequest) { m.Delete("appPassword", []string{"$app$x$h"}) })
	within("value removed", eve, "$app$y$h ")
	change(func(m *ldap.ModifyRequest) { m.Delete("appPassword", nil) })
	within("cleared", eve, "")
	change(func(m *ldap.ModifyRequest) { m.Add("pwdAccountLockedTime", []string{"000001010000Z"}) })
	within("disabled", eve, "none")
	change(func(m *ldap.ModifyRequest) { m.Delete("pwdAccountLockedTime", nil) })
	within("enabled", eve, "")
	ok(c.ModifyDN(ldap.NewModifyDNRequest(eve, "uid=eva", true, "")))
	within("renamed, old", eve, "none")
	within("renamed, new", "uid=eva,"+people, "")
	ok(c.ModifyDN(ldap.NewModifyDNRequest("uid=eva,"+people, "uid=eve", true, "ou=a,"+people)))
	within("moved", "uid=eve,ou=a,"+people, "")
	ok(c.ModifyDN(ldap.NewModifyDNRequest("uid=eve,ou=a,"+people, "uid=eve", true, people)))
	within("moved back", eve, "")
	old := u.findCopy(eve).Key
	ok(c.Del(ldap.NewDelRequest(eve, nil)))
	within("deleted", eve, "none")
	again := ldap.NewAddRequest(eve, nil)
	for k, v := range map[string][]string{"objectClass": {"inetOrgPerson", "appPasswordAccount"}, "cn": {"e"}, "sn": {"e"}, "appPassword": {"$app$new$h"}} {
		again.Attribute(k, v)
	}
	ok(c.Add(again))
	within("created again", eve, "$app$new$h ")
	if u.findCopy(eve).Key == old {
		t.Error("another entry has the key of the one before")
	}
	// Two users with one mail: neither is answered for by it.
	change(func(m *ldap.ModifyRequest) { m.Add("mail", []string{"shared@example.org"}) })
	within("one mail", "shared@example.org", "$app$new$h ")
	modify(t, url, "add: mail\nmail: Shared@example.org")
	within("shared mail", "shared@example.org", "none")
	if _, err := u.Find(testContext(t, soon), "shared@example.org"); !errors.Is(err, auth.ErrAmbiguous) {
		t.Error(err)
	}
	// A parent renamed, of which slapd tells nothing.
	ok(c.ModifyDN(ldap.NewModifyDNRequest(people, "ou=former", true, "")))
	within("parent renamed", eve, "none")
	if e, err := u.Find(testContext(t, soon), eve); err == nil || errors.Is(err, auth.ErrNotFound) {
		t.Errorf("the base is gone: %+v, %v; want trouble", e, err)
	}
}

// TestReplicaRevocations: 200 values are revoked while binds go on; nobody sees one later.
func TestReplicaRevocations(t *testing.T) {
	var tree strings.Builder
	for i := range 200 {
		tree.WriteString(user(fmt.Sprintf("u%d", i), "appPassword: $app$x$h"))
	}
	url := slapd(t, false, tree.String())
	u, c := replicaOf(t, url, true), admin(t, url)
	stop := make(chan struct{})
	var load sync.WaitGroup
	var found atomic.Int64
	defer func() { close(stop); load.Wait() }()
	var revoked [200]atomic.Int64 // when, in nanoseconds
	for w := range 4 {
		load.Go(func() {
			for i := w; ; i = (i + 7) % 200 {
				select {
				case <-stop:
					return
				default:
				}
				asked := time.Now()
				e, err := u.Find(t.Context(), fmt.Sprintf("uid=u%d,%s", i, people))
				at := revoked[i].Load()
				if err != nil || at != 0 && len(e.Values) > 0 && asked.UnixNano()-at > int64(soon) {
					t.Errorf("u%d: %+v, %v", i, e, err)
					return
				}
				found.Add(1)
			}
		})
	}
	slowest := time.Duration(0)
	for i := range 200 {
		m := ldap.NewModifyRequest(fmt.Sprintf("uid=u%d,%s", i, people), nil)
		m.Delete("appPassword", nil)
		if err := c.Modify(m); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		revoked[i].Store(began.UnixNano())
		until(t, "revoked", soon, func() bool { return heldCopy(u, m.DN) == "" })
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("%d lookups, slowest revocation %v", found.Load(), slowest)
}

// TestReplicaCut: a value revoked while the link is cut is never seen again.
func TestReplicaCut(t *testing.T) {
	direct := slapd(t, false, user("eve", "appPassword: $app$x$h"))
	r, url := newRelay(t, direct)
	u, eve := replicaOf(t, url, true), "uid=eve,"+people
	r.cut()
	c := admin(t, direct)
	m := ldap.NewModifyRequest(eve, nil)
	m.Delete("appPassword", nil)
	if err := c.Modify(m); err != nil {
		t.Fatal(err)
	}
	until(t, "not answered from memory", soon, func() bool { return heldCopy(u, eve) == "none" })
	if _, err := u.Find(testContext(t, soon), eve); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while it is cut: %v", err)
	}
	r.open.Store(true)
	until(t, "current again", 20*time.Second, func() bool {
		got := heldCopy(u, eve)
		if got != "none" && got != "" {
			t.Fatalf("the revoked value is back: %q", got)
		}
		return got == ""
	})
}

// TestReplicaSizeLimit: 501 users and slapd's default limit of 500: the partial answer is not used.
func TestReplicaSizeLimit(t *testing.T) {
	var tree strings.Builder
	for i := range 501 {
		tree.WriteString(user(fmt.Sprintf("u%d", i), "appPassword: $app$x$h"))
	}
	u := replicaOf(t, slapd(t, false, tree.String()), false)
	i := u.Replica(t.Context())
	if i.Err == nil || !strings.Contains(i.Err.Error(), "size limit") {
		t.Errorf("%+v", i)
	}
	for _, n := range []string{"u0", "u500"} {
		dn := "uid=" + n + "," + people
		if got := heldCopy(u, dn); got != "none" {
			t.Errorf("%s is answered from a partial copy: %q", n, got)
		}
		if e, err := u.Find(testContext(t, 5*time.Second), dn); err != nil || e.Copied || len(e.Values) != 1 {
			t.Errorf("%s: %+v, %v", n, e, err)
		}
	}
}

// TestReplicaWithout: without syncprov slapd is polled; where it is there and not on this database, check says so.
func TestReplicaWithout(t *testing.T) {
	url := slapd(t, false)
	cfg := slapdConfig(url)
	cfg.AppPasswords.Lookup = "replica"
	u := upstream(t, cfg, func(u *Upstream) { u.replica.poll = 20 * time.Millisecond })
	if i := isCurrent(t, u, true); !strings.Contains(i.Source, "modifyTimestamp") {
		t.Errorf("%+v", i)
	}
	modify(t, url, "replace: appPassword\nappPassword: $app$new$h")
	until(t, "polled", soon, func() bool { return heldCopy(u, alice) == "$app$new$h " })
	modify(t, url, "delete: appPassword")
	until(t, "polled", soon, func() bool { return heldCopy(u, alice) == "" })
}

func TestCurrentAt(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		proven time.Time
		want   bool
	}{
		{time.Time{}, false}, {now, true}, {now.Add(-maxAge + time.Second), true}, {now.Add(-maxAge), false},
		{now.Round(0).Add(-time.Hour), false}, {now.Round(0).Add(time.Hour), false},
	} {
		if got := currentAt(tt.proven, now); got != tt.want {
			t.Errorf("%v: %v", tt.proven.Sub(now), got)
		}
	}
}

func TestTableTwins(t *testing.T) {
	t.Parallel()
	tb, now := newTable(newCopied(nil, newSchema("", nil))), time.Now()
	entry := func() *record { return &record{entry: &auth.Entry{DN: alice}, parent: "p", names: []string{"a"}} }
	tb.put("1", entry(), people)
	if tb.find(alice, true, true, now) != nil {
		t.Error("answered before the first proof")
	}
	tb.prove(now)
	if tb.find(alice, true, true, now) == nil || tb.find("a", false, true, now) == nil || tb.find("a", false, false, now) != nil {
		t.Error("one entry")
	}
	if tb.find(alice, true, true, now.Add(maxAge)) != nil {
		t.Error("answered with an old proof")
	}
	tb.put("2", entry(), people)
	if tb.find(alice, true, true, now) != nil || tb.find("a", false, true, now) != nil {
		t.Error("two entries with one key are served")
	}
	tb.remove("1")
	if tb.find(alice, true, true, now) == nil || tb.watched()[0].users != 1 {
		t.Error("one entry is left")
	}
	tb.know("p", "id of the parent")
	tb.put("2", entry(), people) // the only user of the parent, changed
	tb.remove("2")
	tb.put("2", entry(), people) // or taken out by a hint, and read again
	if w := tb.watched(); len(w) != 1 || w[0].id != "id of the parent" || w[0].users != 1 {
		t.Errorf("parents %+v: one that was replaced meanwhile would not be noticed", w)
	}
	tb.remove("2")
	tb.remove("2")
	if len(tb.watched()) != 0 {
		t.Error("a parent without users is watched")
	}
	if len(tb.byDN)+len(tb.byName)+len(tb.byID)+len(tb.parents) != 0 {
		t.Errorf("left over: %+v", tb)
	}
	tb.put("3", entry(), people)
	tb.end()
	if tb.prove(now.Add(1)); tb.find(alice, true, true, now) != nil {
		t.Error("answered after the end")
	}
}

func TestNameAttributes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"(uid=%s)": 1, "(|(uid=%s)(mail=%s))": 2, "(&(uid=%s)(mail=%s))": -1, "(uid=%s*)": -1, "(mail=%s@example.org)": -1,
		"(|(uid=%s)(&(a=b)(c=%s)))": -1, "(mail;lang-en=%s)": -1, "(uid:caseExactMatch:=%s)": -1,
	} {
		f, err := compileFilter("t", text)
		if err != nil {
			t.Fatal(err)
		}
		got := nameAttributes(f)
		if (got == nil) != (want < 0) || got != nil && len(got) != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestSyncMessages: what is not RFC 4533, or was not asked for, is refused.
func TestSyncMessages(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("i", uuidSize)
	seq := func(tag byte, parts ...[]byte) []byte { return wire.AppendElement(nil, tag, bytesOf(parts...)) }
	uuid := wire.AppendElement(nil, wire.TagOctetString, []byte(id))
	cookie := wire.AppendElement(nil, wire.TagOctetString, []byte("rid=000,csn=20260101000000.000000Z#000000#000#000000"))
	for _, tt := range []struct {
		value []byte
		ok    bool
	}{
		{seq(0x30, []byte{10, 1, 1}, uuid), true}, {seq(0x30, []byte{10, 1, 3}, uuid, cookie), true},
		{seq(0x30, []byte{10, 1, 4}, uuid), false}, {seq(0x30, []byte{10, 1, 1}, uuid[:10]), false}, {nil, false},
		{seq(0x30, []byte{10, 1, 1}, []byte{4, 1, 'x'}), false}, {append(seq(0x30, []byte{10, 1, 1}, uuid), 0), false},
	} {
		_, err := syncStateOf(wire.AppendControl(nil, oidSyncState, false, tt.value))
		if (err == nil) != tt.ok {
			t.Errorf("state %x: %v", tt.value, err)
		}
	}
	for _, tt := range []struct {
		value []byte
		ok    bool
		flag  bool
		ids   int
	}{
		{seq(0x80, []byte("c")), true, true, 0}, {seq(0xa1), true, true, 0}, {seq(0xa2, cookie, []byte{1, 1, 0}), true, false, 0},
		{seq(0xa3, cookie, []byte{1, 1, 0xff}, seq(0x31, uuid, uuid)), true, true, 2}, {seq(0xa3, seq(0x31, uuid)), true, false, 1},
		{seq(0xa3), false, false, 0}, {seq(0xa4), false, false, 0}, {nil, false, false, 0}, {seq(0xa3, seq(0x31, []byte{4, 1, 'x'})), false, false, 0},
	} {
		in, err := decodeSyncInfo(tt.value)
		if (err == nil) != tt.ok || tt.ok && (in.flag != tt.flag || len(in.ids) != tt.ids) {
			t.Errorf("info %x: %+v, %v", tt.value, in, err)
		}
	}
	have, want := csns{}, csns{}
	want.take("20260101000000.000000Z#000000#000#000000")
	if have.covers(want) || have.covers(csns{}) {
		t.Error("nothing heard covers something")
	}
	have.takeCookie(cookie[2:])
	if !have.covers(want) {
		t.Error("equal numbers do not cover")
	}
	want.take("20260101000001.000000Z#000000#000#000000")
	if have.covers(want) {
		t.Error("an older number covers")
	}
}

func bytesOf(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
