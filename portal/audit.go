package portal

import (
	"context"
	"net/netip"

	"appbind/events"
)

// What is done on the pages, in the words of the audit. Two records hold it: the audit log, which hears of all that is done to app
// passwords by whatever means (package events), and a table of the store, of which the pages show what was done here.
const (
	didProve   = "second factor proved"
	didRefuse  = "second factor refused"
	didEnrol   = "second factor enrolled"
	didRemove  = "second factor removed"
	didRenew   = "recovery codes made"
	didIssue   = "enrolment code issued"
	didSignOut = "signed out everywhere"

	didSignIn   = "signed in" // by OpenID Connect
	didTurnAway = "sign-in refused"
	didTie      = "a further account at the provider"
	didUntie    = "accounts at the provider untied"

	didCreate   = "app password created"
	didRename   = "app password renamed"
	didExtend   = "app password extended"
	didRestrict = "app password restricted"
	didRevoke   = "app password revoked"
)

// told is the kind under which the audit log hears of an action from here. Of app passwords package manage tells it, when the
// directory has confirmed the change.
var told = map[string]events.Kind{
	didProve: events.FactorProved, didRefuse: events.FactorRefused, didEnrol: events.FactorAdded, didRemove: events.FactorRemoved,
	didRenew: events.RecoveryCodes, didIssue: events.EnrolCode, didSignOut: events.SignedOut,
	didSignIn: events.SignedIn, didTurnAway: events.SignInRefused, didTie: events.AccountAdded, didUntie: events.AccountsRemoved,
}

// audit notes what was done: in the log, the audit log and the store. A store that fails holds up nothing that is done already.
func (p *Portal) audit(ctx context.Context, e Event) {
	e.Time = p.Now()
	p.Log.Info("portal: "+e.Action, "user", e.DN, "by", e.Actor, "detail", e.Detail, "address", e.Address)
	if kind := told[e.Action]; kind != "" && p.Journal != nil {
		p.Journal.Emit(e.told(kind))
	}
	if err := p.Store.note(ctx, e); err != nil {
		p.Log.Error("portal: the audit was not stored", "err", err)
	}
}

// told is the event as the audit log gets it.
func (e Event) told(kind events.Kind) events.Event {
	by := events.Actor{Name: e.Actor, Via: "portal"}
	by.Addr, _ = netip.ParseAddr(e.Address) // "" and the like: there is none
	return events.Event{Time: e.Time, Kind: kind, Entry: e.Entry, DN: e.DN, Factor: e.Detail}.By(by)
}
