package proxy

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/manage"
	"appbind/secrets"
	"appbind/wire"
)

// writable lets the administrator write in the rig's directory, and nobody else.
func (r *rig) writable() {
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		switch {
		case m.Op == wire.OpModifyRequest && c.Bound() == adminDN:
			r.dir.Modify(c, m)
		case m.Op == wire.OpModifyRequest && bytes.Contains(m.Controls, []byte(controlAssertion)):
			c.Answer(m, 122) // as OpenLDAP: an assertion that fails is answered before the rights are looked at
		case m.Op == wire.OpModifyRequest:
			c.Answer(m, wire.ResultInsufficientAccessRights)
		default:
			r.dir.Handle(c, m)
		}
	})
}

// asAdmin is a client bound as the administrator.
func (r *rig) asAdmin() *client {
	c := r.dial()
	c.bind(1, adminDN, "admin-password", wire.ResultSuccess)
	return c
}

func modifyMessage(id int32, controls []byte, changes ...[]byte) []byte {
	return wire.AppendMessage(nil, id, wire.OpModifyRequest, modify(changes...), controls)
}

// passwordModifyMessage is a request of RFC 3062 for an identity; a nil new password is left out.
func passwordModifyMessage(id int32, identity string, old, chosen []byte) []byte {
	value := wire.AppendElement(nil, tagUserIdentity, []byte(identity))
	if old != nil {
		value = wire.AppendElement(value, tagOldPasswd, old)
	}
	if chosen != nil {
		value = wire.AppendElement(value, tagNewPasswd, chosen)
	}
	return extendedRequest(id, oidPasswordModify, wire.CloseElement(value, 0, wire.TagSequence))
}

const phoneOfAlice = "appPasswordLabel=tablet," + aliceUser

// TestOtherWritesAreForwardedAsTheyCame: byte for byte, but for the message ID.
func TestOtherWritesAreForwardedAsTheyCame(t *testing.T) {
	r := newRig(t)
	c := r.asAdmin()
	control := wire.AppendControl(nil, "1.2.3.4", false, []byte("x"))
	for i, body := range [][]byte{
		modify(padded(1, "description"), mod(3, "uidNumber", "1")),
		modify(mod(2, "userPassword", "new")),
	} {
		c.write(wire.AppendMessage(nil, int32(i)+2, wire.OpModifyRequest, body, control))
		c.want(int32(i)+2, wire.OpModifyResponse, wire.ResultSuccess)
		got := r.up.Received(wire.OpModifyRequest)
		if len(got) != i+1 || !bytes.Equal(got[i].Body, body) || !bytes.Equal(got[i].Controls, control) {
			t.Errorf("%x was forwarded as %x", body, got[len(got)-1].Body)
		}
	}
	c.write(passwordModifyMessage(9, aliceUser, []byte("a"), []byte("b")))
	c.result(9, wire.OpExtendedResponse)
	if got := r.up.Received(wire.OpExtendedRequest); len(got) != 1 || !bytes.HasSuffix(passwordModifyMessage(9, aliceUser, []byte("a"), []byte("b")), got[0].Body) {
		t.Error("a password modify of a user was not forwarded as it came")
	}
}

// TestWriteGuard: what the directory gets of a guarded modify, and what it does not.
func TestWriteGuard(t *testing.T) {
	r := newRig(t)
	r.writable()
	c := r.asAdmin()
	control := wire.AppendControl(nil, "1.2.3.4", false, []byte("x"))
	c.write(modifyMessage(2, control, padded(1, "mail"), mod(0, "appPassword", "$app$tablet$"+inClear), mod(0, "cn", "other")))
	c.want(2, wire.OpModifyResponse, wire.ResultSuccess)
	values := manage.NewSet(bytesOf(r.dir.Values(aliceUser, "appPassword")))
	v, err := values.Find(manage.Ref{Label: "tablet"})
	if err != nil || !v.Verify([]byte(inClear)) || v.Expires.IsZero() {
		t.Fatalf("stored: %v, %v", v, err)
	}
	if cn := r.dir.Values(aliceUser, "cn"); !slices.Contains(cn, "other") || len(r.dir.Values(aliceUser, "mail")) != 0 {
		t.Errorf("the other changes: cn %q", cn)
	}
	got := r.up.Received(wire.OpModifyRequest)
	last := got[len(got)-1]
	if !bytes.Contains(last.Controls, control) || !bytes.Contains(last.Body, padded(1, "mail")) {
		t.Error("what stands beside the app password was changed")
	}
	for _, m := range got {
		if bytes.Contains(m.Raw, []byte(inClear)) {
			t.Error("a secret went upstream in clear")
		}
	}
	before := len(got)
	for name, message := range map[string][]byte{
		"a transaction": modifyMessage(3, wire.AppendControl(nil, controlTransaction, true, []byte("x")), mod(0, "appPassword", "$app$x$y")),
	} {
		c.write(message)
		c.want(3, wire.OpModifyResponse, wire.ResultUnwillingToPerform)
		if n := len(r.up.Received(wire.OpModifyRequest)); n != before {
			t.Errorf("%s: %d modifies went upstream", name, n-before)
		}
	}
	many := make([]string, 11)
	for i := range many {
		many[i] = "$app$" + strings.Repeat("x", i+1) + "$" + inClear
	}
	c.write(modifyMessage(4, nil, mod(0, "appPassword", many...)))
	if res := c.result(4, wire.OpModifyResponse); res.Code != wire.ResultConstraintViolation || !strings.Contains(string(res.Diagnostic), "in clear in one request") {
		t.Errorf("many in clear: %d %s", res.Code, res.Diagnostic)
	}
	c.write(wire.AppendMessage(nil, 5, wire.OpModifyDNRequest, modifyDNBody(aliceUser, "appPassword=x", ""), nil))
	c.result(5, wire.OpModifyDNResponse)
	if n := len(r.up.Received(wire.OpModifyDNRequest)); n != 0 {
		t.Error("a name with the attribute went upstream")
	}
	if strings.Contains(r.log.String(), inClear) {
		t.Error("the log tells a secret")
	}
}

