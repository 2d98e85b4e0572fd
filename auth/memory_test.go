package auth

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"appbind/secrets"
)

func value(raw string) *secrets.Value { return secrets.Parse([]byte(raw)) }

// TestDigest: different fields never make one text, whatever runs into what; nor do two processes agree.
func TestDigest(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	seen := map[digest]string{}
	add := func(what string, d digest) {
		if other, found := seen[d]; found {
			t.Errorf("%s is %s", what, other)
		}
		seen[d] = what
	}
	for _, use := range []byte{useVerified, useMisses, useFailure, useClaim, useReport, useAbsent} {
		add(fmt.Sprintf("%c ab c", use), m.digest(use, "ab", []byte("c")))
	}
	add("a bc", m.digest(useVerified, "a", []byte("bc")))
	add("x bc", m.digest(useVerified, "x", []byte("bc")))
	add("a xx", m.digest(useVerified, "a", []byte("xx")))
	add("a bc v", m.digest(useVerified, "a", []byte("bc"), value("v")))
	add("a bc w", m.digest(useVerified, "a", []byte("bc"), value("w")))
	add("abc -", m.digest(useVerified, "abc", nil))
	add("- abc", m.digest(useVerified, "", []byte("abc")))
	add("a b c", m.digest(useVerified, "a", []byte("b"), value("c")))
	add("a - bc", m.digest(useVerified, "a", nil, value("bc")))
	add("a - b c", m.digest(useVerified, "a", nil, value("b"), value("c")))
	add("a - c b", m.digest(useVerified, "a", nil, value("c"), value("b")))
	add("a b -", m.digest(useVerified, "a", []byte("b"), value("")))
	add("length", m.digest(useVerified, "a\x00\x00\x00\x00\x00\x00\x00\x01b", nil))
	add("another process", NewMemory(nil).digest(useVerified, "a", []byte("bc")))
	if d := m.digest(useVerified, "a", []byte("bc")); seen[d] != "a bc" {
		t.Error("not the same twice")
	}
}

// TestNothingInClear: a pooled buffer does not keep the password.
func TestNothingInClear(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	for range 100 {
		m.digest(useVerified, "a", []byte("hunter2hunter2"))
		h := m.hashers.Get().(*hasher)
		if strings.Contains(string(h.text[:cap(h.text)]), "hunter2") {
			t.Fatal("the password is still there")
		}
		m.hashers.Put(h)
	}
}

func TestFitSet(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	s := newFitSet(160, time.Hour)
	d := func(i int) digest { return digest{byte(i), byte(i >> 8)} }
	s.add(d(1), now)
	if !s.has(d(1), now.Add(59*time.Minute)) || s.has(d(2), now) {
		t.Error("has")
	}
	if !s.has(d(1), now.Add(118*time.Minute)) {
		t.Error("what is used is forgotten")
	}
	if s.has(d(1), now.Add(178*time.Minute)) {
		t.Error("what is not used is kept")
	}
	for i := range 10000 {
		s.add(d(i), now)
	}
	n := 0
	for i := range s.shards {
		n += len(s.shards[i].seen)
	}
	if n != 160 || !s.has(d(9999), now) {
		t.Errorf("%d kept", n)
	}
}

func TestParseCache(t *testing.T) {
	t.Parallel()
	var c parseCache
	c.init(32)
	raw := []byte("$app$x$" + ssha("y"))
	v := c.parse(raw)
	if c.parse(raw) != v || v.Raw != string(raw) {
		t.Error("not kept")
	}
	raw[5] = 'z' // the cache has its own copy
	if w := c.parse(raw); w == v || w.Name != "z" || v.Name != "x" {
		t.Errorf("%q, %q", w.Name, v.Name)
	}
	long := []byte("$app$" + strings.Repeat("x", maxCachedValue) + "$" + ssha("y"))
	if v = c.parse(long); v == c.parse(long) {
		t.Error("a long value is kept")
	}
	for i := range 1000 {
		c.parse([]byte(fmt.Sprintf("$app$%d$", i)))
	}
	n := 0
	for i := range c.shards {
		n += len(c.shards[i].values)
	}
	if n > 32 {
		t.Errorf("%d kept", n)
	}
}

// TestReportBounded: when there is no room to remember what was logged, nothing more is logged, but counted.
func TestReportBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := NewMemory(c.now)
	logged := 0
	for i := range maxReported + 10 {
		if m.report("a", value(fmt.Sprint("$app$", i))) {
			logged++
		}
	}
	if logged != maxReported || m.Unusable() != maxReported+10 {
		t.Errorf("%d logged, %d counted", logged, m.Unusable())
	}
	c.add(time.Hour)
	if !m.report("a", value("$app$new")) || len(m.reported) != 1 {
		t.Errorf("after an hour %d remembered", len(m.reported))
	}
}

// ask puts one question to failures, and lands it as failed.
func ask(t *testing.T, f *failures, key, password string, now time.Time) verdict {
	t.Helper()
	q := question{key: key, password: digest([]byte(fmt.Sprintf("%-32s", password))), fingerprint: "x",
		source: netip.Addr{}, budget: budget{window: time.Hour}}
	ticket, v, err := f.admit(context.Background(), q, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if ticket != nil {
		ticket.land(hasFailed, State{Fingerprint: "x"}, true, now)
	}
	return v
}

// TestAccountsBounded: a full table lets accounts without failures go first, then those longest unused, and never one
// with a bind under way.
func TestAccountsBounded(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	f := newFailures(16 * 8)
	for i := range 16 { // whatever their shards: few enough to stay
		ask(t, f, fmt.Sprint("stale ", i), "old password", now)
	}
	flying, _, err := f.admit(context.Background(), question{key: "flying", budget: budget{limit: 3}}, func() time.Time { return now })
	if err != nil || flying == nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		now = now.Add(time.Second)
		q := question{key: fmt.Sprint("good ", i), fingerprint: "x"}
		ticket, _, _ := f.admit(context.Background(), q, func() time.Time { return now })
		ticket.land(wasAccepted, State{}, false, now)
	}
	n := 0
	for i := range f.shards {
		n += len(f.shards[i].accounts)
	}
	if n > 16*8 {
		t.Errorf("%d accounts", n)
	}
	for i := range 16 {
		if v := ask(t, f, fmt.Sprint("stale ", i), "old password", now); v != knownBad {
			t.Errorf("stale %d is forgotten", i)
		}
	}
	flying.land(hasFailed, State{}, false, now) // its account must be there

	for i := range 5000 { // nothing but failures: the newest stay
		now = now.Add(time.Second)
		ask(t, f, fmt.Sprint("stale again ", i), "old password", now)
	}
	if v := ask(t, f, "stale again 4999", "old password", now); v != knownBad {
		t.Error("the newest is forgotten")
	}
}

// TestMarksBounded: an entry's known bad passwords are bounded; the oldest goes.
func TestMarksBounded(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	f := newFailures(16)
	for i := range 1000 {
		now = now.Add(time.Second)
		ask(t, f, "alice", fmt.Sprint(i), now)
	}
	a := f.shard("alice").accounts["alice"]
	if len(a.bad) != maxBad {
		t.Errorf("%d marks", len(a.bad))
	}
	if ask(t, f, "alice", "999", now) != knownBad || ask(t, f, "alice", "900", now) != toForward {
		t.Error("not the oldest went")
	}
	if len(a.flying) != 0 || a.reserved != 0 || a.landed != nil {
		t.Errorf("left behind: %+v", a)
	}
}
