package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

const (
	providerSecret = "provider-canary-secret"
	providerTOTP   = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
)

// provider is a real OpenID Connect provider, npm's oidc-provider.
type provider struct {
	*process
	url string
}

// startProvider starts one that knows the pages at an address. alice and bob have a password and an authenticator app there; to
// mallory it has given alice's address, which is not verified.
func startProvider(t *testing.T, site string) *provider {
	t.Helper()
	const script = "../npm/provider.mjs"
	program, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: run 'make tools'")
	}
	if _, err := os.Stat("../npm/node_modules/oidc-provider"); err != nil {
		t.Fatal("npm's oidc-provider is not installed: run 'make tools'")
	}
	users := map[string]any{}
	for name, mail := range map[string]string{"alice": "alice", "bob": "bob", "mallory": "alice"} {
		users[name] = map[string]any{"password": name + "-there", "totp": providerTOTP,
			"claims": map[string]any{"email": mail + "@example.org", "email_verified": name != "mallory"}}
	}
	client := map[string]any{"client_id": "appbind", "client_secret": providerSecret, "redirect_uris": []string{site + "/openid/callback"},
		"post_logout_redirect_uris": []string{site + "/sign-in"}, "backchannel_logout_uri": site + "/openid/logout", "backchannel_logout_session_required": true,
		"application_type": "native", "response_types": []string{"code"}, "grant_types": []string{"authorization_code"}, "id_token_signed_response_alg": "ES256"}
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	port := freePort(t)
	// The pages listen on 127.0.0.1, by the name localhost.
	p := &provider{start(t, program, "--dns-result-order=ipv4first", script, text(port), text(client), text(users)), fmt.Sprintf("http://127.0.0.1:%d", port)}
	eventually(t, "the provider is ready", func() bool { return !p.running() || strings.Contains(p.output(), "ready") })
	return p
}

// signIn fills in the provider's page, with a one-time code or without.
func (p *provider) signIn(v *visitor, user string, withCode bool) {
	v.t.Helper()
	if at, err := v.Path(); err != nil || !strings.HasPrefix(at, "/interaction/") {
		text, _ := v.Text("body")
		v.t.Fatalf("not at the provider's page but at %s (%v)\n%s", at, err, text)
	}
	v.do("name there", v.Type("username", user))
	v.do("password there", v.Type("password", user+"-there"))
	if withCode {
		code, err := totp.GenerateCode(providerTOTP, time.Now())
		v.do("code", err)
		v.do("code there", v.Type("code", code))
	}
	v.do("sign in there", v.Send("button"))
}

// signOut ends the session at the provider, on its own page.
func (p *provider) signOut(v *visitor) {
	v.t.Helper()
	eventually(v.t, "the provider's page for signing out", func() bool {
		at, err := v.Path()
		return err == nil && at == "/session/end"
	})
	v.do("sign out there", v.Send("button[value=yes]"))
}

// TestPortalOpenID: signing in at a real provider, with two factors there and with one, from the first app password to signing out.
func TestPortalOpenID(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	var p *provider
	w := startSite(t, s, func(site string) string {
		p = startProvider(t, site)
		return fmt.Sprintf("  openid: {issuer: %q, label: Example Login, client_id: appbind, client_secret: %s, acr: ['urn:level:mfa'], amr: [mfa]}\n", p.url, providerSecret)
	})
	d := startDovecot(t, "context-dn", w.a.uri())

	// Two factors there are enough, and a code of an administrator is not needed.
	alice := w.visitor()
	alice.open("/sign-in")
	alice.look("sign-in-openid")
	alice.do("provider", alice.Send("#openid"))
	p.signIn(alice, "alice", true)
	alice.at("/passwords")
	phone := alice.create("My phone")
	d.expectLogin(t, "alice", phone, "203.0.113.5", loginOK)
	alice.seesUse("203.0.113.5")
	alice.do("revoke", alice.Click("#list summary"))
	alice.do("yes", alice.Send("#list button.danger"))
	d.expectLogin(t, "alice", phone, "203.0.113.5", loginRefused)

	// A fresh factor: the provider asks again, though it knows her.
	alice.open("/confirm?next=/factors")
	alice.look("confirm-openid")
	alice.do("provider", alice.Send("#openid"))
	p.signIn(alice, "alice", false)
	alice.reads("did not ask for your second factor")
	alice.open("/openid/confirm?next=/factors")
	p.signIn(alice, "alice", true)
	alice.at("/factors")

	// One factor there: appbind asks for its own, or the provider is asked for more.
	bob := w.visitor()
	bob.open("/sign-in")
	bob.do("provider", bob.Send("#openid"))
	bob.do("no", bob.Send("#cancel"))
	bob.reads("cancelled or refused")
	bob.open("/sign-in")
	bob.do("provider", bob.Send("#openid"))
	p.signIn(bob, "bob", false)
	bob.at("/second-factor")
	bob.open("/passwords")
	bob.at("/second-factor")
	bob.do("more", bob.Send("#openid"))
	p.signIn(bob, "bob", true)
	bob.at("/passwords")

	// Signed out there, signed out here.
	bob.do("the provider's own sign-out", bob.Open(p.url+"/session/end"))
	p.signOut(bob)
	eventually(t, "the session is over", func() bool {
		bob.open("/passwords")
		path, err := bob.Path()
		return err == nil && path == "/sign-in"
	})
	// And the other way round: the provider asks who it is.
	alice.do("sign out", alice.Click("header form button"))
	p.signOut(alice)
	alice.at("/sign-in")
	alice.do("provider", alice.Send("#openid"))
	p.signIn(alice, "mallory", true)
	alice.reads("belongs to nobody")
	alice.at("/openid/callback")

	canaryFree(t, w.a.output(), phone, providerSecret, "alice-there", "eyJhbGciOi", "alice@example.org")
	w.a.stop(syscall.SIGTERM) // what the databases hold is in their files then
	filesHoldNone(t, stateDir(t, w.a), phone, providerSecret, "alice-there", "eyJhbGciOi", "mallory")
}

// reads waits for words on the page.
func (v *visitor) reads(words string) {
	v.t.Helper()
	eventually(v.t, "the page says: "+words, func() bool {
		text, err := v.Text("main")
		return err == nil && strings.Contains(text, words)
	})
}
