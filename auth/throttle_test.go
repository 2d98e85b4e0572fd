package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	th := newThrottle(3, time.Minute, 2)
	for i, tt := range []struct {
		after time.Duration
		key   string
		want  error
	}{
		{0, "a", nil}, {20, "a", nil}, {40, "a", nil}, {40, "a", errThrottled}, {59, "a", errThrottled},
		{60, "a", nil}, {60, "a", errThrottled}, {80, "a", nil}, // each counts for its own minute
		{80, "b", nil}, {80, "c", errFull}, {80, "b", nil},
		{141, "c", nil}, // a and b are forgotten
	} {
		if err := th.take(tt.key, now.Add(tt.after*time.Second)); !errors.Is(err, tt.want) {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if len(th.recent) != 1 {
		t.Errorf("%d keys after the purge", len(th.recent))
	}
}

func TestThrottleGiveBack(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	th := newThrottle(3, time.Minute, 10)
	for range 3 {
		th.take("a", now)
	}
	th.giveBack("a", 0)
	if th.take("a", now) == nil {
		t.Error("nothing given back, and yet one more")
	}
	th.giveBack("a", 1)
	if th.take("a", now) != nil || th.take("a", now) == nil {
		t.Error("one given back is not one more")
	}
	th.giveBack("a", 5)
	th.giveBack("nobody", 1)
	if len(th.recent) != 0 {
		t.Errorf("%d keys left", len(th.recent))
	}
}

// TestThrottleBounded: neither keys nor attempts grow.
func TestThrottleBounded(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	th := newThrottle(5, time.Minute, 100)
	for i := range 100000 {
		now = now.Add(time.Second)
		th.take(fmt.Sprint(i%300), now)
		th.take("one", now)
	}
	if len(th.recent) > 100 {
		t.Errorf("%d keys", len(th.recent))
	}
	if n := cap(th.recent["one"]); n > 8 {
		t.Errorf("room for %d attempts", n)
	}
}
