package portal

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"appbind/config"
	"appbind/history"
)

// steps make the tables. A step that was released is never changed. Times are milliseconds since 1970. No
// column holds a password, a one-time code or what opens a session in clear.
var steps = []string{`
CREATE TABLE portal_sessions (
	id        TEXT NOT NULL PRIMARY KEY,
	entry     TEXT NOT NULL,
	dn        TEXT NOT NULL,
	stage     TEXT NOT NULL,
	agent     TEXT NOT NULL,
	created   BIGINT NOT NULL,
	seen      BIGINT NOT NULL,
	factor_at BIGINT NOT NULL,
	method    TEXT NOT NULL DEFAULT ''
);
CREATE INDEX portal_sessions_entry ON portal_sessions (entry);
CREATE INDEX portal_sessions_seen ON portal_sessions (seen);
CREATE TABLE portal_codes (
	hash    TEXT NOT NULL PRIMARY KEY,
	entry   TEXT NOT NULL,
	kind    TEXT NOT NULL,
	expires BIGINT NOT NULL
);
CREATE INDEX portal_codes_entry ON portal_codes (entry);
CREATE TABLE portal_spent (
	what TEXT NOT NULL PRIMARY KEY,
	at   BIGINT NOT NULL
);
CREATE TABLE portal_tries (
	what  TEXT NOT NULL PRIMARY KEY,
	times TEXT NOT NULL,
	last  BIGINT NOT NULL
);
CREATE TABLE portal_audit (
	id      {id},
	at      BIGINT NOT NULL,
	entry   TEXT NOT NULL,
	dn      TEXT NOT NULL,
	actor   TEXT NOT NULL,
	action  TEXT NOT NULL,
	detail  TEXT NOT NULL,
	address TEXT NOT NULL
);
CREATE INDEX portal_audit_entry ON portal_audit (entry, at);
CREATE INDEX portal_audit_at ON portal_audit (at)
`, passkeyTables, `
ALTER TABLE portal_sessions ADD COLUMN changed TEXT NOT NULL DEFAULT ''
`, openIDTables}

// Store is what the pages keep: sessions, codes and the audit. Several instances may share it.
type Store struct{ db *sql.DB }

// OpenStore opens the store of a configuration, which stands in the history's database, and makes what is missing.
func OpenStore(ctx context.Context, cfg *config.Config) (*Store, error) {
	db, err := history.OpenTables(ctx, cfg, "portal", steps)
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }

// digest is a token as it is stored: whoever reads the store cannot use it. Tokens are random, so that no slow hash is needed.
func digest(use, token string) string {
	sum := sha256.Sum256([]byte(use + "\x00" + token))
	return hex.EncodeToString(sum[:])
}

// transact does f in one transaction.
func (s *Store) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the error that counts is f's
		return err
	}
	return tx.Commit()
}

// The stages of a session.
const (
	stagePassword = "password" // the main password was right, or the provider's word is; a second factor is to come
	stageEnrol    = "enrol"    // and an enrolment code: a factor may be enrolled, and nothing else
	stageFull     = "full"     // and a second factor
)

// session is one signed-in browser.
type session struct {
	token     string // of the cookie; not stored
	id        string // its digest
	entry, dn string
	stage     string
	created   time.Time
	seen      time.Time
	factorAt  time.Time // when a second factor was proved last; zero: never
	method    string    // how the second factor was proved
	changed   string    // when the main password was changed last, at the sign-in; see auth.State
	subject   string    // the digest of the account at the provider; "": the session began with the main password
	sid       string    // likewise of the provider's session; "": unknown
	admin     bool      // by the directory, at this request
}

// errNoSession says that a token opens none.
var errNoSession = errors.New("no such session")

// skew is by how much the clock of another instance, or of the provider, may be off.
const skew = time.Minute

