package backend

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/go-ldap/ldap/v3"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
)

func endedTable(entries ...*auth.Entry) *table {
	t := newTable(newCopied(nil, newSchema("", nil)))
	for i, e := range entries {
		t.put(string(rune('1'+i)), &record{entry: e, names: []string{e.Key}}, people)
	}
	t.prove(time.Now())
	t.end()
	return t
}

func entryOf(uid string, values ...string) *auth.Entry {
	e := &auth.Entry{Key: uid, DN: "uid=" + uid + "," + people, User: true, Eligible: true}
	for _, v := range values {
		e.Values = append(e.Values, []byte(v))
	}
	return e
}

// left is what the table has for a DN.
func left(t *table, uid string) string {
	e := t.findLast("uid="+uid+","+people, true, true)
	if e == nil {
		return "none"
	}
	return string(joinValues(e))
}

// TestLearn: a lookup takes from the last copy what it does not find, and adds nothing.
func TestLearn(t *testing.T) {
	t.Parallel()
	dn := "uid=a," + people
	change := func(f func(*auth.Entry)) *auth.Entry {
		e := entryOf("a", "1", "2")
		f(e)
		return e
	}
	for _, c := range []struct {
		what, name string
		found      *auth.Entry
		want       string
	}{
		{"the same", dn, entryOf("a", "1", "2"), "1 2 "},
		{"one revoked", dn, entryOf("a", "2"), "2 "},
		{"one added", dn, entryOf("a", "1", "2", "3"), "1 2 "},
		{"all revoked", dn, entryOf("a"), ""},
		{"gone", dn, nil, "none"},
		{"gone, another spelling of which nothing is known", "userid=a," + people, nil, "1 2 "},
		{"found under another spelling", "userid=a," + people, entryOf("a", "1"), "1 "},
		{"disabled", dn, change(func(e *auth.Entry) { e.Eligible = false }), "none"},
		{"moved out of the bases", dn, change(func(e *auth.Entry) { e.User = false }), "none"},
		{"another entry under this DN", dn, change(func(e *auth.Entry) { e.Key = "z" }), "none"},
		{"another entry, found under another spelling", "userid=a," + people, change(func(e *auth.Entry) { e.Key = "z" }), "none"},
		{"the name is another's now", "a", entryOf("b"), "none"},
		{"the name is nobody's now", "a", nil, "none"},
	} {
		tb := endedTable(entryOf("a", "1", "2"), entryOf("b", "x"))
		tb.learn(c.name, isDN(c.name), c.found)
		if got := left(tb, "a"); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
		if left(tb, "b") == "none" {
			t.Errorf("%s: somebody else is gone", c.what)
		}
	}
	live := endedTable(entryOf("a", "1"))
	live.ended = false
	live.learn(dn, true, nil)
	if left(live, "a") == "none" {
		t.Error("a lookup changed the table of a session, which hears of changes by itself")
	}
}

// TestNarrow: a refresh that was not completed takes away what it did tell of; a complete one also who is not in it.
func TestNarrow(t *testing.T) {
	t.Parallel()
	for _, complete := range []bool{false, true} {
		tb := endedTable(entryOf("a", "1", "2"), entryOf("b", "x"), entryOf("c", "y"))
		later := newTable(tb.copied)
		later.put("1", &record{entry: entryOf("a", "2", "3")}, people)
		moved := entryOf("b", "x")
		moved.DN = "uid=bb," + people
		later.put("2", &record{entry: moved}, people)
		tb.narrow(later, complete)
		want := map[bool]string{false: "y ", true: "none"}[complete]
		if left(tb, "a") != "2 " || left(tb, "b") != "none" || left(tb, "bb") != "none" || left(tb, "c") != want {
			t.Errorf("complete %v: %q %q %q", complete, left(tb, "a"), left(tb, "b"), left(tb, "c"))
		}
		live := endedTable(entryOf("a", "1", "2"), entryOf("b", "x"))
		live.ended = false
		if live.narrow(later, complete); left(live, "a") != "1 2 " || left(live, "b") != "x " {
			t.Error("the table of a session was changed, which hears of changes by itself")
		}
	}
}

