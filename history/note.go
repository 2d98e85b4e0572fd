package history

import (
	"context"
	"database/sql"
	"time"
)

// Change is what was done to an app password by its administration.
type Change struct {
	Time      time.Time
	Entry, DN string // of the user, as in Event
	ID, Label string // of the app password
}

// The times only move forward: what comes late, or from several instances, ends in the same row. Of an issue and a
// revocation at one time the revocation counts.
const (
	noteIssued = `INSERT INTO history_passwords (user_id, kind, ident, selector, label, seen, issued) VALUES ($1, 'app', $2, $3, $4, $5, $5)
ON CONFLICT (user_id, kind, ident) DO UPDATE SET
	label = excluded.label,
	revoked = CASE WHEN history_passwords.revoked >= excluded.issued THEN history_passwords.revoked ELSE NULL END,
	issued = CASE WHEN excluded.issued > COALESCE(history_passwords.issued, 0) THEN excluded.issued ELSE history_passwords.issued END,
	seen = CASE WHEN excluded.seen > history_passwords.seen THEN excluded.seen ELSE history_passwords.seen END`

	noteRevoked = `INSERT INTO history_passwords (user_id, kind, ident, selector, label, seen, revoked) VALUES ($1, 'app', $2, $3, $4, $5, $5)
ON CONFLICT (user_id, kind, ident) DO UPDATE SET
	label = CASE WHEN excluded.label <> '' THEN excluded.label ELSE history_passwords.label END,
	revoked = CASE WHEN history_passwords.issued > excluded.revoked OR history_passwords.revoked > excluded.revoked THEN history_passwords.revoked ELSE excluded.revoked END,
	seen = CASE WHEN excluded.seen > history_passwords.seen THEN excluded.seen ELSE history_passwords.seen END`
)

// Issued notes that an app password was made, so that it is known before its first use.
func (s *Store) Issued(ctx context.Context, c Change) error { return s.note(ctx, noteIssued, c) }

// Revoked notes that an app password was taken away. What is known of it stays for the
// retention, so that a device that goes on with it can be named.
func (s *Store) Revoked(ctx context.Context, c Change) error { return s.note(ctx, noteRevoked, c) }

// noted is a Change that waits to be written.
type noted struct {
	Change
	note string
}

// What a row notes, in rowKey.note; "" is a use or a failure.
const (
	issued  = "issued"
	revoked = "revoked"
)

// Issued is Store.Issued behind the bind: it never waits, as Record.
func (r *Recorder) Issued(c Change) { r.note(noted{c, issued}) }

// Revoked is Store.Revoked behind the bind: it never waits, as Record.
func (r *Recorder) Revoked(c Change) { r.note(noted{c, revoked}) }

func (r *Recorder) note(n noted) {
	if r.gone.Load() {
		r.counts.stopped.Add(1)
		return
	}
	select {
	case r.changes <- n:
	default:
		r.counts.full.Add(1)
	}
}

// note puts a change to what waits; false: there is no room.
func (p *pending) note(n *noted) bool {
	at := n.Time.UnixMilli()
	e := Event{Kind: App, ID: n.ID, Label: n.Label}
	return p.merge(&row{
		rowKey: rowKey{entry: key(n.Entry), kind: App, ident: ident(&e), note: n.note, bucket: at},
		dn:     clean(n.DN), id: clean(n.ID), label: clean(n.Label), first: at, last: at, times: 1,
	})
}

func (s *Store) note(ctx context.Context, statement string, c Change) error {
	e := Event{Kind: App, ID: c.ID, Label: c.Label}
	return s.transact(ctx, func(tx *sql.Tx) error {
		var user int64
		if err := tx.QueryRowContext(ctx, upsertUser, key(c.Entry), clean(c.DN), c.Time.UnixMilli()).Scan(&user); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, statement, user, ident(&e), clean(c.ID), clean(c.Label), c.Time.UnixMilli())
		return err
	})
}
