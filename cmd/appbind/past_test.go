package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"appbind/history"
	"appbind/manage"
)

// noon is now in these tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// daysAgo is a moment before noon.
func daysAgo(n int) time.Time { return noon.Add(-time.Duration(n) * 24 * time.Hour) }

// userWith is a user who holds values.
func userWith(values ...string) *manage.User {
	var raw [][]byte
	for _, v := range values {
		raw = append(raw, []byte(v))
	}
	return &manage.User{Key: "entryuuid:a", DN: "uid=alice", Eligible: true, Set: manage.NewSet(raw)}
}

const someHash = "${SSHA256}10jYhPuy0yEWL7wlpSR/jaDGZ66nGJNUbt0l8wz79fZzYWx0c2FsdA=="

// pastWith is a history that goes back for some days, and knows of passwords of the user.
func pastWith(days int, list ...history.Password) *past {
	for i := range list {
		list[i].Entry = "entryuuid:a"
		list[i].Kind = history.App
	}
	p := &past{known: history.NewKnown(list), last: noon}
	if days > 0 {
		p.first = daysAgo(days)
	}
	return p
}

// TestUnused: only what is known to be unused is unused, and what has no known age is told apart.
func TestUnused(t *testing.T) {
	t.Parallel()
	made := func(days int) string {
		return "$app$phone;id=ph0n;crt=" + daysAgo(days).Format("20060102150405Z") + someHash
	}
	phone := func(p history.Password) history.Password { p.ID, p.Label = "ph0n", "phone"; return p }
	used := func(days int) history.Password { return phone(history.Password{LastUsed: daysAgo(days)}) }
	for name, c := range map[string]struct {
		value           string
		past            *past
		unused, ageless bool
	}{
		"used yesterday":                     {made(300), pastWith(200, used(1)), false, false},
		"used long ago":                      {made(300), pastWith(200, used(91)), true, false},
		"used 90 days ago to the second":     {made(300), pastWith(200, used(90)), false, false},
		"used long ago, made anew since":     {made(3), pastWith(200, used(91)), false, false},
		"never used":                         {made(300), pastWith(200), true, false},
		"never used, and new":                {made(89), pastWith(200), false, false},
		"never used, a young history":        {made(300), pastWith(89), false, false},
		"never used, no login known":         {made(300), pastWith(0), false, false},
		"used long ago, a young history":     {made(300), pastWith(10, used(91)), true, false},
		"of unknown age":                     {"$app$phone" + someHash, pastWith(200), true, true},
		"of unknown age, noted":              {"$app$phone" + someHash, pastWith(200, history.Password{Label: "phone", Issued: daysAgo(3)}), false, false},
		"of unknown age, noted long ago":     {"$app$phone" + someHash, pastWith(200, history.Password{Label: "phone", Issued: daysAgo(100)}), true, false},
		"of unknown age, used":               {"$app$phone" + someHash, pastWith(200, history.Password{Label: "phone", LastUsed: daysAgo(3)}), false, false},
		"another of the same label was used": {made(300), pastWith(200, history.Password{Label: "phone", ID: "0ld0", LastUsed: daysAgo(3)}), true, false},
		"revoked, and then used":             {made(300), pastWith(200, phone(history.Password{Revoked: daysAgo(100), LastUsed: daysAgo(2)})), false, false},
	} {
		u := userWith(c.value)
		if unused, ageless := c.past.unused(u, u.Set.Values[0], daysAgo(90)); unused != c.unused || ageless != c.ageless {
			t.Errorf("%s: unused %v, ageless %v", name, unused, ageless)
		}
	}
}

