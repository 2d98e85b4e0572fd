package manage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/wire"
)

// maxTries bounds how often a change is judged anew because others changed the
// entry meanwhile. With twenty writers at once at one entry the last of them needs
// some twenty tries.
const maxTries = 100

// change has decide judge the entry's values and carries out what it says, until
// nobody else was in between. decide may be called several times, and the last
// call counts. An empty change is done at once, and is nil.
func (m *Manager) change(ctx context.Context, d door, dn string, decide func(s *Set) (Change, error)) (*done, error) {
	w := &writer{m: m, door: d, asserts: m.up.Supports(controlAssertion)}
	for try := range maxTries {
		snap, err := d.read(ctx, dn)
		if err != nil {
			return nil, err
		}
		c, err := decide(snap.Set)
		if err != nil || len(c.Add)+len(c.Delete) == 0 {
			return nil, err
		}
		made, err := w.attempt(ctx, snap, c)
		if err != nil {
			return nil, err
		}
		if made {
			return &done{snap.Set, c}, nil
		}
		if err := m.pause(ctx, try); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrContention, err)
		}
	}
	return nil, ErrContention
}

// pause waits for some milliseconds, more the more often it was in vain, so that
// those who collide do not collide again.
func (m *Manager) pause(ctx context.Context, try int) error {
	limit := time.Duration(min(try+1, 10)) * 4 * time.Millisecond
	t := time.NewTimer(rand.N(limit))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writer is one change on its way into the directory.
type writer struct {
	m       *Manager
	door    door
	asserts bool   // the assertion control is used
	failed  string // the entryCSN whose assertion failed last
	class   bool   // the auxiliary class goes with the value
	apart   bool   // the class was added by itself
}

// attempt sends a change of what was read. done: it is made. Neither done nor an
// error: the entry is another one by now, or needs more; read it again.
func (w *writer) attempt(ctx context.Context, snap *Snapshot, c Change) (done bool, err error) {
	var controls []byte
	if w.asserts && snap.csn != "" {
		if snap.csn == w.failed {
			// Nothing has changed since it failed: whoever writes may not compare entryCSN.
			w.asserts = false
		} else {
			controls = assertion(snap.csn)
		}
	}
	r, err := w.door.modify(ctx, w.m.body(snap.DN, c, w.class), controls)
	if errors.Is(err, backend.ErrNotSent) {
		return false, err
	}
	if err != nil {
		return w.settle(ctx, snap, c, err)
	}
	switch r.Result.Code {
	case wire.ResultSuccess:
		if controls != nil || len(c.Add) == 0 {
			return true, nil
		}
		return w.confirm(ctx, snap, c)
	case resultAssertionFailed:
		w.failed = snap.csn
		return false, nil
	case wire.ResultNoSuchAttribute, resultAttributeExists:
		if w.class && r.Result.Code == resultAttributeExists {
			w.class, w.apart = false, true // another one has just added the class
			return false, nil
		}
		return false, w.stuck(ctx, snap, c, r)
	case resultObjectClass:
		return false, w.addClass(ctx, snap, r)
	}
	return false, &Refused{Code: r.Result.Code, Diagnostic: string(r.Result.Diagnostic)}
}

// stuck looks after the refusal of a value that is gone, or there already: when
// others have changed the entry it is judged anew, else the refusal stands.
func (w *writer) stuck(ctx context.Context, snap *Snapshot, c Change, r *backend.Reply) error {
	now, err := w.door.read(ctx, snap.DN)
	if err != nil {
		return err
	}
	if _, whole := now.Set.with(c); now.csn == snap.csn && whole && !now.Set.hasAny(c.Add) {
		return &Refused{Code: r.Result.Code, Diagnostic: string(r.Result.Diagnostic)}
	}
	return nil
}

// addClass answers an object class violation: first the class goes with the
// value, in one modify; where that is refused too (Samba), it goes before.
func (w *writer) addClass(ctx context.Context, snap *Snapshot, r *backend.Reply) error {
	refused := &Refused{Code: r.Result.Code, Diagnostic: string(r.Result.Diagnostic)}
	switch {
	case !w.m.ownSchema() || w.apart:
		return refused
	case !w.class:
		w.class = true
		return nil
	}
	w.class, w.apart = false, true
	r, err := w.door.modify(ctx, modifyBody(snap.DN, modification{modAdd, "objectClass", []string{accountClass}}), nil)
	if err != nil {
		return err
	}
	if r.Result.Code != wire.ResultSuccess && r.Result.Code != resultAttributeExists {
		return refused
	}
	return nil
}

// confirm reads again after a change that was made without an assertion. Who
// finds a conflict then takes its own change back: at worst both do.
func (w *writer) confirm(ctx context.Context, snap *Snapshot, c Change) (done bool, err error) {
	now, err := w.door.read(ctx, snap.DN)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	if !w.m.conflicts(now.Set, c) {
		return true, nil
	}
	back := Change{Delete: c.Add, Add: c.Delete}
	r, err := w.door.modify(ctx, w.m.body(snap.DN, back, false), nil)
	switch {
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	case r.Result.Code == wire.ResultSuccess, r.Result.Code == wire.ResultNoSuchAttribute:
		return false, nil
	}
	return false, fmt.Errorf("%w: it came to stand beside another one and could not be taken back (result %d)", ErrUnconfirmed, r.Result.Code)
}

// conflicts reports whether added values break the rules beside what came at the
// same time. One that is not to be seen, since another server was asked that is
// behind, or since somebody has revoked it already, breaks none.
func (m *Manager) conflicts(now *Set, c Change) bool {
	for _, raw := range c.Add {
		if v := now.find(raw); v != nil && now.conflict(v) != nil {
			return true
		}
	}
	return len(c.Add) > len(c.Delete) && now.Live(m.now()) > m.rules.MaxPerUser
}

// settle finds out what became of a change that was sent and not answered.
func (w *writer) settle(ctx context.Context, snap *Snapshot, c Change, cause error) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.m.timeout)
	defer cancel()
	now, err := w.door.read(ctx, snap.DN)
	if err != nil && !errors.Is(err, auth.ErrNotFound) {
		return false, fmt.Errorf("%w: %w", ErrUnconfirmed, cause)
	}
	if err == nil && w.made(now, c) {
		return true, nil
	}
	return false, fmt.Errorf("%w: %w", ErrUnconfirmed, cause)
}

// made reports whether a change is visible.
func (w *writer) made(now *Snapshot, c Change) bool {
	for _, v := range c.Delete {
		if now.Set.has(v) {
			return false
		}
	}
	for _, v := range c.Add {
		if !now.Set.has(v) {
			return false
		}
	}
	return !w.m.conflicts(now.Set, c)
}
