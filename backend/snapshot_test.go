package backend

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// machine is what a snapshot sees of the machine: its clocks.
type machine struct {
	wall  time.Time
	run   string
	since time.Duration
}

// pass lets time pass, on both clocks.
func (m *machine) pass(d time.Duration) { m.wall, m.since = m.wall.Add(d), m.since+d }

func (m *machine) boot() (string, time.Duration) { return m.run, m.since }

const testStale = 24 * time.Hour

func snapshotConfig() *config.Config {
	cfg := testConfig(config.URL{Scheme: "ldap", Address: "127.0.0.1:1", Host: "127.0.0.1"})
	cfg.Users.NameFilter = "(|(uid=%s)(mail=%s))"
	cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(testStale)
	cfg.OwnEntryAttributes = []string{"uid", "cn", "mail"}
	return cfg
}

// process is an Upstream that connects to nothing, with a snapshot: a start of appbind in an outage.
func (m *machine) process(t testing.TB, file string, change ...func(*config.Config)) *Upstream {
	t.Helper()
	cfg := snapshotConfig()
	for _, c := range change {
		c(cfg)
	}
	u := unstarted(t, cfg)
	u.KeepSnapshot(file, auth.NewMemory(func() time.Time { return m.wall }))
	if u.snapshot == nil {
		t.Fatal("no snapshot is kept")
	}
	u.clock.now, u.snapshot.boot = func() time.Time { return m.wall }, m.boot
	u.snapshot.owners = []*Upstream{u}
	return u
}

// read is what a start finds.
func (m *machine) read(t *testing.T, file string, change ...func(*config.Config)) (*table, error) {
	t.Helper()
	got, err := m.process(t, file, change...).readSnapshot(m.wall)
	return got.table, err
}

