// Package jobs is what appbind does by itself: it removes app passwords that
// expired long ago, tells users before one expires, and deletes old history.
//
// # Order of steps
//
//	Runner   looks once a minute which jobs are due (runner.go)
//	lease    takes the job's lease in the store that the instances share, and keeps it (lease.go)
//	work     remove_expired (expired.go), notify (notify.go, person.go), purge_history (purge.go)
//	Do       is the same by hand, Look says what would be done
//
// # One instance at a time
//
// Who does a job holds its lease: a row with an owner, a number and an end by the
// store's clock. The holder makes it longer three times before it ends; when that
// fails he stops before the end, at the next user. An instance that was taken for
// dead and wakes up changes nothing in the store: each claim of a mail is made in one
// transaction with a look at the lease. The directory knows no leases; what is removed
// there is judged on what is read in the same change, so that twice is as good as once.
// A clock that differs from the store's by minutes stops the jobs: it would remove what
// has not expired. Without a history there is no store: then expired app passwords are removed
// by each instance, and no mail is sent.
//
// # A mail is sent once
//
// Before a mail is sent it is claimed in the store, and afterwards its outcome is noted.
// Whoever dies in between leaves a claim without an outcome, and the mail is sent again after an
// hour, with the same Message-ID: one crash sends at most twice, and never not at all. After
// three attempts of which nobody knows the outcome the mail is given up, since something kills
// appbind whenever it sends it. What the mail server has refused is known not to be sent,
// and is tried again: at once when it was about the server, after a day when it was about the address.
//
// A mail that was missed (appbind was down, the server was, the user had no address) is sent late, until
// the app password has been expired for as long as the mail should have come before. An app password
// that is renewed gets another mail before its new expiry.
//
// Events about expiring app passwords (audit log, webhook) are noted in the same way, apart from the mails:
// there is one for each expiry whether a mail can be sent or not.
//
// # Security
//
// Mails, logs and events have labels, public selectors and times, never a value.
// Users who are disabled get no mail.
package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"appbind/history"
	"appbind/mail"
	"appbind/manage"
	"appbind/secrets"
)

// The jobs, by the names of their keys in the configuration.
const (
	RemoveExpired = "remove_expired"
	Notify        = "notify"
	PurgeHistory  = "purge_history"
)

// Names are all jobs.
func Names() []string { return []string{RemoveExpired, Notify, PurgeHistory} }

// Item is one thing that a job did, or would do.
type Item struct {
	User    string // DN
	Label   string
	ID      string // public, see manage.Handle
	Expires time.Time
	Address string // of a mail
	Outcome string // what became of it, in fixed words
	Err     error  // why it failed; nil: it did not
}

// The outcomes of items.
const (
	Removed   = "removed"
	Sent      = "sent"
	Failed    = "failed"     // and tried again
	Uncertain = "uncertain"  // the mail may have been sent; it is sent again
	NoAddress = "no address" // the user's entry has none
	Planned   = "planned"    // by Look
)

// Errors of Do and Look.
var (
	// ErrNoStore says that a job needs a history.
	ErrNoStore = errors.New("the job needs a history, where it notes what it did: history.store is none")
	// ErrNoServer says that there is no mail server.
	ErrNoServer = errors.New("there is no mail server: set mail.server and mail.from")
	// ErrClock says that the clocks differ.
	ErrClock = errors.New("the clock of this machine and that of the history's store differ by more than five minutes")
)

// directory is where app passwords are; site is the real one.
type directory interface {
	// Each calls f for every user who has app passwords.
	Each(ctx context.Context, f func(u *manage.User) error) error
	// Remove removes those of a user for which which holds, and returns them.
	Remove(ctx context.Context, dn string, which func(v *secrets.Value) bool) ([]*secrets.Value, error)
	// Person is who a user is.
	Person(ctx context.Context, dn string) (person, error)
}

// leases are where instances agree on who does a job; a history.Store.
type leases interface {
	Jobs(ctx context.Context) (map[string]history.JobState, error)
	Acquire(ctx context.Context, job, owner string, lasts time.Duration, force bool) (history.Lease, error)
	Renew(ctx context.Context, l history.Lease, lasts time.Duration) error
	End(ctx context.Context, l history.Lease, pause time.Duration, succeeded bool) error
}