// TestRowsOfUse: what a row tells of use; "never" only where a use would be known.
func TestRowsOfUse(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("192.0.2.1")
	full := pastWith(200, history.Password{ID: "ph0n", LastUsed: daysAgo(3), Service: "imap", Addr: addr, Uses: 7})
	for name, c := range map[string]struct {
		value string
		past  *past
		want  string
	}{
		"used":                  {"$app$phone;id=ph0n" + someHash, full, "2026-02-26 (3 days ago)|imap 192.0.2.1"},
		"never used":            {"$app$new;id=n3w0;crt=20260201000000Z" + someHash, full, "never|-"},
		"older than history":    {"$app$old;id=0ld0;crt=20200101000000Z" + someHash, full, "not known|-"},
		"of unknown age":        {"$app$by hand" + someHash, full, "not known|-"},
		"a history of no login": {"$app$new;id=n3w0;crt=20260201000000Z" + someHash, pastWith(0), "not known|-"},
	} {
		u := userWith(c.value)
		r := rowOf(u, u.Set.Values[0], noon)
		c.past.addTo(&r, u, u.Set.Values[0])
		if got := r.usedText(noon) + "|" + placeText(r.LastService, r.LastAddress); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	var none *past
	u := userWith("$app$phone" + someHash)
	r := rowOf(u, u.Set.Values[0], noon)
	none.addTo(&r, u, u.Set.Values[0])
	var b strings.Builder
	if err := table(&b, []row{r}, false, noon); err != nil || strings.Contains(b.String(), "USED") {
		t.Errorf("without a history: %s, %v", b.String(), err)
	}
}

// TestKnownPasswords: those of the directory first, and then those that are gone.
func TestKnownPasswords(t *testing.T) {
	t.Parallel()
	u := userWith("$app$phone;id=ph0n"+someHash, "$app$Memo"+someHash, "$app$tablet;id=t4b1;exp=20200101000000Z"+someHash)
	list := []history.Password{
		{Entry: u.Key, Kind: history.App, ID: "ph0n", Label: "old name", Uses: 3, Revoked: daysAgo(1)},
		{Entry: u.Key, Kind: history.App, ID: "g0ne", Label: "phone", Uses: 2, Revoked: daysAgo(5)},
		{Entry: u.Key, Kind: history.App, Label: "Memo", Uses: 4},
		{Entry: u.Key, Kind: history.Main, Uses: 5},
	}
	var got []string
	for _, k := range knownPasswords(u, list, noon) {
		revoked := ""
		if k.Revoked != nil {
			revoked = " revoked"
		}
		got = append(got, strings.Join([]string{k.Password, k.Label, k.State, strings.Repeat("x", int(k.Uses))}, " ")+revoked)
	}
	want := "app phone live xxx|app Memo live xxxx|app tablet expired |app phone gone xx revoked|main   xxxxx"
	if text := strings.Join(got, "|"); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	memo := manage.Handle(u.Set.Values[1])
	for _, c := range []struct {
		ref       manage.Ref
		id, label string
		err       error
	}{
		{manage.Ref{Label: "PHONE"}, "ph0n", "phone", nil}, // not the one that is gone
		{manage.Ref{ID: "G0NE"}, "g0ne", "phone", nil},
		{manage.Ref{ID: memo}, "", "Memo", nil},
		{manage.Ref{Label: "nothing"}, "", "", manage.ErrNoSuchPassword},
	} {
		id, label, err := identOf(u, list, c.ref)
		if id != c.id || label != c.label || !errors.Is(err, c.err) {
			t.Errorf("%+v: %q %q %v", c.ref, id, label, err)
		}
	}
	gone := append(list, history.Password{Entry: u.Key, Kind: history.App, ID: "n3xt", Label: "gone"}, history.Password{Entry: u.Key, Kind: history.App, ID: "an0t", Label: "gone"})
	if _, _, err := identOf(u, gone, manage.Ref{Label: "gone"}); !errors.Is(err, manage.ErrSeveral) {
		t.Errorf("two that are gone: %v", err)
	}
}

// TestMergeMain: one row for each user and service.
func TestMergeMain(t *testing.T) {
	t.Parallel()
	use := func(entry, service, addr string, days int) history.Use {
		u := history.Use{Entry: entry, DN: "uid=" + entry, Service: service, Times: 2, First: daysAgo(days + 1), Last: daysAgo(days), Peer: netip.MustParseAddr("10.0.0.1")}
		if addr != "" {
			u.Addr = netip.MustParseAddr(addr)
		}
		return u
	}
	got := mergeMain([]history.Use{use("a", "imap", "192.0.2.1", 1), use("b", "imap", "", 2), use("a", "imap", "192.0.2.2", 3), use("a", "smtp", "192.0.2.1", 4), use("a", "imap", "192.0.2.1", 9)})
	if len(got) != 3 {
		t.Fatalf("%d rows: %+v", len(got), got)
	}
	m := got[0]
	if m.User != "uid=a" || m.Service != "imap" || m.Times != 6 || !m.First.Equal(daysAgo(10)) || !m.Last.Equal(daysAgo(1)) || strings.Join(m.Addresses, " ") != "192.0.2.1 192.0.2.2" {
		t.Errorf("%+v", m)
	}
	if text := placesText(got[1].Addresses, got[1].Peers); text != "via 10.0.0.1" {
		t.Errorf("no address known: %s", text)
	}
	if text := placesText([]string{"a", "b", "c", "d", "e"}, nil); text != "a, b, c and 2 more" {
		t.Error(text)
	}
}

// TestWithoutApp: who has no app password that counts, and may log in.
func TestWithoutApp(t *testing.T) {
	t.Parallel()
	disabled := userWith()
	disabled.Eligible = false
	known := &past{known: history.NewKnown([]history.Password{{Entry: "entryuuid:a", Kind: history.Main, LastUsed: daysAgo(2), Service: "imap"}})}
	for name, c := range map[string]struct {
		u       *manage.User
		is      bool
		expired int
	}{
		"none":               {userWith(), true, 0},
		"one":                {userWith("$app$phone" + someHash), false, 0},
		"an expired one":     {userWith("$app$phone;exp=20200101000000Z" + someHash), true, 1},
		"an unusable one":    {userWith("$app$phone$clear"), true, 0},
		"a second factor":    {userWith("otpauth://totp/x?secret=JBSWY3DPEHPK3PXPJBSWY3DPEH"), true, 0},
		"disabled":           {disabled, false, 0},
		"one and an old one": {userWith("$app$phone"+someHash, "$app$old;exp=20200101000000Z"+someHash), false, 0},
	} {
		w, is := withoutApp(c.u, known, noon)
		if is != c.is || is && (w.Expired != c.expired || w.LastMain == nil || w.Service != "imap") {
			t.Errorf("%s: %v %+v", name, is, w)
		}
		if w, _ := withoutApp(c.u, nil, noon); w.LastMain != nil {
			t.Errorf("%s: without a history: %+v", name, w)
		}
	}
}

// TestParsePast: the forms of a moment that is over.
func TestParsePast(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"7d": daysAgo(7), "36h": noon.Add(-36 * time.Hour), "2026-01-31": time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), "2026-01-31T12:00:00+01:00": time.Date(2026, 1, 31, 11, 0, 0, 0, time.UTC),
	} {
		if at, err := parsePast(text, noon); err != nil || !at.Equal(want) {
			t.Errorf("%s: %v, %v", text, at, err)
		}
	}
	for _, text := range []string{"", "soon", "-7d", "2026-13-01"} {
		if at, err := parsePast(text, noon); err == nil {
			t.Errorf("%q: %v", text, at)
		}
	}
}

// TestPrintable: what people read on a terminal is what stands there.
func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Café, phone=1": "Café, phone=1", "电话": "电话", "a\x1b[2Jb": `"a\x1b[2Jb"`, "a\nb": `"a\nb"`, "abc\u202efdp.exe": `"abc\u202efdp.exe"`, "\xff": `"\xff"`, "a\u200bb": `"a\u200bb"`, "": "",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