// person is a record as a session makes it.
func (u *Upstream) person(t *testing.T, tb *table, uid string, values ...string) *record {
	t.Helper()
	attributes := wire.AppendAttribute(nil, "uid", []byte(uid))
	attributes = wire.AppendAttribute(attributes, "mail", []byte(uid+"@example.org"))
	attributes = wire.AppendAttribute(attributes, "entryUUID", []byte("id-"+uid))
	for _, v := range values {
		attributes = wire.AppendAttribute(attributes, "appPassword", []byte(v))
	}
	r, _, err := u.record(u.survey.Load(), tb, wire.SearchEntry{DN: []byte("uid=" + uid + "," + people), Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hold gives an Upstream a copy of a session that was proven now.
func (u *Upstream) hold(t *testing.T, uids ...string) *table {
	t.Helper()
	tb := newTable(newCopied(u.replica.wanted, u.survey.Load().schema))
	for _, uid := range uids {
		tb.put("id-"+uid, u.person(t, tb, uid, "$app$1$"+uid, "$app$2$"+uid), people)
	}
	tb.prove(u.clock.now())
	u.replica.last.Store(tb)
	return tb
}

// values is what a copy has for a name, and how many it has at all.
func values(tb *table, name string) string {
	if tb == nil {
		return "no copy"
	}
	users, _ := tb.size()
	e := tb.findLast(name, isDN(name), true)
	if e == nil {
		return fmt.Sprintf("none of %d", users)
	}
	return fmt.Sprintf("%sof %d", joinValues(e), users)
}

func newMachine() *machine {
	return &machine{wall: time.Unix(1_800_000_000, 0), run: "first", since: time.Hour}
}

// TestSnapshotKeeps: what is read is what was written, and nobody else can read it.
func TestSnapshotKeeps(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "replica.snapshot")
	u := m.process(t, file)
	tb := u.hold(t, "a", "b")
	sub := u.person(t, tb, "c")
	sub.entry.Ends = time.Unix(1_900_000_000, 100)
	sub.entry.DN, sub.parent = "uid=c,ou=x,"+people, "ou=x key"
	tb.put("id-c", sub, "ou=x,"+people)
	u.saveSnapshot(false)
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
		t.Fatalf("%v, %v", st, err)
	}
	if list, _ := os.ReadDir(filepath.Dir(file)); len(list) != 1 {
		t.Errorf("besides the file: %v", list)
	}
	m.pass(time.Hour)
	again := m.process(t, file)
	again.loadSnapshot()
	got := again.replica.last.Load()
	if got == nil || len(got.byID) != 3 || !got.ended || got.odd || len(got.changed) != 0 {
		t.Fatalf("%+v", got)
	}
	for id, want := range tb.byID {
		r := got.byID[id]
		if !r.same(want) || r.entry.Key != want.entry.Key || r.parent != want.parent || !r.entry.User || !r.entry.Eligible || !r.entry.Copied || r.entry.Stale {
			t.Errorf("%+v %+v\nwant %+v %+v", r, r.entry, want, want.entry)
		}
	}
	if len(got.parents) != 2 || got.parents["ou=x key"].dn != "ou=x,"+people || got.parents["ou=x key"].users != 1 {
		t.Errorf("parents %+v", got.parents)
	}
	if len(got.copied.list) != len(tb.copied.list) || len(got.copied.list) == 0 {
		t.Fatalf("%d attributes, want %d", len(got.copied.list), len(tb.copied.list))
	}
	for i, want := range tb.copied.list {
		if a := got.copied.list[i]; fmt.Sprint(*a) != fmt.Sprint(*want) || got.copied.byName[want.names[0]] != a {
			t.Errorf("%+v, want %+v", a, want)
		}
	}
	for _, name := range []string{"uid=A," + people, "a", "A@example.ORG"} {
		if v := values(got, name); v != "$app$1$a $app$2$a of 3" {
			t.Errorf("%s: %s", name, v)
		}
	}
	if i := again.Stats().Replica; !i.Held || i.Current || i.Users != 3 || i.Age != time.Hour {
		t.Errorf("%+v", i)
	}
	if again.findCopy("a") != nil {
		t.Error("the snapshot answers as if it was current")
	}
}

// TestSnapshotAge: the age of a proof outlives the process by two clocks, and only grows.
func TestSnapshotAge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what    string
		written time.Duration // after the proof
		then    func(m *machine)
		age     time.Duration
		want    error
	}{
		{"at once", 0, func(*machine) {}, 0, nil},
		{"the age is that of the proof", time.Hour, func(m *machine) { m.pass(time.Hour) }, 2 * time.Hour, nil},
		{"the machine was off", time.Hour, func(m *machine) { m.pass(time.Hour); m.run, m.since = "second", 0 }, 2 * time.Hour, nil},
		{"the clock was set forward", 0, func(m *machine) { m.wall = m.wall.Add(time.Hour) }, time.Hour, nil},
		{"the clock was set back, to before the writing", 0, func(m *machine) { m.pass(time.Hour); m.wall = m.wall.Add(-2 * time.Hour) }, 0, errFuture},
		{"the clock was set back by a little", 0, func(m *machine) { m.wall = m.wall.Add(-time.Millisecond) }, 0, errFuture},
		{"the clock was set back, to after the writing", 0, func(m *machine) { m.pass(5 * time.Hour); m.wall = m.wall.Add(-4 * time.Hour) }, 5 * time.Hour, nil},
		{"another start, with a clock of the past", 0, func(m *machine) { m.run, m.since, m.wall = "second", 0, time.Unix(0, 0) }, 0, errFuture},
		{"a clock that nobody can set went back", 0, func(m *machine) { m.since -= time.Minute }, 0, errFuture},
		{"a machine that does not tell its run", 0, func(m *machine) { m.pass(time.Hour); m.run = "" }, time.Hour, nil},
	} {
		m, file := newMachine(), filepath.Join(t.TempDir(), "s")
		u := m.process(t, file)
		u.hold(t, "a")
		m.pass(c.written)
		u.saveSnapshot(false)
		c.then(m)
		got, err := m.read(t, file)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
			continue
		}
		if err != nil {
			continue
		}
		if _, proven := got.size(); ageAt(proven, m.wall) != c.age {
			t.Errorf("%s: %v old, want %v", c.what, ageAt(proven, m.wall), c.age)
		}
	}
}

