// Package backend is the upstream side: the directory behind appbind.
//
// An Upstream is the servers of one configuration. It hands out links, answers
// lookups, and knows what the servers say of themselves. A reload makes a new
// Upstream and closes the old one.
//
// # Links
//
// A Link is one connection to one server, with a reader goroutine of its own.
// Requests are numbered by the link; each response goes to the Sink of the
// request that it answers, and to no other: an ID is not used again while its
// request is outstanding, an answer to a request that was given up is dropped,
// and anything that cannot be an answer (an ID that was never used, an
// operation that does not fit, bytes that are no LDAPMessage) loses the link.
// When a link is lost every outstanding request hears so, once.
//
// There are four sorts, which never mix:
//
//   - bind links carry the binds of users and of service accounts. They wait in
//     a pool, are used by one owner at a time, and start each use with a bind.
//     After a successful bind the owner may keep the link as the client's own.
//   - anonymous links were never bound and are never pooled.
//   - shared links are bind links that a Group has taken: the clients that have
//     proved the same password of the same service account send over them, many at
//     a time. They serve for ten minutes, and not after a failed bind of the account.
//   - service links are bound as upstream.bind_dn and carry lookups, many at a
//     time. They are never handed out.
//
// A bind is sent at most once. Where a pooled link turns out dead before the
// bind was queued, another is taken (ErrNotSent); from then on there is no
// second try, since a bind that fails counts towards a lock-out. A link on
// which a bind was not answered in time is closed.
//
// # Servers and health
//
// A server is up, suspect or down. A failed connect takes it down; a link that
// is lost with requests outstanding, or a request that is not answered in time,
// makes it suspect. Result codes say nothing about health. A prober goroutine
// per server examines suspect and down servers (connect, root DSE) at once and
// then every 200 ms, growing to 1 s. Down servers are not used: when all are
// down, everything fails at once with ErrUnavailable. Suspect ones are used
// after the ones that are up.
//
// # Security
//
// Passwords go to configured servers only; referrals are never followed.
// StartTLS, once configured, is required: a refusal, or bytes between the
// answer and the handshake, end the connection before any bind. Certificates
// are always verified, TLS is at least 1.2. Errors and logs carry no passwords.
//
// # Goroutines
//
// One reader per link (link.go), one prober per server (health.go), one
// connector per service link (service.go) and per Group (shareconnect.go) that
// needs a link, one surveyor (survey.go), one caretaker (pool.go) and, with
// app_passwords.lookup: replica, one that follows the directory (replica_session.go) per
// Upstream. Close waits for all.
package backend

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// Errors that callers tell apart.
var (
	// ErrUnavailable says that no upstream server could be reached, or that the one in use was lost.
	ErrUnavailable = errors.New("upstream unavailable")
	// ErrNotSent says, together with ErrUnavailable, that a link was dead before
	// the request was queued: nothing of it was sent, and another link may be tried.
	ErrNotSent = errors.New("request not sent")
)

// Sink receives the responses to one request. Calls come one after the other,
// from the link's reader, and may come before Send has returned.
type Sink interface {
	// Deliver gives one response. final: it ends the request. more: another
	// message is already at hand, so that a write may wait for it. The message is
	// valid during the call. Deliver may block, and then holds up the whole link.
	// The final response of an operation can be an ExtendedResponse, whatever the
	// operation was: Samba answers an unsupported critical control so.
	Deliver(m wire.Message, final, more bool)
	// Lost says that no (further) response will come: the link is lost or the
	// request timed out. Called at most once, and not after final.
	Lost(err error)
}

// Upstream is the servers of one configuration: links, health, lookups. Safe for concurrent use.
type Upstream struct {
	cfg    *config.Config
	log    *slog.Logger
	clock  clock
	dialer *dialer

	servers  []*server
	panics   *atomic.Uint64 // bugs of ours in a Sink, each contained in its link; see Continue
	choice   atomic.Pointer[choice]
	next     atomic.Uint32 // turns the choice for balance: spread
	healthMu sync.Mutex    // guards the health of all servers, and the making of choice

	pool        pool
	shares      shares
	tick        atomic.Int64 // counts the caretaker's rounds; the clock of request timeouts
	lookup      *lookup
	page        uint16        // pageSize, but in tests
	lists       chan struct{} // holds one token for each list of users under way, see EachUser
	replica     replica
	flights     flights
	outage      outageWatch
	snapshot    *snapshot                                           // of the snapshot; nil: there is none
	snapshotLog rareLog                                             // that it cannot be written
	bound       func(dn string, password auth.Password, code int32) // see OnShared; nil: nobody wants to know
	survey      atomic.Pointer[survey]
	surveying   chan struct{} // holds one token while a survey is made
	resurvey    chan struct{} // asks the surveyor to look again
	absent      string        // AbsentDN
	blindLog    rareLog       // that a base cannot be seen

	stop      context.Context // ends when Close begins
	cancel    context.CancelFunc
	closeOnce sync.Once
	linksEnd  chan struct{}  // closed when the last link has ended after Close: ends the caretaker
	workers   sync.WaitGroup // probers, connectors, surveyor
	links     sync.WaitGroup // readers
	care      sync.WaitGroup // the caretaker
}

