package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"appbind/config"
	"appbind/history"
	"appbind/manage"
	"appbind/secrets"
)

// pastTime bounds what a command asks the history, which may hold millions of rows.
const pastTime = time.Minute

// errNoPast says that there is no history to ask.
var errNoPast = errors.New("there is no history yet: 'appbind serve' makes it")

// pastStore is the history, opened at the first call and closed with the desk. Errors: history.ErrNone, errNoPast, others.
func (d *desk) pastStore(ctx context.Context) (*history.Store, error) {
	if d.store != nil {
		return d.store, nil
	}
	store, err := history.Open(ctx, d.cfg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNoPast
	case errors.Is(err, history.ErrNone):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("the history cannot be read: %w", err)
	}
	d.store = store
	return store, nil
}

// past is what the history knows of app passwords.
type past struct {
	known       *history.Known
	first, last time.Time // of the binds that it knows of; zero: of none
}

// readPast asks for the past of one entry, or with "" of all.
func (d *desk) readPast(ctx context.Context, entry string) (*past, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	store, err := d.pastStore(ctx)
	if err != nil {
		return nil, err
	}
	list, err := store.Passwords(ctx, entry)
	if err != nil {
		return nil, fmt.Errorf("the history cannot be read: %w", err)
	}
	p := &past{known: history.NewKnown(list)}
	if p.first, p.last, err = store.Span(ctx); err != nil {
		return nil, fmt.Errorf("the history cannot be read: %w", err)
	}
	return p, nil
}

// maybePast is readPast where the past is an addition: nil where there is none. What is wrong with it is told, and is no failure.
func (d *desk) maybePast(ctx context.Context, entry string) *past {
	p, err := d.readPast(ctx, entry)
	if err != nil && !errors.Is(err, history.ErrNone) && !errors.Is(err, errNoPast) {
		fmt.Fprintf(d.err, "appbind: last uses are not shown: %v\n", err)
	}
	return p
}

// pastOf is readPast for what is unused since a time. It is an error where the history was not written
// since: all would seem to be unused.
func (d *desk) pastOf(ctx context.Context, entry string, since time.Time) (*past, error) {
	p, err := d.readPast(ctx, entry)
	switch {
	case err != nil:
		return nil, err
	case p.last.IsZero():
		return nil, errors.New("nobody can tell what is unused: the history knows of no login")
	case p.last.Before(since):
		return nil, fmt.Errorf("nobody can tell what is unused: the last login that the history knows of was on %s", p.last.UTC().Format(time.DateOnly))
	}
	return p, nil
}

// unused reports whether an app password was not used since a time, as far as can be known: one of which no use is
// known only where both it and the history are older. ageless: nobody has
// noted when it was made, so it may be new.
func (p *past) unused(u *manage.User, v *secrets.Value, since time.Time) (unused, ageless bool) {
	begun, used := v.Created, false
	if k := p.known.App(u.Key, v.ID, v.Label); k != nil {
		used = !k.LastUsed.IsZero()
		for _, at := range []time.Time{k.LastUsed, k.Issued} {
			if at.After(begun) {
				begun = at
			}
		}
	}
	return begun.Before(since) && (used || !p.first.IsZero() && p.first.Before(since)), begun.IsZero()
}

// addTo adds to a row what is known of the app password's use.
func (p *past) addTo(r *row, u *manage.User, v *secrets.Value) {
	if p == nil {
		return
	}
	r.past = true
	k := p.known.App(u.Key, v.ID, v.Label)
	if k == nil || k.LastUsed.IsZero() {
		r.never = !v.Created.IsZero() && v.Created.After(p.first) && !p.first.IsZero()
		return
	}
	at := k.LastUsed.UTC().Truncate(time.Second)
	r.LastUsed, r.LastService, r.Uses = &at, k.Service, k.Uses
	if k.Addr.IsValid() {
		r.LastAddress = k.Addr.String()
	}
}

// parsePeriod reads the N days of an option.
func parsePeriod(option, text string) (time.Duration, error) {
	period, err := config.ParseDuration(text)
	if err != nil || period <= 0 {
		return 0, fmt.Errorf("--%s %s: not a time such as 90d", option, text)
	}
	return time.Duration(period), nil
}
