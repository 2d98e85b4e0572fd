package integration

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"appbind/config"
	"appbind/history"
)

// historyPatience bounds the wait for the history: it is written every few seconds, and tried again after a minute at most.
const historyPatience = 90 * time.Second

// historyOf opens the history of an appbind's configuration.
func historyOf(t testing.TB, a *appbind) *history.Store {
	t.Helper()
	cfg, err := config.Load(a.file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := history.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// allUses is what the history has of a kind, one line each, sorted.
func allUses(t testing.TB, s *history.Store, f history.Filter) (lines []string) {
	t.Helper()
	list, err := s.Uses(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list {
		addr := "-"
		if u.Addr.IsValid() {
			addr = u.Addr.String()
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s %q", strings.TrimSuffix(u.DN, ","+people), u.Kind, u.Label, u.Service, addr, u.Denied))
	}
	slices.Sort(lines)
	return slices.Compact(lines) // a minute may have ended in between
}

// written waits until so many events are in the history.
func written(t testing.TB, a *appbind, n float64) {
	t.Helper()
	within(t, fmt.Sprintf("%v events are written", n), historyPatience, func() bool {
		_, body := httpGet(a.endpoint() + "/metrics")
		return metric(t, body, "appbind_history_events_written_total") >= n
	})
}

// ageUses makes all that an appbind's history has of uses older by d.
func ageUses(t testing.TB, a *appbind, d time.Duration) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+stateDir(t, a)+"/history.db?_pragma=busy_timeout(20000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := db.Exec("UPDATE history_uses SET first_at = first_at - $1, last_at = last_at - $1", d.Milliseconds())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

const historyConfig = metricsListener

// TestHistory: who used what, when, from where, over a stop, a kill and a reload; and nothing of a password.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone, revoked := newPassword(t, "phone"), newPassword(t, "old phone")
	s.addSecret("alice", phone.Value)
	s.addSecret("alice", revoked.Value)
	yaml := baseConfig(s, "  - {url: 'ldap://127.0.0.1:0', context: trusted, service: imap}\n", historyConfig)
	a := startAppbind(t, yaml)
	from := func(uid, context string) string { return userDN(uid) + "," + context + ",cn=appbind" }
	const wrong = "canary-wrong-81f2"
	expectBind(t, a.uri(), from("alice", "svc=submission,rip=192.0.2.1"), phone.Password, 0)
	for _, service := range []string{"pop3", "managesieve", "dav"} {
		expectBind(t, a.uri(), from("alice", "svc="+service), phone.Password, 0)
	}
	for range 3 {
		expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
	}
	expectBind(t, a.uri(), from("alice", "rip=2001:db8::7"), revoked.Password, 0)
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
	expectBind(t, a.uri(), userDN("bob"), wrong, 49)
	expectBind(t, a.uri(), userDN("nobody"), wrong, 49)
	expectBind(t, a.uri(), mailDN, mailPW, 0)
	written(t, a, 10)
	a.stop(syscall.SIGKILL) // what is written survives
	yaml = replaceOnce(t, yaml, "state_dir: .", "state_dir: "+filepath.Dir(a.file))
	a = startAppbind(t, yaml)
	s.removeSecret("alice", revoked.Value)
	expectBind(t, a.uri(), from("alice", "rip=2001:db8::7"), revoked.Password, 49)
	a.hangup(yaml+"history: {retention: 30d}\n", reloaded) // another recorder, the same file
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
	expectBind(t, a.uri(), from("bob", "svc=smtp"), "bob-main", 0)
	a.stop(syscall.SIGTERM) // writes what is left
	store := historyOf(t, a)
	got := allUses(t, store, history.Filter{})
	want := []string{
		`uid=alice app old phone imap 2001:db8::7 ""`,
		`uid=alice app old phone imap 2001:db8::7 "no such app password"`,
		`uid=alice app phone dav - ""`,
		`uid=alice app phone imap - ""`,
		`uid=alice app phone pop3 - ""`,
		`uid=alice app phone sieve - ""`,
		`uid=alice app phone smtp 192.0.2.1 ""`,
		`uid=bob main  imap - ""`,
		`uid=bob main  imap - "refused by the upstream"`,
		`uid=bob main  smtp - ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	stale, err := store.Stale(context.Background(), time.Now().Add(-time.Hour))
	if err != nil || len(stale) != 1 || stale[0].Label != "old phone" || stale[0].Addr.String() != "2001:db8::7" {
		t.Errorf("stale: %+v, %v", stale, err)
	}
	store.Close()
	filesHoldNone(t, stateDir(t, a), phone.Password, revoked.Password, hashOf(phone), hashOf(revoked), wrong, "bob-main", mailPW, servicePW)
}

// stateDir is where an appbind keeps its history.
func stateDir(t testing.TB, a *appbind) string {
	t.Helper()
	cfg, err := config.Load(a.file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.StateDir
}

// hashOf is what is stored of an app password, without its name.
func hashOf(p appPassword) string { return p.Value[strings.LastIndexByte(p.Value, '}')+1:] }

// filesHoldNone demands that no file of a history holds a secret in any form, and that only its owner may read it.
func filesHoldNone(t testing.TB, dir string, secrets ...string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/history.db*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte("phone")) && name == dir+"/history.db" {
			t.Errorf("%s does not hold what it should", name)
		}
		if found := leaks(string(data), secrets); len(found) > 0 {
			t.Errorf("%s holds %q", name, found)
		}
		if strings.Contains(hex.EncodeToString(data), hex.EncodeToString([]byte(secrets[0]))) {
			t.Errorf("%s holds a password", name)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// TestHistoryStoreFails: logins go on while the store is missing, locked or damaged; it is written when it is back, and nothing is lost.
func TestHistoryStoreFails(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	dir := shortDir(t) + "/state"
	a := startAppbind(t, strings.Replace(baseConfig(s, "", historyConfig), "state_dir: .", "state_dir: "+dir, 1))
	logins := func(n int) {
		t.Helper()
		for range n {
			begun := time.Now()
			if code := bindOnce(a.uri(), userDN("alice"), phone.Password); code != 0 {
				t.Errorf("bind: %d", code)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("a bind took %v", took)
			}
		}
	}
	up := func(want float64) {
		t.Helper()
		within(t, fmt.Sprintf("history_up is %v", want), historyPatience, func() bool {
			_, body := httpGet(a.endpoint() + "/metrics")
			return metric(t, body, "appbind_history_up") == want
		})
	}
	up(0)
	logins(20)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	up(1)
	written(t, a, 20)

	db, err := sql.Open("sqlite", dir+"/history.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	logins(20)
	up(0)
	logins(20)
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	written(t, a, 60)
	up(1)
	_, body := httpGet(a.endpoint() + "/metrics")
	if n := metric(t, body, "appbind_history_events_dropped_total"); n != 0 {
		t.Errorf("%v events were lost", n)
	}
	for _, text := range []string{"history is not written", "history is written again"} {
		if n := strings.Count(a.output(), text); n != 2 {
			t.Errorf("%q was told %d times", text, n)
		}
	}
}

// TestHistoryNone: no file is made.
func TestHistoryNone(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(s, "", historyConfig+"history: {store: none}\n"))
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
	if _, body := httpGet(a.endpoint() + "/metrics"); strings.Contains(body, "\nappbind_history_up") {
		t.Error("a history that is not kept has figures")
	}
	a.stop(syscall.SIGTERM)
	if files, err := filepath.Glob(filepath.Dir(a.file) + "/history*"); err != nil || len(files) > 0 {
		t.Errorf("%q, %v", files, err)
	}
}