// clock is the time, as tests may replace it.
type clock struct {
	now func() time.Time
	// timer is time.NewTimer: a channel that receives once, and how to stop it.
	timer func(time.Duration) (<-chan time.Time, func() bool)
}

func systemClock() clock {
	return clock{now: time.Now, timer: func(d time.Duration) (<-chan time.Time, func() bool) {
		t := time.NewTimer(d)
		return t.C, t.Stop
	}}
}

// New makes the upstream of a configuration. It connects to nothing; Start
// does. Errors are those of files that cannot be read (ca, certificate) and of
// filters and DNs that cannot be understood.
func New(cfg *config.Config, log *slog.Logger) (*Upstream, error) {
	d, err := newDialer(&cfg.Upstream)
	if err != nil {
		return nil, err
	}
	lookup, err := newLookup(cfg)
	if err != nil {
		return nil, err
	}
	u := &Upstream{cfg: cfg, log: log, clock: systemClock(), dialer: d, lookup: lookup,
		surveying: make(chan struct{}, 1), resurvey: make(chan struct{}, 1), linksEnd: make(chan struct{}), absent: absentDN(cfg), panics: new(atomic.Uint64),
		page: pageSize, lists: make(chan struct{}, maxLists)}
	u.stop, u.cancel = context.WithCancel(context.Background())
	for i := range cfg.Upstream.URLs {
		u.servers = append(u.servers, newServer(u, cfg.Upstream.URLs[i], []byte(cfg.Upstream.BindPassword)))
	}
	u.replica.init(cfg, lookup)
	u.choose()
	u.survey.Store(unsurveyed(cfg))
	u.pool.init(cfg.Upstream.MaxLinks - len(u.servers)*max(cfg.Upstream.ServiceLinks, 1))
	u.shares = shares{secret: make([]byte, 32), groups: map[[sha256.Size]byte]*Group{}, room: u.pool.places - 1}
	_, _ = rand.Read(u.shares.secret) // never fails, see crypto/rand
	return u, nil
}

// absentDN is below the first base, with a name that nobody can guess and so nobody can create.
func absentDN(cfg *config.Config) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	dn := "cn=appbind-absent-" + hex.EncodeToString(b[:])
	if len(cfg.Users.Bases) > 0 {
		dn += "," + cfg.Users.Bases[0]
	}
	return dn
}

// Start starts the goroutines and tries once, within ctx, to read the root
// DSE, schema and lock-out policy; an upstream that is down is not an error.
func (u *Upstream) Start(ctx context.Context) {
	u.care.Add(1)
	go u.runCaretaker()
	for _, s := range u.servers {
		u.workers.Add(1)
		go s.runProber()
	}
	// A directory that hangs must not keep clients from being told so.
	first, cancel := context.WithTimeout(ctx, time.Duration(u.cfg.Upstream.BindTimeout))
	defer cancel()
	if u.snapshot != nil {
		u.startSnapshot()
	}
	_ = u.readSurvey(first) // the surveyor tries again
	u.workers.Add(1)
	go u.runSurveyor()
	if u.replica.on {
		u.workers.Add(1)
		go u.runReplica()
	}
}

// Close closes pooled links at once and service links when their lookups under
// way have ended; what comes later is answered with ErrUnavailable. Links in
// use survive until their owners close or release them, and Close waits for
// them and for all goroutines.
// The second call and those after it return at once.
func (u *Upstream) Close() { u.closeOnce.Do(u.close) }

func (u *Upstream) close() {
	u.cancel()
	u.pool.close()
	for _, s := range u.servers {
		s.retireServiceLinks()
	}
	for _, g := range u.groups() {
		g.dismiss() // clients without a request under way hold nothing back
	}
	u.workers.Wait()
	u.links.Wait()
	close(u.linksEnd)
	u.care.Wait()
}

// closing reports whether Close has begun.
func (u *Upstream) closing() bool { return u.stop.Err() != nil }

// Directory is the Upstream as auth.Directory, see lookup.go.
var _ auth.Directory = (*Upstream)(nil)
