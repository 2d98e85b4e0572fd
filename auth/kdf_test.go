package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"appbind/secrets"
)

// queuedSlots has one or more cores and a patient queue.
func queuedSlots(cores int, budget int64) *slots {
	s := newSlots()
	s.cores, s.wait = cores, time.Minute
	s.setBudget(budget)
	return s
}

// queue starts an acquire and waits until it stands in the queue; it sends the entry when it has its slot.
func queue(s *slots, entry string, memory int64, got chan<- string) {
	s.mu.Lock()
	before := s.queued
	s.mu.Unlock()
	go func() {
		if err := s.acquire(context.Background(), entry, memory); err == nil {
			got <- entry
		}
	}()
	for {
		s.mu.Lock()
		n := s.queued
		s.mu.Unlock()
		if n > before {
			return
		}
		runtime.Gosched()
	}
}

// TestSlotsFair: an entry with ten hashes waiting and two with one each take turns.
func TestSlotsFair(t *testing.T) {
	t.Parallel()
	s := queuedSlots(1, 100)
	got := make(chan string, 20)
	if err := s.acquire(context.Background(), "a", 0); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		queue(s, "a", 0, got)
	}
	queue(s, "b", 0, got)
	queue(s, "c", 0, got)
	order := ""
	entry := "a"
	for range 12 {
		s.release(entry, 0)
		entry = <-got
		order += entry
	}
	if order != "bcaaaaaaaaaa" {
		t.Errorf("order %s", order)
	}
	s.release(entry, 0)
	if s.queued != 0 || len(s.running)+len(s.waiting)+len(s.turn) != 0 || s.used != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// TestSlotsOnePerEntry: a free core is not for a second hash of the same entry.
func TestSlotsOnePerEntry(t *testing.T) {
	t.Parallel()
	s := queuedSlots(4, 100)
	got := make(chan string, 2)
	if err := s.acquire(context.Background(), "a", 0); err != nil {
		t.Fatal(err)
	}
	queue(s, "a", 0, got)
	if err := s.acquire(context.Background(), "b", 0); err != nil {
		t.Fatal(err)
	}
	if len(got) != 0 {
		t.Error("two at once")
	}
	s.release("a", 0)
	<-got
}

// TestSlotsMemory: what does not fit waits, at the head.
func TestSlotsMemory(t *testing.T) {
	t.Parallel()
	s := queuedSlots(4, 100)
	got := make(chan string, 2)
	if err := s.acquire(context.Background(), "a", 60); err != nil {
		t.Fatal(err)
	}
	queue(s, "b", 60, got)
	queue(s, "c", 10, got)
	if len(got) != 0 {
		t.Error("over the budget, or past the head")
	}
	s.release("a", 60)
	<-got
	<-got
	if s.used != 70 {
		t.Errorf("%d in use", s.used)
	}
	if s.room(101) || !s.room(100) {
		t.Error("room")
	}
}

// TestSlotsGiveUp: a deadline, a context or a full queue is an error, and leaves nothing behind.
func TestSlotsGiveUp(t *testing.T) {
	t.Parallel()
	s := queuedSlots(1, 100)
	if err := s.acquire(context.Background(), "a", 0); err != nil {
		t.Fatal(err)
	}
	s.wait = time.Millisecond
	if err := s.acquire(context.Background(), "b", 0); !errors.Is(err, errQueue) {
		t.Error(err)
	}
	s.wait = time.Minute
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errTest)
	if err := s.acquire(ctx, "b", 0); !errors.Is(err, errTest) {
		t.Error(err)
	}
	got := make(chan string, maxEntryQueued)
	for range maxEntryQueued {
		queue(s, "b", 0, got)
	}
	if err := s.acquire(context.Background(), "b", 0); !errors.Is(err, errQueue) {
		t.Error(err)
	}
	entry := "a"
	for range maxEntryQueued {
		s.release(entry, 0)
		entry = <-got
	}
	s.release(entry, 0)
	if s.queued != 0 || len(s.running)+len(s.waiting)+len(s.turn) != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// TestHashingBusy: no slot in time is 51, in rows 10 and 13, and never 49.
