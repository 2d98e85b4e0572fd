package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/config"
	"appbind/events"
	"appbind/history"
	"appbind/manage"
	"appbind/secrets"
)

// TestJobsAreTold: what the jobs do stands in the audit log, about whom and by whom, and never a value.
func TestJobsAreTold(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cfg := config.Default()
	cfg.Audit.File = "stdout"
	h := newHouse(&bytes.Buffer{}, cfg.Log)
	h.out = &out
	telling, err := h.tell(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.use(telling)
	v := secrets.Parse([]byte("$app$phone;id=ph0n;exp=20260301120000Z;svc=imap$$2y$04$canaryOfAHashcanaryOfAHashcanaryOfAHashcanaryOfAHash1"))
	u := &manage.User{Key: "entryuuid:a", DN: "uid=alice"}
	at := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	d := done{h.noticed, byJob}
	d.Expiring(at, u, v)
	d.Expired(at, u, v)
	d.Purged(at, 7)
	if again, err := h.tell(cfg); err != nil || again != telling {
		t.Errorf("the same settings, another journal: %v", err)
	}
	h.telling.Load().end()
	const about = `"entry":"entryuuid:a","user":"uid=alice","password_id":"ph0n","label":"phone","expires":"2026-03-01T12:00:00Z","services":["imap"]`
	var got []string
	for l := range strings.Lines(out.String()) {
		if !json.Valid([]byte(l)) || strings.Contains(l, "canary") {
			t.Fatalf("%q", l)
		}
		_, rest, _ := strings.Cut(strings.TrimSpace(l), `"time":"2026-04-01T12:00:00Z",`)
		got = append(got, rest)
	}
	want := []string{`"event":"expiring",` + about + `}`, `"event":"expired",` + about + `,"actor":"appbind","via":"job"}`, `"event":"purged","actor":"appbind","via":"job","count":7}`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestNotes: an app password is known to the history from its issue to its revocation, where its user is known.
func TestNotes(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.StateDir = t.TempDir()
	recorder := history.New(cfg, &history.Counts{}, slog.New(slog.DiscardHandler), nil)
	n := notes{recorder, nil}
	at := time.Now().Truncate(time.Millisecond)
	for i, e := range []events.Event{
		{Kind: events.Issued, ID: "aaaa"}, {Kind: events.Issued, ID: "bbbb"}, {Kind: events.Renewed, ID: "cccc"}, {Kind: events.Refused, ID: "dddd"},
		{Kind: events.Revoked, ID: "aaaa"}, {Kind: events.Expired, ID: "eeee"},
	} {
		e.Time, e.Entry, e.Label = at.Add(time.Duration(i)*time.Second), "entryuuid:a", e.ID
		n.Emit(e)
	}
	n.Emit(events.Event{Time: at, Kind: events.Issued, ID: "ffff"}) // nobody's
	recorder.Close(t.Context())
	store, err := history.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	list, err := store.Passwords(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		text := p.ID
		if !p.Issued.IsZero() {
			text += " issued"
		}
		if !p.Revoked.IsZero() {
			text += " revoked"
		}
		got = append(got, text)
	}
	if want := []string{"aaaa issued revoked", "bbbb issued", "eeee revoked"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	notes{}.Emit(events.Event{Kind: events.Issued, Entry: "a"}) // neither
}
