package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/config"
)

// maker makes configurations of new, empty stores of one kind.
type maker struct {
	name string
	make func(t *testing.T) *config.Config
}

// makers are the kinds of stores. What is tested with one is tested with all.
func makers() []maker {
	return []maker{{"sqlite", sqliteConfig}, {"postgres", postgresConfig}}
}

func sqliteConfig(t *testing.T) *config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.StateDir = t.TempDir()
	return cfg
}

// onAll runs a test with an empty store of each kind.
func onAll(t *testing.T, test func(t *testing.T, cfg *config.Config, s *Store)) {
	t.Helper()
	t.Parallel()
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			cfg := m.make(t)
			test(t, cfg, opened(t, cfg))
		})
	}
}

func opened(t *testing.T, cfg *config.Config) *Store {
	t.Helper()
	s, err := open(t.Context(), cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var (
	// begin is a moment in the middle of a minute and of a day.
	begin      = time.Date(2026, 3, 1, 12, 30, 30, 0, time.UTC)
	home       = netip.MustParseAddr("192.0.2.7")
	away       = netip.MustParseAddr("2001:db8::1")
	mailServer = netip.MustParseAddr("10.0.0.1")
)

// phone is alice's app password, used at a time.
func phone(at time.Time) Event {
	return Event{Time: at, Entry: "entryuuid:a", DN: "uid=alice", Kind: App, ID: "ph0n", Label: "phone", Service: "imap", Addr: home, Peer: mailServer, Listener: "ldap://l"}
}

// with is an event that differs.
func with(e Event, change func(e *Event)) Event {
	change(&e)
	return e
}

// write stores events as a recorder would, in one batch.
func write(t *testing.T, s *Store, events ...Event) {
	t.Helper()
	p := newPending(time.Minute)
	for _, e := range events {
		if !p.add(&e) {
			t.Fatal("no room")
		}
	}
	if refused, err := s.write(t.Context(), p.take(), false); err != nil || refused != 0 {
		t.Fatalf("refused %d, %v", refused, err)
	}
}

func uses(t *testing.T, s *Store, f Filter) []Use {
	t.Helper()
	list, err := s.Uses(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func passwords(t *testing.T, s *Store, entry string) []Password {
	t.Helper()
	list, err := s.Passwords(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// one is the only element of a list.
func one[T any](t *testing.T, list []T) T {
	t.Helper()
	if len(list) != 1 {
		t.Fatalf("%d, want one: %+v", len(list), list)
	}
	return list[0]
}

func TestUsesOfAMinuteAreOne(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		write(t, s, phone(begin), phone(begin.Add(5*time.Second)))
		write(t, s, phone(begin.Add(29*time.Second))) // another write, the same minute
		write(t, s, phone(begin.Add(30*time.Second))) // the next minute
		write(t, s, with(phone(begin), func(e *Event) { e.Addr = away }), with(phone(begin), func(e *Event) { e.Service = "smtp" }))
		got := uses(t, s, Filter{Entry: "entryuuid:a"})
		if len(got) != 4 {
			t.Fatalf("%d rows: %+v", len(got), got)
		}
		u := got[1]
		if !u.First.Equal(begin) || !u.Last.Equal(begin.Add(29*time.Second)) || u.Times != 3 {
			t.Errorf("got %+v", u)
		}
		want := Use{Entry: "entryuuid:a", DN: "uid=alice", Kind: App, ID: "ph0n", Label: "phone", Service: "imap", Addr: home, Peer: mailServer, Listener: "ldap://l",
			First: u.First, Last: u.Last, Times: 3}
		if u != want {
			t.Errorf("got %+v, want %+v", u, want)
		}
		if p := one(t, passwords(t, s, "entryuuid:a")); p.Uses != 6 {
			t.Errorf("%d uses in all", p.Uses)
		}
	})
}

func TestLastUseNeverGoesBack(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		late := with(phone(begin.Add(time.Hour)), func(e *Event) { e.Addr, e.Service, e.DN = away, "smtp", "uid=alice,ou=new" })
		write(t, s, late)
		write(t, s, phone(begin))
		write(t, s, with(phone(begin.Add(2*time.Hour)), func(e *Event) { e.Denied = "app password not for this service" }))
		p := one(t, passwords(t, s, "entryuuid:a"))
		want := Password{Entry: "entryuuid:a", DN: "uid=alice", Kind: App, ID: "ph0n", Label: "phone", FirstUsed: p.FirstUsed, LastUsed: p.LastUsed,
			Service: "smtp", Addr: away, Uses: 2}
		if p != want || !p.FirstUsed.Equal(begin) || !p.LastUsed.Equal(late.Time) {
			t.Errorf("got %+v, want %+v", p, want)
		}
	})
}

func TestAppPasswordsAreToldApart(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		plain := func(label string) Event { return with(phone(begin), func(e *Event) { e.ID, e.Label = "", label }) }
		renamed := with(phone(begin.Add(time.Hour)), func(e *Event) { e.Label = "old phone" })
		ofBob := with(phone(begin), func(e *Event) { e.Entry, e.DN = "entryuuid:b", "uid=bob" })
		write(t, s, phone(begin), plain("phone"), plain("tablet"), plain("ph0n"), renamed, ofBob)
		var got []string
		for _, p := range passwords(t, s, "") {
			got = append(got, fmt.Sprintf("%s %s %q %d", p.DN, p.ID, p.Label, p.Uses))
		}
		want := []string{`uid=alice ph0n "old phone" 2`, `uid=alice  "ph0n" 1`, `uid=alice  "phone" 1`, `uid=alice  "tablet" 1`, `uid=bob ph0n "phone" 1`}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if u := uses(t, s, Filter{Entry: "entryuuid:a", Label: "ph0n"}); len(u) != 1 || u[0].ID != "" {
			t.Errorf("by label: %+v", u)
		}
		if u := uses(t, s, Filter{Entry: "entryuuid:a", ID: "ph0n"}); len(u) != 2 {
			t.Errorf("by selector: %+v", u)
		}
	})
}

