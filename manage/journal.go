package manage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"appbind/events"
	"appbind/secrets"
)

// Journal is told what was done to app passwords when the directory has confirmed it, and what was refused. Emit must
// not wait: it is called before the client is answered.
type Journal interface {
	Emit(e events.Event)
}

// WithJournal has a journal told of every change, and is the manager. Call it before anything else.
func (m *Manager) WithJournal(j Journal) *Manager {
	m.journal = j
	return m
}

// As is the operator with a name for the journal: who changes app passwords. Refusals of one without a name are
// not told: anybody can cause any number of them.
func (o *Operator) As(a events.Actor) *Operator {
	named := *o
	named.by = a
	return &named
}

// subject is the entry that an operation is about.
type subject struct {
	dn  string
	key string // its canonical identity; "": not known
	ref Ref    // the app password that was asked for, for refusals; or none
}

// done is a change that the directory has confirmed.
type done struct {
	before *Set
	change Change
}

// identityTime bounds the lookup of an entry's identity for the journal, for which a client waits.
const identityTime = 5 * time.Second

// tell tells the journal what was done.
func (o *Operator) tell(ctx context.Context, s subject, d *done) {
	if o.m.journal == nil || d == nil {
		return
	}
	list := eventsOf(d.before, d.change, o.m.now())
	if len(list) == 0 {
		return
	}
	if s.key == "" {
		// Looked up as for a bind, so that the history finds the same identity.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(identityTime, o.m.timeout))
		defer cancel()
		if e, err := o.m.up.FindLive(ctx, s.dn); err == nil {
			s.key, s.dn = e.Key, e.DN
		}
	}
	for _, e := range list {
		e.Entry, e.DN = s.key, s.dn
		o.m.journal.Emit(e.By(o.by))
	}
}

// Denied tells the journal of a change that was not made, for a reason that shows nothing secret.
func (o *Operator) Denied(dn string, ref Ref, reason string) {
	if o.m.journal == nil || o.by.Name == "" {
		return
	}
	e := events.Event{Time: o.m.now(), Kind: events.Refused, DN: dn, ID: ref.ID, Label: ref.Label, Reason: reason}
	o.m.journal.Emit(e.By(o.by))
}

// failed tells the journal of an error, if it is a refusal.
func (o *Operator) failed(s subject, err error) {
	if reason := refusalOf(err); reason != "" {
		o.Denied(s.dn, s.ref, reason)
	}
}

// DeniedBy is the reason of a refusal by the directory. Its diagnostic is not in it: it may repeat what was written.
func DeniedBy(code int32) string { return fmt.Sprintf("the directory answered with result %d", code) }

// refusalOf is the text of an error that refuses a change; "" for others, such as that no server answers.
func refusalOf(err error) string {
	if v, ok := errors.AsType[*Violation](err); ok {
		return v.Reason
	}
	if r, ok := errors.AsType[*Refused](err); ok {
		return DeniedBy(r.Code)
	}
	for _, is := range []error{ErrNoSuchPassword, ErrSeveral, ErrNotUser, ErrNotEligible, ErrLastFactor, ErrContention, ErrUnconfirmed} {
		if errors.Is(err, is) {
			return is.Error()
		}
	}
	return ""
}

// eventsOf tells a change of the values of an entry apart: an app password that is deleted and added in one is
// changed. Only app passwords are told of.
func eventsOf(before *Set, c Change, now time.Time) []events.Event {
	var list []events.Event
	added := make([]*secrets.Value, 0, len(c.Add))
	for _, raw := range c.Add {
		if v := secrets.Parse([]byte(raw)); v.Kind == secrets.App {
			added = append(added, v)
		}
	}
	for _, raw := range c.Delete {
		old := before.find(raw)
		if old == nil || old.Kind != secrets.App {
			continue
		}
		i := slices.IndexFunc(added, func(v *secrets.Value) bool { return sameOne(old, v) })
		if i < 0 {
			list = append(list, eventOf(removal(old, now), old, now))
			continue
		}
		kind := events.Changed
		if !old.Expires.Equal(added[i].Expires) {
			kind = events.Renewed
		}
		list = append(list, eventOf(kind, added[i], now))
		added = slices.Delete(added, i, i+1)
	}
	for _, v := range added {
		list = append(list, eventOf(events.Issued, v, now))
	}
	return list
}

// sameOne reports whether two values are of one app password: its hash is the same. The same label with another hash is another
// password, whoever writes it so.
func sameOne(a, b *secrets.Value) bool {
	return a.ID == b.ID && a.Name != "" && b.Name != "" && afterName(a) == afterName(b)
}

// afterName is what stands behind NAME: $HASH.
func afterName(v *secrets.Value) string { return v.Raw[len("$app$")+len(v.Name):] }

// removal is what the deletion of a value is.
func removal(v *secrets.Value, now time.Time) events.Kind {
	if !v.Expires.IsZero() && !now.Before(v.Expires) {
		return events.Expired
	}
	return events.Revoked
}

// eventOf is an event about an app password, without the user and the actor.
func eventOf(kind events.Kind, v *secrets.Value, now time.Time) events.Event {
	return events.Event{Time: now, Kind: kind, ID: v.ID, Label: v.Label, Expires: v.Expires, Services: v.Services, Networks: v.Networks}
}
