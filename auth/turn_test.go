package auth

import (
	"context"
	"errors"
	"testing"

	"appbind/config"
)

// TestTurn: who hashes beside binds takes a slot of theirs, one for an entry, and is refused when there is none in time.
func TestTurn(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) { c.AppPasswords.HashMemory = 40 })
	slots := s.mem.hashing.slots
	slots.cores, slots.wait = 2, 0
	ctx := context.Background()
	first, err := s.v.Turn(ctx, "entryUUID:alice", 20<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.v.Turn(ctx, "entryUUID:alice", 20<<20); !errors.Is(err, errQueue) {
		t.Errorf("the same entry: %v", err)
	}
	if _, err := s.v.Turn(ctx, "entryUUID:bob", 21<<20); !errors.Is(err, errQueue) {
		t.Errorf("more memory than is left: %v", err)
	}
	second, err := s.v.Turn(ctx, "entryUUID:bob", 20<<20)
	if err != nil {
		t.Fatal(err)
	}
	s.user("carol", "", "$app$x$"+slowHash(t, "carol's"))
	s.expect(t, "a bind while all hash", s.bind("carol", "carol's"), 10, Busy, ReasonHashing)
	first()
	second()
	s.expect(t, "a bind afterwards", s.bind("carol", "carol's"), 10, Accepted, ReasonAppPassword)
	if st := s.mem.Stats(); st.Hashed != 3 || st.HashMemory != 0 || st.HashRunning != 0 {
		t.Errorf("%+v", st)
	}
}
