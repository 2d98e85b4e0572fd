package history

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
)

// A job is work that one of the instances that share a store does at a time. Who does it holds a
// lease: a row that names the holder and ends by itself. Only the store's clock counts, and each lease of a
// job has a number of its own, so that whoever was taken for dead changes nothing when he wakes up.

// Errors of leases.
var (
	// ErrHeld says that another instance does the job now, or that it is not due.
	ErrHeld = errors.New("another instance is doing it at the moment; try again in a minute")
	// ErrLost says that the lease has ended, or that another instance has taken the job over.
	ErrLost = errors.New("the lease of the job has ended: the store was too slow, or another instance took over")
)

// Lease is the right to do a job.
type Lease struct {
	Job, Owner string
	fence      int64     // counts the leases of this job
	Now        time.Time // by the store's clock, when the lease was given or made longer
}

// JobState is what the store knows of a job.
type JobState struct {
	Held      bool      // somebody does it
	Due       bool      // its time has come
	Succeeded time.Time // when it last did, on any instance; zero: never
}

const (
	selectJobs = `SELECT {now}, j.name, j.until, j.due, j.succeeded FROM (SELECT 1 AS one) o LEFT JOIN history_jobs j ON 1 = 1`

	acquireJob = `INSERT INTO history_jobs (name, owner, fence, until, due) VALUES ($1, $2, 1, {now} + $3, 0)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, fence = history_jobs.fence + 1, until = excluded.until
WHERE history_jobs.until <= {now} AND (history_jobs.due <= {now} OR $4 = 1)
RETURNING fence, {now}`

	renewJob = `UPDATE history_jobs SET until = {now} + $4 WHERE name = $1 AND owner = $2 AND fence = $3 AND until > {now} RETURNING {now}`

	// A holder whose time is over may still say what became of the job, if nobody has taken it since.
	endJob = `UPDATE history_jobs SET owner = '', until = 0, due = {now} + $4,
	succeeded = CASE WHEN $5 = 1 THEN {now} ELSE succeeded END WHERE name = $1 AND owner = $2 AND fence = $3`

	// holdJob changes nothing, and locks the row until the end of the transaction.
	holdJob = `UPDATE history_jobs SET until = until WHERE name = $1 AND owner = $2 AND fence = $3 AND until > {now}`
)

// clocked puts the store's clock into a statement.
func (s *Store) clocked(statement string) string {
	return strings.ReplaceAll(statement, "{now}", s.dialect.clock)
}

// Jobs tells how the jobs are that were ever done; others are due.
func (s *Store) Jobs(ctx context.Context) (map[string]JobState, error) {
	rows, err := s.db.QueryContext(ctx, s.clocked(selectJobs))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	states := map[string]JobState{}
	for rows.Next() {
		var now int64
		var name sql.NullString
		var until, due, succeeded sql.NullInt64
		if err := rows.Scan(&now, &name, &until, &due, &succeeded); err != nil {
			return nil, err
		}
		if name.Valid {
			states[name.String] = JobState{Held: until.Int64 > now, Due: due.Int64 <= now, Succeeded: timeOf(succeeded)}
		}
	}
	return states, rows.Err()
}

// Acquire takes a job for a time. force: also when it is not due. owner is a name that no other holder has. Errors: ErrHeld.
func (s *Store) Acquire(ctx context.Context, job, owner string, lasts time.Duration, force bool) (Lease, error) {
	l := Lease{Job: job, Owner: owner}
	var now int64
	err := s.db.QueryRowContext(ctx, s.clocked(acquireJob), job, owner, lasts.Milliseconds(), number(force)).Scan(&l.fence, &now)
	if errors.Is(err, sql.ErrNoRows) {
		return Lease{}, ErrHeld
	}
	l.Now = time.UnixMilli(now)
	return l, err
}

// Renew makes a lease last from now. Errors: ErrLost.
func (s *Store) Renew(ctx context.Context, l Lease, lasts time.Duration) error {
	var now int64
	err := s.db.QueryRowContext(ctx, s.clocked(renewJob), job(l, lasts.Milliseconds())...).Scan(&now)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrLost
	}
	return err
}

// End gives a job back, which is due again after a pause. Errors: ErrLost.
func (s *Store) End(ctx context.Context, l Lease, pause time.Duration, succeeded bool) error {
	r, err := s.db.ExecContext(ctx, s.clocked(endJob), job(l, pause.Milliseconds(), number(succeeded))...)
	return held(r, err)
}

// under does f in a transaction that is made only if the lease holds, and during which nobody else takes it.
func (s *Store) under(ctx context.Context, l Lease, f func(*sql.Tx) error) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		if err := held(tx.ExecContext(ctx, s.clocked(holdJob), job(l)...)); err != nil {
			return err
		}
		return f(tx)
	})
}

// job are the arguments of a statement on the row of a lease.
func job(l Lease, more ...any) []any {
	return append([]any{l.Job, l.Owner, l.fence}, more...)
}

// held makes ErrLost of a statement that found no row.
func held(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return ErrLost
}

// number is a truth value for SQL.
func number(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
