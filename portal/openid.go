package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"appbind/auth"
	"appbind/manage"
)

// The addresses that the provider knows.
const (
	callbackPath = "/openid/callback"
	logoutPath   = "/openid/logout"
)

// methodOpenID is the provider's sign-in as a proof of a second factor.
const methodOpenID = "openid"

// From one address: journeys to the provider, of which nothing is guessed and something stored, and sign-outs that were not good.
const (
	maxJourneys = 60
	maxGoodbyes = 100
)

type openIDData struct {
	Text     string
	On, Away string // a link to the provider, and its text; "": that is no use
	Back     string
}

// openIDPage tells why a sign-in at the provider led nowhere.
func (v *visit) openIDPage(code int, key, again string) error {
	back := "/sign-in"
	if v.session != nil {
		back = "/"
	}
	v.render(code, "openid", v.l.T("openid.title"), openIDData{v.l.T(key, v.p.cfg.OpenID.Name()), v.l.T("openid.again"), again, back})
	return nil
}

// openIDStart sends a browser to the provider to sign in.
func (v *visit) openIDStart() error {
	if v.is(stageFull) {
		return v.home()
	}
	return v.depart(&flow{next: "/passwords"}, v.r.URL.Query().Get("again") != "")
}

// openIDConfirm sends a signed-in user to the provider to prove a second factor again.
func (v *visit) openIDConfirm() error {
	if !v.p.cfg.OpenID.Factors() {
		v.message(http.StatusNotFound, "error.notfound")
		return nil
	}
	return v.depart(&flow{session: v.session.id, next: local(v.r.FormValue("next"), "/passwords")}, true)
}

// depart sends the browser away. It is a link and no form, since the page's policy lets no form lead elsewhere; what another
// site begins in the user's name ends here.
func (v *visit) depart(f *flow, again bool) error {
	if v.p.openid == nil {
		v.message(http.StatusNotFound, "error.notfound")
		return nil
	}
	if from := v.r.Header.Get("Sec-Fetch-Site"); from != "" && from != "none" && from != "same-origin" {
		v.redirect("/sign-in")
		return nil
	}
	ctx := v.r.Context()
	allowed, err := v.p.Store.try(ctx, "openid:"+network(addrOf(v.r)), maxJourneys, signInWindow, v.p.Now())
	if err != nil {
		return err
	}
	if !allowed {
		v.message(http.StatusTooManyRequests, "error.toomany")
		return nil
	}
	m, err := v.p.openid.metadata(ctx)
	if err != nil {
		return v.openIDFailed(err)
	}
	f.token, f.started = newToken(), v.p.Now()
	if err := v.p.Store.depart(ctx, f, v.r.UserAgent()); err != nil {
		return err
	}
	setCookie(v.w, flowCookie, f.token)
	v.redirect(v.p.openid.way(m, f, again, time.Duration(v.p.cfg.Lifetime)))
	return nil
}

// openIDBack is where the provider sends the browser back to. The journey must have begun in this browser and counts once: what
// somebody else has begun, or has sent before, signs nobody in.
func (v *visit) openIDBack() error {
	if v.p.openid == nil {
		v.message(http.StatusNotFound, "error.notfound")
		return nil
	}
	ctx, query := v.r.Context(), v.r.URL.Query()
	c, err := v.r.Cookie(flowCookie)
	if err != nil || c.Value == "" || !equal(query.Get("state"), (&flow{token: c.Value}).state()) {
		return v.openIDPage(http.StatusBadRequest, "openid.foreign", "")
	}
	setCookie(v.w, flowCookie, "")
	f, err := v.p.Store.arrive(ctx, c.Value, v.r.UserAgent(), v.p.Now())
	if errors.Is(err, errNoFlow) {
		return v.openIDPage(http.StatusBadRequest, "openid.foreign", "")
	}
	if err != nil {
		return err
	}
	id, err := v.answer(ctx, f, query)
	if err != nil {
		return v.openIDFailed(err)
	}
	if id == nil {
		return v.openIDPage(http.StatusForbidden, "openid.denied", "")
	}
	u, about, err := v.resolve(ctx, id)
	if err != nil {
		return v.openIDFailed(err)
	}
	if f.session != "" {
		return v.confirmedThere(f, id, u)
	}
	return v.signedInThere(id, u, about)
}

