package portal

import (
	"errors"
	"net/http"
	"net/url"

	"appbind/auth"
	"appbind/backend"
	"appbind/manage"
)

// need is what a route demands of the session.
type need int

const (
	anybody  need = iota // no session, or any
	halfway              // the main password
	enroling             // an enrolment code, or a fresh second factor
	signedIn             // a second factor
	fresh                // a fresh one
	admins               // a second factor, and being an admin
	freshAdm             // a fresh one, and being an admin
)

// route is one thing that can be asked for. Whatever changes something is a POST, and its form must have the session's token.
type route struct {
	method, path string
	need         need
	handle       func(v *visit) error
}

// table is all routes.
func (p *Portal) table() []route {
	return []route{
		{"GET", "/{$}", anybody, (*visit).home},
		{"GET", "/sign-in", anybody, (*visit).signInPage},
		{"POST", "/sign-in", anybody, (*visit).signIn},
		{"POST", "/language", anybody, (*visit).language},
		{"POST", "/sign-out", anybody, (*visit).signOut},
		{"GET", "/openid/start", anybody, (*visit).openIDStart},
		{"GET", "/openid/confirm", signedIn, (*visit).openIDConfirm},
		{"GET", callbackPath, anybody, (*visit).openIDBack},
		{"POST", logoutPath, anybody, (*visit).openIDLogout},
		{"GET", "/second-factor", halfway, (*visit).factorPage},
		{"POST", "/second-factor", halfway, (*visit).factor},
		{"POST", "/second-factor/options", halfway, (*visit).passkeyOptions},
		{"GET", "/confirm", signedIn, (*visit).factorPage},
		{"POST", "/confirm", signedIn, (*visit).factor},
		{"POST", "/confirm/options", signedIn, (*visit).passkeyOptions},

		{"GET", "/passwords", signedIn, (*visit).list},
		{"GET", "/passwords/new", fresh, (*visit).newPage},
		{"POST", "/passwords", fresh, (*visit).create},
		{"GET", "/passwords/{id}", signedIn, (*visit).one},
		{"POST", "/passwords/{id}/rename", signedIn, (*visit).rename},
		{"POST", "/passwords/{id}/extend", fresh, (*visit).extend},
		{"POST", "/passwords/{id}/restrict", fresh, (*visit).restrict},
		{"POST", "/passwords/{id}/revoke", signedIn, (*visit).revoke},
		{"POST", "/revoke-all", signedIn, (*visit).revokeAll},

		{"GET", "/factors", signedIn, (*visit).factors},
		{"GET", "/factors/add", enroling, (*visit).addFactorPage},
		{"GET", "/factors/totp", enroling, (*visit).totpPage},
		{"POST", "/factors/totp", enroling, (*visit).enrolTOTP},
		{"GET", "/factors/passkey", enroling, (*visit).passkeyPage},
		{"POST", "/factors/passkey/options", enroling, (*visit).newPasskeyOptions},
		{"POST", "/factors/passkey", enroling, (*visit).enrolPasskey},
		{"POST", "/factors/remove", fresh, (*visit).removeFactor},
		{"POST", "/factors/recovery", fresh, (*visit).newRecovery},
		{"POST", "/sign-out-everywhere", signedIn, (*visit).signOutEverywhere},

		{"GET", "/admin", admins, (*visit).adminPage},
		{"GET", "/admin/user", admins, (*visit).adminUser},
		{"POST", "/admin/revoke", admins, (*visit).adminRevoke},
		{"POST", "/admin/unlink", freshAdm, (*visit).adminUnlink},
		{"POST", "/admin/enrol-code", freshAdm, (*visit).adminEnrolCode},
		{"GET", "/admin/audit", admins, (*visit).adminAudit},
	}
}

// routes is the table as a handler, and the assets.
func (p *Portal) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range p.table() {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, q *http.Request) { p.serve(w, q, r) })
	}
	mux.HandleFunc("GET /assets/{file}", p.asset)
	mux.HandleFunc("GET /robots.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("User-agent: *\nDisallow: /\n"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) { p.refuse(w, q, http.StatusNotFound, "error.notfound") })
	return mux
}

