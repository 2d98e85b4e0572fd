// Package auth is the decision: does this bind succeed, and who is the client then?
// A user's app passwords come first; what is none of them is passed through to
// the directory, if policy allows it and the account cannot be locked by it. There are no
// sockets here, no BER and no SQL: what the decision needs of the upstream stands
// behind Directory and Binder, and what it remembers in a Memory.
//
// # Order of steps
//
// Verify walks down one table; the order is part of the security.
//
//	 0  a SASL bind           EXTERNAL: the mapped service account is passed through, with its
//	                          configured password; not mapped 49; other mechanisms 7
//	 1  name, no password     53, nothing looked up
//	 2  neither               anonymous, if the listener allows it
//	 3  in clear              13, before the password is looked at
//	 6  context not believed  49
//	 9  over 1024 bytes       49, never hashed, never forwarded
//	 4  a listed DN           passed through, in the configured spelling
//	 5  any other name        looked up; trouble is Unavailable
//	 6  none, or several      49, at the cost of a user's
//	 7  no user               rows 9 and 11, then passed through, with the DN that the upstream returned
//	 8  not eligible          49
//	 9  a stored secret       49, with and without a one-time code behind it
//	10  an app password       success, or 49 where it is not allowed, or app passwords are switched off: never falls through
//	11  the shape of one      49
//	12  fallback denied       49; also a one-time code required and none enrolled, or a malformed one
//	13  one-time code         PASSWORD$CODE, code right and unused, PASSWORD not of rows 9 to 11
//	14  known bad, budget     49
//	15  otherwise             forwarded, with the DN that the upstream returned
//
// The upstream's answer to a user: 0 is success, 49 and 32 are 49; 19, 50 and 53
// are 49 if the entry shows a lock; anything else is Unavailable. To a service account: likewise, without the lock.
//
// # Security
//
// In an outage (see Outages) rows 5 to 11 decide by the last copy of the entry, which is marked Stale, and row 4 by the
// password that the upstream took last. Both can only accept: anything else is Unavailable, but for app passwords that are
// switched off.
//
// InvalidCredentials means "verified: does not fit". Whatever prevents verifying is Busy (our
// own lack of room: hashing, guesses, one-time codes) or Unavailable, since mail clients throw a saved
// password away on the first. Accepted is set where a named value matched, and where the upstream
// answered 0; in an outage also where it had answered 0 to a service account's password before.
//
// A name is what the upstream's entry says it is. Every counter and memory is keyed by Entry.Key, so that
// another spelling is not another account. The password goes upstream at most
// once per bind, never for an app password, a stored value, a password known to fail, or by the name that an old copy has.
//
// A one-time code is claimed at the moment at which the password is forwarded: exactly one of any
// number of parallel binds gets it. What rows 9 to 14 refuse does not use it up, and learns nothing by
// that: the code was checked before, its five wrong tries are counted whatever follows, and the
// answer is the same 49. A refusal by the upstream uses it up; trouble gives it back.
//
// # Limits
//
// What is remembered is lost when the process ends, and is not shared between processes: after a restart
// each stale password is forwarded once more, and a code can be used once more in its ninety seconds. Where
// the entry's password and lock state is not readable, a stale password is forwarded again after each
// fallback.window, within the budget. The budget can be used up by anybody who knows a name; see
// failures for whom that holds up, and why it is not relaxed. A change of the state fingerprint that did not reset the upstream's
// own counter (userAccountControl edited by hand) hands out the budget anew.
package auth

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"appbind/secrets"
)

// Password is a password as received. It never prints itself.
type Password []byte

// Bind is one bind request as the decision sees it.
type Bind struct {
	// Name is the bind name as received, the context taken off; any spelling.
	Name string
	// Password is the simple password.
	Password Password
	// SASL is the mechanism of a SASL bind; "" for a simple bind.
	SASL string
	// External is the peer's identity for SASL EXTERNAL: the service account that
	// the configuration maps it to, with its password; nil when it maps to none.
	External *ServiceLogin
	// Secure says that the password did not travel in clear, or that the listener allows it to.
	Secure bool
	// ContextInvalid says that the name carries a context that is not believed or not well formed.
	ContextInvalid bool
	// Listener is the policy of the listener.
	Listener Listener
	// Client is the user's service and address.
	Client Client
}

// ServiceLogin is a service account and the password with which appbind binds as it.
type ServiceLogin struct {
	DN       string
	Password Password
}

// Listener is what a listener decides about binds.
type Listener struct {
	Anonymous bool   // anonymous binds are accepted
	Fallback  string // inherit, allow, deny
	TOTP      string // inherit, when_enrolled, required, ignore
}

// Client is who is at the other end of the mail server.
type Client struct {
	Service string     // the user's service, lower case; "" = unknown
	Addr    netip.Addr // the user's address; invalid = unknown
	Peer    netip.Addr // who is connected to us; invalid on ldapi
	Session string     // the mail server's session ID, from the context
}

// Kind is how a bind ended.
type Kind int

