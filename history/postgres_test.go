package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"appbind/config"
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

func postgresConfig(t *testing.T) *config.Config {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	return configFor(t, s)
}

func configFor(t *testing.T, s *postgres.Server) *config.Config {
	t.Helper()
	url, err := s.Database()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.History.Store, cfg.History.URL, cfg.History.Password = "postgres", url, config.Secret(s.Password)
	return cfg
}

// TestPostgresConnections: by TCP with a password, by socket without; a wrong password, and a server that is
// not there, are errors that do not tell the password.
func TestPostgresConnections(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	opened(t, cfg)
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	socket := *cfg
	socket.History.URL, socket.History.Password = s.OnSocket(cfg.History.URL), ""
	write(t, opened(t, &socket), phone(begin))
	if len(passwords(t, opened(t, cfg), "")) != 1 {
		t.Error("another database")
	}
	for _, c := range []struct{ url, password string }{
		{cfg.History.URL, "canary-wrong"},
		{"postgres://appbind@127.0.0.1:1/x?connect_timeout=1", "canary-wrong"},
		{"postgres://appbind@127.0.0.1:" + fmt.Sprint(s.Port) + "/missing", s.Password},
		{cfg.History.URL + "?sslmode=require", s.Password},
	} {
		bad := *cfg
		bad.History.URL, bad.History.Password = c.url, config.Secret(c.password)
		_, err := open(t.Context(), &bad, true)
		if err == nil || strings.Contains(err.Error(), c.password) {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}

// TestPostgresLeastRights: a user who may make tables in its own schema needs nothing else, and a reader may not write.
func TestPostgresLeastRights(t *testing.T) {
	t.Parallel()
	cfg := postgresConfig(t)
	s := opened(t, cfg)
	user := "reader_" + cfg.History.URL[strings.LastIndexByte(cfg.History.URL, '/')+1:]
	for _, q := range []string{"CREATE ROLE " + user + " LOGIN PASSWORD 'readerpw'", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO " + user} {
		if _, err := s.db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	reader := *cfg
	reader.History.URL, reader.History.Password = strings.Replace(cfg.History.URL, postgres.User+"@", user+"@", 1), "readerpw"
	r, err := Open(t.Context(), &reader)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Uses(t.Context(), Filter{}); err != nil {
		t.Error(err)
	}
	if err := r.Revoked(t.Context(), Change{Time: begin, Entry: "a", Label: "a"}); err == nil {
		t.Error("a reader wrote")
	}
}

// TestRowsAtFault: what is held against a row, and what against the store.
func TestRowsAtFault(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{"22021": true, "23514": true, "23503": false, "40P01": false, "53100": false, "57P01": false, "42501": false} {
		if got := postgresDialect.refuses(fmt.Errorf("x: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %v", code, got)
		}
	}
	if postgresDialect.refuses(errors.New("x")) || sqliteDialect.refuses(errors.New("x")) {
		t.Error("any error is a row's")
	}
}

// TestPostgresStops: stopped, killed and frozen, the server costs no event and holds nobody up; what came meanwhile is written afterwards.
func TestPostgresStops(t *testing.T) {
	t.Parallel()
	s, err := postgres.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cfg := configFor(t, s)
	r := New(cfg, &Counts{}, slog.New(slog.DiscardHandler), nil)
	round := func() error { return r.round(2 * time.Second) }
	// The writer's own goroutine is ended: this test says when is written.
	close(r.ending)
	<-r.done
	r.ending, r.merged, r.done = make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.store = nil
	events := 0
	record := func() {
		for i := range 50 {
			e := with(phone(begin.Add(time.Duration(events)*time.Second)), func(e *Event) { e.ID = fmt.Sprintf("%04d", i) })
			r.merge(&e)
			events++
		}
	}
	record()
	if err := round(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		sig, back syscall.Signal
	}{{"stopped", syscall.SIGINT, 0}, {"killed", syscall.SIGKILL, 0}, {"frozen", syscall.SIGSTOP, syscall.SIGCONT}} {
		if c.back == 0 {
			s.Stop(c.sig)
		} else {
			s.Signal(c.sig)
			r.store.Close() // a new connection meets the frozen server
			r.store = nil
		}
		record()
		begun := time.Now()
		if err := round(); err == nil {
			t.Errorf("%s: written", c.name)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("%s: a round took %v", c.name, took)
		}
		record()
		if c.back != 0 {
			s.Signal(c.back)
		} else if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		for err := round(); err != nil; err = round() {
			if ctx.Err() != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		cancel()
	}
	total := int64(0)
	for _, p := range passwords(t, opened(t, cfg), "") {
		total += p.Uses
	}
	if total != int64(events) {
		t.Errorf("%d of %d events", total, events)
	}
	r.store.Close()
}