func TestFilters(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		write(t, s, phone(begin), phone(begin.Add(time.Hour)), phone(begin.Add(2*time.Hour)),
			with(phone(begin), func(e *Event) { e.Denied = "app password expired" }),
			Event{Time: begin, Entry: "entryuuid:a", DN: "uid=alice", Kind: Main, Service: "imap"})
		for _, c := range []struct {
			f    Filter
			want int
		}{
			{Filter{}, 5},
			{Filter{Entry: "entryuuid:A"}, 0},
			{Filter{Kind: Main}, 1},
			{Filter{Denied: true}, 1},
			{Filter{Accepted: true}, 4},
			{Filter{Since: begin.Add(time.Hour)}, 2},
			{Filter{Until: begin.Add(time.Hour)}, 3},
			{Filter{Since: begin.Add(time.Hour), Until: begin.Add(2 * time.Hour)}, 1},
			{Filter{Limit: 2}, 2},
			{Filter{Entry: "' OR 1=1 --"}, 0},
		} {
			if got := uses(t, s, c.f); len(got) != c.want {
				t.Errorf("%+v: %d, want %d", c.f, len(got), c.want)
			}
		}
		if got := uses(t, s, Filter{Limit: 1}); !got[0].Last.Equal(begin.Add(2 * time.Hour)) {
			t.Errorf("the first is not the latest: %+v", got)
		}
	})
}

// TestRevokedOnes: what was revoked is known by name while a device goes on with it.
func TestRevokedOnes(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		change := Change{Time: begin.Add(time.Hour), Entry: "entryuuid:a", DN: "uid=alice", ID: "ph0n", Label: "phone"}
		gone := func(at time.Time, id string) Event {
			return with(phone(at), func(e *Event) { e.ID, e.Label, e.Denied = id, "", ReasonGone })
		}
		write(t, s, phone(begin))
		if err := s.Revoked(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		// A bind that was decided before, and others after; made-up selectors are nobody's.
		write(t, s, phone(begin.Add(time.Hour+time.Second)), gone(begin.Add(2*time.Hour), "ph0n"), gone(begin.Add(3*time.Hour), "aaaa"), gone(begin.Add(3*time.Hour), "bbbb"))
		p := one(t, passwords(t, s, "entryuuid:a"))
		if !p.Revoked.Equal(change.Time) || p.Label != "phone" {
			t.Errorf("got %+v", p)
		}
		stale, err := s.Stale(t.Context(), begin)
		if err != nil {
			t.Fatal(err)
		}
		u := one(t, stale)
		if u.ID != "ph0n" || u.Label != "phone" || u.Denied != ReasonGone || u.Addr != home || u.Service != "imap" || !u.Last.Equal(begin.Add(2*time.Hour)) {
			t.Errorf("got %+v", u)
		}
		if n := one(t, uses(t, s, Filter{Kind: None})); n.Times != 2 || n.ID != "" {
			t.Errorf("made-up selectors: %+v", n)
		}
		// Made anew with the same selector.
		write(t, s, phone(begin.Add(4*time.Hour)))
		if p := one(t, passwords(t, s, "entryuuid:a")); !p.Revoked.IsZero() {
			t.Errorf("in use, and revoked: %+v", p)
		}
		// Removed by somebody else: known by its being presented in vain.
		write(t, s, gone(begin.Add(5*time.Hour), "ph0n"), gone(begin.Add(6*time.Hour), "ph0n"))
		if p := one(t, passwords(t, s, "entryuuid:a")); !p.Revoked.Equal(begin.Add(5 * time.Hour)) {
			t.Errorf("gone, and not revoked: %+v", p)
		}
	})
}