// session is that of a token from a browser. One that was idle or lived for too long is none.
func (s *Store) session(ctx context.Context, token, agent string, now time.Time, p *config.Portal) (*session, error) {
	x := &session{token: token, id: digest("session", token)}
	var created, seen, factor int64
	var boundTo string
	err := s.db.QueryRowContext(ctx, "SELECT entry, dn, stage, agent, created, seen, factor_at, method, changed, subject, sid FROM portal_sessions WHERE id = $1", x.id).
		Scan(&x.entry, &x.dn, &x.stage, &boundTo, &created, &seen, &factor, &x.method, &x.changed, &x.subject, &x.sid)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoSession
	}
	if err != nil {
		return nil, err
	}
	x.created, x.seen = time.UnixMilli(created), time.UnixMilli(seen)
	if factor > 0 {
		x.factorAt = time.UnixMilli(factor)
	}
	if now.Sub(x.seen) >= time.Duration(p.Idle) || now.Sub(x.created) >= time.Duration(p.Lifetime) || boundTo != digest("agent", agent) {
		return nil, errNoSession
	}
	if x.seen.Sub(now) > skew || x.created.Sub(now) > skew {
		return nil, errNoSession // the clock was put back: it would live for as long as the clock lags
	}
	if now.Sub(x.seen) >= time.Minute { // not a write for each request
		_, err = s.db.ExecContext(ctx, "UPDATE portal_sessions SET seen = $2 WHERE id = $1", x.id, now.UnixMilli())
	}
	return x, err
}

// begin stores a new session.
func (s *Store) begin(ctx context.Context, x *session, agent string) error {
	x.id = digest("session", x.token)
	_, err := s.db.ExecContext(ctx, `INSERT INTO portal_sessions (id, entry, dn, stage, agent, created, seen, factor_at, method, changed, subject, sid)
VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11)`, x.id, x.entry, x.dn, x.stage, digest("agent", agent), x.created.UnixMilli(), millis(x.factorAt), x.method, x.changed, x.subject, x.sid)
	return err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// end ends sessions: one, or where id is empty all of an entry.
func (s *Store) end(ctx context.Context, entry, id string) error {
	if id == "" {
		_, err := s.db.ExecContext(ctx, "DELETE FROM portal_sessions WHERE entry = $1", entry)
		return err
	}
	_, err := s.db.ExecContext(ctx, "DELETE FROM portal_sessions WHERE entry = $1 AND id = $2", entry, id)
	return err
}

// EndAll ends the sessions of everybody: the pages are switched off.
func (s *Store) EndAll(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM portal_sessions")
	return err
}

// endOthers ends all sessions of an entry but one.
func (s *Store) endOthers(ctx context.Context, entry, id string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM portal_sessions WHERE entry = $1 AND id <> $2", entry, id)
	return err
}

// proved notes that a session's second factor was proved again.
func (s *Store) proved(ctx context.Context, id, method string, now time.Time) error {
	_, err := s.db.ExecContext(ctx, "UPDATE portal_sessions SET factor_at = $2, method = $3 WHERE id = $1 AND stage = 'full'", id, now.UnixMilli(), method)
	return err
}

// spend uses something up; of any number of calls for the same one exactly one is true.
func (s *Store) spend(ctx context.Context, what string, now time.Time) (bool, error) {
	return changed(s.db.ExecContext(ctx, "INSERT INTO portal_spent (what, at) VALUES ($1, $2) ON CONFLICT (what) DO NOTHING", what, now.UnixMilli()))
}

// try counts an attempt; false: there were limit of them within window already. The row is locked before it is read, so that a
// hundred at one time are counted as a hundred.
func (s *Store) try(ctx context.Context, what string, limit int, window time.Duration, now time.Time) (bool, error) {
	allowed := false
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO portal_tries (what, times, last) VALUES ($1, '', $2) ON CONFLICT (what) DO UPDATE SET last = excluded.last",
			what, now.UnixMilli()); err != nil {
			return err
		}
		var text string
		if err := tx.QueryRowContext(ctx, "SELECT times FROM portal_tries WHERE what = $1", what).Scan(&text); err != nil {
			return err
		}
		times := recent(text, now.Add(-window))
		if allowed = len(times) < limit; allowed {
			times = append(times, strconv.FormatInt(now.UnixMilli(), 10))
		}
		_, err := tx.ExecContext(ctx, "UPDATE portal_tries SET times = $2 WHERE what = $1", what, strings.Join(times, " "))
		return err
	})
	return allowed, err
}

// recent are the times of a text that are after a moment.
func recent(text string, after time.Time) (times []string) {
	for _, t := range strings.Fields(text) {
		if n, err := strconv.ParseInt(t, 10, 64); err == nil && n > after.UnixMilli() {
			times = append(times, t)
		}
	}
	return times
}

// giveBack takes the latest attempt off again: it was right.
func (s *Store) giveBack(ctx context.Context, what string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE portal_tries SET last = last WHERE what = $1", what); err != nil {
			return err
		}
		var text string
		err := tx.QueryRowContext(ctx, "SELECT times FROM portal_tries WHERE what = $1", what).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		times := strings.Fields(text)
		if len(times) > 0 {
			times = times[:len(times)-1]
		}
		_, err = tx.ExecContext(ctx, "UPDATE portal_tries SET times = $2 WHERE what = $1", what, strings.Join(times, " "))
		return err
	})
}

