package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"appbind/secrets"
	"appbind/wire"
)

// Bounds of the queue for slow hashes. One second of waiting leaves room for the rest of a bind
// below the ten seconds after which Postfix gives up.
const (
	queueWait      = time.Second
	maxQueued      = 4096 // hashes that wait, all together
	maxEntryQueued = 128  // hashes of one entry that wait
)

var errQueue = errors.New("too much password hashing at once")

// slots hands out the right to compute one slow hash: as many at once as
// cores, within a memory budget, one at a time per entry. Entries that wait take
// turns, whatever each of them has waiting: one user with fifty bcrypt values, or
// one attacker with a thousand connections, costs another user's bind the time of
// one hash.
type slots struct {
	cores int
	wait  time.Duration

	mu      sync.Mutex         // guards all below
	budget  int64              // bytes
	used    int64              // bytes of the hashes being computed
	running map[string]bool    // entries with a hash being computed
	waiting map[string][]*work // per entry, in order of arrival; never an empty list
	turn    []string           // entries with work waiting and none running, in order of their turn
	queued  int                // work waiting, all together
	refused uint64             // work that got no slot: no room, or not in time
}

// work is one hash that waits for its slot.
type work struct {
	memory int64
	ready  chan struct{} // closed when the slot is given
}

func newSlots() *slots {
	return &slots{
		cores:   runtime.GOMAXPROCS(0),
		wait:    queueWait,
		running: make(map[string]bool),
		waiting: make(map[string][]*work),
	}
}

// setBudget sets the memory that hashes may take together, in bytes.
func (s *slots) setBudget(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget = bytes
	s.dispatch()
}

// room says whether a hash that needs so much memory can ever be computed.
func (s *slots) room(memory int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return memory <= s.budget
}

// acquire waits for a slot, which must be released. The error is errQueue, or that of the context.
func (s *slots) acquire(ctx context.Context, entry string, memory int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // an entry with many values, each hashed at once, must not outlast the bind's deadline
	}
	w := &work{memory: memory, ready: make(chan struct{})}
	if !s.enqueue(entry, w) {
		return errQueue
	}
	select {
	case <-w.ready:
		return nil
	default:
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	var err error
	select {
	case <-w.ready:
		return nil
	case <-timer.C:
		err = errQueue
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if s.leave(entry, w) {
		return err
	}
	return nil // the slot was given at that very moment
}

// enqueue reports false where the queue is full.
func (s *slots) enqueue(entry string, w *work) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.waiting[entry]
	if s.queued >= maxQueued || len(list) >= maxEntryQueued {
		s.refused++
		return false
	}
	s.waiting[entry] = append(list, w)
	s.queued++
	if len(list) == 0 && !s.running[entry] {
		s.turn = append(s.turn, entry)
	}
	s.dispatch()
	return true
}

// leave takes work off the queue; false: it has its slot already.
func (s *slots) leave(entry string, w *work) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting[entry], w)
	if i < 0 {
		return false
	}
	s.refused++
	s.drop(entry, i)
	if s.waiting[entry] == nil {
		if t := slices.Index(s.turn, entry); t >= 0 {
			s.turn = slices.Delete(s.turn, t, t+1)
		}
	}
	s.dispatch() // what left may have been too large for the memory at hand
	return true
}

func (s *slots) drop(entry string, i int) {
	s.queued--
	if list := slices.Delete(s.waiting[entry], i, i+1); len(list) > 0 {
		s.waiting[entry] = list
		return
	}
	delete(s.waiting, entry)
}

// release gives a slot back.
func (s *slots) release(entry string, memory int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, entry)
	s.used -= memory
	if s.waiting[entry] != nil {
		s.turn = append(s.turn, entry)
	}
	s.dispatch()
}

// dispatch gives slots to those whose turn it is. What does not fit into the memory at hand
// waits for it at the head: others passing it by would starve it. mu is held.
func (s *slots) dispatch() {
	for len(s.turn) > 0 && len(s.running) < s.cores {
		entry := s.turn[0]
		w := s.waiting[entry][0]
		// Alone, anything may run: the budget can have shrunk by a reload since it was let in.
		if s.used > 0 && s.used+w.memory > s.budget {
			return
		}
		s.turn = slices.Delete(s.turn, 0, 1)
		s.drop(entry, 0)
		s.running[entry] = true
		s.used += w.memory
		close(w.ready)
	}
}

// Turn waits for the turn of an entry to compute a hash that is no bind's, such as that of a new app password, among those of
// binds; memory is what it takes, in bytes. release gives the turn back. The error is that of the queue, or of ctx.
func (v *Verifier) Turn(ctx context.Context, entry string, memory int64) (release func(), err error) {
	h := v.mem.hashing
	if err := h.slots.acquire(ctx, entry, memory); err != nil {
		return nil, fmt.Errorf("waiting to hash: %w", err)
	}
	h.computed.Add(1)
	return func() { h.slots.release(entry, memory) }, nil
}

// hashing computes slow hashes, equal ones (the same value and password) once.
type hashing struct {
	slots    *slots
	verified *fitSet
	now      func() time.Time
	computed atomic.Uint64

	mu      sync.Mutex         // guards flights
	flights map[digest]*flight // by HMAC: nothing of a password is kept
}

// flight is one hash under way; its results are read after done is closed.
type flight struct {
	done chan struct{}
	fits bool
	err  error
}

func newHashing(verified *fitSet, now func() time.Time) *hashing {
	return &hashing{slots: newSlots(), verified: verified, now: now, flights: make(map[digest]*flight)}
}

// fits verifies the password against a slow value. id stands for both. Any error means that
// it was not computed.
func (h *hashing) fits(ctx context.Context, entry string, id digest, v *secrets.Value, password []byte) (bool, error) {
	for {
		f, mine := h.join(id)
		if mine {
			h.compute(ctx, entry, id, f, v, password)
			return f.fits, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		// Whoever computed it may have been called off; then it is our turn.
		if f.err == nil || errors.Is(f.err, errQueue) {
			return f.fits, f.err
		}
	}
}

func (h *hashing) join(id digest) (f *flight, mine bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, found := h.flights[id]; found {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	h.flights[id] = f
	return f, true
}

func (h *hashing) compute(ctx context.Context, entry string, id digest, f *flight, v *secrets.Value, password []byte) {
	f.err = errors.New("appbind: internal error: hash not computed") // what others see after a panic
	defer func() {
		h.mu.Lock()
		delete(h.flights, id)
		h.mu.Unlock()
		close(f.done)
	}()
	if h.verified.has(id, h.now()) { // since whoever asks has looked: the flight before this one
		f.fits, f.err = true, nil
		return
	}
	memory, _ := v.Cost()
	if err := h.slots.acquire(ctx, entry, memory); err != nil {
		f.err = fmt.Errorf("waiting to hash: %w", err)
		return
	}
	defer h.slots.release(entry, memory)
	h.computed.Add(1)
	wire.WakeMonitor()
	if f.fits, f.err = v.Verify(password), nil; f.fits {
		h.verified.add(id, h.now()) // before the flight ends, so that nobody computes it again
	}
}