// serve lets a request to its handler, if its session may.
func (p *Portal) serve(w http.ResponseWriter, q *http.Request, r route) {
	v := &visit{p: p, w: w, r: q, l: p.localeOf(q)}
	if err := v.load(); err != nil {
		v.failed(err)
		return
	}
	if !v.may(r.need) {
		return
	}
	if r.method == "POST" {
		if err := q.ParseForm(); err != nil {
			v.message(http.StatusBadRequest, "error.form")
			return
		}
		// Who has no session has no token; that the form is ours, the browser has said.
		if v.session != nil && !v.tokenFits() {
			v.message(http.StatusForbidden, "error.token")
			return
		}
	}
	if err := r.handle(v); err != nil {
		v.failed(err)
	}
}

// may reports whether the session meets a need; if not, it has answered.
func (v *visit) may(n need) bool {
	switch {
	case n == anybody:
	case v.session == nil:
		v.elsewhere("/sign-in", http.StatusUnauthorized, "error.session")
		return false
	case n == halfway && v.is(stagePassword), n == enroling && v.is(stageEnrol):
	case v.is(stageFull) && n == halfway:
		v.redirect("/passwords")
		return false
	case v.is(stagePassword):
		v.elsewhere("/second-factor", http.StatusUnauthorized, "error.factor")
		return false
	case v.is(stageEnrol):
		v.elsewhere("/factors/add", http.StatusUnauthorized, "error.enrol")
		return false
	case !v.is(stageFull):
		v.elsewhere("/sign-in", http.StatusUnauthorized, "error.session")
		return false
	case (n == admins || n == freshAdm) && !v.session.admin:
		v.message(http.StatusForbidden, "error.admin")
		return false
	case (n == fresh || n == enroling || n == freshAdm) && !v.fresh():
		next := "/passwords"
		if v.r.Method == http.MethodGet {
			next = v.r.URL.RequestURI()
		} else if n == freshAdm {
			next = "/admin"
		} else if n == enroling || v.r.URL.Path != "/passwords" && v.r.PathValue("id") == "" {
			next = "/factors"
		}
		v.elsewhere("/confirm?next="+url.QueryEscape(next), http.StatusUnauthorized, "error.fresh")
		return false
	}
	return true
}

// elsewhere sends a reader to where the session gets what it lacks. A form is not carried there: it is refused, with the way to go.
func (v *visit) elsewhere(to string, code int, key string) {
	if v.r.Method == http.MethodGet || v.r.Method == http.MethodHead {
		v.redirect(to)
		return
	}
	v.render(code, "message", v.l.T(key), messageData{v.l.T(key), to})
}

func (v *visit) redirect(to string) { http.Redirect(v.w, v.r, to, http.StatusSeeOther) }

// done goes back to a page that says that something was done.
func (v *visit) done(to, what string) error {
	v.redirect(to + "?done=" + url.QueryEscape(what))
	return nil
}

type messageData struct{ Text, Back string }

// message is a page with one sentence.
func (v *visit) message(code int, key string, args ...any) {
	v.render(code, "message", v.l.T(key, args...), messageData{v.l.T(key, args...), "/"})
}

// failed answers an error of a handler. Broken rules of package manage hold nothing secret and are told; all else is logged.
func (v *visit) failed(err error) {
	var violation *manage.Violation
	switch {
	case errors.As(err, &violation):
		v.message(http.StatusUnprocessableEntity, "error.rule", v.l.rule(violation))
		return
	case errors.Is(err, manage.ErrNoSuchPassword), errors.Is(err, manage.ErrSeveral):
		v.message(http.StatusNotFound, "error.nopassword")
		return
	case errors.Is(err, auth.ErrNotFound), errors.Is(err, auth.ErrAmbiguous), errors.Is(err, manage.ErrNotUser), errors.Is(err, errOut):
		v.message(http.StatusNotFound, "error.nouser")
		return
	case errors.Is(err, manage.ErrNotEligible):
		v.message(http.StatusUnprocessableEntity, "error.ineligible")
		return
	case errors.Is(err, manage.ErrUnconfirmed):
		v.message(http.StatusServiceUnavailable, "error.unconfirmed")
	case errors.Is(err, backend.ErrUnavailable), errors.Is(err, manage.ErrContention):
		v.message(http.StatusServiceUnavailable, "error.unavailable")
	default:
		v.message(http.StatusInternalServerError, "error.internal")
	}
	v.p.Log.Error("portal: a request failed", "path", v.r.URL.Path, "err", err)
}

// refuse answers what has come to no route.
func (p *Portal) refuse(w http.ResponseWriter, r *http.Request, code int, key string) {
	v := &visit{p: p, w: w, r: r, l: p.localeOf(r)}
	v.message(code, key)
}
