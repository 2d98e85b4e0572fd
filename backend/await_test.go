package backend

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestAwait: it ends when there is an answer, and with whatever ends the context.
func TestAwait(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	for name, kind := range map[string]func(*Upstream, context.Context) (context.Context, context.CancelFunc){
		"another": func(_ *Upstream, parent context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(parent, time.Hour)
		},
		"within": func(u *Upstream, parent context.Context) (context.Context, context.CancelFunc) {
			return u.Within(parent, time.Now(), time.Hour)
		},
		"within, until down": func(u *Upstream, parent context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := u.Within(parent, time.Now(), time.Hour)
			return watched(u, ctx), cancel
		},
		"until down": func(u *Upstream, parent context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithTimeout(parent, time.Hour)
			return watched(u, ctx), cancel
		},
	} {
		u := spread(t)
		parent, end := context.WithCancelCause(context.Background())
		ctx, cancel := kind(u, parent)
		defer cancel()
		for range 3 {
			answered := make(chan struct{})
			go close(answered)
			if await(ctx, answered); ctx.Err() != nil {
				t.Fatalf("%s: %v", name, ctx.Err())
			}
			if u.turnOf(ctx) < 0 || ctx.Value(withinKey{}) != nil {
				t.Errorf("%s: its values", name)
			}
		}
		go end(why)
		await(ctx, nil)
		<-ctx.Done()
		if ctx.Err() != context.Canceled || context.Cause(ctx) != why {
			t.Errorf("%s: %v, %v", name, ctx.Err(), context.Cause(ctx))
		}
	}
}

// watched is what UntilDown makes of ctx where there is a copy.
func watched(u *Upstream, ctx context.Context) *untilDown {
	return &untilDown{Context: ctx, up: u, alive: context.Background(), slow: time.Now().Add(time.Hour)}
}

// TestAwaitTime: it ends in time, and has the servers examined before that when it takes long.
func TestAwaitTime(t *testing.T) {
	t.Parallel()
	u := spread(t)
	for _, asked := range []bool{false, true} {
		ctx, cancel := u.Within(context.Background(), time.Now(), 20*time.Millisecond)
		defer cancel()
		s := &server{up: u, wake: make(chan struct{}, 1)}
		u.servers = []*server{s}
		q := watched(u, ctx)
		q.slow = time.Now().Add(time.Millisecond)
		if asked {
			q.Done()
		}
		await(q, nil)
		if q.Err() != context.DeadlineExceeded {
			t.Errorf("%v", q.Err())
		}
		select {
		case <-s.wake:
		default:
			t.Error("no server was examined")
		}
	}
}

// TestAwaitDown: it ends when all servers are down, at once if they are.
func TestAwaitDown(t *testing.T) {
	t.Parallel()
	u := spread(t)
	for _, before := range []bool{false, true} {
		ctx, cancel := u.Within(context.Background(), time.Now(), time.Hour)
		defer cancel()
		alive, down := context.WithCancel(context.Background())
		q := watched(u, ctx)
		q.alive = alive
		if before {
			down()
		} else {
			go down()
		}
		await(q, nil)
		if q.Err() != context.Canceled || context.Cause(q) != errAllDown {
			t.Errorf("%v, %v", q.Err(), context.Cause(q))
		}
		q.end()
		q.end()
	}
	q := watched(u, context.Background())
	if q.end(); q.Err() == nil {
		t.Error("it goes on after its end")
	}
}

// TestAwaitAllocations: to wait costs nothing.
func TestAwaitAllocations(t *testing.T) {
	u := spread(t)
	answered := make(chan struct{})
	close(answered)
	n := testing.AllocsPerRun(1000, func() {
		ctx, cancel := u.Within(context.Background(), time.Now(), time.Second)
		await(ctx, answered)
		cancel()
	})
	if n > 2+2*raceAllocations { // those of Within
		t.Errorf("%v allocations", n)
	}
}
