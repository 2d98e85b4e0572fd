package portal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/config"
	"appbind/history"
	"appbind/test/postgres"
)

// server is the PostgreSQL that the tests of this package share; each test has a database of its own.
var server = sync.OnceValues(postgres.Start)

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := server(); err == nil {
		s.Close()
	}
	os.Exit(code)
}

// onBoth runs a test on a store of each kind, opened twice as by two instances.
func onBoth(t *testing.T, test func(t *testing.T, a, b *Store)) {
	eachKind(t, func(t *testing.T, cfg *config.Config) {
		var stores [2]*Store
		for i := range stores {
			var err error
			if stores[i], err = OpenStore(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { stores[i].Close() })
		}
		test(t, stores[0], stores[1])
	})
}

// eachKind runs a test with a configuration for a store of each kind.
func eachKind(t *testing.T, test func(t *testing.T, cfg *config.Config)) {
	for _, kind := range []string{"sqlite", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.History.Path = filepath.Join(t.TempDir(), "history.db")
			if kind == "postgres" {
				s, err := server()
				if err != nil {
					t.Fatal(err)
				}
				url, err := s.Database()
				if err != nil {
					t.Fatal(err)
				}
				cfg.History.Store, cfg.History.URL, cfg.History.Password = "postgres", url, config.Secret(s.Password)
			}
			test(t, cfg)
		})
	}
}

// TestStoreGrows: a store that an earlier version has made gets the tables of later ones, and keeps what it has.
func TestStoreGrows(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, cfg *config.Config) {
		for version := 1; version <= len(steps); version++ {
			db, err := history.OpenTables(t.Context(), cfg, "portal", steps[:version])
			if err != nil {
				t.Fatal(err)
			}
			s := &Store{db}
			if version == 1 {
				if err := s.addCodes(t.Context(), "alice", codeRecovery, []string{"code"}, time.Time{}); err != nil {
					t.Error(err)
				}
			}
			if n, err := s.countCodes(t.Context(), "alice", codeRecovery); n != 1 || err != nil {
				t.Errorf("version %d: %d codes, %v", version, n, err)
			}
			s.Close()
		}
	})
}

var morning = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// TestStoreOnce: of a hundred at one time at two instances, one uses a thing up, and five may try.
func TestStoreOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, a, b *Store) {
		ctx := t.Context()
		if err := a.addCodes(ctx, "alice", codeRecovery, []string{"one", "two"}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		var spent, tried, used atomic.Int32
		var wg sync.WaitGroup
		count := func(n *atomic.Int32, ok bool, err error) {
			if err != nil {
				t.Error(err)
			}
			if ok {
				n.Add(1)
			}
		}
		for i := range 100 {
			s := []*Store{a, b}[i%2]
			wg.Go(func() {
				ok, err := s.spend(ctx, "code", morning)
				count(&spent, ok, err)
				ok, err = s.try(ctx, "alice", 5, time.Minute, morning)
				count(&tried, ok, err)
				ok, err = s.useCode(ctx, "alice", codeRecovery, "one", morning)
				count(&used, ok, err)
			})
		}
		wg.Wait()
		if spent.Load() != 1 || tried.Load() != 5 || used.Load() != 1 {
			t.Errorf("spent %d times, tried %d, used %d", spent.Load(), tried.Load(), used.Load())
		}
		if n, err := b.countCodes(ctx, "alice", codeRecovery); n != 1 || err != nil {
			t.Errorf("%d left, %v", n, err)
		}
	})
}

// TestStoreTries: a window that moves, and attempts that are given back.
func TestStoreTries(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, a, b *Store) {
		at := func(s time.Duration) bool {
			t.Helper()
			ok, err := a.try(t.Context(), "x", 2, time.Minute, morning.Add(s))
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		for i, c := range []struct {
			at   time.Duration
			want bool
		}{{0, true}, {30 * time.Second, true}, {59 * time.Second, false}, {time.Minute, true}, {61 * time.Second, false}, {90 * time.Second, true}} {
			if got := at(c.at); got != c.want {
				t.Errorf("%d: %t", i, got)
			}
		}
		if err := b.giveBack(t.Context(), "x"); err != nil || !at(91*time.Second) || at(92*time.Second) {
			t.Errorf("given back: %v", err)
		}
		if err := b.giveBack(t.Context(), "nobody"); err != nil {
			t.Error(err)
		}
	})
}

// TestStoreSessions: what is stored opens nothing, and what is over is deleted.
func TestStoreSessions(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, a, b *Store) {
		ctx, p := t.Context(), &config.Default().Portal
		for _, token := range []string{"first", "second"} {
			s := &session{token: token, entry: "alice", dn: aliceDN, stage: stageFull, created: morning, seen: morning, factorAt: morning}
			if err := a.begin(ctx, s, "agent"); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.session(ctx, "first", "agent", morning.Add(time.Minute), p)
		if err != nil || s.entry != "alice" || s.stage != stageFull || !s.factorAt.Equal(morning) {
			t.Fatalf("%+v %v", s, err)
		}
		for _, c := range [][2]string{{"first", "other"}, {"third", "agent"}, {s.id, "agent"}, {"", "agent"}} {
			if _, err := b.session(ctx, c[0], c[1], morning.Add(time.Minute), p); err != errNoSession {
				t.Errorf("%q: %v", c, err)
			}
		}
		if err := a.proved(ctx, s.id, methodTOTP, morning.Add(time.Hour)); err != nil {
			t.Error(err)
		}
		if err := a.endOthers(ctx, "alice", s.id); err != nil {
			t.Error(err)
		}
		if _, err := b.session(ctx, "second", "agent", morning, p); err != errNoSession {
			t.Errorf("the other one: %v", err)
		}
		if err := a.purge(ctx, morning.Add(18*time.Minute), p, time.Hour); err != nil { // seen at one minute
			t.Error(err)
		}
		n := -1
		if err := b.db.QueryRow("SELECT COUNT(*) FROM portal_sessions").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d sessions are left, %v", n, err)
		}
	})
}

