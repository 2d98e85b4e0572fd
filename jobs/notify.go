package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"appbind/auth"
	"appbind/history"
	"appbind/mail"
	"appbind/manage"
	"appbind/secrets"
)

const (
	// maxTries is how often a mail is sent of which nobody knows whether it was.
	maxTries = 3
	// claimTime is for how long nobody else sends a mail that is claimed: longer than sending takes.
	claimTime = time.Hour
	// refusedPause is after how long a mail is tried again whose address the server has refused.
	refusedPause = 24 * time.Hour
	// keptAfter is how long after the last possible mail it is forgotten that there was one.
	keptAfter = 30 * 24 * time.Hour
	// shortLived is the lifetime below which there is no mail: whoever made it knows.
	shortLived = 48 * time.Hour
)

// notice is a mail to one user about app passwords that expire.
type notice struct {
	user   *manage.User
	values []*secrets.Value
	keys   []history.Notice
}

// window is when a user is told of an expiry: from, and until when it still makes sense.
func window(v *secrets.Value, before time.Duration) (from, until time.Time, ok bool) {
	if v.Kind != secrets.App || v.Err != nil || v.Expires.IsZero() {
		return from, until, false
	}
	until = v.Expires.Add(before)
	if !v.Created.IsZero() {
		life := v.Expires.Sub(v.Created)
		if life < shortLived {
			return from, until, false
		}
		before = min(before, life/2) // not with the first breath
	}
	return v.Expires.Add(-before), until, true
}

// Ident of an event about an expiry, which is noted beside the mail.
const eventMark = "event "

// plan is what is to be done at a time.
type plan struct {
	mails  []*notice
	events []*notice
	lost   []history.Notice // mails that are to be given up
}

// plan looks at all app passwords, and at what was sent before.
func (r *Runner) plan(ctx context.Context, now time.Time) (*plan, error) {
	known, err := r.store.Notices(ctx, now.Add(-2*r.notifyBefore))
	if err != nil {
		return nil, err
	}
	p := &plan{}
	err = r.dir.Each(ctx, func(u *manage.User) error {
		if !u.Eligible {
			return ended(ctx)
		}
		byMail, event := &notice{user: u}, &notice{user: u}
		for _, v := range u.Set.Values {
			from, until, ok := window(v, r.notifyBefore)
			if !ok || now.Before(from) || !now.Before(until) {
				continue
			}
			key := history.Notice{Entry: u.Key, Ident: manage.Handle(v), Expires: v.Expires}
			if r.mail != nil && byMail.add(v, key, known, now) {
				p.lost = append(p.lost, key)
			}
			key.Ident = eventMark + key.Ident
			if r.events != nil {
				event.add(v, key, known, now)
			}
		}
		if len(byMail.values) > 0 {
			p.mails = append(p.mails, byMail)
		}
		if len(event.values) > 0 {
			p.events = append(p.events, event)
		}
		return ended(ctx)
	})
	if e := ended(ctx); e != nil {
		return nil, e
	}
	return p, err
}

// add takes a value up if its time has come. lost: it was tried too often.
func (n *notice) add(v *secrets.Value, key history.Notice, known map[history.Notice]history.NoticeState, now time.Time) (lost bool) {
	switch st := known[key.Key()]; {
	case st.Done, now.Before(st.Later), slices.Contains(n.keys, key):
	case st.Tries >= maxTries:
		return true
	default:
		n.values, n.keys = append(n.values, v), append(n.keys, key)
	}
	return false
}

// notify sends the mails that are due.
func (r *Runner) notify(ctx context.Context, l history.Lease, each func(Item)) error {
	now := r.now()
	p, err := r.plan(ctx, now)
	if err != nil {
		return err
	}
	if err := r.announce(ctx, l, p, now); err != nil {
		return err
	}
	troubles := 0
	for _, n := range p.mails {
		if err := ended(ctx); err != nil {
			return err
		}
		err := r.send(ctx, l, n, now, each)
		if err == nil {
			troubles = 0
			continue
		}
		if troubles++; troubles >= maxTroubles || !errors.Is(err, errOne) {
			return err
		}
	}
	return r.store.ForgetNotices(ctx, now.Add(-r.notifyBefore-keptAfter))
}

// announce emits the events, and gives up the mails that are lost.
func (r *Runner) announce(ctx context.Context, l history.Lease, p *plan, now time.Time) error {
	if len(p.lost) > 0 {
		r.counts.givenUp.Add(uint64(len(p.lost)))
		r.log.Error("mails about expiring app passwords are given up: they may have been sent three times", "mails", len(p.lost))
		if err := r.store.Settle(ctx, history.GivenUp, 0, p.lost...); err != nil {
			return err
		}
	}
	for _, n := range p.events {
		if err := r.store.Claim(ctx, l, claimTime, n.keys...); err != nil {
			return err
		}
		for _, v := range n.values {
			r.events.Expiring(now, n.user, v)
		}
		if err := r.store.Settle(ctx, history.Sent, 0, n.keys...); err != nil {
			return err
		}
	}
	return nil
}