// TestSnapshotRestarts: however often the process starts again in an outage, and whatever is done to the
// clock while it is off, it is max_stale after the proof that the copy is refused, and no later.
func TestSnapshotRestarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		off  func(m *machine)
	}{
		{"nothing", func(*machine) {}},
		{"set back", func(m *machine) { m.wall = m.wall.Add(-30 * time.Second) }},
		{"set forward", func(m *machine) { m.wall = m.wall.Add(time.Minute) }},
		{"the machine off", func(m *machine) { m.run, m.since = m.run+"'", 0 }},
	} {
		m, file := newMachine(), filepath.Join(t.TempDir(), "s")
		u := m.process(t, file)
		u.hold(t, "a")
		u.saveSnapshot(true)
		var real time.Duration // since the proof
		for {
			m.pass(10 * time.Minute)
			c.off(m)
			m.pass(10 * time.Minute)
			real += 20 * time.Minute
			u = m.process(t, file)
			u.loadSnapshot()
			if u.replica.last.Load() == nil {
				break
			}
			if real > 2*testStale {
				t.Fatalf("%s: it never ends", c.what)
			}
			u.saveSnapshot(false)
			u.saveSnapshot(true)
		}
		if real > testStale { // which is a start, too
			t.Errorf("%s: used until %v after the proof", c.what, real)
		}
		if c.what == "nothing" && real < testStale {
			t.Errorf("%s: used until %v after the proof only", c.what, real)
		}
	}
}

// TestSnapshotOdd: what is not known of names stays so.
func TestSnapshotOdd(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	u.hold(t, "a").odd = true
	u.saveSnapshot(false)
	if got, err := m.read(t, file); err != nil || values(got, "a") != "none of 1" || values(got, "uid=a,"+people) == "none of 1" {
		t.Errorf("%s, %s, %v", values(got, "a"), values(got, "uid=a,"+people), err)
	}
}

// TestSnapshotTooOld: the bound is max_stale, exactly.
func TestSnapshotTooOld(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	u.hold(t, "a")
	u.saveSnapshot(true)
	m.pass(testStale - 1)
	if _, err := m.read(t, file); err != nil {
		t.Error(err)
	}
	u = m.process(t, file)
	u.loadSnapshot()
	if m.pass(1); u.stale() != nil {
		t.Error("what was read decides beyond max_stale")
	}
	if _, err := m.read(t, file); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("error %v", err)
	}
}

