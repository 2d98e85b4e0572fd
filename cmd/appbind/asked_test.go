package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"appbind/history"
)

// answer is a terminal at which something happens before the answer.
type answer struct {
	before func()
	text   io.Reader
}

func (a *answer) Read(b []byte) (int, error) {
	if a.before != nil {
		a.before()
		a.before = nil
	}
	return a.text.Read(b)
}

// TestLoginWhileAsked: who logs in between the question and the answer keeps his app password.
func TestLoginWhileAsked(t *testing.T) {
	t.Parallel()
	file, err := demoFiles(t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(config, "history: {retention: 1000d}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	login := func(user, id string, ago time.Duration) {
		t.Helper()
		d := &desk{file: file}
		d.streams.err = io.Discard
		if err := d.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer d.close()
		u, err := d.m.Find(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		r := history.New(d.cfg, &history.Counts{}, slog.New(slog.DiscardHandler), nil)
		defer r.Close(context.Background())
		r.Record(history.Event{Time: time.Now().Add(-ago), Entry: u.Key, DN: u.DN, Kind: history.App, ID: id})
	}
	login("alice", "ena3", 200*24*time.Hour)
	login("alice", "7zfm", 0)
	var out, errs bytes.Buffer
	in := &answer{before: func() { login("alice", "f988", 0) }, text: strings.NewReader("yes\n")}
	code := run(t.Context(), []string{"passwords", "revoke", "-c", file, "--unused", "90d"}, streams{in, &out, &errs})
	if code != 0 || !strings.Contains(errs.String(), "f988") || strings.Contains(out.String(), "f988") || !strings.Contains(out.String(), "ena3") || !strings.Contains(out.String(), "yfsc") {
		t.Errorf("exit status %d\n%s%s", code, errs.String(), out.String())
	}
}
