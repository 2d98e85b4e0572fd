package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"appbind/events"
	"appbind/history"
	"appbind/manage"
)

const (
	// noteTime bounds a note in the history.
	noteTime = 10 * time.Second
	// journalTimeCLI bounds the wait for the audit log and the webhook at the end of a command.
	journalTimeCLI = 20 * time.Second
)

// managing changes app passwords in the name of whoever runs the command.
func (d *desk) managing() *manage.Operator { return d.m.Managing().As(systemUser()) }

// systemUser is who runs the command, as the system knows him.
func systemUser() events.Actor {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if by := os.Getenv("SUDO_USER"); by != "" && os.Getuid() == 0 { // only root can make it up
		name += " (sudo by " + by + ")"
	}
	return events.Actor{Name: name, Via: "cli"}
}

var _ manage.Journal = (*desk)(nil)

// Emit tells the history, the audit log and the webhook what was done. That one cannot be told is no failure of what was done.
func (d *desk) Emit(e events.Event) {
	d.tell(e)
	switch e.Kind {
	case events.Issued:
		d.note(e, (*history.Store).Issued)
	case events.Revoked, events.Expired:
		d.note(e, (*history.Store).Revoked)
	}
}

// tell tells the journal, which is opened at the first event.
func (d *desk) tell(e events.Event) {
	if d.journal == nil && !d.untold {
		var err error
		// What goes to the standard output of the one who serves must not get into that of the command.
		d.journal, err = events.Open(d.cfg, events.Options{Counts: &d.counts, Log: d.house.log, Stdout: d.err, Guest: true})
		if err != nil {
			fmt.Fprintf(d.err, "appbind: not in the audit log, nor told to the webhook: %v\n", err)
		}
		d.untold = d.journal == nil
	}
	d.journal.Emit(e)
}

// tellRest waits until the journal is written, and says what could not be.
func (d *desk) tellRest() {
	if d.journal == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), journalTimeCLI)
	defer cancel()
	d.journal.Close(ctx)
	st := d.journal.Stats()
	for _, lost := range []struct {
		what    string
		reasons map[string]uint64
	}{{"written to the audit log", st.AuditDropped}, {"told to the webhook", st.WebhookDropped}} {
		n := uint64(0)
		for _, dropped := range lost.reasons {
			n += dropped
		}
		if n > 0 {
			fmt.Fprintf(d.err, "appbind: done, and not %s: %s\n", lost.what, count(int(n), "event"))
		}
	}
}

// note tells the history, with one of its methods Issued and Revoked.
func (d *desk) note(e events.Event, note func(*history.Store, context.Context, history.Change) error) {
	if d.mute || e.Entry == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	store, err := d.pastStore(ctx)
	if errors.Is(err, history.ErrNone) || errors.Is(err, errNoPast) {
		d.mute = true
		return
	}
	if err == nil {
		err = note(store, ctx, history.Change{Time: e.Time, Entry: e.Entry, DN: e.DN, ID: e.ID, Label: e.Label})
	}
	if err != nil {
		d.mute = true // the next would wait and fail likewise
		fmt.Fprintf(d.err, "appbind: done, and not noted in the history: %v\n", err)
	}
}