// The kinds of stored codes.
const (
	codeEnrol    = "enrol"    // from an admin, for a new factor
	codeRecovery = "recovery" // shown once when a factor was enrolled
)

// addCodes stores codes of an entry in place of those of the same kind.
func (s *Store) addCodes(ctx context.Context, entry, kind string, codes []string, expires time.Time) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM portal_codes WHERE entry = $1 AND kind = $2", entry, kind); err != nil {
			return err
		}
		for _, c := range codes {
			if _, err := tx.ExecContext(ctx, "INSERT INTO portal_codes (hash, entry, kind, expires) VALUES ($1, $2, $3, $4)",
				codeHash(entry, c), entry, kind, millis(expires)); err != nil {
				return err
			}
		}
		return nil
	})
}

// codeHash is a code as it is stored; the entry is its salt.
func codeHash(entry, code string) string { return digest("code\x00"+entry, code) }

// useCode uses up a code of a kind; false: it is none of the entry's, or it is over. Of several at one time one gets it.
func (s *Store) useCode(ctx context.Context, entry, kind, code string, now time.Time) (bool, error) {
	var expires int64
	err := s.db.QueryRowContext(ctx, "DELETE FROM portal_codes WHERE hash = $1 AND entry = $2 AND kind = $3 RETURNING expires",
		codeHash(entry, code), entry, kind).Scan(&expires)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	}
	return expires == 0 || now.UnixMilli() < expires, nil
}

// countCodes is how many codes of a kind are left.
func (s *Store) countCodes(ctx context.Context, entry, kind string) (n int, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM portal_codes WHERE entry = $1 AND kind = $2", entry, kind).Scan(&n)
	return n, err
}

// dropCodes deletes codes of a kind.
func (s *Store) dropCodes(ctx context.Context, entry, kind string) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM portal_codes WHERE entry = $1 AND kind = $2", entry, kind)
	return err
}

// purge deletes what is over. Audit rows stay for the history's retention.
func (s *Store) purge(ctx context.Context, now time.Time, p *config.Portal, retention time.Duration) error {
	for _, c := range []struct {
		statement string
		before    time.Time
	}{
		{"DELETE FROM portal_sessions WHERE seen < $1", now.Add(-time.Duration(p.Idle) - time.Minute)},
		{"DELETE FROM portal_sessions WHERE created < $1", now.Add(-time.Duration(p.Lifetime))},
		{"DELETE FROM portal_codes WHERE expires > 0 AND expires < $1", now},
		{"DELETE FROM portal_challenges WHERE expires < $1", now},
		{"DELETE FROM portal_spent WHERE at < $1", now.Add(-4 * time.Hour)}, // outlives every one-time code
		{"DELETE FROM portal_tries WHERE last < $1", now.Add(-tryDay)},      // the longest window
		{"DELETE FROM portal_flows WHERE started < $1", now.Add(-flowLife)},
		{"DELETE FROM portal_audit WHERE at < $1", now.Add(-retention)},
	} {
		if _, err := s.db.ExecContext(ctx, c.statement, c.before.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// Event is one line of the audit: who did what to whose app passwords or factors. It holds no material.
type Event struct {
	Time      time.Time
	Entry, DN string // whose
	Actor     string // the DN of who did it
	Action    string // one of a fixed list of words
	Detail    string // such as a label
	Address   string // of the actor
}

// note stores an event.
func (s *Store) note(ctx context.Context, e Event) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO portal_audit (at, entry, dn, actor, action, detail, address) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		e.Time.UnixMilli(), e.Entry, e.DN, e.Actor, e.Action, e.Detail, e.Address)
	return err
}

// events are those of an entry, or of all where entry is empty, the latest first.
func (s *Store) events(ctx context.Context, entry string, limit int) (list []Event, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT at, entry, dn, actor, action, detail, address FROM portal_audit WHERE $1 = '' OR entry = $1 ORDER BY at DESC, id DESC LIMIT $2", entry, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e Event
		var at int64
		if err := rows.Scan(&at, &e.Entry, &e.DN, &e.Actor, &e.Action, &e.Detail, &e.Address); err != nil {
			return nil, err
		}
		e.Time = time.UnixMilli(at)
		list = append(list, e)
	}
	return list, rows.Err()
}

// equal compares two texts in constant time.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
