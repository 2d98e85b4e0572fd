package auth

import (
	"errors"
	"sync"
	"time"
)

var (
	errThrottled = errors.New("too many attempts")
	errFull      = errors.New("too many accounts are being guessed at")
)

// throttle allows limit attempts per key in any window. An attempt is taken
// before its outcome is known and given back if it was no guess, so that a
// hundred parallel attempts are no more than limit.
//
// The table is bounded by time (what is older than the window counts for nothing)
// and by max keys; when it is full of keys that count, a new key gets errFull:
// forgetting one would hand out attempts. Keys are canonical entries, so nobody
// can make them up.
type throttle struct {
	limit  int
	window time.Duration
	max    int

	mu     sync.Mutex             // guards recent
	recent map[string][]time.Time // attempts that count, oldest first, at most limit
}

func newThrottle(limit int, window time.Duration, max int) *throttle {
	return &throttle{limit: limit, window: window, max: max, recent: make(map[string][]time.Time)}
}

// take counts an attempt. errThrottled: there were limit of them within the window; errFull: see throttle.
func (t *throttle) take(key string, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	times, known := t.recent[key]
	if !known && len(t.recent) >= t.max {
		t.purge(now)
		if len(t.recent) >= t.max {
			return errFull
		}
	}
	times = t.current(times, now)
	if len(times) >= t.limit {
		t.recent[key] = times
		return errThrottled
	}
	t.recent[key] = append(times, now)
	return nil
}

// giveBack takes the latest attempts off again.
func (t *throttle) giveBack(key string, attempts int) {
	if attempts == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	times := t.recent[key]
	if len(times) <= attempts {
		delete(t.recent, key)
		return
	}
	t.recent[key] = times[:len(times)-attempts]
}

// current is times without those that are older than the window. It moves the rest to the front
// of the same array, which so never grows beyond limit.
func (t *throttle) current(times []time.Time, now time.Time) []time.Time {
	old := 0
	for old < len(times) && now.Sub(times[old]) >= t.window {
		old++
	}
	if old == 0 {
		return times
	}
	return times[:copy(times, times[old:])]
}

// purge forgets the keys without an attempt within the window.
func (t *throttle) purge(now time.Time) {
	for key, times := range t.recent {
		if len(times) == 0 || now.Sub(times[len(times)-1]) >= t.window {
			delete(t.recent, key)
		}
	}
}
