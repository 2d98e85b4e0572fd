// Package portal is the self-service pages: users make, see and revoke their own
// app passwords, behind a second factor.
//
// # Order of steps
//
//	listener  a connection, TLS or from a trusted proxy                (listener.go)
//	guard     host, method, cross-origin and size of a request         (guard.go)
//	route     one table: path, who may, handler                       (routes.go)
//	session   the cookie, the session in the store, the entry as it is now, the form's token (session.go)
//	handler   reads the form, does one thing, answers with a page or a redirect
//
// Signing in has two steps. The main password is decided by package auth as a
// bind is, with the same budgets (signin.go); then a second factor is proved:
// a one-time code, a passkey (passkey.go), or a recovery code (factor.go). Whoever has no factor
// needs a one-time code that an admin issued, and may do nothing but enrol one (enrol.go).
// Or an OpenID Connect provider is asked who it is (openid.go): away with state, nonce and PKCE of a journey that
// the store knows once (flow.go), back with a code, the ID token that it stands for (provider.go), a claim that it has (claims.go),
// and the one entry that the claim names. That is the first step, or both where the token says so.
//
// # Security
//
// Every route but signing in demands a session whose second factor was proved, and
// every one that makes a password or changes a factor one that is fresh. The
// user is read from the directory at each request: who is disabled, deleted or not
// matched by portal.filter is out at once. A page or a form never names a user; what is
// changed is the entry of the session. Admins name users, may look and revoke, and
// can make no app password for anybody. An account at the provider stays with the entry that it signed in to first.
//
// The cookie is no use to a script nor to another site, and what the store
// knows of it opens nothing. Forms carry a token of the session beside the checks that
// browsers make. Pages have no inline script or style, are not stored and not
// framed. A password is in one response and nowhere else. No answer tells whether a user exists.
//
// # Limits
//
// Five wrong codes in five minutes and fifty in a day for one user, counted in the store and so by all
// instances together (at binds: five); twenty sign-ins in five minutes from one address (IPv6: one /64). A request body has 64 KiB. 1024 connections at one time, 128 from one
// address that is no trusted proxy's; one too many is closed.
package portal

import (
	"context"
	"crypto/rand"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/go-webauthn/webauthn/webauthn"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/history"
	"appbind/manage"
)

// Parts are what the pages stand on.
type Parts struct {
	Config   *config.Config
	Upstream *backend.Upstream
	Verifier *auth.Verifier
	Manager  *manage.Manager
	Store    *Store
	Log      *slog.Logger
	Now      func() time.Time
	// History opens the history for questions; the pages do without where it fails.
	History func(context.Context) (*history.Store, error)
	// Journal is the audit log, and the webhook; nil: there is neither. Of app passwords it hears by Manager.
	Journal manage.Journal
	// Mail hands over a mail to a user, and does not wait until it is sent; nil: none is sent. The text has nothing secret.
	Mail func(to, language, subject, text string)
}

// Portal is the pages of one configuration. Make it with New; it is an http.Handler.
type Portal struct {
	Parts
	cfg     *config.Portal
	filter  []byte    // cfg.Filter as a filter element; nil: none
	openid  *provider // nil: none
	site    string    // name for people
	pages   map[string]*template.Template
	assets  map[string]asset
	locales map[string]*locale
	handler http.Handler
	party   *webauthn.WebAuthn // nil: portal.url has no name that passkeys can be bound to
}

var _ http.Handler = (*Portal)(nil)

// New makes the pages.
func New(parts Parts) (*Portal, error) {
	p := &Portal{Parts: parts, cfg: &parts.Config.Portal, site: parts.Config.Portal.Name}
	if p.site == "" {
		p.site = p.cfg.Host()
	}
	if p.cfg.Filter != "" {
		packet, err := ldap.CompileFilter(p.cfg.Filter)
		if err != nil {
			return nil, fmt.Errorf("portal.filter: %w", err)
		}
		p.filter = packet.Bytes()
	}
	var err error
	if p.cfg.OpenID.On() {
		if p.openid, err = newProvider(&p.cfg.OpenID, p.cfg.URL+callbackPath, p.Now); err != nil {
			return nil, err
		}
	}
	if p.locales, err = readLocales(); err != nil {
		return nil, err
	}
	if p.assets, err = readAssets(); err != nil {
		return nil, err
	}
	if p.pages, err = readPages(); err != nil {
		return nil, err
	}
	if p.party, err = newParty(p.cfg, p.site); err != nil {
		p.Log.Warn("portal: there are no passkeys: they need a domain name in portal.url", "err", err)
		p.party = nil
	}
	p.handler = p.guarded(p.routes())
	return p, nil
}

// Off are pages that are switched off: every request is answered 503, and nothing of parts but the configuration and the log is used.
func Off(parts Parts) (*Portal, error) {
	p, err := New(parts)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /assets/{file}", p.asset)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.refuse(w, r, http.StatusServiceUnavailable, "error.off")
	})
	p.handler = p.guarded(mux)
	return p, nil
}

// ServeHTTP serves one request.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Purge deletes what is over from the store.
func (p *Portal) Purge(ctx context.Context) error {
	return p.Store.purge(ctx, p.Now(), p.cfg, time.Duration(p.Config.History.Retention))
}

// newToken is a text that nobody guesses: 128 bits and more.
func newToken() string { return rand.Text() }