// apart is t with a monotonic reading of its own: later by d, the wall clock staying. Only a
// machine that sleeps, or whose clock is set, makes one.
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

// TestAge: neither a machine that slept nor a clock that was set makes a proof younger.
func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		proven time.Time
		want   time.Duration
	}{
		{now, 0}, {now.Add(-time.Minute), time.Minute},
		{now.Round(0).Add(-time.Hour), time.Hour},
		{now.Round(0).Add(time.Hour), 0},                              // from the future: the snapshot refuses it
		{apart(t, now.Add(-time.Hour), 30*time.Minute), time.Hour},    // the machine slept for half an hour of it
		{apart(t, now.Add(-time.Minute), -59*time.Minute), time.Hour}, // the clock was set back by 59 minutes
		{apart(t, now.Add(time.Hour), -2*time.Hour), time.Hour},       // it was set to before the proof
		{apart(t, now.Add(time.Hour), -time.Hour), 0},                 // likewise, just now
	} {
		if got := ageAt(c.proven, now); got != c.want {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
}

// TestOutageLines: one line at the start, each five minutes, when the copy is too old, and at the end.
func TestOutageLines(t *testing.T) {
	t.Parallel()
	w, at := &outageWatch{}, time.Now()
	for _, c := range []struct {
		after        time.Duration
		down, tooOld bool
		level        slog.Level
		said         bool
	}{
		{0, false, false, 0, false},
		{time.Second, true, false, slog.LevelWarn, true},
		{time.Second, true, false, 0, false},
		{outageLogPause, true, false, slog.LevelWarn, true},
		{time.Second, true, true, slog.LevelError, true},
		{time.Second, true, true, 0, false},
		{outageLogPause, true, true, slog.LevelError, true},
		{time.Second, false, true, slog.LevelInfo, true},
		{time.Second, false, false, 0, false},
	} {
		at = at.Add(c.after)
		level, text, _ := w.turn(c.down, c.tooOld, at)
		if (text != "") != c.said || c.said && level != c.level || w.lasting() != c.down {
			t.Errorf("%+v: %v %q", c, level, text)
		}
	}
}

// TestFindInOutage: the last copy decides while no server answers, never later than max_stale, and never against what is known.
func TestFindInOutage(t *testing.T) {
	var ahead atomic.Int64
	u, r, direct := copyAt(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }, user("eve", "appPassword: $app$x$h", "appPassword: $app$y$h"))
	eve, ctx := "uid=eve,"+people, testContext(t, time.Minute)
	if e, err := u.Find(ctx, eve); err != nil || e.Stale {
		t.Fatalf("%+v, %v", e, err)
	}
	r.cut()
	m := ldap.NewModifyRequest(eve, nil)
	m.Delete("appPassword", []string{"$app$x$h"})
	if err := admin(t, direct).Modify(m); err != nil {
		t.Fatal(err)
	}
	until(t, "the last copy decides", 10*time.Second, func() bool {
		e, err := u.Find(ctx, eve)
		return err == nil && e.Stale && e.Eligible && len(e.Values) == 2 // the revocation is not known
	})
	if e := u.replica.last.Load().findLast(eve, true, true); e.Stale {
		t.Error("the copy itself was marked")
	}
	for _, name := range []string{"uid=nobody," + people, "userid=eve," + people} {
		if _, err := u.Find(ctx, name); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i := u.Stats().Replica; !i.Outage || i.Current || !i.Held || i.Users != 3 {
		t.Errorf("%+v", i)
	}
	r.open.Store(true)
	until(t, "it is looked up live", 10*time.Second, func() bool {
		e, err := u.Find(ctx, eve)
		return err == nil && !e.Stale && len(e.Values) == 1
	})
	if u.Outage(ctx) {
		t.Error("outage mode while a server answers")
	}
	until(t, "current again", 10*time.Second, func() bool { return heldCopy(u, eve) == "$app$y$h " })
	if i := u.Stats().Replica; i.Outage || !i.Current {
		t.Errorf("%+v", i)
	}
	outage(t, u, r)
	ahead.Store(int64(time.Hour))
	if i := u.Stats().Replica; i.Outage || i.Age < time.Hour {
		t.Errorf("beyond max_stale: %+v", i)
	}
	if e, err := u.Find(ctx, eve); err == nil || u.Outage(ctx) {
		t.Errorf("beyond max_stale: %+v", e)
	}
}

// TestOutageWaits: of a server that is suspect nothing is said before its probe is through.
func TestOutageWaits(t *testing.T) {
	u, _, _ := copyOf(t, "")
	s := u.servers[0]
	u.healthMu.Lock()
	s.health = suspect
	u.choose()
	u.healthMu.Unlock()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if u.Outage(short) || u.Down() {
		t.Error("an outage by suspicion")
	}
	s.examine()
	if u.Outage(testContext(t, 10*time.Second)) {
		t.Error("an outage, while the server answers")
	}
}

// TestOutageAtOnce: from the moment at which no server is up nothing is refused by the copy, though the session has not ended yet.
func TestOutageAtOnce(t *testing.T) {
	t.Parallel()
	cfg := slapdConfig(config.URL{Scheme: "ldap", Address: "127.0.0.1:1", Host: "127.0.0.1"})
	cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(time.Hour)
	u := unstarted(t, cfg)
	tb := endedTable(entryOf("a", "1"))
	tb.ended = false
	u.replica.table.Store(tb)
	u.replica.last.Store(tb)
	find := func() (*auth.Entry, error) { return u.Find(testContext(t, 5*time.Second), "uid=a,"+people) }
	if e, err := find(); err != nil || e.Stale {
		t.Fatalf("%+v, %v", e, err)
	}
	u.healthMu.Lock()
	u.servers[0].health = down
	u.choose()
	u.healthMu.Unlock()
	if e, err := find(); err != nil || !e.Stale {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestLostRightsAreNoOutage: a directory that answers, and refuses what appbind asks, is not replaced by the copy.
func TestLostRightsAreNoOutage(t *testing.T) {
	u, r, direct := copyOf(t, "")
	m := ldap.NewModifyRequest(serviceDN, nil)
	m.Replace("userPassword", []string{"another"})
	if err := admin(t, direct).Modify(m); err != nil {
		t.Fatal(err)
	}
	outage(t, u, r) // so that no link of before is left
	if e, err := u.Find(testContext(t, 10*time.Second), alice); err != nil || !e.Stale {
		t.Fatalf("in the outage: %+v, %v", e, err)
	}
	r.open.Store(true)
	until(t, "the server answers", 10*time.Second, func() bool { return !u.Down() })
	for range 3 {
		if e, err := u.Find(testContext(t, 10*time.Second), alice); err == nil || errors.Is(err, auth.ErrNotFound) {
			t.Errorf("without the right to look: %+v, %v", e, err)
		}
	}
	if i := u.Stats().Replica; i.Outage || i.Current || u.Outage(testContext(t, 10*time.Second)) {
		t.Errorf("%+v", i)
	}
}

// TestFindLearns: what a live lookup shows while there is no session is known in the next outage.
func TestFindLearns(t *testing.T) {
	d := directory()
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	cfg := testConfig(urlOf(s))
	cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(time.Hour)
	u := upstream(t, cfg, func(u *Upstream) { u.replica.on = false })
	e := entryOf("alice", "$app$a$h", "$app$gone$h")
	e.Key = "entryuuid:6f2b7c1e-0000-4000-8000-000000000001"
	u.replica.last.Store(endedTable(e, entryOf("bob", "x")))
	ctx := testContext(t, 10*time.Second)
	if e, err := u.Find(ctx, alice); err != nil || e.Stale || len(e.Values) != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := u.Find(ctx, "uid=bob,"+people); !errors.Is(err, auth.ErrNotFound) {
		t.Fatal(err)
	}
	if last := u.replica.last.Load(); left(last, "alice") != "$app$a$h " || left(last, "bob") != "none" {
		t.Errorf("alice %q, bob %q", left(last, "alice"), left(last, "bob"))
	}
}

// TestSessionEnded: a session that never was current takes away what it showed to be gone; one that was is the copy itself.
func TestSessionEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lived, loaded bool
		a, b          string
	}{
		{false, false, "2 ", "x "},
		{false, true, "2 ", "none"},
		{true, true, "1 2 ", "x "},
	} {
		u := unstarted(t, testConfig())
		last := endedTable(entryOf("a", "1", "2"), entryOf("b", "x"))
		u.replica.last.Store(last)
		later := newTable(last.copied)
		later.put("1", &record{entry: entryOf("a", "2")}, people)
		u.sessionEnded(&session{table: later}, c.lived, c.loaded)
		if left(last, "a") != c.a || left(last, "b") != c.b {
			t.Errorf("%+v: %q %q", c, left(last, "a"), left(last, "b"))
		}
		u.sessionEnded(&session{table: last}, false, true)
		if left(last, "a") == "none" {
			t.Error("narrowed by itself")
		}
	}
}

// TestNamesInOutage: a name is that of one entry, and known for certain, or nobody's.
func TestNamesInOutage(t *testing.T) {
	t.Parallel()
	two := entryOf("b")
	two.Key = "a" // endedTable makes it a name
	tb := endedTable(entryOf("a", "1"), two, entryOf("c", "3"))
	for name, want := range map[string]bool{"a": false, "c": true, "C": true, "uid=a," + people: true, "uid=b," + people: true, "uid=c, " + people: false, "d": false} {
		if got := tb.findLast(name, isDN(name), true) != nil; got != want {
			t.Errorf("%s: found %v", name, got)
		}
		if !isDN(name) && tb.findLast(name, false, false) != nil {
			t.Errorf("%s: found by a filter that the copy does not know", name)
		}
	}
	tb.odd = true
	if tb.findLast("c", false, true) != nil || tb.findLast("uid=c,"+people, true, true) == nil {
		t.Error("a name was found though not all names are known")
	}
}

// TestOutageLog: the log says how old the copy is, and when it is too old to decide.
func TestOutageLog(t *testing.T) {
	t.Parallel()
	cfg := slapdConfig(config.URL{Scheme: "ldap", Address: "127.0.0.1:1", Host: "127.0.0.1"})
	cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(time.Hour)
	u, log := unstarted(t, cfg), &logBuffer{}
	u.log = log.logger()
	tb := endedTable(entryOf("a", "1"))
	u.replica.last.Store(tb)
	u.healthMu.Lock()
	u.servers[0].health = down
	u.choose()
	u.healthMu.Unlock()
	for _, c := range []struct {
		age  time.Duration
		want string
	}{
		{time.Minute, "level=WARN msg=\"no server answers, app passwords are decided from the copy in memory\" users=1 age=1m0s max_stale=1h0m0s lasted=0s\n"},
		{2 * time.Minute, ""},
		{time.Minute + outageLogPause, "users=1 age=6m0s max_stale=1h0m0s lasted=5m0s\n"},
		{time.Hour, "level=ERROR msg=\"still no server answers, and the copy in memory is too old to decide: binds are answered 52\" users=1 age=1h0m0s"},
	} {
		before := len(log.String())
		u.outage.watch(u, tb.proven.Add(c.age))
		if got := log.String()[before:]; !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%v old: %q, want %q", c.age, got, c.want)
		}
	}
}