// answer reads the provider's answer; nil: the user, or the provider, has said no.
func (v *visit) answer(ctx context.Context, f *flow, query url.Values) (*identity, error) {
	m, err := v.p.openid.metadata(ctx)
	if err != nil {
		return nil, err
	}
	// RFC 9207 2.4: the answer of another provider does not go to this one's token endpoint.
	if iss := query["iss"]; len(iss) > 1 || len(iss) == 1 && iss[0] != v.p.cfg.OpenID.Issuer || len(iss) == 0 && m.saysIssuer {
		return nil, errIssuer
	}
	if code := query.Get("error"); code != "" {
		v.p.Log.Info("portal: the provider refused a sign-in", "error", clip(code), "address", addrOf(v.r).String())
		return nil, nil
	}
	return v.p.openid.redeem(ctx, m, f, query.Get("code"))
}

// Errors of what an identity stands for; errClaims and errMoved are others.
var (
	errIssuer   = errors.New("the answer is another provider's")
	errNobody   = errors.New("its claim stands for nobody")
	errSpelling = errors.New("the claim and the entry's value are equal to the directory and not to the eye")
)

// resolve is the one user whom an identity stands for. An account of the provider that has stood for a user stands for no
// other, whatever the claim says now. Errors: errClaims, errNobody, errSpelling, errMoved, errOut; others are trouble.
func (v *visit) resolve(ctx context.Context, id *identity) (*manage.User, person, error) {
	attribute := v.p.cfg.OpenID.Attribute
	e, err := v.p.Upstream.FindBy(ctx, attribute, id.value)
	switch {
	case errors.Is(err, auth.ErrNotFound), errors.Is(err, auth.ErrAmbiguous):
		return nil, person{}, fmt.Errorf("%w: %w", errNobody, err)
	case err != nil:
		return nil, person{}, err
	}
	u, about, err := v.p.who(ctx, e.DN) // who is disabled or not allowed here is out
	if err == nil && u.Key != e.Key {
		err = errOut // another entry has the name now
	}
	if err != nil {
		return nil, person{}, fmt.Errorf("%s: %w", e.DN, err)
	}
	values, _, err := v.p.read(ctx, u.DN, anything, attribute)
	if err != nil {
		return nil, person{}, err
	}
	if !spelled(values[strings.ToLower(attribute)], id.value) {
		return nil, person{}, fmt.Errorf("%s: %w", u.DN, errSpelling)
	}
	further, err := v.p.Store.pin(ctx, id.subject, u.Key, u.DN, v.p.Now())
	here := &visit{p: v.p, r: v.r, l: v.l, user: u, person: about}
	switch {
	case errors.Is(err, errMoved):
		v.p.audit(ctx, here.event(didTurnAway, "an account at the provider that was another user's"))
		return nil, person{}, fmt.Errorf("%s: %w", u.DN, err)
	case err != nil:
		return nil, person{}, err
	case further:
		v.p.audit(ctx, here.event(didTie, ""))
		here.tell("mail.account.subject", "mail.account.text", v.p.cfg.OpenID.Name())
	}
	return u, about, nil
}

// signedInThere begins the session of who signed in at the provider. Unless the sign-in there counts as one with two factors, it
// stands for the main password, and a second factor is to come.
func (v *visit) signedInThere(id *identity, u *manage.User, about person) error {
	o := &v.p.cfg.OpenID
	now := v.p.Now()
	// An answer that is older than what was asked for is one factor at most.
	old := !id.at.IsZero() && now.Sub(id.at) > time.Duration(v.p.cfg.Lifetime)+skew
	full := id.factors && !old
	if !full && o.Require {
		v.p.Log.Info("portal: a sign-in at the provider had no second factor", "user", u.DN, "address", addrOf(v.r).String())
		return v.openIDPage(http.StatusForbidden, "openid.weak", "/openid/start?again=yes")
	}
	v.user, v.person = u, about
	s := &session{entry: u.Key, dn: u.DN, stage: stagePassword, subject: id.subject, sid: id.sid}
	to, detail := "/second-factor", methodOpenID+", one factor"
	if full {
		s.stage, s.method, s.factorAt = stageFull, methodOpenID, earlier(id.at, now)
		to, detail = "/passwords", methodOpenID
	}
	if err := v.admit(s); err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didSignIn, detail))
	v.redirect(to)
	return nil
}