// errOne marks an error that is about one mail; further ones may be sent.
var errOne = errors.New("a mail failed")

// send sends one mail: who it goes to, the claim, the mail, its outcome. Users without an address are left alone: they may get one.
func (r *Runner) send(ctx context.Context, l history.Lease, n *notice, now time.Time, each func(Item)) error {
	who, err := r.dir.Person(ctx, n.user.DN)
	switch {
	case errors.Is(err, auth.ErrNotFound):
		return nil // gone meanwhile
	case err != nil && ended(ctx) != nil:
		return ended(ctx)
	case err != nil:
		return err
	case who.Address == "":
		n.report(each, "", NoAddress, nil)
		return nil
	}
	m, err := r.message(n, who, now)
	if err != nil {
		return err
	}
	if err := r.store.Claim(ctx, l, claimTime, n.keys...); err != nil {
		if e := ended(ctx); e != nil {
			return e
		}
		return err
	}
	// From here on the lease does not matter: nobody else sends a claimed mail. Only the end of appbind does.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(r.hard, cancel)()
	return r.settle(n, who.Address, r.mail.Send(sending, m), each)
}

// settle notes what became of a mail.
func (r *Runner) settle(n *notice, address string, sent error, each func(Item)) error {
	outcome, later, word, result := history.NotSent, time.Duration(0), Failed, sent
	refused, is := errors.AsType[*mail.Refused](sent)
	switch {
	case sent == nil:
		outcome, word = history.Sent, Sent
		r.counts.sent.Add(1)
		r.log.Info("mail about expiring app passwords sent", "user", n.user.DN, "passwords", len(n.keys))
	case errors.Is(sent, mail.ErrUncertain):
		outcome, later, word = history.SentMaybe, claimTime, Uncertain
		r.counts.uncertain.Add(1)
		result = fmt.Errorf("%w: %w", errOne, sent)
	default:
		r.counts.failed.Add(1)
		if is {
			if refused.Permanent {
				later = refusedPause
			}
			r.log.Warn("a mail about expiring app passwords was refused", "user", n.user.DN, "err", sent)
			result = nil // it is this user's mail alone
		}
	}
	n.report(each, address, word, sent)
	noting, cancel := context.WithTimeout(context.WithoutCancel(r.hard), storeTime)
	defer cancel()
	if err := r.store.Settle(noting, outcome, later, n.keys...); err != nil {
		return errors.Join(result, fmt.Errorf("what became of a mail could not be noted, it is sent again if it has been sent: %w", err))
	}
	return result
}

// report tells of each app password in a mail.
func (n *notice) report(each func(Item), address, outcome string, err error) {
	for _, v := range n.values {
		each(Item{User: n.user.DN, Label: v.Label, ID: manage.Handle(v), Expires: v.Expires, Address: address, Outcome: outcome, Err: err})
	}
}

// kindExpiring are the texts of these mails.
const kindExpiring = "expiring"

// Expiring is what the texts of a mail can use.
type Expiring struct {
	Name       string // the user's; "": not known
	Link       string // mail.link
	Passwords  []ExpiringPassword
	Several    bool // there is more than one
	AllExpired bool // all have expired already
}

// ExpiringPassword is one app password in the text of a mail.
type ExpiringPassword struct {
	Label    string
	Services string // to which it is limited, with commas; "": to none
	Expires  time.Time
	Expired  bool
}

// message is the mail.
func (r *Runner) message(n *notice, who person, now time.Time) (*mail.Message, error) {
	d := Expiring{Name: who.Name, Link: r.link, Several: len(n.values) > 1, AllExpired: true}
	for _, v := range n.values {
		p := ExpiringPassword{Label: mail.Clean(v.Label), Services: mail.Clean(strings.Join(v.Services, ", ")), Expires: v.Expires, Expired: !now.Before(v.Expires)}
		d.AllExpired = d.AllExpired && p.Expired
		d.Passwords = append(d.Passwords, p)
	}
	content, err := r.texts.Render(kindExpiring, who.Language, d)
	if err != nil {
		return nil, err
	}
	return &mail.Message{To: who.Address, ID: n.id(), Content: content}, nil
}

// id is the same for the same app passwords, whoever sends the mail and how often.
func (n *notice) id() string {
	var lines []string
	for _, k := range n.keys {
		lines = append(lines, fmt.Sprintf("%q %q %d\n", k.Entry, k.Ident, k.Expires.Unix()))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "expiring." + hex.EncodeToString(sum[:16])
}

// sample is data to try texts with.
func sample(link string, now time.Time) Expiring {
	return Expiring{Name: "Alice Example", Link: link, Several: true, Passwords: []ExpiringPassword{
		{Label: "phone", Services: "imap, smtp", Expires: now.Add(14 * 24 * time.Hour)},
		{Label: "laptop", Expires: now.Add(-24 * time.Hour), Expired: true},
	}}
}
