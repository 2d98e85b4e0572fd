package backend

import (
	"context"
	"errors"
	"testing"
	"time"

	"appbind/config"
)

// withinKey is a key of this test alone.
type withinKey struct{}

// spread is an upstream that takes its servers in turn.
func spread(t *testing.T) *Upstream {
	t.Helper()
	cfg := &config.Config{}
	cfg.Upstream.Balance = "spread"
	return &Upstream{cfg: cfg}
}

// TestWithin: it is a context like any other, whether or not somebody waited for its end before.
func TestWithin(t *testing.T) {
	t.Parallel()
	u := spread(t)
	why := errors.New("shutting down")
	for _, waited := range []bool{false, true} {
		parent, end := context.WithCancelCause(context.WithValue(context.Background(), withinKey{}, "value"))
		ctx, cancel := u.Within(parent, time.Now(), time.Hour)
		if waited {
			ctx.Done()
		}
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Hour || time.Until(d) < time.Minute {
			t.Errorf("deadline %v %v", d, ok)
		}
		if ctx.Value(withinKey{}) != "value" || ctx.Err() != nil || context.Cause(ctx) != nil {
			t.Error(ctx.Value(withinKey{}), ctx.Err(), context.Cause(ctx))
		}
		if a, b := u.turnOf(ctx), u.turnOf(ctx); a != b {
			t.Errorf("turns %d and %d within one context", a, b)
		}
		child, cancelChild := context.WithTimeout(ctx, time.Minute)
		if u.turnOf(child) != u.turnOf(ctx) {
			t.Error("a context made of it has another turn")
		}
		cancelChild()
		end(why)
		<-ctx.Done()
		if ctx.Err() != context.Canceled || context.Cause(ctx) != why {
			t.Errorf("after the parent's end: %v, %v", ctx.Err(), context.Cause(ctx))
		}
		cancel()
		cancel()
	}
	ctx, cancel := u.Within(context.Background(), time.Now(), time.Hour)
	cancel()
	if <-ctx.Done(); ctx.Err() != context.Canceled {
		t.Errorf("after its end: %v", ctx.Err())
	}
}

// TestWithinTime: what is over is over, though nobody waited for it.
func TestWithinTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := spread(t).Within(context.Background(), time.Now().Add(-time.Minute), time.Second)
	defer cancel()
	if ctx.Err() != context.DeadlineExceeded || context.Cause(ctx) != context.DeadlineExceeded {
		t.Errorf("%v, %v", ctx.Err(), context.Cause(ctx))
	}
	ctx, cancel = spread(t).Within(context.Background(), time.Now(), 5*time.Millisecond)
	defer cancel()
	if <-ctx.Done(); ctx.Err() != context.DeadlineExceeded {
		t.Errorf("%v", ctx.Err())
	}
}

// TestWithinAllocations: a bind that waits for nothing pays for nothing.
func TestWithinAllocations(t *testing.T) {
	u := spread(t)
	n := testing.AllocsPerRun(1000, func() {
		ctx, cancel := u.Within(context.Background(), time.Now(), time.Second)
		if ctx.Err() != nil || u.turnOf(ctx) < 0 {
			t.Fatal("ended")
		}
		cancel()
	})
	if n > 2 { // the context, and the method value that ends it
		t.Errorf("%v allocations", n)
	}
}