// confirmedThere takes a new sign-in at the provider, by the same user and with two factors, for a fresh second factor.
func (v *visit) confirmedThere(f *flow, id *identity, u *manage.User) error {
	switch {
	case !v.is(stageFull) || v.session.id != f.session:
		return v.openIDPage(http.StatusForbidden, "openid.foreign", "")
	case v.session.entry != u.Key, v.session.subject != "" && v.session.subject != id.subject:
		v.p.Log.Warn("portal: another user confirmed at the provider", "user", v.session.dn, "other", u.DN, "address", addrOf(v.r).String())
		return v.openIDPage(http.StatusForbidden, "openid.other", "")
	case !id.factors, id.at.Before(f.started.Add(-skew)): // an auth_time that is not said is long ago
		return v.openIDPage(http.StatusForbidden, "openid.stale", "")
	}
	if err := v.p.Store.proved(v.r.Context(), v.session.id, methodOpenID, earlier(id.at, v.p.Now())); err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didProve, methodOpenID))
	v.redirect(f.next)
	return nil
}

// earlier is a time of the provider's, which is not ahead of this clock.
func earlier(at, now time.Time) time.Time {
	if at.After(now) {
		return now
	}
	return at
}

// openIDFailed tells of an error, to the user as little as that: who is unknown, disabled or not allowed here is not told apart.
func (v *visit) openIDFailed(err error) error {
	address := addrOf(v.r).String()
	switch {
	case errors.Is(err, errProvider):
		v.p.Log.Error("portal: the OpenID Connect provider", "err", err)
		return v.openIDPage(http.StatusServiceUnavailable, "openid.unavailable", "")
	case errors.Is(err, errToken), errors.Is(err, errIssuer):
		v.p.Log.Warn("portal: an answer of the provider was not taken", "err", err, "address", address)
		return v.openIDPage(http.StatusBadRequest, "openid.failed", "")
	case errors.Is(err, errClaims), errors.Is(err, errNobody), errors.Is(err, errOut), errors.Is(err, errMoved), errors.Is(err, errSpelling):
		v.p.Log.Warn("portal: who signed in at the provider is no user here", "reason", err, "address", address)
		return v.openIDPage(http.StatusForbidden, "openid.refused", "/openid/start?again=yes")
	}
	return err
}

// signOutThere sends the browser to the provider's own sign-out, where it has one (OpenID Connect RP-Initiated Logout 1.0);
// false: it has none. The page does it and no redirect, which its policy would not let follow a form. No ID token is kept to send
// along: the provider asks the user, if it must be sure.
func (v *visit) signOutThere() bool {
	if v.p.openid == nil {
		return false
	}
	m, err := v.p.openid.metadata(v.r.Context())
	if err != nil || m.endSession == "" {
		return false
	}
	u, err := url.Parse(m.endSession)
	if err != nil {
		return false
	}
	query := u.Query()
	query.Set("client_id", v.p.cfg.OpenID.ClientID)
	query.Set("post_logout_redirect_uri", v.p.cfg.URL+"/sign-in")
	u.RawQuery = query.Encode()
	v.w.Header().Set("Refresh", "0;url="+u.String())
	v.render(http.StatusOK, "openid", v.l.T("done.signedout"), openIDData{v.l.T("openid.leaving", v.p.cfg.OpenID.Name()), v.l.T("openid.leave"), u.String(), "/sign-in"})
	return true
}

// openIDLogout takes the provider's word that a user has signed out there (OpenID Connect Back-Channel Logout 1.0). Each token
// counts once; tokens that are not good are counted by address.
func (v *visit) openIDLogout() error {
	ctx := v.r.Context()
	if v.p.openid == nil {
		v.message(http.StatusNotFound, "error.notfound")
		return nil
	}
	tries := "logout:" + network(addrOf(v.r))
	allowed, err := v.p.Store.try(ctx, tries, maxGoodbyes, signInWindow, v.p.Now())
	if err != nil {
		return err
	}
	if !allowed {
		v.plain(http.StatusTooManyRequests, "too many")
		return nil
	}
	subject, sid, jti, err := v.p.openid.goodbye(ctx, v.r.PostFormValue("logout_token"))
	if err != nil {
		v.p.Log.Warn("portal: a sign-out of the provider was not taken", "err", err, "address", addrOf(v.r).String())
		v.plain(http.StatusBadRequest, "invalid_request")
		return nil
	}
	first, err := v.p.Store.spend(ctx, digest("jti\x00"+v.p.cfg.OpenID.Issuer, jti), v.p.Now())
	if err != nil {
		return err
	}
	if !first {
		v.plain(http.StatusBadRequest, "invalid_request")
		return nil
	}
	if err := v.p.Store.endAt(ctx, subject, sid); err != nil {
		return err
	}
	if err := v.p.Store.giveBack(ctx, tries); err != nil {
		return err
	}
	v.plain(http.StatusOK, "")
	return nil
}

// plain answers a program.
func (v *visit) plain(code int, text string) {
	v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	v.w.WriteHeader(code)
	_, _ = v.w.Write([]byte(text)) // it has gone, then
}
