package portal

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"appbind/auth"
	"appbind/manage"
	"appbind/wire"
)

// Sign-ins from one address.
const (
	maxSignIns   = 20
	signInWindow = 5 * time.Minute
)

// home leads to where the session may go.
func (v *visit) home() error {
	switch {
	case v.is(stageFull):
		v.redirect("/passwords")
	case v.is(stageEnrol):
		v.redirect("/factors/add")
	case v.is(stagePassword):
		v.redirect("/second-factor")
	default:
		v.redirect("/sign-in")
	}
	return nil
}

type signInData struct {
	Name     string // as it was typed
	Error    string
	OpenID   string // the provider's name; "": none
	Password bool   // the main password is taken
}

func (v *visit) signInData(name, problem string) signInData {
	d := signInData{Name: name, Error: problem, Password: v.p.cfg.OpenID.Password}
	if v.p.openid != nil {
		d.OpenID = v.p.cfg.OpenID.Name()
	}
	return d
}

func (v *visit) signInPage() error {
	if v.session != nil {
		return v.home()
	}
	v.render(http.StatusOK, "signin", v.l.T("signin.title"), v.signInData("", ""))
	return nil
}

// signIn takes the name and the main password. Whoever is unknown, disabled or not allowed here is answered as one whose
// password is wrong.
func (v *visit) signIn() error {
	ctx := v.r.Context()
	if !v.p.cfg.OpenID.Password {
		v.signInFailed(http.StatusForbidden, "openid.only")
		return nil
	}
	allowed, err := v.p.Store.try(ctx, "address:"+network(addrOf(v.r)), maxSignIns, signInWindow, v.p.Now())
	if err != nil {
		return err
	}
	if !allowed {
		v.signInFailed(http.StatusTooManyRequests, "error.toomany")
		return nil
	}
	d, changed := v.p.checkPassword(ctx, v.r.PostFormValue("name"), []byte(v.r.PostFormValue("password")), addrOf(v.r))
	switch d.Kind {
	case auth.Accepted:
	case auth.Busy, auth.Unavailable:
		v.p.Log.Error("portal: a sign-in could not be decided", "reason", d.Reason, "err", d.Err)
		v.signInFailed(http.StatusServiceUnavailable, "error.unavailable")
		return nil
	default:
		v.p.Log.Info("portal: sign-in refused", "name", clip(v.r.PostFormValue("name")), "reason", d.Reason, "address", addrOf(v.r).String())
		v.signInFailed(http.StatusUnauthorized, "signin.wrong")
		return nil
	}
	u, about, err := v.p.who(ctx, d.DN)
	if err == errOut || err == nil && u.Key != d.Entry.Key {
		v.p.Log.Info("portal: sign-in refused", "user", d.DN, "reason", "may not use the pages", "address", addrOf(v.r).String())
		v.signInFailed(http.StatusUnauthorized, "signin.wrong")
		return nil
	}
	if err != nil {
		return err
	}
	u.Changed = changed
	v.user, v.person = u, about
	if err := v.enter(stagePassword, "", u.Key, u.DN); err != nil {
		return err
	}
	v.redirect("/second-factor")
	return nil
}

func (v *visit) signInFailed(code int, key string) {
	v.session = nil
	v.render(code, "signin", v.l.T("signin.title"), v.signInData(clip(v.r.PostFormValue("name")), v.l.T(key)))
}

// checkPassword decides by package auth, within the time for a bind. changed is when the password was changed last, as it was
// shown before it was found right: by now it may be another one.
func (p *Portal) checkPassword(ctx context.Context, name string, password auth.Password, addr netip.Addr) (d auth.Decision, changed string) {
	defer clear(password)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.Config.Upstream.BindTimeout))
	defer cancel()
	b := &binder{p: p}
	d = p.Verifier.SignIn(ctx, name, password, auth.Client{Addr: addr}, b)
	return d, b.changed
}

// binder sends the one bind of a sign-in and gives the link back at once.
type binder struct {
	p       *Portal
	changed string
}

// Bind is auth.Binder's. The state of the entry is read first, since that in a Decision may be a copy's; of a DN that does not
// exist as well, which costs as much then.
func (b *binder) Bind(ctx context.Context, dn string, password auth.Password) (*auth.Answer, error) {
	switch u, err := b.p.Manager.Find(ctx, dn); {
	case err == nil:
		b.changed = u.Changed
	case !errors.Is(err, auth.ErrNotFound) && !errors.Is(err, manage.ErrNotUser):
		return nil, err
	}
	a, link, err := b.p.Upstream.Bind(ctx, dn, password, nil)
	if err != nil {
		return nil, err
	}
	if a.Code == wire.ResultSuccess {
		b.p.Upstream.Release(link)
	} else {
		link.Close()
	}
	return a, nil
}

// signOut ends the session, if there is one.
func (v *visit) signOut() error {
	there := false
	if v.session != nil {
		if err := v.p.Store.end(v.r.Context(), v.session.entry, v.session.id); err != nil {
			return err
		}
		there = v.session.subject != ""
	}
	v.session = nil
	v.p.setCookie(v.w, "")
	if there && v.signOutThere() {
		return nil
	}
	return v.done("/sign-in", "signedout")
}

// signOutEverywhere ends all sessions of the user.
func (v *visit) signOutEverywhere() error {
	if err := v.p.Store.end(v.r.Context(), v.session.entry, ""); err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didSignOut, ""))
	v.session = nil
	v.p.setCookie(v.w, "")
	return v.done("/sign-in", "signedout")
}

// network is what sign-ins are counted by: of IPv6 the /64, since whoever has one address has them all.
func network(a netip.Addr) string {
	if a.Is6() {
		if n, err := a.Prefix(64); err == nil {
			return n.String()
		}
	}
	return a.String()
}

// clip keeps a name from the network short and on one line.
func clip(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return text
}
