package backend

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/auth"
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
	}
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
		{now.Round(0).Add(time.Hour), 0}, // from the future: the snapshot refuses it
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
	outage(t, u, r)
	ahead.Store(int64(time.Hour))
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
	if u.Outage(short) {
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
