package integration

import (
	"strings"
	"syscall"
	"testing"
)

// TestPortalPasskey: a user with a passkey and nothing else, from an enrolment code to an app password that is revoked.
func TestPortalPasskey(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	w := startSite(t, s)
	d := startDovecot(t, "context-dn", w.a.uri())
	alice := w.visitor()
	finger, err := alice.Authenticator()
	alice.do("authenticator", err)
	alice.signIn("alice")
	alice.do("enrolment code", alice.Type("code", w.enrolCode("alice")))
	alice.do("send", alice.Send("main form button"))
	alice.at("/factors/add")
	alice.do("go on", alice.Send("a[href='/factors/passkey']"))
	alice.do("name", alice.Type("name", "My phone"))
	alice.look("passkey")
	alice.do("make it", alice.Send("form.passkey button"))
	codes, err := alice.Text("#codes")
	if err != nil || len(strings.Fields(codes)) != 10 {
		t.Fatalf("recovery codes: %q %v", codes, err)
	}
	phone := alice.create("Mail on my phone")
	d.expectLogin(t, "alice", phone, "203.0.113.5", loginOK)
	d.expectLogin(t, "alice", "alice-main", "203.0.113.5", loginOK) // no authenticator app is enrolled
	alice.seesUse("203.0.113.5")

	// The same device makes no second one.
	alice.open("/factors/passkey")
	alice.do("name", alice.Type("name", "Again"))
	alice.do("make it", alice.Click("form.passkey button"))
	alice.said("has a passkey")

	alice.do("sign out", alice.Send("header form button"))
	alice.signIn("alice")
	alice.look("second-factor-passkey")
	alice.do("another's finger", finger.Verify(false))
	alice.do("use it", alice.Click("form.passkey button"))
	alice.said("did not confirm")
	alice.at("/second-factor")
	alice.do("finger", finger.Verify(true))
	alice.do("use it", alice.Send("form.passkey button"))
	alice.at("/passwords")
	alice.open("/factors")
	alice.look("second-factors-passkey")
	if text, err := alice.Text("main ul.list"); err != nil || !strings.Contains(text, "My phone") || strings.Contains(text, "not yet") {
		t.Errorf("second factors: %q %v", text, err)
	}
	alice.open("/confirm?next=/passwords/new")
	alice.do("use it", alice.Send("form.passkey button"))
	alice.at("/passwords/new")

	// Without scripts the page says that passkeys need one, and takes a code.
	plain := w.visitor()
	plain.do("no scripts", plain.NoScript())
	plain.signIn("alice")
	if text, err := plain.Visible("main"); err != nil || !strings.Contains(text, "needs JavaScript") || strings.Contains(text, "Use a passkey") {
		t.Errorf("without scripts: %q %v", text, err)
	}
	plain.do("code", plain.Type("code", strings.Fields(codes)[0]))
	plain.do("send", plain.Send("main form:not(.passkey) button"))
	plain.at("/passwords")

	alice.open("/passwords")
	alice.do("revoke", alice.Click("#list summary"))
	alice.do("yes", alice.Send("#list button.danger"))
	alice.at("/passwords")
	d.expectLogin(t, "alice", phone, "203.0.113.5", loginRefused)
	canaryFree(t, w.a.output(), phone, "alice-main")
	w.a.stop(syscall.SIGTERM)
	filesHoldNone(t, stateDir(t, w.a), phone, "alice-main", managePW)
}

// said waits until the passkey's form says something.
func (v *visitor) said(words string) {
	v.t.Helper()
	within(v.t, "the form says: "+words, historyPatience, func() bool {
		text, err := v.Text("form.passkey [role=alert]")
		v.do("read it", err)
		return strings.Contains(text, words)
	})
}
