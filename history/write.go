package history

import (
	"context"
	"database/sql"
	"net/netip"
	"time"
)

// batch is the number of rows of one transaction. Readers and other instances wait for its end.
const batch = 1000

// margin is by how much a use must be later than a revocation to be one of a new password with the same
// selector or label: clocks differ, and a bind may have been decided before.
const margin = 2 * time.Minute

const (
	upsertUser = `INSERT INTO history_users (entry, dn, seen) VALUES ($1, $2, $3)
ON CONFLICT (entry) DO UPDATE SET
	dn = CASE WHEN excluded.seen >= history_users.seen AND excluded.dn <> '' THEN excluded.dn ELSE history_users.dn END,
	seen = CASE WHEN excluded.seen > history_users.seen THEN excluded.seen ELSE history_users.seen END
RETURNING id`

	// The times only move to what they say: first_used back, last_used and seen forward, whatever comes late. The
	// label is that of the latest event: within a batch rows are not sorted by time.
	upsertUsed = `INSERT INTO history_passwords (user_id, kind, ident, selector, label, seen, first_used, last_used, last_service, last_address, uses)
VALUES ($1, $2, $3, $4, $5, $6, $7, $6, $8, $9, $10)
ON CONFLICT (user_id, kind, ident) DO UPDATE SET
	label = CASE WHEN excluded.label <> '' AND excluded.seen >= history_passwords.seen THEN excluded.label ELSE history_passwords.label END,
	seen = CASE WHEN excluded.seen > history_passwords.seen THEN excluded.seen ELSE history_passwords.seen END,
	first_used = CASE WHEN excluded.first_used < COALESCE(history_passwords.first_used, excluded.first_used + 1) THEN excluded.first_used ELSE history_passwords.first_used END,
	last_service = CASE WHEN excluded.last_used >= COALESCE(history_passwords.last_used, 0) THEN excluded.last_service ELSE history_passwords.last_service END,
	last_address = CASE WHEN excluded.last_used >= COALESCE(history_passwords.last_used, 0) THEN excluded.last_address ELSE history_passwords.last_address END,
	last_used = CASE WHEN excluded.last_used > COALESCE(history_passwords.last_used, 0) THEN excluded.last_used ELSE history_passwords.last_used END,
	revoked = CASE WHEN excluded.last_used > history_passwords.revoked + $11 THEN NULL ELSE history_passwords.revoked END,
	uses = history_passwords.uses + excluded.uses
RETURNING id`

	upsertDenied = `INSERT INTO history_passwords (user_id, kind, ident, selector, label, seen) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (user_id, kind, ident) DO UPDATE SET
	label = CASE WHEN excluded.label <> '' AND excluded.seen >= history_passwords.seen THEN excluded.label ELSE history_passwords.label END,
	seen = CASE WHEN excluded.seen > history_passwords.seen THEN excluded.seen ELSE history_passwords.seen END
RETURNING id`

	// What is presented in vain was revoked by somebody, at the latest now.
	markGone = `UPDATE history_passwords SET
	revoked = COALESCE(revoked, $3),
	seen = CASE WHEN $4 > seen THEN $4 ELSE seen END
WHERE user_id = $1 AND kind = 'app' AND ident = $2
RETURNING id, label`

	upsertUse = `INSERT INTO history_uses (password_id, bucket, denied, service, address, peer, listener, first_at, last_at, times)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (password_id, bucket, denied, service, address) DO UPDATE SET
	peer = CASE WHEN excluded.last_at >= history_uses.last_at THEN excluded.peer ELSE history_uses.peer END,
	listener = CASE WHEN excluded.last_at >= history_uses.last_at THEN excluded.listener ELSE history_uses.listener END,
	first_at = CASE WHEN excluded.first_at < history_uses.first_at THEN excluded.first_at ELSE history_uses.first_at END,
	last_at = CASE WHEN excluded.last_at > history_uses.last_at THEN excluded.last_at ELSE history_uses.last_at END,
	times = history_uses.times + excluded.times`
)

