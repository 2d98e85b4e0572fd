package history

import (
	"context"
	"database/sql"
	"time"
)

// Notice is what is known of the mail about the expiry of one app password: it is sent once. An app
// password that was renewed expires at another time, which is another notice.
type Notice struct {
	Entry   string // the user's canonical identity
	Ident   string // the app password's, public
	Expires time.Time
}

// NoticeState is how far a notice is.
type NoticeState struct {
	Tries int       // attempts of which nobody knows how they ended, the one under way included
	Later time.Time // not to be tried before
	Done  bool      // sent, or given up
}

// Outcome is how an attempt to send a notice ended.
type Outcome int

// Outcomes.
const (
	Sent      Outcome = iota // the mail server has taken it
	NotSent                  // it has not, and may later
	GivenUp                  // it is not tried again
	SentMaybe                // nobody knows
)

const (
	selectNotices = `SELECT entry, ident, expires, tries, later, done FROM history_notices WHERE expires >= $1`

	claimNotice = `INSERT INTO history_notices (entry, ident, expires, tries, later, done) VALUES ($1, $2, $3, 1, {now} + $4, 0)
ON CONFLICT (entry, ident, expires) DO UPDATE SET tries = history_notices.tries + 1, later = excluded.later`

	settleNotice = `UPDATE history_notices SET tries = tries - $4, later = {now} + $5, done = CASE WHEN $6 = 1 THEN {now} ELSE done END
WHERE entry = $1 AND ident = $2 AND expires = $3`

	forgetNotices = `DELETE FROM history_notices WHERE expires < $1`
)

// Notices are those of app passwords that expire, or have expired, since a time.
func (s *Store) Notices(ctx context.Context, since time.Time) (map[Notice]NoticeState, error) {
	rows, err := s.db.QueryContext(ctx, selectNotices, since.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := map[Notice]NoticeState{}
	for rows.Next() {
		var n Notice
		var st NoticeState
		var expires, later, done int64
		if err := rows.Scan(&n.Entry, &n.Ident, &expires, &st.Tries, &later, &done); err != nil {
			return nil, err
		}
		n.Expires, st.Later, st.Done = time.UnixMilli(expires).UTC(), time.UnixMilli(later), done != 0
		list[n] = st
	}
	return list, rows.Err()
}

// Key is the notice in the form in which Notices returns it.
func (n Notice) Key() Notice {
	return Notice{Entry: key(n.Entry), Ident: clean(n.Ident), Expires: time.UnixMilli(n.Expires.UnixMilli()).UTC()}
}

// Claim notes, before they are sent, that notices are about to be. All or none, and only under the lease, so that
// no two instances send one. They are not to be tried again before later has passed. Errors: ErrLost.
func (s *Store) Claim(ctx context.Context, l Lease, later time.Duration, list ...Notice) error {
	return s.under(ctx, l, func(tx *sql.Tx) error {
		for _, n := range list {
			n = n.Key()
			if _, err := tx.ExecContext(ctx, s.clocked(claimNotice), n.Entry, n.Ident, n.Expires.UnixMilli(), later.Milliseconds()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Settle notes how an attempt ended. It needs no lease: what happened has happened.
func (s *Store) Settle(ctx context.Context, outcome Outcome, later time.Duration, list ...Notice) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		for _, n := range list {
			n = n.Key()
			if _, err := tx.ExecContext(ctx, s.clocked(settleNotice), n.Entry, n.Ident, n.Expires.UnixMilli(),
				number(outcome != SentMaybe), later.Milliseconds(), number(outcome == Sent || outcome == GivenUp)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetNotices deletes those of app passwords that expired before a time.
func (s *Store) ForgetNotices(ctx context.Context, before time.Time) error {
	_, err := s.db.ExecContext(ctx, forgetNotices, before.UnixMilli())
	return err
}
