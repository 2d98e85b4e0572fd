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

const (
	noteIssued = `INSERT INTO history_passwords (user_id, kind, ident, selector, label, seen, issued) VALUES ($1, 'app', $2, $3, $4, $5, $5)
ON CONFLICT (user_id, kind, ident) DO UPDATE SET
	label = excluded.label, revoked = NULL, issued = excluded.issued,
	seen = CASE WHEN excluded.seen > history_passwords.seen THEN excluded.seen ELSE history_passwords.seen END`

	noteRevoked = `INSERT INTO history_passwords (user_id, kind, ident, selector, label, seen, revoked) VALUES ($1, 'app', $2, $3, $4, $5, $5)
ON CONFLICT (user_id, kind, ident) DO UPDATE SET
	label = CASE WHEN excluded.label <> '' THEN excluded.label ELSE history_passwords.label END,
	revoked = excluded.revoked,
	seen = CASE WHEN excluded.seen > history_passwords.seen THEN excluded.seen ELSE history_passwords.seen END`
)

// Issued notes that an app password was made, so that it is known before its first use.
func (s *Store) Issued(ctx context.Context, c Change) error { return s.note(ctx, noteIssued, c) }

// Revoked notes that an app password was taken away. What is known of it stays for the
// retention, so that a device that goes on with it can be named.
func (s *Store) Revoked(ctx context.Context, c Change) error { return s.note(ctx, noteRevoked, c) }

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