func TestUnused(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		labels := func(before time.Time) (list []string) {
			t.Helper()
			found, err := s.Unused(t.Context(), before)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range found {
				list = append(list, p.Label)
			}
			return list
		}
		for _, c := range []Change{{Label: "never", ID: "aaaa"}, {Label: "revoked", ID: "bbbb"}, {Label: "phone", ID: "ph0n"}} {
			c.Time, c.Entry, c.DN = begin, "entryuuid:a", "uid=alice"
			if err := s.Issued(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if c.Label == "revoked" {
				if err := s.Revoked(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(t, s, phone(begin.Add(time.Hour)), Event{Time: begin, Entry: "entryuuid:a", Kind: Main})
		if got := labels(begin); len(got) != 0 {
			t.Errorf("before all: %q", got)
		}
		if got := labels(begin.Add(time.Hour)); !slices.Equal(got, []string{"never"}) {
			t.Errorf("before the use: %q", got)
		}
		if got := labels(begin.Add(time.Hour + time.Millisecond)); !slices.Equal(got, []string{"never", "phone"}) {
			t.Errorf("after it: %q", got)
		}
	})
}

func TestMainPasswordsAndStale(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		main := func(at time.Time, dn, service, denied string) Event {
			return Event{Time: at, Entry: "entryuuid:" + dn, DN: dn, Kind: Main, Service: service, Addr: home, Denied: denied}
		}
		const wrong = "refused by the upstream"
		write(t, s, main(begin, "bob", "imap", ""), main(begin.Add(time.Hour), "bob", "imap", ""), main(begin, "bob", "smtp", ""),
			main(begin.Add(-time.Hour), "carol", "imap", ""), main(begin, "dave", "imap", wrong),
			main(begin, "erin", "imap", wrong), main(begin.Add(time.Hour), "erin", "imap", wrong), main(begin.Add(2*time.Hour), "erin", "imap", wrong),
			with(phone(begin), func(e *Event) { e.Denied = "app password expired" }), with(phone(begin), func(e *Event) { e.Denied = "app password not for this service" }))
		list, err := s.MainPasswords(t.Context(), begin)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 2 || list[0].DN != "bob" || list[0].Service != "imap" || list[0].Times != 2 || !list[0].First.Equal(begin) || list[1].Service != "smtp" {
			t.Errorf("main passwords: %+v", list)
		}
		stale, err := s.Stale(t.Context(), begin)
		if err != nil {
			t.Fatal(err)
		}
		if len(stale) != 2 || stale[0].DN != "erin" || stale[0].Times != 3 || stale[1].Denied != "app password expired" {
			t.Errorf("stale: %+v", stale)
		}
	})
}

func TestPurge(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		const day = 24 * time.Hour
		now := begin.Add(1000 * day)
		at := func(age time.Duration, entry, label string) Event {
			return with(phone(now.Add(-age)), func(e *Event) { e.Entry, e.DN, e.ID, e.Label = entry, entry, "", label })
		}
		write(t, s, at(89*day, "kept", "kept"), at(91*day, "faded", "faded"), at(401*day, "forgotten", "forgotten"), at(91*day, "revoked", "revoked"),
			with(at(91*day, "failed", ""), func(e *Event) { e.Kind, e.Denied = None, "app password mistyped" }),
			with(at(89*day, "kept", ""), func(e *Event) { e.Kind, e.Denied = None, "app password mistyped" }))
		if err := s.Revoked(t.Context(), Change{Time: now.Add(-91 * day), Entry: "revoked", DN: "revoked", Label: "revoked"}); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Old(t.Context(), now, 90*day); err != nil || n != 4 {
			t.Errorf("%d are old, %v", n, err)
		}
		for range 2 { // the second finds nothing to do
			if _, err := s.Purge(t.Context(), now, 90*day); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, p := range passwords(t, s, "") {
			got = append(got, fmt.Sprintf("%s %v %s %v", p.Label, p.Addr, p.Service, p.LastUsed.IsZero()))
		}
		want := []string{"faded invalid IP  false", "kept 192.0.2.7 imap false"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if u := uses(t, s, Filter{}); len(u) != 2 {
			t.Errorf("%+v", u)
		}
		var users int
		if err := s.db.QueryRow("SELECT COUNT(*) FROM history_users").Scan(&users); err != nil || users != 2 {
			t.Errorf("%d users, %v", users, err)
		}
	})
}

