package integration

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"appbind/config"
	"appbind/history"
	"appbind/test/postgres"
)

// TestHistoryPostgres: two instances share a history; the database is killed, logins go on, and nothing is lost; its
// password stands nowhere. How it fares with one that is stopped or frozen is in package history.
func TestHistoryPostgres(t *testing.T) {
	t.Parallel()
	db, err := postgres.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	url, err := db.Database()
	if err != nil {
		t.Fatal(err)
	}
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	secret := shortDir(t) + "/postgres.password"
	write(t, secret, db.Password+"\n")
	yaml := baseConfig(s, "", historyConfig+fmt.Sprintf("log: {level: debug}\nhistory: {store: postgres, url: '%s', password_file: %s}\n", url, secret))
	// A firewall that drops, as far as appbind can see: something listens and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	three := startAppbind(t, strings.Replace(yaml, fmt.Sprint("127.0.0.1:", db.Port), silent.Addr().String(), 1))
	one, two := startAppbind(t, yaml), startAppbind(t, yaml)
	logins := 0
	login := func(instances ...*appbind) {
		t.Helper()
		for range 10 {
			for _, a := range instances {
				begun := time.Now()
				if code := bindOnce(a.uri(), userDN("alice"), phone.Password); code != 0 {
					t.Errorf("bind: %d", code)
				}
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("a bind took %v", took)
				}
				logins++
			}
		}
	}
	for _, a := range []*appbind{one, two} {
		within(t, "the tables are not there", historyPatience, func() bool { return opens(a) })
	}
	login(one, two)
	db.Stop(syscall.SIGKILL)
	login(one, two)
	for _, a := range []*appbind{one, two} {
		within(t, "the history is still up", historyPatience, func() bool {
			_, body := httpGet(a.endpoint() + "/metrics")
			return metric(t, body, "appbind_history_up") == 0
		})
	}
	login(one, two)
	if err := db.Run(); err != nil {
		t.Fatal(err)
	}
	written(t, one, float64(logins/2))
	written(t, two, float64(logins/2))
	store := historyOf(t, one)
	list, err := store.Passwords(context.Background(), "")
	if err != nil || len(list) != 1 || list[0].Uses != int64(logins) || list[0].Label != "phone" {
		t.Errorf("%+v, %v; %d logins", list, err, logins)
	}
	uses, err := store.Uses(context.Background(), history.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("%+v %+v", list, uses) + processFiles(t, one)
	if code := command(t, "", binary, "check", "-c", one.file); !strings.Contains(code.out, "ok    history            "+url) {
		t.Errorf("check: %s", code.out)
	} else {
		said += code.out + code.err
	}
	login(three)
	begun := time.Now()
	three.stop(syscall.SIGTERM)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("the end took %v", took)
	}
	one.stop(syscall.SIGTERM)
	said += one.output() + two.output() + three.output()
	if found := leaks(said, []string{db.Password, phone.Password, hashOf(phone)}); len(found) > 0 {
		t.Errorf("leaks: %q", found)
	}
}

// opens reports whether the history of an appbind can be read.
func opens(a *appbind) bool {
	cfg, err := config.Load(a.file)
	if err != nil {
		return false
	}
	s, err := history.Open(context.Background(), cfg)
	if err != nil {
		return false
	}
	s.Close()
	return true
}
