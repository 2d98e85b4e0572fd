// Package history knows who used which app password when, from where.
//
// # Order of steps
//
//	Record    takes an event of a bind into a bounded queue, and never waits (recorder.go)
//	collect   one goroutine merges equal events of an interval in memory (pending.go)
//	write     another one writes them to the store every few seconds (recorder.go, write.go)
//	query     the command line and others read through a Store of their own (query.go)
//	purge     deletes what is older than the retention; package jobs does so (purge.go)
//	lease     of the instances that share the store, one does a job at a time (lease.go)
//	notice    which mails about the expiry of app passwords were sent (notice.go)
//
// The store is SQLite or PostgreSQL; the SQL is the same, what differs stands in
// sqlite.go, postgres.go and schema.go. Several instances may share a store: rows
// are merged by what they are about and when, whoever writes first.
//
// # What a user's history is kept by
//
// The entry's canonical identity, never a spelling of its name. An app password is
// told from its siblings by its selector, which is public, or where it has none by
// its label. A password that fits nothing is not attributed to any: only its public
// selector is looked at, and only where an app password with that selector is known.
// No event has room for a password, a hash or a one-time code.
//
// # Security
//
// A bind never depends on its history. When the queue is full, the memory for what
// is not yet written is used up, or the store refuses a row, events are dropped and
// counted. What strangers can make up is bounded: only binds of entries that exist are
// recorded, and the failures of one entry on one day take a bounded number of rows.
//
// # Limits
//
// What was not yet written is lost when the process is killed: at most FlushEvery, and
// the time of the write under way. While the store does not answer, that grows up
// to maxPending different rows. When the answer to a commit is lost, what was
// written may be written again: the number of uses is then too high, no time is wrong.
package history

import (
	"net/netip"
	"time"
)

// What was presented, in Event.Kind.
const (
	App  = "app"  // an app password
	Main = "main" // the main password, or what was taken for one
	None = "none" // neither: mistyped, a stored value, an entry that is not eligible ...
)

// ReasonGone is the Denied of an app password that is no longer in the entry.
const ReasonGone = "no such app password"

// Event is one bind of a user that was judged.
type Event struct {
	Time     time.Time
	Entry    string     // the entry's canonical identity
	DN       string     // its present DN
	Kind     string     // App, Main or None
	ID       string     // the app password's selector; "": it has none
	Label    string     // the app password's label; "": not known
	Denied   string     // the fixed words of the reason; "": accepted
	Service  string     // the user's service; "": not known
	Addr     netip.Addr // the user's address; invalid: not known
	Peer     netip.Addr // who asked, most often the mail server; invalid: a unix socket
	Listener string     // where
}

// Password is what is known of one password of a user. A zero time is one that is not known.
type Password struct {
	Entry, DN string
	Kind      string // App or Main
	ID, Label string // of an app password
	Issued    time.Time
	Revoked   time.Time // when it was revoked, or first presented in vain
	FirstUsed time.Time
	LastUsed  time.Time
	Service   string     // of the last use
	Addr      netip.Addr // of the last use; invalid: not known, or older than the retention
	Uses      int64      // successful ones
}

// Use is uses, or failures, of one password that are alike: same reason, service and address, within one interval.
type Use struct {
	Entry, DN   string
	Kind        string // App, Main or None
	ID, Label   string
	Denied      string // "": accepted
	Service     string
	Addr        netip.Addr
	Peer        netip.Addr // of the last one
	Listener    string     // of the last one
	First, Last time.Time
	Times       int64
}