func bytesOf(list []string) [][]byte {
	var out [][]byte
	for _, v := range list {
		out = append(out, []byte(v))
	}
	return out
}

// TestWhoMayNotWriteLearnsNothing: the same answer whatever the entry holds, and never a hash.
func TestWhoMayNotWriteLearnsNothing(t *testing.T) {
	r := newRig(t)
	r.writable()
	bob := r.dial()
	bob.bind(1, bobUser, "bob-main-password", wire.ResultSuccess)
	assertFalse := wire.AppendControl(nil, controlAssertion, true, present("nothingHasThis"))
	for i, controls := range [][]byte{nil, assertFalse} {
		for j, change := range [][]byte{
			mod(0, "appPassword", "$app$phone$"+hashed), mod(0, "appPassword", "$app$free$"+inClear), mod(1, "appPassword", "$app$phone"),
			mod(1, "appPassword", "$app$free"), mod(2, "appPassword"), mod(0, "appPassword", "rubbish"), mod(0, "appPassword;x", "x"),
		} {
			id := int32(10 + 20*i + j)
			bob.write(modifyMessage(id, controls, change))
			if res := bob.result(id, wire.OpModifyResponse); res.Code != wire.ResultInsufficientAccessRights || len(res.Diagnostic) > 0 {
				t.Errorf("change %d, controls %d: %d %s", j, i, res.Code, res.Diagnostic)
			}
		}
	}
	for i, identity := range []string{phoneOfAlice, "appPasswordLabel=phone," + aliceUser} {
		bob.write(passwordModifyMessage(int32(90+i), identity, nil, nil))
		if res := bob.result(int32(90+i), wire.OpExtendedResponse); res.Code != wire.ResultInsufficientAccessRights || len(res.Diagnostic) > 0 {
			t.Errorf("%s: %d %s", identity, res.Code, res.Diagnostic)
		}
	}
}

// TestMakeOne: who may, how, and what comes back.
func TestMakeOne(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) {
		cfg.AppPasswords.SelfServiceLDAP = "allow"
		cfg.Upstream.ManageDN, cfg.Upstream.ManagePassword = adminDN, "admin-password"
	})
	r.writable()
	alice := r.dial()
	alice.bind(1, aliceUser, alicePW, wire.ResultSuccess)
	alice.write(passwordModifyMessage(2, "APPPASSWORDLABEL=tablet,UID=Alice,OU=people,dc=example,dc=org", nil, nil))
	res := alice.result(2, wire.OpExtendedResponse)
	_, value, err := wire.ExtendedTail(res.Tail)
	if err != nil || res.Code != wire.ResultSuccess {
		t.Fatalf("%d %s %v", res.Code, res.Diagnostic, err)
	}
	sequence, err := berWhole(value, wire.TagSequence)
	if err != nil {
		t.Fatal(err)
	}
	password, err := berWhole(sequence, tagGenPasswd)
	if shape, _, _ := secrets.ShapeOf(password); err != nil || shape != secrets.Ours {
		t.Fatalf("%q %v", password, err)
	}
	if strings.Contains(r.log.String(), string(password)) {
		t.Error("the log tells the password")
	}
	phone := r.dial()
	phone.bind(1, aliceUser, string(password), wire.ResultSuccess)
	phone.write(passwordModifyMessage(2, "appPasswordLabel=more,"+aliceUser, nil, nil), modifyMessage(3, nil, mod(0, "appPassword", "$app$x$"+hashed)))
	phone.want(2, wire.OpExtendedResponse, wire.ResultInsufficientAccessRights)
	phone.want(3, wire.OpModifyResponse, wire.ResultInsufficientAccessRights)

	// Another one's, with the rights of one's own link; nobody's at all without a bind.
	alice.write(passwordModifyMessage(3, "appPasswordLabel=x,"+bobUser, nil, nil))
	alice.want(3, wire.OpExtendedResponse, wire.ResultInsufficientAccessRights)
	stranger := r.dial()
	stranger.write(passwordModifyMessage(1, phoneOfAlice, nil, nil))
	stranger.want(1, wire.OpExtendedResponse, wire.ResultStrongerAuthRequired)
	alice.write(wire.AppendMessage(nil, 4, wire.OpExtendedRequest, passwordModifyBody(phoneOfAlice), wire.AppendControl(nil, "1.2.3", true, nil)))
	alice.want(4, wire.OpExtendedResponse, wire.ResultUnavailableCriticalExtension)

	// In clear where the listener does not want it any more.
	cfg := r.config(func(cfg *config.Config) {
		cfg.AppPasswords.SelfServiceLDAP = "allow"
		cfg.Listeners[0].URL, cfg.Listeners[0].Cleartext = r.cfg.Listeners[0].URL, "refuse"
	})
	if err := r.server.Reload(r.core(cfg)); err != nil {
		t.Fatal(err)
	}
	r.closeOld()
	alice.write(passwordModifyMessage(5, "appPasswordLabel=x,"+aliceUser, nil, nil))
	alice.want(5, wire.OpExtendedResponse, wire.ResultConfidentialityRequired)
	if n := len(r.dir.Values(aliceUser, "appPassword")); n != 2 {
		t.Errorf("%d values", n)
	}
}