// notices are where it is noted which mails were sent; a history.Store.
type notices interface {
	Notices(ctx context.Context, since time.Time) (map[history.Notice]history.NoticeState, error)
	Claim(ctx context.Context, l history.Lease, later time.Duration, list ...history.Notice) error
	Settle(ctx context.Context, outcome history.Outcome, later time.Duration, list ...history.Notice) error
	ForgetNotices(ctx context.Context, before time.Time) error
}

// store is a history.Store.
type store interface {
	leases
	notices
	Purge(ctx context.Context, now time.Time, retention time.Duration) (int64, error)
	Revoked(ctx context.Context, c history.Change) error
	Close() error
}

// sender hands mail over; a mail.Server.
type sender interface {
	Send(ctx context.Context, m *mail.Message) error
	Try(ctx context.Context) error
}

var (
	_ store  = (*history.Store)(nil)
	_ sender = (*mail.Server)(nil)
)

// Events is told what the jobs do with app passwords, when they have done it. Its methods do not wait.
type Events interface {
	// Expired says that an app password was removed, having expired long ago.
	Expired(at time.Time, u *manage.User, v *secrets.Value)
	// Expiring says that one expires soon; once for each expiry.
	Expiring(at time.Time, u *manage.User, v *secrets.Value)
	// Purged says that rows of the history were deleted.
	Purged(at time.Time, rows int64)
}

// Counts is what runners count. A later runner goes on with the counts of the one before, so that no counter falls.
type Counts struct {
	jobs                             [3]jobCounts
	removed, notRemoved, deleted     atomic.Uint64
	sent, failed, uncertain, givenUp atomic.Uint64
	panics                           atomic.Uint64
}

type jobCounts struct {
	succeeded, failed, lost atomic.Uint64
	last                    atomic.Int64 // seconds since 1970 of the last success on any instance; 0: none is known
}

// JobStats is how a job is.
type JobStats struct {
	Name string
	Last time.Time // of the last success on any instance; zero: none is known
	Runs map[string]uint64
}

// Stats is what was counted.
type Stats struct {
	Jobs    []JobStats
	Removed map[string]uint64 // expired app passwords, by outcome: removed, failed
	Deleted uint64            // uses and failures
	Mails   map[string]uint64 // by outcome
	Panics  uint64
}

// Stats takes a snapshot.
func (c *Counts) Stats() Stats {
	st := Stats{
		Removed: map[string]uint64{"removed": c.removed.Load(), "failed": c.notRemoved.Load()},
		Deleted: c.deleted.Load(),
		Mails:   map[string]uint64{"sent": c.sent.Load(), "failed": c.failed.Load(), "uncertain": c.uncertain.Load(), "given up": c.givenUp.Load()},
		Panics:  c.panics.Load(),
	}
	for i, name := range Names() {
		j := &c.jobs[i]
		s := JobStats{Name: name, Runs: map[string]uint64{"succeeded": j.succeeded.Load(), "failed": j.failed.Load(), "lost": j.lost.Load()}}
		if at := j.last.Load(); at != 0 {
			s.Last = time.Unix(at, 0)
		}
		st.Jobs = append(st.Jobs, s)
	}
	return st
}

// job are the counts of a job.
func (c *Counts) job(name string) *jobCounts {
	for i, n := range Names() {
		if n == name {
			return &c.jobs[i]
		}
	}
	panic("appbind: internal error: no job " + name)
}

// options are what a Runner needs.
type options struct {
	on           func(job string) bool // the configuration wants it
	interval     time.Duration
	removeAfter  time.Duration
	notifyBefore time.Duration
	retention    time.Duration
	link         string
	open         func(ctx context.Context) (store, error) // nil: there is no history
	dir          directory
	mail         sender // nil: there is no mail server
	texts        *mail.Texts
	events       Events // nil: nobody takes note
	counts       *Counts
	now          func() time.Time
	log          *slog.Logger
}
