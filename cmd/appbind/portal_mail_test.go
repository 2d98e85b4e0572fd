package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/mail"
)

// postman is a mail server that fails in turn as it is told, and takes every mail after that.
type postman struct {
	mu     sync.Mutex // guards the fields below
	fails  []error
	taken  []string
	seen   chan struct{} // gets something at each attempt
	hangs  bool          // until the context ends
	ids    map[string]int
	asleep bool // every attempt fails
}

func (p *postman) Send(ctx context.Context, m *mail.Message) error {
	p.mu.Lock()
	hangs := p.hangs
	p.mu.Unlock()
	defer func() { p.seen <- struct{}{} }()
	if hangs {
		<-ctx.Done()
		return fmt.Errorf("%w: %w", mail.ErrServer, ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids[m.ID]++
	switch {
	case ctx.Err() != nil || p.asleep:
		return mail.ErrServer
	case len(p.fails) > 0:
		err := p.fails[0]
		p.fails = p.fails[1:]
		return err
	}
	p.taken = append(p.taken, m.To+" "+m.Content.Language+" "+m.Content.Subject+" "+m.Content.Text)
	return nil
}

func startPost(t *testing.T, server *postman, pause time.Duration) (p *post, log *bytes.Buffer, end func()) {
	t.Helper()
	server.seen, server.ids, log = make(chan struct{}, 10000), map[string]int{}, &bytes.Buffer{}
	p = newPost(server, &postCounts{}, slog.New(slog.NewTextHandler(log, nil)))
	p.pause, p.rest = pause, 50*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { p.run(ctx); close(done) }()
	return p, log, func() { cancel(); <-done }
}

// expectPost compares the outcomes that are not zero.
func expectPost(t *testing.T, what string, p *post, want string) {
	t.Helper()
	var list []string
	for _, outcome := range []string{"sent", "uncertain", "queue", "refused", "outdated", "stopped"} {
		if n := p.counts.stats()[outcome]; n > 0 {
			list = append(list, fmt.Sprintf("%s %d", outcome, n))
		}
	}
	if got := strings.Join(list, ", "); got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// TestPost: a mail that is not taken is tried again, as the same one; one that is refused for good is not.
func TestPost(t *testing.T) {
	t.Parallel()
	server := &postman{fails: []error{mail.ErrServer, &mail.Refused{Code: 451, Text: "later"}, mail.ErrServer, &mail.Refused{Code: 550, Permanent: true}, mail.ErrUncertain}}
	p, log, end := startPost(t, server, time.Millisecond)
	for _, to := range []string{"a", "b", "c", "d"} {
		p.put(to, "en", "subject", "text")
	}
	for range 7 {
		<-server.seen
	}
	end()
	if got := strings.Join(server.taken, ", "); got != "c en subject text, d en subject text" || len(server.ids) != 4 {
		t.Errorf("taken: %s; %v", got, server.ids)
	}
	expectPost(t, "all", p, "sent 2, uncertain 1, refused 1")
	p.put("e", "en", "late", "text")
	expectPost(t, "after the end", p, "sent 2, uncertain 1, refused 1, stopped 1")
	if !strings.Contains(log.String(), "to=e subject=late") {
		t.Errorf("log: %s", log)
	}
}

// TestPostAtTheEnd: what waits is sent when appbind ends, and counted where that cannot be.
func TestPostAtTheEnd(t *testing.T) {
	t.Parallel()
	waiting := func(server *postman) (*post, func()) {
		p, _, end := startPost(t, server, time.Hour)
		for i := range 10 {
			p.put(fmt.Sprint(i), "en", "subject", "text")
		}
		return p, end
	}
	server := &postman{}
	p, end := waiting(server)
	end()
	expectPost(t, "a server that works", p, "sent 10")

	server = &postman{asleep: true}
	p, end = waiting(server)
	<-server.seen
	server.mu.Lock()
	server.asleep = false
	server.mu.Unlock()
	end()
	expectPost(t, "a server that is back at the end", p, "sent 10")

	p, end = waiting(&postman{asleep: true})
	end()
	expectPost(t, "a server that is down", p, "stopped 10")
	p, end = waiting(&postman{hangs: true})
	end()
	expectPost(t, "a server that hangs", p, "stopped 10")
}

// TestPostFull: whoever hands mails over waits for nothing, and what finds no room is counted.
func TestPostFull(t *testing.T) {
	t.Parallel()
	p, _, end := startPost(t, &postman{hangs: true}, time.Millisecond)
	for range 2*mailQueue + 1 {
		p.put("a", "en", "subject", "text")
	}
	end()
	st := p.counts.stats()
	if st["queue"] < mailQueue || st["queue"]+st["stopped"] != 2*mailQueue+1 {
		t.Errorf("%v", st)
	}
}