func TestHashingBusy(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	value := "$app$legacy$" + slowHash(t, "legacy password")
	s.user("alice", aliceMain, value)
	s.user("bob", aliceMain, value, totpValue)
	slots := s.mem.hashing.slots
	slots.cores, slots.wait = 1, time.Millisecond
	if err := slots.acquire(context.Background(), "somebody", 0); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "queue", s.bind("alice", "legacy password"), 10, Busy, ReasonHashing)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errTest)
	s.user("alice", aliceMain, value)
	slots.wait = time.Minute
	a := attempt{Verifier: s.v, bind: request("alice", "x"), d: Decision{Entry: s.entries["alice"]}}
	a.reviewValues()
	if !a.appPassword(ctx) || a.d.Kind != Busy || !errors.Is(a.d.Err, errTest) {
		t.Errorf("context: kind %d, %v", a.d.Kind, a.d.Err)
	}
	slots.release("somebody", 0)
	s.expect(t, "afterwards", s.bind("alice", "legacy password"), 10, Accepted, ReasonAppPassword)

	if d := s.bind("bob", "other$"+s.code(t)); d.Row != 15 { // the whole is known to fit none now
		t.Fatalf("row %d, %v", d.Row, d.Err)
	}
	if err := slots.acquire(context.Background(), "somebody", 0); err != nil {
		t.Fatal(err)
	}
	a = attempt{Verifier: s.v, bind: request("bob", "third$"+s.code(t)), d: Decision{Entry: s.entries["bob"]}}
	a.reviewValues()
	if !a.isAppPassword(ctx, []byte("third")) || a.d.Kind != Busy || a.d.Row != 13 {
		t.Errorf("with a code: row %d, kind %d, %v", a.d.Row, a.d.Kind, a.d.Err)
	}
}

// TestSharedHash: a hundred equal verifications at once are one hash, and policy is judged for each.
func TestSharedHash(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	smtp, err := secrets.New(secrets.Params{Label: "legacy", Services: []string{"smtp"}, Hash: slowHash(t, "legacy password")})
	if err != nil {
		t.Fatal(err)
	}
	s.user("alice", aliceMain, smtp)
	s.mem.hashing.slots.wait = time.Minute
	s.mem.guesses.limit = 1000
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			b := request("alice", "legacy password")
			want, reason := InvalidCredentials, ReasonService
			if i%2 == 0 {
				b.Client.Service, want, reason = "smtp", Accepted, ReasonAppPassword
			}
			if d := s.v.Verify(context.Background(), b, s.upstream); d.Kind != want || d.Reason != reason {
				t.Errorf("row %d, kind %d, %q, %v", d.Row, d.Kind, d.Reason, d.Err)
			}
		})
	}
	wg.Wait()
	if n := s.mem.Hashed(); n != 1 {
		t.Errorf("%d hashes", n)
	}
	if len(s.mem.hashing.flights) != 0 {
		t.Error("flights left behind")
	}
}

// TestFlightTakenOver: when the bind that computes a hash is called off, another one computes it.
func TestFlightTakenOver(t *testing.T) {
	t.Parallel()
	h := newHashing(newFitSet(100, time.Hour), time.Now)
	h.slots = queuedSlots(1, 100)
	if err := h.slots.acquire(context.Background(), "somebody", 0); err != nil {
		t.Fatal(err)
	}
	v := secrets.Parse([]byte("$app$legacy$" + slowHash(t, "legacy password")))
	ctx, cancel := context.WithCancelCause(context.Background())
	first := make(chan error)
	go func() {
		_, err := h.fits(ctx, "a", digest{1}, v, []byte("legacy password"))
		first <- err
	}()
	for joined := false; !joined; {
		h.mu.Lock()
		joined = len(h.flights) == 1
		h.mu.Unlock()
		runtime.Gosched()
	}
	second := make(chan string)
	go func() {
		fits, err := h.fits(context.Background(), "a", digest{1}, v, []byte("legacy password"))
		second <- fmt.Sprint(fits, err)
	}()
	cancel(errTest)
	if err := <-first; !errors.Is(err, errTest) {
		t.Error(err)
	}
	h.slots.release("somebody", 0)
	if got := <-second; got != "true <nil>" {
		t.Error(got)
	}
}