// TestSnapshotChanges: who has changed since the users were written is not there after a crash,
// nor who bears a name that another has by now; and the proof is of the time of the mark.
func TestSnapshotChanges(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	tb := u.hold(t, "a", "b", "c", "d", "e", "f")
	u.saveSnapshot(false)
	m.pass(time.Second)
	u.saveSnapshot(false) // nothing has changed
	if _, err := os.Stat(markOf(file)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mark without a change: %v", err)
	}
	tb.put("id-a", u.person(t, tb, "a", "$app$2$a"), people) // one is revoked
	tb.remove("id-b")
	two := u.person(t, tb, "new")
	two.names = append(two.names, "c@example.org") // c's name is nobody's now
	tb.put("id-new", two, people)
	heir := u.person(t, tb, "heir")
	heir.entry.DN = "uid=f," + people // f's DN is another's now
	tb.put("id-heir", heir, people)
	tb.prove(m.wall)
	m.pass(time.Second)
	u.saveSnapshot(false)
	m.pass(time.Minute)
	got, err := m.read(t, file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "none of 2", "b": "none of 2", "c": "none of 2", "c@example.org": "none of 2", "new": "none of 2",
		"f": "none of 2", "uid=f," + people: "none of 2",
		"d": "$app$1$d $app$2$d of 2", "e": "$app$1$e $app$2$e of 2"} {
		if v := values(got, name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if _, proven := got.size(); ageAt(proven, m.wall) != time.Minute+time.Second {
		t.Errorf("%v old", ageAt(proven, m.wall))
	}
	// A process that starts from there, and learns more, keeps both.
	again := m.process(t, file)
	again.loadSnapshot()
	again.learn("d", nil)
	again.saveSnapshot(false)
	if got, err = m.read(t, file); err != nil || values(got, "a") != "none of 1" || values(got, "d") != "none of 1" {
		t.Errorf("a %s, d %s, %v", values(got, "a"), values(got, "d"), err)
	}
	// A minute later the users are written anew: nobody is missing any more.
	m.pass(usersPause)
	u.saveSnapshot(false)
	if got, err = m.read(t, file); err != nil || values(got, "a") != "$app$2$a of 7" || values(got, "c@example.org") != "none of 7" {
		t.Errorf("a %s, c %s, %v", values(got, "a"), values(got, "c@example.org"), err)
	}
}

// TestSnapshotMany: more changes than a mark holds leave the mark alone, until the users are written anew.
func TestSnapshotMany(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	tb := u.hold(t, "a")
	u.saveSnapshot(false)
	for i := range maxChanged + 2 {
		tb.put(fmt.Sprint(i), u.person(t, tb, fmt.Sprint("u", i)), people)
	}
	if n := tb.changes(); n != maxChanged+1 {
		t.Errorf("%d changes are noted", n)
	}
	if err := u.saveMark(tb, nil, m.wall); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(markOf(file)); !errors.Is(err, os.ErrNotExist) {
		t.Error("a mark that cannot name all was written")
	}
	u.snapshot.took = time.Second
	m.pass(usersShare*time.Second - 1)
	u.saveSnapshot(false)
	if got, err := m.read(t, file); err != nil || len(got.byID) != 1 {
		t.Errorf("written too often: %v", err)
	}
	m.pass(1)
	u.saveSnapshot(false)
	if got, err := m.read(t, file); err != nil || len(got.byID) != maxChanged+3 {
		t.Errorf("not written: %v", err)
	}
}

// TestSnapshotSchedule: when which of the files is written.
func TestSnapshotSchedule(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	stamps := func() (all [2]time.Time) {
		for i, name := range []string{file, markOf(file)} {
			if content, err := os.ReadFile(name); err == nil {
				s := scanner{rest: content[len([]string{headUsers, headMark}[i])+16:]}
				if i == 0 {
					s.text()
				}
				all[i] = s.stamp().written
			}
		}
		return all
	}
	tb := u.hold(t, "a", "b")
	written := func(what string, users, mark bool) {
		t.Helper()
		before := stamps()
		u.saveSnapshot(false)
		after := stamps()
		if (after[0] != before[0]) != users || (after[1] != before[1]) != mark {
			t.Errorf("%s: users %v, mark %v", what, after[0] != before[0], after[1] != before[1])
		}
	}
	written("the first copy", true, false)
	m.pass(time.Second)
	written("nothing new", false, false)
	m.pass(markPause)
	written("for the proof", false, true)
	m.pass(time.Second)
	tb.remove("id-a")
	written("a change", false, true)
	m.pass(time.Second)
	written("told already", false, false)
	m.pass(usersPause)
	written("a change, by now", true, false)
	m.pass(time.Second)
	tb.end()
	u.learn("b", nil)
	written("a lookup in an outage", false, true)
	m.pass(usersPause)
	u.hold(t, "b")
	written("another session", true, false)
	u.snapshot.took = time.Minute
	u.hold(t, "a", "b")
	m.pass(markPause)
	written("another session, and writing takes a minute: the mark cannot tell of it", false, false)
	m.pass(usersShare * time.Minute)
	written("another session, after a while", true, false)
	m.pass(time.Second)
	u.saveSnapshot(true)
	if stamps()[1] != m.wall {
		t.Error("the end of the process leaves an old proof")
	}
}

// TestSnapshotUnwritable: a disk that does not take it is told of once, tried again later, and believed in nothing.
func TestSnapshotUnwritable(t *testing.T) {
	t.Parallel()
	m, dir := newMachine(), filepath.Join(t.TempDir(), "missing")
	u := m.process(t, filepath.Join(dir, "s"))
	log := &logBuffer{}
	u.log = log.logger()
	u.loadSnapshot()
	tb := u.hold(t, "a")
	for range 3 {
		u.saveSnapshot(false)
	}
	if got := log.String(); strings.Count(got, "cannot be written") != 1 || !strings.Contains(got, "no snapshot of the replica yet") {
		t.Errorf("log:\n%s", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.pass(retryPause)
	u.saveSnapshot(false)
	if _, err := m.read(t, u.snapshot.file); err != nil {
		t.Error(err)
	}
	// The mark fails, and a change with it: the next one tells of both.
	if err := os.Mkdir(markOf(u.snapshot.file), 0o700); err != nil {
		t.Fatal(err)
	}
	tb.remove("id-a")
	u.saveSnapshot(false)
	if err := os.Remove(markOf(u.snapshot.file)); err != nil {
		t.Fatal(err)
	}
	m.pass(retryPause)
	u.saveSnapshot(false)
	if got, err := m.read(t, u.snapshot.file); err != nil || len(got.byID) != 0 {
		t.Errorf("%s, %v", values(got, "a"), err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("leftovers: %v", list)
	}
	// The users fail: no mark is written that belongs to neither.
	ok := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(os.Remove(markOf(u.snapshot.file)))
	ok(os.Remove(u.snapshot.file))
	ok(os.MkdirAll(u.snapshot.file+"/x", 0o700))
	u.hold(t, "a", "b")
	m.pass(time.Hour)
	u.saveSnapshot(false)
	u.replica.last.Load().remove("id-a")
	m.pass(retryPause)
	u.saveSnapshot(false)
	if _, err := os.Stat(markOf(u.snapshot.file)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mark without its users: %v", err)
	}
	ok(os.RemoveAll(u.snapshot.file))
	m.pass(retryPause)
	u.saveSnapshot(false)
	if got, err := m.read(t, u.snapshot.file); err != nil || values(got, "b") != "$app$1$b $app$2$b of 1" {
		t.Errorf("%s, %v", values(got, "b"), err)
	}
}

// TestSnapshotOwners: of two Upstreams that follow each other one writes, also where the second one is given up.
func TestSnapshotOwners(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	old, later := m.process(t, file), m.process(t, file)
	tb := old.hold(t, "a")
	later.Continue(old)
	if later.snapshot != old.snapshot || later.replica.last.Load() != tb {
		t.Fatal("not continued")
	}
	other := m.process(t, file, func(c *config.Config) { c.Users.Filter = "(objectClass=x)" })
	if other.Continue(old); other.snapshot != old.snapshot || other.replica.last.Load() != nil {
		t.Error("the copy of another configuration is used")
	}
	later.snapshot.owners = append(later.snapshot.owners, later)
	later.hold(t, "a", "b")
	later.saveSnapshot(false)
	old.saveSnapshot(true)
	if got, err := m.read(t, file); err != nil || len(got.byID) != 2 {
		t.Errorf("the earlier one wrote too: %v", err)
	}
	old.snapshot.owners = old.snapshot.owners[:1] // later is closed
	m.pass(usersPause)
	old.saveSnapshot(false)
	if got, err := m.read(t, file); err != nil || len(got.byID) != 1 {
		t.Errorf("the earlier one does not write again: %v", err)
	}
}

// TestSnapshotOutage: with a real slapd. A start in an outage goes on from the snapshot; what is revoked meanwhile is
// refused as soon as the directory answers, and is not back with the next outage and the next start.
func TestSnapshotOutage(t *testing.T) {
	direct := slapd(t, false, user("eve", "appPassword: $app$x$h", "appPassword: $app$y$h"))
	r, url := newRelay(t, direct)
	file := filepath.Join(t.TempDir(), "replica.snapshot")
	start := func() *Upstream {
		cfg := slapdConfig(url)
		cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(time.Hour)
		cfg.OwnEntryAttributes = []string{"uid", "cn"}
		return upstream(t, cfg, func(u *Upstream) { u.replica.pause = 50 * time.Millisecond; u.KeepSnapshot(file, auth.NewMemory(nil)) })
	}
	eve, ctx := "uid=eve,"+people, testContext(t, time.Minute)
	finds := func(u *Upstream, what string, stale bool, want string) {
		t.Helper()
		until(t, what, 10*time.Second, func() bool {
			e, err := u.Find(ctx, eve)
			return err == nil && e.Stale == stale && string(joinValues(e)) == want
		})
	}
	revoke := func(value string) {
		t.Helper()
		m := ldap.NewModifyRequest(eve, nil)
		m.Delete("appPassword", []string{value})
		if err := admin(t, direct).Modify(m); err != nil {
			t.Fatal(err)
		}
	}
	u := start()
	if i := u.Replica(ctx); !i.Current {
		t.Fatalf("%+v", i)
	}
	u.Close()
	r.cut()
	revoke("$app$x$h")

	u = start()
	finds(u, "the snapshot decides", true, "$app$x$h $app$y$h ")
	until(t, "an outage", 10*time.Second, func() bool { return u.Outage(ctx) })
	if i := u.Stats().Replica; !i.Outage || i.Current || i.Users != 3 {
		t.Errorf("%+v", i)
	}
	byUID, err := compileFilter("x", "(uid=EVE)")
	if err != nil {
		t.Fatal(err)
	}
	search := &wire.SearchRequest{Base: []byte(people), Scope: wire.ScopeWhole, Filter: byUID, Attributes: wire.AppendStrings(nil, "cn")}
	if bodies, code, err := u.Recall(search, ""); err != nil || code != 0 || len(bodies) != 1 {
		t.Errorf("search: %d entries, code %d, %v", len(bodies), code, err)
	}
	r.open.Store(true)
	finds(u, "the directory decides", false, "$app$y$h ")
	until(t, "the snapshot is no longer held", 10*time.Second, func() bool { return heldCopy(u, eve) == "$app$y$h " })
	u.Close()
	r.cut()

	u = start()
	finds(u, "what was revoked stays so", true, "$app$y$h ")
	u.Close()
}

// TestSnapshotOff: without the key, or with live lookups, there is nothing on disk.
func TestSnapshotOff(t *testing.T) {
	t.Parallel()
	cfg := snapshotConfig()
	cfg.AppPasswords.Lookup = "live"
	u := unstarted(t, cfg)
	if u.KeepSnapshot(filepath.Join(t.TempDir(), "s"), auth.NewMemory(nil)); u.snapshot != nil {
		t.Error("a snapshot of live lookups")
	}
	cfg = snapshotConfig()
	cfg.AppPasswords.MaxStale = 0
	u = unstarted(t, cfg)
	if u.KeepSnapshot(filepath.Join(t.TempDir(), "s"), auth.NewMemory(nil)); u.snapshot != nil {
		t.Error("a snapshot without an outage mode")
	}
}

// TestSnapshotServices: what is kept of service accounts is on disk as soon as it changes, and each has an age of its own.
func TestSnapshotServices(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	u.hold(t, "a")
	keep := func(dn string, age time.Duration) {
		u.snapshot.services.RestoreServices([]auth.KeptService{{DN: dn, Hash: "hash of " + dn, At: m.wall.Add(-age)}})
	}
	kept := func(what, want string) {
		t.Helper()
		again := m.process(t, file)
		again.loadSnapshot()
		got := ""
		for _, k := range again.snapshot.services.KeptServices() {
			if k.Hash != "hash of "+k.DN {
				t.Errorf("%s: %+v", what, k)
			}
			got += fmt.Sprint(k.DN, " ", ageAt(k.At, m.wall), " ")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	keep("cn=a", time.Hour)
	u.saveSnapshot(false)
	kept("with the users", "cn=a 1h0m0s ")
	m.pass(time.Second)
	keep("cn=b", 0)
	u.saveSnapshot(false)
	kept("with the mark", "cn=a 1h0m1s cn=b 0s ")
	m.pass(time.Hour)
	m.wall = m.wall.Add(-30 * time.Minute)
	kept("the clock was set back", "cn=a 2h0m1s cn=b 1h0m0s ")
	m.wall = m.wall.Add(30 * time.Minute)
	u.replica.last.Load().prove(m.wall)
	m.pass(time.Hour)
	u.saveSnapshot(true)
	m.run, m.since = "second", 0
	m.pass(21*time.Hour + 58*time.Minute)
	kept("the machine was off", "cn=b 23h58m0s ")
	m.pass(time.Hour)
	kept("too old", "")
}
