package portal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/config"
)

const (
	clientSecret = "client-canary-secret"
	levelMFA     = "urn:level:mfa"
)

// op is an OpenID Connect provider of a test, which makes whatever mistake it is told to.
type op struct {
	t     *testing.T
	srv   *httptest.Server
	key   *ecdsa.PrivateKey
	clock *clock

	mu       sync.Mutex // guards the fields below
	granted  map[string]url.Values
	more     map[string]any // in the metadata
	claims   map[string]any // of who signs in
	userinfo map[string]any
	mistake  func(header, claims map[string]any) // in the ID token
	alg      string                              // ES256, HS256, none
	requests []string
	down     bool
}

func newOP(t *testing.T) *op {
	t.Helper()
	o := &op{t: t, granted: map[string]url.Values{}, alg: "ES256", more: map[string]any{}}
	var err error
	if o.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	o.srv = httptest.NewServer(o)
	t.Cleanup(o.srv.Close)
	o.user("alice")
	return o
}

// user says who signs in from now on, with a second factor.
func (o *op) user(name string) {
	o.claims = map[string]any{"sub": "sub-" + name, "email": name + "@example.org", "email_verified": true, "sid": "sid-" + name,
		"acr": levelMFA, "amr": []string{"pwd", "otp", "mfa"}}
}

// withOP are pages that take the sign-in of a provider.
func withOP(t *testing.T, change ...func(*config.OpenID)) (*rig, *op) {
	t.Helper()
	o := newOP(t)
	r := newRig(t, func(cfg *config.Config) {
		c := &cfg.Portal.OpenID
		c.Issuer, c.Label, c.ClientID, c.ClientSecret = o.srv.URL, "Example ID", "appbind", clientSecret
		c.ACR, c.AMR = []string{levelMFA}, []string{"mfa", "hwk"}
		for _, f := range change {
			f(c)
		}
	})
	o.clock = r.clock
	return r, o
}

func (o *op) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = append(o.requests, r.URL.Path)
	if o.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		m := map[string]any{"issuer": o.srv.URL, "authorization_endpoint": o.srv.URL + "/authorize", "token_endpoint": o.srv.URL + "/token", "jwks_uri": o.srv.URL + "/keys",
			"userinfo_endpoint": o.srv.URL + "/userinfo", "end_session_endpoint": o.srv.URL + "/end", "authorization_response_iss_parameter_supported": true,
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}}
		maps.Copy(m, o.more)
		answer = m
	case "/keys":
		public, _ := o.key.PublicKey.Bytes()
		answer = map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": url64(public[1:33]), "y": url64(public[33:])}}}
	case "/token":
		if answer = o.token(r); answer == nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_grant","error_description":"code-canary"}`))
			return
		}
	case "/userinfo":
		answer = o.userinfo
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// token answers a code once, to who has the secret and the verifier.
func (o *op) token(r *http.Request) any {
	id, secret, _ := r.BasicAuth()
	asked, known := o.granted[r.PostFormValue("code")]
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !known || id != "appbind" || secret != clientSecret || url64(sum[:]) != asked.Get("code_challenge") || r.PostFormValue("redirect_uri") != asked.Get("redirect_uri") {
		return nil
	}
	delete(o.granted, r.PostFormValue("code"))
	now := o.clock.now()
	claims := map[string]any{"iss": o.srv.URL, "aud": "appbind", "exp": now.Add(time.Minute).Unix(), "iat": now.Unix(), "auth_time": now.Unix(), "nonce": asked.Get("nonce")}
	maps.Copy(claims, o.claims)
	header := map[string]any{"kid": "1", "alg": o.alg}
	if o.mistake != nil {
		o.mistake(header, claims)
	}
	return map[string]any{"access_token": "access-canary", "token_type": "Bearer", "id_token": o.sign(header, claims)}
}

func url64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a JWT.
func (o *op) sign(header, claims map[string]any) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	text := url64(h) + "." + url64(c)
	sum := sha256.Sum256([]byte(text))
	switch header["alg"] {
	case "none":
		return text + "."
	case "HS256":
		mac := hmac.New(sha256.New, []byte(clientSecret))
		mac.Write([]byte(text))
		return text + "." + url64(mac.Sum(nil))
	}
	x, y, err := ecdsa.Sign(rand.Reader, o.key, sum[:])
	if err != nil {
		o.t.Error(err)
	}
	var sig [64]byte
	x.FillBytes(sig[:32])
	y.FillBytes(sig[32:])
	return text + "." + url64(sig[:])
}

// back is the address to which the provider sends a browser that came to one of its own, and changes what it says there.
func (o *op) back(t *testing.T, address string, change ...string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, o.srv.URL+"/authorize?") {
		t.Fatalf("sent to %q", address)
	}
	asked := u.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": "appbind", "code_challenge_method": "S256", "redirect_uri": origin + callbackPath} {
		if asked.Get(name) != want {
			t.Errorf("%s: %q", name, asked.Get(name))
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	code := "code-canary-" + newToken()
	o.granted[code] = asked
	answer := url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {o.srv.URL}}
	for i := 0; i < len(change); i += 2 {
		if answer.Set(change[i], change[i+1]); change[i+1] == "" {
			answer.Del(change[i])
		}
	}
	return callbackPath + "?" + answer.Encode()
}

// begin goes to the provider and is the address there.
func (b *browser) begin(path string) string {
	b.r.t.Helper()
	p := b.get(path)
	if p.code != 303 || b.cookies[flowCookie] == "" {
		b.r.t.Fatalf("%s: %d %q\n%s\n%s", path, p.code, p.location, clip(p.body), b.r.log)
	}
	return p.location
}

// through signs in at the provider.
func (b *browser) through(o *op, change ...string) page {
	b.r.t.Helper()
	return b.get(o.back(b.r.t, b.begin("/openid/start"), change...))
}

func (o *op) reset() {
	o.user("alice")
	o.mistake, o.alg, o.userinfo, o.down = nil, "ES256", map[string]any{"sub": "sub-alice"}, false
}

func (o *op) asked(path string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.requests {
		if p == path {
			n++
		}
	}
	return n
}
