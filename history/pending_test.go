package history

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestFailuresAreBounded: whoever fails with ever new addresses fills no disk, and is still counted.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	p := newPending(time.Minute)
	times, rows := int64(0), 0
	drain := func() {
		for _, r := range p.take() {
			times += r.times
			rows++
		}
	}
	const tries = 10 * maxFailures
	for i := range tries {
		e := Event{Time: begin.Add(time.Duration(i) * time.Second), Entry: "a", Kind: None, Denied: "app password mistyped",
			Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
		p.add(&e)
		if i%100 == 0 {
			drain() // a write in between changes nothing
		}
	}
	drain()
	if times != tries || rows > maxFailures+tries/100+1 {
		t.Errorf("%d events in %d rows", times, rows)
	}
	ok := phone(begin)
	other := Event{Time: begin, Entry: "b", Kind: None, Denied: "app password mistyped", Addr: home}
	tomorrow := Event{Time: begin.Add(aDay), Entry: "a", Kind: None, Denied: "app password mistyped", Addr: home}
	for _, e := range []Event{ok, other, tomorrow} {
		p.add(&e)
	}
	for _, r := range p.take() {
		if !r.addr.IsValid() {
			t.Errorf("%+v lost its address", r)
		}
	}
}

func TestFailingEntriesAreBounded(t *testing.T) {
	t.Parallel()
	p := newPending(time.Minute)
	for i := range maxFailing + 10 {
		e := Event{Time: begin, Entry: fmt.Sprint(i), Kind: None, Denied: "x", Addr: home}
		p.add(&e)
		if i%1000 == 0 {
			p.take()
		}
	}
	if len(p.failing) != maxFailing {
		t.Errorf("%d entries", len(p.failing))
	}
}

func TestMergeKeepsTheLatest(t *testing.T) {
	t.Parallel()
	p := newPending(time.Minute)
	late := with(phone(begin.Add(10*time.Second)), func(e *Event) { e.Listener, e.Label = "late", "renamed" })
	for _, e := range []Event{phone(begin), late, phone(begin.Add(5 * time.Second)), with(phone(begin.Add(-10*time.Second)), func(e *Event) { e.Label = "" })} {
		p.add(&e)
	}
	r := one(t, p.take())
	if r.listener != "late" || r.label != "renamed" || r.times != 4 || r.first != begin.Add(-10*time.Second).UnixMilli() || r.last != late.Time.UnixMilli() {
		t.Errorf("%+v", r)
	}
}

// TestAddressesAreOne: an IPv4 address in an IPv6 socket is the same address, and a zone is nobody's business.
func TestAddressesAreOne(t *testing.T) {
	t.Parallel()
	p := newPending(time.Minute)
	for _, a := range []string{"192.0.2.7", "::ffff:192.0.2.7"} {
		e := with(phone(begin), func(e *Event) { e.Addr = netip.MustParseAddr(a) })
		p.add(&e)
	}
	one(t, p.take())
}

func TestFloor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ at, want int64 }{{0, 0}, {1, 0}, {59999, 0}, {60000, 60000}, {-1, -60000}, {-60000, -60000}} {
		if got := floor(c.at, time.Minute); got != c.want {
			t.Errorf("%d: %d, want %d", c.at, got, c.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x00b\xff")
	f.Add(strings.Repeat("é", maxText))
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if !utf8.ValidString(got) || len(got) > maxText || strings.ContainsAny(got, "\x00\n\r") || clean(got) != got {
			t.Errorf("%q becomes %q", s, got)
		}
		if k := key(s); clean(k) != k || key(k) != k {
			t.Errorf("%q has the key %q", s, k)
		}
	})
}
