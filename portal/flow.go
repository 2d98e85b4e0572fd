package portal

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// openIDTables is the step that makes the tables of the sign-in at a provider.
const openIDTables = `
ALTER TABLE portal_sessions ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE portal_sessions ADD COLUMN sid TEXT NOT NULL DEFAULT '';
CREATE INDEX portal_sessions_subject ON portal_sessions (subject);
CREATE TABLE portal_flows (
	id      TEXT NOT NULL PRIMARY KEY,
	agent   TEXT NOT NULL,
	session TEXT NOT NULL,
	next    TEXT NOT NULL,
	started BIGINT NOT NULL
);
CREATE TABLE portal_subjects (
	subject TEXT NOT NULL PRIMARY KEY,
	entry   TEXT NOT NULL,
	dn      TEXT NOT NULL,
	since   BIGINT NOT NULL
);
CREATE INDEX portal_subjects_entry ON portal_subjects (entry);
CREATE INDEX portal_subjects_dn ON portal_subjects (dn)
`

// flowLife is how long a user may be away at the provider.
const flowLife = 10 * time.Minute

// flow is one journey of a browser to the provider and back. All that proves it is derived from the token in the browser's
// cookie; the store has the token's digest, so that what it knows takes nobody home.
type flow struct {
	token   string    // of the cookie; not stored
	session string    // the session that asks for a second factor; "": a sign-in
	next    string    // the page to go on to
	started time.Time // by this clock
}

// state, nonce and verifier (RFC 7636 4.1) tell the journey to the provider, to the ID token and to the token endpoint.
func (f *flow) state() string    { return keyed(f.token, "state") }
func (f *flow) nonce() string    { return keyed(f.token, "nonce") }
func (f *flow) verifier() string { return keyed(f.token, "verifier") }

// errNoFlow says that a journey was not begun in this browser, is over, or took too long.
var errNoFlow = errors.New("no such journey to the provider")

// depart notes a journey.
func (s *Store) depart(ctx context.Context, f *flow, agent string) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO portal_flows (id, agent, session, next, started) VALUES ($1, $2, $3, $4, $5)",
		digest("flow", f.token), digest("agent", agent), f.session, f.next, f.started.UnixMilli())
	return err
}

// arrive ends the journey of a token; of any number of arrivals one gets it.
func (s *Store) arrive(ctx context.Context, token, agent string, now time.Time) (*flow, error) {
	f := &flow{token: token}
	var boundTo string
	var started int64
	err := s.db.QueryRowContext(ctx, "DELETE FROM portal_flows WHERE id = $1 RETURNING agent, session, next, started", digest("flow", token)).
		Scan(&boundTo, &f.session, &f.next, &started)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoFlow
	}
	if err != nil {
		return nil, err
	}
	f.started = time.UnixMilli(started)
	if boundTo != digest("agent", agent) || now.Sub(f.started) >= flowLife {
		return nil, errNoFlow
	}
	return f, nil
}

// errMoved says that an account of the provider stands for another entry than before.
var errMoved = errors.New("the provider's account belonged to another entry before")

// pin ties an account of the provider to an entry, for good: the claim alone must not make one user another. further says that
// it is a further account of the entry's. Errors: errMoved, others.
func (s *Store) pin(ctx context.Context, subject, entry, dn string, now time.Time) (further bool, err error) {
	r, err := s.db.ExecContext(ctx, "INSERT INTO portal_subjects (subject, entry, dn, since) VALUES ($1, $2, $3, $4) ON CONFLICT (subject) DO NOTHING",
		subject, entry, dn, now.UnixMilli())
	if err != nil {
		return false, err
	}
	if n, err := r.RowsAffected(); err != nil {
		return false, err
	} else if n == 1 {
		others, err := s.pins(ctx, entry, dn)
		return others > 1, err
	}
	var before string
	switch err := s.db.QueryRowContext(ctx, "SELECT entry FROM portal_subjects WHERE subject = $1", subject).Scan(&before); {
	case err != nil:
		return false, err
	case before != entry:
		return false, errMoved
	}
	return false, nil
}

// pins is how many accounts of the provider are tied to an entry, or to one that had its name.
func (s *Store) pins(ctx context.Context, entry, dn string) (n int, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM portal_subjects WHERE entry = $1 OR dn = $2", entry, dn).Scan(&n)
	return n, err
}

// unpin unties them.
func (s *Store) unpin(ctx context.Context, entry, dn string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM portal_subjects WHERE entry = $1 OR dn = $2", entry, dn)
	return err
}

// endAt ends the sessions that began at the provider with an account, or with one of its sessions there; where both are named, with both.
func (s *Store) endAt(ctx context.Context, subject, sid string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM portal_sessions WHERE (subject = $1 OR $1 = '') AND (sid = $2 OR $2 = '') AND subject <> '' AND ($1 <> '' OR $2 <> '')`, subject, sid)
	return err
}