// write stores rows in one transaction. Where the store finds fault with a row, and not the row with the store, the
// rows are written one by one, and what is refused then is given up: it would be in the way of all others for ever.
func (s *Store) write(ctx context.Context, rows []*row, watch bool) (refused int, err error) {
	err = s.writeAll(ctx, rows, watch)
	if err == nil || !s.dialect.refuses(err) {
		return 0, err
	}
	for i, r := range rows {
		switch err := s.writeAll(ctx, rows[i:i+1], watch); {
		case err == nil:
		case s.dialect.refuses(err):
			refused += int(r.times)
			r.sighting = ""
		default:
			return 0, err
		}
	}
	return refused, nil
}

// writeAll stores rows, or none.
func (s *Store) writeAll(ctx context.Context, rows []*row, watch bool) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		w, err := newWriter(ctx, tx, watch)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := w.row(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// writer is the statements of one transaction.
type writer struct {
	tx                            *sql.Tx
	watch                         bool // something is to be noticed
	user, used, denied, gone, use *sql.Stmt
	entry                         string // the last one, whose id is known: rows come sorted
	id                            int64
	known                         bool   // the password of the last row that was presented in vain
	label                         string // its label, as it was when it was there
}

func newWriter(ctx context.Context, tx *sql.Tx, watch bool) (*writer, error) {
	w := &writer{tx: tx, watch: watch}
	for _, p := range []struct {
		statement **sql.Stmt
		text      string
	}{{&w.user, upsertUser}, {&w.used, upsertUsed}, {&w.denied, upsertDenied}, {&w.gone, markGone}, {&w.use, upsertUse}} {
		var err error
		if *p.statement, err = tx.PrepareContext(ctx, p.text); err != nil {
			return nil, err
		}
	}
	return w, nil // the statements end with the transaction
}

// row stores one row.
func (w *writer) row(ctx context.Context, r *row) error {
	if w.entry != r.entry {
		if err := w.user.QueryRowContext(ctx, r.entry, r.dn, r.last).Scan(&w.id); err != nil {
			return err
		}
		w.entry = r.entry
	}
	if r.note != "" {
		return w.note(ctx, r)
	}
	r.sighting = "" // of an attempt that was rolled back
	if err := w.beforeUse(ctx, r); err != nil {
		return err
	}
	password, err := w.password(ctx, r)
	if err != nil {
		return err
	}
	if err := w.beforeFailure(ctx, r, password); err != nil {
		return err
	}
	_, err = w.use.ExecContext(ctx, password, r.bucket, r.denied, r.service, addrText(r.addr), addrText(r.peer), r.listener, r.first, r.last, r.times)
	return err
}

// note stores what the administration of app passwords has noted.
func (w *writer) note(ctx context.Context, r *row) error {
	statement := noteIssued
	if r.note == revoked {
		statement = noteRevoked
	}
	_, err := w.tx.ExecContext(ctx, statement, w.id, r.ident, r.id, r.label, r.last)
	return err
}

// password is the id of the row's password.
func (w *writer) password(ctx context.Context, r *row) (id int64, err error) {
	if r.denied == "" {
		err = w.used.QueryRowContext(ctx, w.id, r.kind, r.ident, r.id, r.label, r.last, r.first, r.service, addrText(r.addr), r.times,
			margin.Milliseconds()).Scan(&id)
		return id, err
	}
	kind, ident, selector := r.kind, r.ident, r.id
	if r.denied == ReasonGone {
		err := w.gone.QueryRowContext(ctx, w.id, ident, r.first, r.last).Scan(&id, &w.label)
		w.known = err == nil
		if err != sql.ErrNoRows {
			return id, err
		}
		// Whoever wants can make up selectors, and each would be a row.
		kind, ident, selector = None, "", ""
	}
	err = w.denied.QueryRowContext(ctx, w.id, kind, ident, selector, r.label, r.last).Scan(&id)
	return id, err
}

// addrText is an address, "" for none.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