// TestPurgeMany: more than are deleted at one time.
func TestPurgeMany(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		var events []Event
		for i := range purgeBatch + 100 {
			events = append(events, phone(begin.Add(time.Duration(i)*time.Minute)))
		}
		write(t, s, events...)
		n, err := s.Purge(t.Context(), begin.Add(1000*24*time.Hour), time.Hour)
		if err != nil || n != int64(len(events)) || len(uses(t, s, Filter{})) != 0 {
			t.Errorf("%d deleted, %v", n, err)
		}
	})
}

// TestHostileTexts: what a directory or a client may bring is stored, and is in nobody's way.
func TestHostileTexts(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		long := strings.Repeat("x", 100000)
		for _, text := range []string{"a\x00b", "\xff\xfe", "'; DROP TABLE history_uses; --", "a\nb", long, "\u202e", strings.Repeat("é", maxText)} {
			write(t, s, Event{Time: begin, Entry: "dn:" + text, DN: text, Kind: App, ID: text, Label: text, Denied: text, Service: text, Listener: text})
			write(t, s, Event{Time: begin, Entry: "dn:" + text, DN: text, Kind: App, ID: text, Label: text, Service: text, Listener: text})
			if got := uses(t, s, Filter{Entry: "dn:" + text}); len(got) != 2 {
				t.Errorf("%.20q: %d rows", text, len(got))
			}
		}
		// Two identities that are cut alike are two.
		write(t, s, Event{Time: begin, Entry: long + "1", Kind: Main}, Event{Time: begin, Entry: long + "2", Kind: Main})
		if got := uses(t, s, Filter{Entry: long + "1"}); len(got) != 1 {
			t.Errorf("%d rows", len(got))
		}
	})
}

// TestTwoWriters: instances that share a store lose nothing to each other.
func TestTwoWriters(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		other := opened(t, cfg)
		var wg sync.WaitGroup
		const rounds, users = 20, 30
		for _, s := range []*Store{s, other} {
			wg.Go(func() {
				for i := range rounds {
					p := newPending(time.Minute)
					for u := range users {
						e := with(phone(begin.Add(time.Duration(i)*time.Second)), func(e *Event) { e.Entry = fmt.Sprint(u) })
						p.add(&e)
					}
					if _, err := s.write(context.Background(), p.take(), false); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		list := passwords(t, s, "")
		if len(list) != users {
			t.Errorf("%d passwords", len(list))
		}
		for _, p := range list {
			if p.Uses != 2*rounds {
				t.Fatalf("%d uses, want %d", p.Uses, 2*rounds)
			}
		}
	})
}

// TestMigrations: tables are made once, whoever comes at the same time, and later ones are left alone.
func TestMigrations(t *testing.T) {
	t.Parallel()
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			cfg := m.make(t)
			if _, err := Open(t.Context(), cfg); err == nil {
				t.Fatal("a reader made the store")
			}
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					s, err := open(context.Background(), cfg, true)
					if err != nil {
						t.Error(err)
						return
					}
					s.Close()
				})
			}
			wg.Wait()
			s, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if v, err := s.version(t.Context(), tables{"history", migrations}); v != len(migrations) || err != nil {
				t.Errorf("version %d, %v", v, err)
			}
			if _, err := s.db.Exec("INSERT INTO history_schema (version) VALUES ($1)", len(migrations)+1); err != nil {
				t.Fatal(err)
			}
			for _, make := range []bool{false, true} {
				if _, err := open(t.Context(), cfg, make); !errors.Is(err, ErrNewer) {
					t.Errorf("a newer version: %v", err)
				}
			}
		})
	}
}

