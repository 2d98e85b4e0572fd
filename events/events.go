// Package events tells people and programs what became of app passwords: an audit
// log, and a webhook.
//
// # Order of steps
//
//	Emit      makes one line of JSON of an event, and never waits (journal.go)
//	audit     one goroutine appends the lines to a file or to standard output (audit.go)
//	webhook   another one posts those that are wanted to a URL, signed, until they are taken (webhook.go)
//	Read      reads what audit has written, for those who ask later (read.go)
//
// Who causes an event calls Emit when it has happened, not before: package manage for
// changes, package history for what is only seen when uses are written (a new
// network, a stale device), the jobs for what they do.
//
// # The audit log
//
// One JSON object a line. The file is opened for appending, by appbind alone (mode 0600)
// where it makes it, and opened anew by Reopen, so that it can be rotated. Other
// processes (the command line) may append to the same file. A line that cannot
// be written is tried again every second; what does not fit into the queue meanwhile is dropped
// and counted.
//
// # The webhook
//
// A POST of the same JSON object, by the rules of Standard Webhooks: the headers
// webhook-id (the same for each attempt), webhook-timestamp (of the attempt, in seconds)
// and webhook-signature ("v1," and the base64 of the HMAC-SHA256 of
// ID.TIMESTAMP.BODY). A receiver that compares all three, and refuses old timestamps, cannot
// be told anything by others, nor the same thing twice. Any answer 2xx is success.
// Events go out one after the other, in their order; one that is not taken is tried
// again ever less often, for a day, and what does not fit into the queue meanwhile is
// dropped and counted. Redirections are not followed.
//
// # Security
//
// No event has room for a password, a hash or a one-time code. Texts that clients
// choose are cut to a bounded length, and JSON keeps each in its place.
//
// # Limits
//
// What waits in the queues is lost when the process is killed: a few lines of the audit
// log, and what the webhook's receiver has not taken yet. Close writes what it can.
package events

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind is what happened.
type Kind string

// The kinds of events; config.Webhook.Events names them too.
const (
	Issued     Kind = "issued"       // an app password was made
	Renewed    Kind = "renewed"      // it expires at another time
	Changed    Kind = "changed"      // it has another label, other services or other networks
	Revoked    Kind = "revoked"      // it was taken away while it could be used
	Expired    Kind = "expired"      // it was taken away after it had expired
	Expiring   Kind = "expiring"     // it expires soon; once for each expiry
	Purged     Kind = "purged"       // Count rows of the history were deleted, being older than the retention
	Refused    Kind = "refused"      // a change that somebody asked for was not made; Reason tells why
	NewNetwork Kind = "new_network"  // it was used from a network from which it had not been used before
	Stale      Kind = "stale_device" // a device goes on with one that was revoked, or has expired; once a day
)

// The kinds of events of the self-service pages, beside those of the app passwords that are made and changed there.
const (
	FactorProved  Kind = "factor_proved"  // a user signed in with a second factor, or proved it once more; Factor tells how
	FactorRefused Kind = "factor_refused" // a second factor that looks copied
	FactorAdded   Kind = "factor_added"
	FactorRemoved Kind = "factor_removed"
	RecoveryCodes Kind = "recovery_codes" // new ones took the place of the old ones
	EnrolCode     Kind = "enrol_code"     // an administrator issued a code for a new second factor
	SignedOut     Kind = "signed_out"     // the user ended all sessions

	SignedIn        Kind = "signed_in"        // a user signed in by OpenID Connect
	SignInRefused   Kind = "sign_in_refused"  // with an account at the provider that was another user's
	AccountAdded    Kind = "account_added"    // with another account at the provider than before
	AccountsRemoved Kind = "accounts_removed" // an administrator untied the accounts at the provider
)

// Kinds are all kinds, for those who name some.
var Kinds = []Kind{Issued, Renewed, Changed, Revoked, Expired, Expiring, Purged, Refused, NewNetwork, Stale,
	FactorProved, FactorRefused, FactorAdded, FactorRemoved, RecoveryCodes, EnrolCode, SignedOut, SignedIn, SignInRefused, AccountAdded, AccountsRemoved}

// Event is one thing that happened. Fields that do not apply are zero. It has no room
// for a password.
type Event struct {
	Time  time.Time // when it happened
	Kind  Kind
	Entry string // the canonical identity of the user's entry
	DN    string // its DN at the time

	ID, Label string    // the app password's public selector, and its label
	Expires   time.Time // when it expires, after the change; zero: never, or not known
	Services  []string  // to which it is limited, after the change
	Networks  []netip.Prefix

	Actor   string     // who did it, as Actor.Name
	Via     string     // by what means, as Actor.Via
	Addr    netip.Addr // the actor's address; of a use, the user's
	Service string     // of a use
	Factor  string     // of an event of the pages: totp, passkey ...; or more about it, in fixed words
	Reason  string     // of a refusal, or of the failures of a stale device
	Count   int64      // of Purged
}

// Actor is who changes app passwords.
type Actor struct {
	Name string     // the DN that the directory has verified, or the system's user
	Via  string     // ldap, cli, job or portal
	Addr netip.Addr // invalid: a unix socket, or this machine
}

// By is the event with an actor.
func (e Event) By(a Actor) Event {
	e.Actor, e.Via, e.Addr = a.Name, a.Via, a.Addr
	return e
}

// maxText bounds a text in bytes: a DN may be as long as a message.
const maxText = 1024

// Line is an event as it is written: its members are those of Event as text. Their names are a contract with those who read it.
type Line struct {
	EventID  string     `json:"event_id"`
	Time     time.Time  `json:"time"`
	Event    Kind       `json:"event"`
	Entry    string     `json:"entry,omitempty"`
	User     string     `json:"user,omitempty"`
	Password string     `json:"password_id,omitempty"`
	Label    string     `json:"label,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Services []string   `json:"services,omitempty"`
	Networks []string   `json:"networks,omitempty"`
	Actor    string     `json:"actor,omitempty"`
	Via      string     `json:"via,omitempty"`
	Address  string     `json:"address,omitempty"`
	Service  string     `json:"service,omitempty"`
	Factor   string     `json:"factor,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Count    int64      `json:"count,omitempty"`
}

// encode is the event as one line of JSON, without the line end.
func (e *Event) encode(id string) []byte {
	l := Line{
		EventID: id, Time: e.Time.UTC().Truncate(time.Millisecond), Event: e.Kind, Entry: cut(e.Entry), User: cut(e.DN), Password: cut(e.ID), Label: cut(e.Label),
		Actor: cut(e.Actor), Via: cut(e.Via), Service: cut(e.Service), Factor: cut(e.Factor), Reason: cut(e.Reason), Count: e.Count,
	}
	if !e.Expires.IsZero() {
		at := e.Expires.UTC()
		l.Expires = &at
	}
	for _, s := range e.Services {
		l.Services = append(l.Services, cut(s))
	}
	for _, n := range e.Networks {
		l.Networks = append(l.Networks, n.String())
	}
	if e.Addr.IsValid() {
		l.Address = e.Addr.Unmap().WithZone("").String()
	}
	var b strings.Builder
	j := json.NewEncoder(&b)
	j.SetEscapeHTML(false)
	if err := j.Encode(&l); err != nil {
		panic("appbind: internal error: an event cannot be encoded") // it has only texts, numbers and times of this era
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

// cut is a text of bounded length.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > maxText-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}
