package portal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"appbind/config"
)

// Bounds of what the provider is asked.
const (
	providerTime  = 5 * time.Second // for one answer
	providerBytes = 1 << 20         // of one answer
	metadataLife  = time.Hour       // how long the provider's metadata is believed
	maxClaim      = 256             // bytes of the claim that says who signed in
)

// Errors of a sign-in at the provider. What wraps them is for the log and holds no token, code or claim.
var (
	errProvider = errors.New("the provider does not answer as it should")
	errToken    = errors.New("the provider's answer is not good")
	errClaims   = errors.New("the provider's answer names nobody")
)

// provider is the OpenID Connect provider. It is asked for the first time when somebody signs in: nothing else waits for it.
type provider struct {
	cfg      *config.OpenID
	callback string // our address for its answers
	client   *http.Client
	now      func() time.Time
	known    atomic.Pointer[metadata]
}

// metadata is what the provider says of itself (OpenID Connect Discovery 1.0, 3).
type metadata struct {
	*oidc.Provider
	oauth      oauth2.Config
	verifier   *oidc.IDTokenVerifier
	endSession string // "": it has no sign-out
	saysIssuer bool   // its answers name it (RFC 9207)
	until      time.Time
}

func newProvider(cfg *config.OpenID, callback string, now func() time.Time) (*provider, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("portal.openid.ca: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("portal.openid.ca: no certificate in the file")
		}
	}
	// A sign-in takes one or two requests: no connection is kept, so that none outlives the pages.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	return &provider{cfg: cfg, callback: callback, now: now, client: &http.Client{Timeout: providerTime, Transport: shortened{transport},
		// An endpoint that sends on to another one is none that was vouched for.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// shortened ends answers that are too long.
type shortened struct{ http.RoundTripper }

// RoundTrip is http.RoundTripper's.
func (s shortened) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := s.RoundTripper.RoundTrip(r)
	if err == nil {
		a.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(a.Body, providerBytes), a.Body}
	}
	return a, err
}

// asked is a context in which the provider is asked.
func (p *provider) asked(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(oidc.ClientContext(ctx, p.client), 2*providerTime)
}

// metadata is the provider's, which is read when it was not yet, or long ago. Several may read it at one time. What was known
// before is better than nothing.
func (p *provider) metadata(ctx context.Context) (*metadata, error) {
	known := p.known.Load()
	if known != nil && p.now().Before(known.until) {
		return known, nil
	}
	ctx, cancel := p.asked(ctx)
	defer cancel()
	found, err := oidc.NewProvider(ctx, p.cfg.Issuer)
	var m *metadata
	if err == nil {
		m, err = p.understood(found)
	}
	switch {
	case err == nil:
		p.known.Store(m)
		return m, nil
	case known != nil:
		return known, nil
	}
	return nil, fmt.Errorf("%w: metadata: %s", errProvider, clip(err.Error()))
}

// understood checks the provider's metadata: a browser is sent there, and so is our secret.
func (p *provider) understood(found *oidc.Provider) (*metadata, error) {
	var more struct {
		Keys       string   `json:"jwks_uri"`
		EndSession string   `json:"end_session_endpoint"`
		SaysIssuer bool     `json:"authorization_response_iss_parameter_supported"`
		Methods    []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, err
	}
	m := &metadata{Provider: found, endSession: more.EndSession, saysIssuer: more.SaysIssuer, until: p.now().Add(metadataLife),
		verifier: found.Verifier(&oidc.Config{ClientID: p.cfg.ClientID, Now: p.now})}
	m.oauth = oauth2.Config{ClientID: p.cfg.ClientID, ClientSecret: string(p.cfg.ClientSecret), RedirectURL: p.callback, Scopes: p.cfg.Scopes, Endpoint: found.Endpoint()}
	// Said here, the code is not sent twice to find out. Without a word of it, it is basic (Discovery 3).
	m.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if len(more.Methods) > 0 && !slices.Contains(more.Methods, "client_secret_basic") {
		m.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	for name, address := range map[string]string{"authorization_endpoint": m.oauth.Endpoint.AuthURL, "token_endpoint": m.oauth.Endpoint.TokenURL, "jwks_uri": more.Keys,
		"userinfo_endpoint": found.UserInfoEndpoint(), "end_session_endpoint": more.EndSession} {
		if address == "" && (name == "userinfo_endpoint" || name == "end_session_endpoint") {
			continue
		}
		if !p.sound(address) {
			return nil, fmt.Errorf("its %s is no https address", name)
		}
	}
	return m, nil
}

// sound reports whether an address is as safe as the issuer's.
func (p *provider) sound(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && strings.HasPrefix(p.cfg.Issuer, "http://") && loopback(u.Hostname())
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// way is the address to which a browser is sent. again: the provider must ask the user, whom it may know already.
func (p *provider) way(m *metadata, f *flow, again bool, lifetime time.Duration) string {
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.nonce()), oauth2.S256ChallengeOption(f.verifier())}
	if len(p.cfg.ACR) > 0 {
		options = append(options, oauth2.SetAuthURLParam("acr_values", strings.Join(p.cfg.ACR, " ")))
	}
	// Beside its own sense max_age makes the provider say when the user was asked last (OpenID Connect Core 2, auth_time).
	age := int64(lifetime / time.Second)
	if f.session != "" {
		age = 0
	}
	options = append(options, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(age, 10)))
	if again || f.session != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	return m.oauth.AuthCodeURL(f.state(), options...)
}

