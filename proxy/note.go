package proxy

import (
	"context"
	"net/netip"
	"time"

	"appbind/auth"
	"appbind/secrets"
)

// What was presented in a bind, in Note.Kind.
const (
	noteApp  = "app"
	noteMain = "main"
	noteNone = "none" // mistyped, a stored value, an entry that is not eligible ...
)

// Note is a bind of a user that was judged. It has no room for a password.
type Note struct {
	Time     time.Time
	Entry    string     // the entry's canonical identity
	DN       string     // as the upstream returns it
	Kind     string     // app, main or none
	ID       string     // the app password's public selector; "": it has none
	Label    string     // the app password's label; "": not known
	Denied   string     // the reason of the decision; "": accepted
	Service  string     // the user's service, canonical; "": not known
	Addr     netip.Addr // the user's address; invalid: not known
	Peer     netip.Addr // who is connected to us; invalid on ldapi
	Listener string
}

// History takes note of binds. Note must neither wait nor fail: it is called before the bind is answered.
type History interface {
	Note(n Note)
}

// LastUse is the last successful use of an app password. The zero value: none is known.
type LastUse struct {
	At   time.Time
	Addr netip.Addr // the user's; invalid: not known
}

// Uses tells of uses in the past, to who manages app passwords. No bind waits for it.
type Uses interface {
	// LastUses reads the last uses of the app passwords of one entry, or with "" of all: of tells one by the
	// entry's canonical identity and the ID, or the label of one without.
	LastUses(ctx context.Context, entry string) (of func(entry, id, label string) LastUse, err error)
}

// noteBind hands a bind to the history. Not noted are binds that could not be judged, and those of
// names that are no user's: whoever wants can make up any number of them.
func (c *conn) noteBind(h History, b *auth.Bind, d *auth.Decision, at time.Time) {
	if d.Entry == nil || !d.Entry.User || d.Kind != auth.Accepted && d.Kind != auth.InvalidCredentials {
		return
	}
	n := Note{
		Time: at, Entry: d.Entry.Key, DN: d.Entry.DN, Kind: noteKind(d),
		Service: secrets.CanonicalService(b.Client.Service), Addr: b.Client.Addr, Peer: c.peer, Listener: c.policy().name,
	}
	if d.Kind != auth.Accepted {
		n.Denied = d.Reason
	}
	switch {
	case d.App != nil:
		n.ID, n.Label = d.App.ID, d.App.Label
	case d.Denied != nil:
		n.ID, n.Label = d.Denied.ID, d.Denied.Label
	default:
		n.ID = d.Selector
	}
	h.Note(n)
}

// noteKind tells what was presented by the row that decided.
func noteKind(d *auth.Decision) string {
	switch {
	case d.App != nil, d.Denied != nil, d.Selector != "":
		return noteApp
	case d.Row >= 12:
		return noteMain
	}
	return noteNone
}
