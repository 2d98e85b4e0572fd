package integration

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"appbind/history"
	"appbind/test/postgres"
)

// TestHistoryPostgres: two instances share a history; the database is stopped and killed, logins go on, and nothing is lost;
// its password stands nowhere.
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
	one, two := startAppbind(t, yaml), startAppbind(t, yaml)
	logins := 0
	login := func() {
		t.Helper()
		for range 10 {
			for _, a := range []*appbind{one, two} {
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
	allWritten := func() {
		t.Helper()
		written(t, one, float64(logins/2))
		written(t, two, float64(logins/2))
	}
	login()
	allWritten()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		db.Stop(sig)
		login()
		within(t, "the history is not written", historyPatience, func() bool {
			_, body := httpGet(one.endpoint() + "/metrics")
			return metric(t, body, "appbind_history_up") == 0
		})
		login()
		if err := db.Run(); err != nil {
			t.Fatal(err)
		}
		allWritten()
	}
	// A firewall that drops, as far as appbind can see: something listens and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
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
	three := startAppbind(t, strings.Replace(yaml, fmt.Sprint("127.0.0.1:", db.Port), silent.Addr().String(), 1))
	if code := bindOnce(three.uri(), userDN("alice"), phone.Password); code != 0 {
		t.Errorf("bind: %d", code)
	}
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
	if _, err := store.Uses(context.Background(), history.Filter{}); err != nil {
		t.Error(err)
	}
}