// TestStoreAudit: whose events are shown, in which order, and for how long.
func TestStoreAudit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, a, b *Store) {
		for i, entry := range []string{"alice", "bob", "alice"} {
			if err := a.note(t.Context(), Event{Time: morning.Add(time.Duration(i) * time.Minute), Entry: entry, DN: entry, Actor: "x", Action: string(rune('a' + i))}); err != nil {
				t.Fatal(err)
			}
		}
		show := func(entry string) string {
			list, err := b.events(t.Context(), entry, 2)
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, e := range list {
				words = append(words, e.Action)
			}
			return strings.Join(words, " ")
		}
		if show("") != "c b" || show("alice") != "c a" || show("nobody") != "" {
			t.Errorf("%q %q", show(""), show("alice"))
		}
		if err := b.purge(t.Context(), morning.Add(time.Hour), &config.Default().Portal, 59*time.Minute); err != nil || show("alice") != "c" {
			t.Errorf("%v %q", err, show("alice"))
		}
	})
}

func TestCodes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		shown, bare := NewCode()
		if len(bare) != codeLength || len(shown) != 19 || bareCode(strings.ToUpper(shown)) != bare || seen[bare] || isTOTP(bare) {
			t.Fatalf("%q %q", shown, bare)
		}
		seen[bare] = true
	}
	if bareCode(" oO-iL 12\t") != "001112" || !isTOTP("123456") || !isTOTP("12345678") || isTOTP("12345") || isTOTP("123456789") || isTOTP("12345a") {
		t.Error("codes as people type them")
	}
}

// TestStoreJourneys: a journey to the provider ends once, at one of the instances; accounts stay with their entry; the provider's
// sign-out ends what it names.
func TestStoreJourneys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, a, b *Store) {
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(a.depart(ctx, &flow{token: "one", session: "s", next: "/x", started: morning}, "agent"))
		var home atomic.Int32
		var wg sync.WaitGroup
		for i := range 20 {
			s := []*Store{a, b}[i%2]
			wg.Go(func() {
				f, err := s.arrive(ctx, "one", "agent", morning.Add(time.Minute))
				if err == nil && f.session == "s" && f.next == "/x" && f.started.Equal(morning) {
					home.Add(1)
				} else if !errors.Is(err, errNoFlow) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if home.Load() != 1 {
			t.Errorf("%d arrivals", home.Load())
		}
		must(a.depart(ctx, &flow{token: "two", started: morning}, "agent"))
		must(a.depart(ctx, &flow{token: "three", started: morning}, "agent"))
		must(a.purge(ctx, morning.Add(flowLife+time.Second), &config.Default().Portal, time.Hour))
		if _, err := b.arrive(ctx, "three", "agent", morning); !errors.Is(err, errNoFlow) {
			t.Errorf("purged: %v", err)
		}

		for _, c := range []struct {
			subject, entry string
			further        bool
			err            error
		}{{"s1", "alice", false, nil}, {"s1", "alice", false, nil}, {"s1", "bob", false, errMoved}, {"s2", "alice", true, nil}, {"s2", "alice", false, nil}, {"s3", "bob", false, nil}} {
			if further, err := b.pin(ctx, c.subject, c.entry, "uid="+c.entry, morning); further != c.further || !errors.Is(err, c.err) {
				t.Errorf("%v: %t %v", c, further, err)
			}
		}
		must(a.unpin(ctx, "alice", "uid=alice"))
		if n, err := b.pins(ctx, "alice", "uid=alice"); n != 0 || err != nil {
			t.Errorf("pins: %d %v", n, err)
		}
		if _, err := b.pin(ctx, "s3", "alice", "uid=alice", morning); !errors.Is(err, errMoved) {
			t.Errorf("bob's: %v", err)
		}

		cfg := &config.Default().Portal
		for _, c := range []struct {
			subject, sid string
			left         string
		}{{"", "", "abcd"}, {"s1", "", "cd"}, {"", "1", "bd"}, {"s1", "1", "bcd"}, {"s2", "1", "abd"}, {"s9", "1", "abcd"}} {
			for _, s := range []session{{token: "a", subject: "s1", sid: "1"}, {token: "b", subject: "s1", sid: "2"}, {token: "c", subject: "s2", sid: "1"}, {token: "d"}} {
				must(a.end(ctx, "alice", digest("session", s.token)))
				s.entry, s.stage, s.created = "alice", stageFull, morning
				must(a.begin(ctx, &s, "agent"))
			}
			must(b.endAt(ctx, c.subject, c.sid))
			left := ""
			for _, token := range []string{"a", "b", "c", "d"} {
				if _, err := a.session(ctx, token, "agent", morning, cfg); err == nil {
					left += token
				}
			}
			if left != c.left {
				t.Errorf("%v: left are %q", c, left)
			}
		}
	})
}