// TestOpenedWhileMade: a file that another process writes just now, before it was ever switched to the write-ahead log, is
// opened as soon as that one has written; and given up when nobody waits any longer.
func TestOpenedWhileMade(t *testing.T) {
	t.Parallel()
	cfg := sqliteConfig(t)
	if err := makeFile(cfg.HistoryFile()); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", cfg.HistoryFile())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("CREATE TABLE other (a)"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := open(ctx, cfg, true); err == nil {
		t.Fatal("the file can be switched while it is written: this test shows nothing")
	} else if ctx.Err() == nil {
		t.Errorf("not waited for: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		s, err := open(t.Context(), cfg, true)
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("not waited for: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOlderTables: a reader says who makes them; a step that fails leaves nothing behind.
func TestOlderTables(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		if _, err := s.db.Exec("DELETE FROM history_schema"); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), cfg); !errors.Is(err, errOlder) {
			t.Errorf("a reader: %v", err)
		}
		if _, err := open(t.Context(), cfg, true); err == nil { // the tables are there, so the first step fails
			t.Error("no error")
		}
		if v, err := s.version(t.Context(), tables{"history", migrations}); v != 0 || err != nil {
			t.Errorf("version %d, %v", v, err)
		}
	})
}

// TestRefusedRow: a row at which the store finds fault is given up; the others are stored.
func TestRefusedRow(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		if err := s.refuse(t); err != nil {
			t.Fatal(err)
		}
		p := newPending(time.Minute)
		for _, label := range []string{"a", "poison", "z"} {
			e := with(phone(begin), func(e *Event) { e.ID, e.Label = "", label })
			p.add(&e)
			p.add(&e)
		}
		refused, err := s.write(t.Context(), p.take(), false)
		if err != nil || refused != 2 {
			t.Errorf("refused %d, %v", refused, err)
		}
		if list := passwords(t, s, ""); len(list) != 2 || list[0].Uses != 2 {
			t.Errorf("%+v", list)
		}
	})
}

// refuse makes the store find fault with the label poison.
func (s *Store) refuse(t *testing.T) error {
	if s.dialect == sqliteDialect {
		_, err := s.db.ExecContext(t.Context(), "CREATE TRIGGER refuse BEFORE INSERT ON history_passwords WHEN NEW.label = 'poison' BEGIN SELECT RAISE(ABORT, 'poison'); END")
		return err
	}
	_, err := s.db.ExecContext(t.Context(), "ALTER TABLE history_passwords ADD CHECK (label <> 'poison')")
	return err
}