func passwordModifyBody(identity string) []byte {
	m, err := wire.Parse(passwordModifyMessage(1, identity, nil, nil))
	if err != nil {
		panic("appbind: internal error: " + err.Error())
	}
	return m.Body
}

// TestLinkLostWhileWriting: the client is told that the connection ended, and no password.
func TestLinkLostWhileWriting(t *testing.T) {
	for name, message := range map[string][]byte{
		"modify":          modifyMessage(2, nil, mod(0, "appPassword", "$app$x$"+hashed)),
		"password modify": passwordModifyMessage(2, phoneOfAlice, nil, nil),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
				if m.Op == wire.OpModifyRequest {
					c.Close()
					return
				}
				r.dir.Handle(c, m)
			})
			c := r.asAdmin()
			c.write(message)
			c.wantNotice(wire.ResultUnavailable)
		})
	}
}

// TestWhoSeesMayReplace: but keeps the rules, and makes no names of values.
func TestWhoSeesMayReplace(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.SecretsVisibleTo = []string{adminDN} })
	r.writable()
	c := r.asAdmin()
	c.write(modifyMessage(2, nil, mod(2, "appPassword", phoneValue(), "$app$new$"+inClear)))
	c.want(2, wire.OpModifyResponse, wire.ResultSuccess)
	values := manage.NewSet(bytesOf(r.dir.Values(aliceUser, "appPassword")))
	if v, err := values.Find(manage.Ref{Label: "new"}); err != nil || !v.Verify([]byte(inClear)) || len(values.Values) != 2 || values.Values[0].Raw != phoneValue() {
		t.Errorf("%v %v", values.Values, err)
	}
	c.write(modifyMessage(3, nil, mod(2, "appPassword", inClear)))
	c.want(3, wire.OpModifyResponse, wire.ResultConstraintViolation)
	c.write(wire.AppendMessage(nil, 4, wire.OpModifyDNRequest, modifyDNBody(aliceUser, "uid=alice+appPassword=x", ""), nil))
	c.want(4, wire.OpModifyDNResponse, wire.ResultConstraintViolation)
	c.write(modifyMessage(5, nil, mod(1, "appPassword")))
	c.want(5, wire.OpModifyResponse, wire.ResultSuccess)
	if n := len(r.dir.Values(aliceUser, "appPassword")); n != 0 {
		t.Errorf("%d values", n)
	}
}

// TestContextInWrites: a context is taken off the target before anything is judged.
func TestContextInWrites(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Listeners[0].Context = "trusted" })
	r.writable()
	c := r.asAdmin()
	body := wire.AppendTarget(nil, []byte(aliceUser+",svc=imap,cn=appbind"), sequence(mod(1, "appPassword", "$app$phone")))
	c.write(wire.AppendMessage(nil, 2, wire.OpModifyRequest, body, nil))
	c.want(2, wire.OpModifyResponse, wire.ResultSuccess)
	if len(r.dir.Values(aliceUser, "appPassword")) != 0 {
		t.Error("not revoked")
	}
}

// TestManageResults: each error of package manage has its result, and none is success.
func TestManageResults(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int32{
		&manage.Violation{Reason: "x"}: wire.ResultConstraintViolation, &manage.Refused{Code: 50}: 50,
		manage.ErrNoSuchPassword: wire.ResultNoSuchAttribute, manage.ErrSeveral: wire.ResultConstraintViolation,
		manage.ErrContention: wire.ResultBusy, manage.ErrUnconfirmed: wire.ResultUnavailable, auth.ErrNotFound: wire.ResultNoSuchObject,
		auth.ErrAmbiguous: wire.ResultUnwillingToPerform, manage.ErrNotUser: wire.ResultUnwillingToPerform,
		manage.ErrNotEligible: wire.ResultUnwillingToPerform, errUnbind: wire.ResultUnavailable,
	} {
		if r := manageRefusal(err); r.code != want {
			t.Errorf("%v: %d, want %d", err, r.code, want)
		}
	}
}
