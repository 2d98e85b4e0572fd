package portal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"appbind/auth"
	"appbind/events"
	"appbind/manage"
	"appbind/secrets"
)

type addrKey struct{}

func withAddr(ctx context.Context, a netip.Addr) context.Context {
	return context.WithValue(ctx, addrKey{}, a)
}

// addrOf is the browser's address, which guarded has found out.
func addrOf(r *http.Request) netip.Addr {
	a, _ := r.Context().Value(addrKey{}).(netip.Addr)
	return a
}

// visit is one request of a browser with its session and user.
type visit struct {
	p *Portal
	w http.ResponseWriter
	r *http.Request
	l *locale

	session *session     // nil: none
	user    *manage.User // of the session, read at this request
	person  person
}

// person is what pages show of a user.
type person struct {
	name  string // for people
	login string // what mail programs log in with
	mail  string
}

// errOut says that a session's user is gone, disabled, or may not use the pages.
var errOut = errors.New("the user may not use the pages")

// load finds the session of the cookie, and its user in the directory. Without a cookie, and with one that opens nothing
// any more, there is none.
func (v *visit) load() error {
	c, err := v.r.Cookie(cookieName)
	if err != nil || c.Value == "" {
		return nil
	}
	ctx := v.r.Context()
	s, err := v.p.Store.session(ctx, c.Value, v.r.UserAgent(), v.p.Now(), v.p.cfg)
	if errors.Is(err, errNoSession) {
		return nil
	}
	if err != nil {
		return err
	}
	v.user, v.person, err = v.p.who(ctx, s.dn)
	if err == nil && v.user.Key != s.entry {
		err = errOut // another entry has the name now
	}
	if errors.Is(err, errOut) {
		return v.p.Store.end(ctx, s.entry, "")
	}
	if err != nil {
		return err
	}
	if v.user.Changed != s.changed {
		// Whoever has the new password signs in with it; what else the user has begun since goes on.
		v.p.Log.Info("portal: a session ends, the main password was changed", "user", v.user.DN, "address", addrOf(v.r).String())
		return v.p.Store.end(ctx, s.entry, s.id)
	}
	if s.admin, err = v.p.isAdmin(ctx, v.user.DN); err != nil {
		return err
	}
	v.session = s
	return nil
}

// who reads a user as the directory has it now. Errors: errOut; others are trouble.
func (p *Portal) who(ctx context.Context, dn string) (*manage.User, person, error) {
	u, err := p.Manager.Find(ctx, dn)
	switch {
	case errors.Is(err, auth.ErrNotFound), errors.Is(err, auth.ErrAmbiguous), errors.Is(err, manage.ErrNotUser):
		return nil, person{}, errOut
	case err != nil:
		return nil, person{}, err
	case !u.Eligible:
		return nil, person{}, errOut
	}
	about, err := p.about(ctx, u.DN)
	return u, about, err
}

// is reports whether the session has come to a stage.
func (v *visit) is(stage string) bool { return v.session != nil && v.session.stage == stage }

// fresh reports whether a second factor was proved recently. A proof of the future is none: the clock was put back.
func (v *visit) fresh() bool {
	if !v.is(stageFull) || v.session.factorAt.IsZero() {
		return false
	}
	age := v.p.Now().Sub(v.session.factorAt)
	return age >= -skew && age < time.Duration(v.p.cfg.FreshFactor)
}

// enter begins a new session at a stage, in place of the present one: what was sent before the step opens nothing after it.
func (v *visit) enter(stage, method, entry, dn string) error {
	s := &session{entry: entry, dn: dn, stage: stage, method: method}
	if stage == stageFull {
		s.factorAt = v.p.Now()
	}
	if v.session != nil && v.session.entry == entry {
		s.subject, s.sid = v.session.subject, v.session.sid
	}
	return v.admit(s)
}

// admit makes a session the browser's, in place of the present one.
func (v *visit) admit(s *session) error {
	ctx := v.r.Context()
	s.token, s.created, s.seen, s.changed = newToken(), v.p.Now(), v.p.Now(), v.user.Changed
	if err := v.p.Store.begin(ctx, s, v.r.UserAgent()); err != nil {
		return err
	}
	if v.session != nil {
		if err := v.p.Store.end(ctx, v.session.entry, v.session.id); err != nil {
			return err
		}
	}
	v.session = s
	v.p.setCookie(v.w, s.token)
	return nil
}

// derived is a text that only who has the session's token can make: the use tells one from another.
func (v *visit) derived(use string) string {
	if v.session == nil {
		return ""
	}
	return keyed(v.session.token, use)
}

func keyed(token, use string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(use))
	return hex.EncodeToString(mac.Sum(nil))
}

// Token is the token of the session's forms.
func (v *visit) Token() string { return v.derived("form") }

// tokenFits checks that a form, or a script's request, was made by a page of this session.
func (v *visit) tokenFits() bool {
	got := v.r.Header.Get("X-Token")
	if got == "" {
		got = v.r.PostFormValue("token")
	}
	return got != "" && equal(got, v.Token())
}

// totp are the usable second factors in the user's entry.
func (v *visit) totp() (list []*secrets.Value) {
	for _, value := range v.user.Set.Values {
		if value.Kind == secrets.TOTP && value.Err == nil {
			list = append(list, value)
		}
	}
	return list
}

// operator changes the directory in the name of the session's user, for the journal.
func (v *visit) operator() *manage.Operator {
	return v.p.Manager.Managing().As(events.Actor{Name: v.user.DN, Via: "portal", Addr: addrOf(v.r)})
}

// event is an event of the session's user.
func (v *visit) event(action, detail string) Event {
	return Event{Entry: v.user.Key, DN: v.user.DN, Actor: v.user.DN, Action: action, Detail: detail, Address: addrOf(v.r).String()}
}