// TestFile: the file is for its owner alone, and its directory is not made.
func TestFile(t *testing.T) {
	t.Parallel()
	cfg := sqliteConfig(t)
	s := opened(t, cfg)
	write(t, s, phone(begin))
	files, err := filepath.Glob(cfg.StateDir + "/*")
	if err != nil || len(files) != 3 { // the file, its log, and the index of that
		t.Errorf("%q, %v", files, err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(cfg.HistoryFile(), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t.Context(), cfg, true); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to a group: %v", err)
	}
	missing := sqliteConfig(t)
	missing.StateDir += "/missing"
	if _, err := open(t.Context(), missing, true); err == nil || !strings.Contains(err.Error(), "set state_dir") {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Open(t.Context(), missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reader: %v", err)
	}
	directory := sqliteConfig(t)
	directory.History.Path = t.TempDir()
	if _, err := open(t.Context(), directory, true); err == nil {
		t.Error("a directory is opened")
	}
	odd := sqliteConfig(t)
	odd.History.Path = odd.StateDir + "/a?b%20 #c.db"
	write(t, opened(t, odd), phone(begin))
	if _, err := os.Stat(odd.History.Path); err != nil {
		t.Error(err)
	}
}

func TestNone(t *testing.T) {
	t.Parallel()
	cfg := sqliteConfig(t)
	cfg.History.Store = "none"
	if New(cfg, &Counts{}, nil, nil) != nil {
		t.Error("a recorder for nothing")
	}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
}

// TestDamagedFile: it is told, and not touched.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	cfg := sqliteConfig(t)
	garbage := []byte(strings.Repeat("no database\n", 1000))
	if err := os.WriteFile(cfg.HistoryFile(), garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t.Context(), cfg, true); err == nil {
		t.Error("opened")
	}
	if after, err := os.ReadFile(cfg.HistoryFile()); err != nil || string(after) != string(garbage) {
		t.Errorf("the file was changed, %v", err)
	}
}

// TestReadersDoNotWait: a query is answered while a write is under way.
func TestReadersDoNotWait(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		write(t, s, phone(begin))
		err := s.transact(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.Exec("UPDATE history_passwords SET uses = 99"); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			list, err := s.Passwords(ctx, "")
			if err == nil && list[0].Uses != 1 {
				t.Errorf("%+v", list)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestKnown: a password is found by its entry, and by its selector or else its label; never another's.
func TestKnown(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		long := strings.Repeat("x", 2*maxText)
		write(t, s, phone(begin),
			with(phone(begin.Add(time.Hour)), func(e *Event) { e.ID = "" }),                      // by its label
			with(phone(begin.Add(2*time.Hour)), func(e *Event) { e.Entry, e.ID = long, "t4bl" }), // a cut identity
			with(phone(begin.Add(3*time.Hour)), func(e *Event) { e.Kind, e.ID, e.Label = Main, "", "" }))
		k := NewKnown(passwords(t, s, ""))
		for _, c := range []struct {
			p    *Password
			used time.Duration
		}{
			{k.App("entryuuid:a", "ph0n", "renamed"), 0},
			{k.App("entryuuid:a", "", "phone"), time.Hour},
			{k.App(long, "t4bl", ""), 2 * time.Hour},
			{k.Main("entryuuid:a"), 3 * time.Hour},
		} {
			if c.p == nil || !c.p.LastUsed.Equal(begin.Add(c.used)) {
				t.Errorf("used after %v: %+v", c.used, c.p)
			}
		}
		for _, p := range []*Password{k.App("entryuuid:b", "ph0n", "phone"), k.App("entryuuid:a", "t4bl", "phone"), k.App("entryuuid:a", "", "ph0n"), k.Main(long), k.App(long+"1", "t4bl", "")} {
			if p != nil {
				t.Errorf("another's: %+v", p)
			}
		}
	})
}

// TestSpan: what was noted and never used says nothing of when binds were recorded.
func TestSpan(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		span := func(first, last time.Time) {
			t.Helper()
			from, to, err := s.Span(t.Context())
			if err != nil || !from.Equal(first) || !to.Equal(last) {
				t.Errorf("from %v to %v, %v", from, to, err)
			}
		}
		if err := s.Issued(t.Context(), Change{Time: begin, Entry: "a", DN: "a", ID: "x", Label: "x"}); err != nil {
			t.Fatal(err)
		}
		span(time.Time{}, time.Time{})
		write(t, s, with(phone(begin), func(e *Event) { e.Denied = "app password expired" }))
		span(begin, begin)
		write(t, s, phone(begin.Add(time.Hour)), phone(begin.Add(-time.Hour)))
		span(begin.Add(-time.Hour), begin.Add(time.Hour))
		if _, err := s.Purge(t.Context(), begin.Add(100*24*time.Hour), 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		span(begin.Add(-time.Hour), begin.Add(time.Hour))
	})
}

// TestUsesByDN: an entry that is gone is found by its last DN.
func TestUsesByDN(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		write(t, s, phone(begin), with(phone(begin), func(e *Event) { e.Entry, e.DN = "entryuuid:b", "uid=bob" }))
		if u := one(t, uses(t, s, Filter{DN: "UID=Alice"})); u.Entry != "entryuuid:a" {
			t.Errorf("%+v", u)
		}
		if n := len(uses(t, s, Filter{DN: "uid=alic"})); n != 0 {
			t.Errorf("%d uses of another", n)
		}
	})
}

// TestLabelOfTheLatest: a renamed app password has its new name, in whatever order its events come.
func TestLabelOfTheLatest(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		labelled := func(at time.Duration, service, label, denied string) Event {
			return with(phone(begin.Add(at)), func(e *Event) { e.Service, e.Label, e.Denied = service, label, denied })
		}
		expect := func(want string) {
			t.Helper()
			if p := one(t, passwords(t, s, "")); p.Label != want {
				t.Errorf("%q, want %q", p.Label, want)
			}
		}
		write(t, s, labelled(2*time.Second, "imap", "new", ""), labelled(time.Second, "smtp", "old", ""), labelled(0, "sieve", "old", "app password not for this service"))
		expect("new")
		write(t, s, labelled(-time.Second, "pop3", "older", ""))
		expect("new")
		write(t, s, labelled(3*time.Second, "imap", "newest", "app password expired"))
		expect("newest")
		if err := s.Revoked(t.Context(), Change{Time: begin.Add(time.Minute), Entry: "entryuuid:a", DN: "uid=alice", ID: "ph0n", Label: "last"}); err != nil {
			t.Fatal(err)
		}
		write(t, s, labelled(4*time.Second, "imap", "late", ""))
		expect("last")
	})
}
