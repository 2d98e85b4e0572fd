package history

import (
	"context"
	"time"
)

// remember is for how long the time of a last use is kept, without service and address, where the
// retention is shorter: longer than app passwords live by default, so that those are found that nobody uses.
const remember = 400 * 24 * time.Hour

// purgeBatch is how many rows are deleted at one time, so that writers get in between.
const purgeBatch = 5000

// purgeUses deletes what is older than $1, at most $2 rows.
const purgeUses = `DELETE FROM history_uses WHERE (password_id, bucket, denied, service, address) IN (
	SELECT password_id, bucket, denied, service, address FROM history_uses WHERE last_at < $1 LIMIT $2)`

// purgeRest is what is done with $1, the begin of the retention, and $2, that of what is remembered, once the uses are gone.
var purgeRest = []string{
	`UPDATE history_passwords SET last_service = '', last_address = '' WHERE last_used < $1 AND (last_service <> '' OR last_address <> '') AND $2 <= $1`,
	`DELETE FROM history_passwords WHERE seen < $1 AND (kind = 'none' OR revoked IS NOT NULL OR seen < $2)`,
	`DELETE FROM history_users WHERE seen < $1 AND $2 <= $1 AND NOT EXISTS (SELECT 1 FROM history_passwords WHERE user_id = history_users.id)`,
}

// Purge deletes what is older than the retention, seen from now: uses and failures, service and address of older last uses,
// passwords that were revoked, and users of whom nothing is left. It returns the number of uses and failures.
func (s *Store) Purge(ctx context.Context, now time.Time, retention time.Duration) (int64, error) {
	before := now.Add(-retention).UnixMilli()
	forget := min(before, now.Add(-remember).UnixMilli())
	total := int64(0)
	for {
		r, err := s.db.ExecContext(ctx, purgeUses, before, purgeBatch)
		if err != nil {
			return total, err
		}
		n, err := r.RowsAffected()
		if err != nil {
			return total, err
		}
		if total += n; n < purgeBatch {
			break
		}
	}
	for _, statement := range purgeRest {
		if _, err := s.db.ExecContext(ctx, statement, before, forget); err != nil {
			return total, err
		}
	}
	return total, nil
}

// Old is how many uses and failures Purge would delete.
func (s *Store) Old(ctx context.Context, now time.Time, retention time.Duration) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM history_uses WHERE last_at < $1", now.Add(-retention).UnixMilli()).Scan(&n)
	return n, err
}