// The outcomes. One table in proxy maps them to result codes.
const (
	// Accepted: an app password or the upstream accepted the bind.
	Accepted Kind = iota
	// Anonymous: an anonymous bind, accepted.
	Anonymous
	// InvalidCredentials: verified, does not fit (49).
	InvalidCredentials
	// EmptyPassword: a name without a password (53).
	EmptyPassword
	// AnonymousRefused: the listener takes no anonymous binds (48).
	AnonymousRefused
	// ConfidentialityRequired: a password in clear (13).
	ConfidentialityRequired
	// MechanismNotSupported: a SASL mechanism other than EXTERNAL (7).
	MechanismNotSupported
	// Busy: no room for the work in time (51).
	Busy
	// Unavailable: cannot be decided now (52, or disconnect).
	Unavailable
)

// Decision is the end of a bind.
type Decision struct {
	Row    int // of design's decision table, 0 to 15
	Kind   Kind
	Reason string // fixed words for the log
	Err    error  // what was behind Busy and Unavailable; for the log only

	// DN is who the client is after an accepted bind: the listed DN, or the DN that the upstream returned.
	DN string
	// Entry is the user's entry, where one was found.
	Entry *Entry
	// Denied is the app password that fits and is not allowed (expired, service, network, or all are switched off); for the log only.
	Denied *secrets.Value
	// Selector is the public selector of a password of our shape that was refused in row 11, or switched off: it tells whose it is.
	Selector string
	// App is the app password that matched; nil after a passed-through bind.
	App *secrets.Value
	// Answer is the upstream's answer to a passed-through bind; nil otherwise.
	Answer *Answer
	// Until is set where a service account was accepted in an outage, without an answer of the upstream: for so long
	// at most it may be served from memory.
	Until time.Time
}

// Entry is what a lookup found.
type Entry struct {
	// Key is the canonical identity: entryUUID, objectGUID, nsUniqueId or ipaUniqueID with its type, else the DN in comparable form.
	Key string
	// DN is the entry's DN as the upstream returned it.
	DN string
	// User says that the DN stands below users.bases.
	User bool
	// Eligible says that the entry matched the filter and the enabled filter.
	Eligible bool
	// Ends is when the account ends by itself, as far as users.enabled_filter asks for that; zero: never.
	Ends time.Time
	// Values are the values of the secrets attribute, in the order of the upstream.
	Values [][]byte
	// Index is kept with a list of values that several binds share (see type Index); nil: the entry is one bind's own.
	Index *Index
	// State is the entry's password and lock state.
	State State
	// Copied says that the entry comes from a copy, is shared, and must not be changed. Its State may be older than that
	// of the directory, which need not tell of locks that it sets itself; Directory.State reads it where it matters.
	Copied bool
	// Stale says that the entry comes from a copy that is not current, since no server answers. It may accept an app
	// password, and nothing else: what does not fit it may fit the directory.
	Stale bool
}

// Enabled reports whether the entry may log in at a time: it is eligible, and has not ended.
func (e *Entry) Enabled(now time.Time) bool {
	return e.Eligible && (e.Ends.IsZero() || now.Before(e.Ends))
}

// State is an entry's password and lock state at one moment.
type State struct {
	// Fingerprint is equal as long as the password is; "" where nothing that changes with it is readable.
	Fingerprint string
	// Changed tells when the password was changed last, and changes with nothing else of the entry; "" where that is not readable.
	Changed string
	// Lock is equal as long as the account is neither locked nor unlocked, disabled nor enabled.
	Lock string
	// Locked says that the entry shows a lock.
	Locked bool
	// Failures is how many failures the upstream itself counts at the moment; 0 where it does not show.
	Failures int
	// Server is the server that showed it, as in Answer.
	Server string
}

// Lockout is the lock-out policy of the upstream.
type Lockout struct {
	// MaxFailures locks an account; 0: none, or unknown.
	MaxFailures int
	// Interval is after how long failures are forgotten; 0: never.
	Interval time.Duration
}

// Answer is the upstream's answer to one bind.
type Answer struct {
	Code       int32
	Diagnostic string
	Controls   []byte // response controls, as received
	Server     string // which server answered
}

// Errors of a Directory.
var (
	// ErrNotFound says that no entry has the name.
	ErrNotFound = errors.New("no such entry")
	// ErrAmbiguous says that more than one entry has the name.
	ErrAmbiguous = errors.New("more than one entry has this name")
)

// Directory is what the decision asks of the upstream with appbind's own identity.
// An error other than the two above is trouble (row 5), and never a wrong password.
type Directory interface {
	// Find looks up a bind name: a DN by a base search, anything else by name_filter. ErrNotFound is certain: the
	// identity that looks up could have seen the entry, for all that is known.
	Find(ctx context.Context, name string) (*Entry, error)
	// State reads the entry's password and lock state again.
	State(ctx context.Context, e *Entry) (State, error)
	// FallbackDenied evaluates fallback.deny_filter on the entry.
	FallbackDenied(ctx context.Context, e *Entry) (bool, error)
	// Lockout is the upstream's lock-out policy, as far as it is known.
	Lockout() Lockout
	// AbsentDN is a DN that does not exist, for a bind that costs as much as a real one.
	AbsentDN() string
}

// Binder sends one bind upstream. It is never called twice in one decision.
type Binder interface {
	// Bind binds as dn. An error means that there is no answer: trouble, never a wrong password.
	Bind(ctx context.Context, dn string, password Password) (*Answer, error)
}