// identity is what a good ID token says.
type identity struct {
	subject string    // the digest of issuer and sub
	sid     string    // likewise of the provider's session; ""
	value   string    // of the claim that says who it is
	at      time.Time // when the user was asked last; zero: not said
	factors bool      // the sign-in counts as one with two factors
}

// redeem exchanges a code for an ID token, and checks it (OpenID Connect Core 3.1.3.7). Errors: errProvider, errToken, errClaims.
func (p *provider) redeem(ctx context.Context, m *metadata, f *flow, code string) (*identity, error) {
	ctx, cancel := p.asked(ctx)
	defer cancel()
	answer, err := m.oauth.Exchange(ctx, code, oauth2.VerifierOption(f.verifier()))
	if err != nil {
		return nil, exchangeError(err)
	}
	raw, _ := answer.Extra("id_token").(string)
	token, err := m.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, verifyError(err)
	}
	claims := claims{}
	if err := token.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: its claims cannot be read", errToken)
	}
	switch azp, named := claims["azp"]; {
	case token.Subject == "":
		return nil, fmt.Errorf("%w: no sub", errToken)
	case !equal(token.Nonce, f.nonce()):
		return nil, fmt.Errorf("%w: another nonce", errToken)
	case named && azp != p.cfg.ClientID, !named && len(token.Audience) > 1: // 3.1.3.7, 4 and 5
		return nil, fmt.Errorf("%w: it was issued to another client", errToken)
	case token.AccessTokenHash != "" && token.VerifyAccessToken(answer.AccessToken) != nil:
		return nil, fmt.Errorf("%w: another access token", errToken)
	}
	id := &identity{subject: p.subject(token.Subject), sid: p.session(claims.text("sid")), at: claims.time("auth_time"),
		factors: proves(p.cfg, claims.text("acr"), claims.list("amr"))}
	if id.at.After(p.now().Add(skew)) {
		return nil, fmt.Errorf("%w: its auth_time is to come", errToken)
	}
	if _, there := claims[p.cfg.Claim]; !there && m.UserInfoEndpoint() != "" {
		more, err := m.UserInfo(ctx, oauth2.StaticTokenSource(answer))
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: userinfo: %s", errProvider, unreachable(err))
		case more.Subject != token.Subject: // Core 5.3.2
			return nil, fmt.Errorf("%w: userinfo is about somebody else", errToken)
		}
		clear(claims)
		if err := more.Claims(&claims); err != nil {
			return nil, fmt.Errorf("%w: userinfo cannot be read", errToken)
		}
	}
	id.value, err = claims.who(p.cfg.Claim)
	return id, err
}

// exchangeError is what an error of the token endpoint may say: its text may hold an answer with tokens.
func exchangeError(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response.StatusCode < http.StatusInternalServerError {
		return fmt.Errorf("%w: the token endpoint answered %d %q", errToken, refused.Response.StatusCode, clip(refused.ErrorCode))
	}
	return fmt.Errorf("%w: token endpoint: %s", errProvider, unreachable(err))
}

// unreachable is the part of an error that has no content of an answer.
func unreachable(err error) string {
	var at *url.Error
	var dial *net.OpError
	switch {
	case errors.As(err, &dial):
		return clip(dial.Error())
	case errors.As(err, &at) && at.Timeout():
		return "no answer in time"
	case errors.As(err, &at):
		return clip(at.Err.Error())
	}
	return "the answer is none that is understood"
}

// verifyError is likewise for a token that was not good.
func verifyError(err error) error {
	var over *oidc.TokenExpiredError
	switch {
	case errors.As(err, &over):
		return fmt.Errorf("%w: the token is expired; is the clock right?", errToken)
	case strings.Contains(err.Error(), "fetching keys"): // the library keeps no more of the cause
		return fmt.Errorf("%w: its keys: %s", errProvider, clip(err.Error()))
	}
	return fmt.Errorf("%w: token: %s", errToken, clip(err.Error()))
}

// subject and session are what the store knows of an account and of a session at the provider.
func (p *provider) subject(sub string) string {
	if sub == "" {
		return ""
	}
	return digest("subject\x00"+p.cfg.Issuer, sub)
}

func (p *provider) session(sid string) string {
	if sid == "" {
		return ""
	}
	return digest("sid\x00"+p.cfg.Issuer, sid)
}

// proves reports whether a sign-in counts as one with two factors: never, unless the configuration says by what it is known.
func proves(o *config.OpenID, acr string, amr []string) bool {
	switch {
	case !o.Factors():
		return false
	case len(o.ACR) > 0 && !slices.Contains(o.ACR, acr):
		return false
	case len(o.AMR) > 0 && !slices.ContainsFunc(amr, func(method string) bool { return slices.Contains(o.AMR, method) }):
		return false
	}
	return true
}

// goodbye checks a logout token (OpenID Connect Back-Channel Logout 1.0, 2.6), and is whose sessions end: an account's, one of its
// sessions', or where both are named that of both. Errors: errProvider, errToken.
func (p *provider) goodbye(ctx context.Context, raw string) (subject, sid, jti string, err error) {
	ctx, cancel := p.asked(ctx)
	defer cancel()
	m, err := p.metadata(ctx)
	if err != nil {
		return "", "", "", err
	}
	token, err := m.verifier.VerifyLogout(ctx, raw)
	if err != nil {
		return "", "", "", verifyError(err)
	}
	if token.IssuedAt.After(p.now().Add(skew)) {
		return "", "", "", fmt.Errorf("%w: it is of a time to come", errToken)
	}
	return p.subject(token.Subject), p.session(token.SessionID), token.TokenID, nil
}
