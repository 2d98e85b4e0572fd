package auth

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"appbind/config"
	"appbind/secrets"
)

const (
	aliceDN   = "uid=alice,ou=people,dc=example"
	aliceMain = "correct horse"
)

// TestRows has a case or more for each row of the table.
func TestRows(t *testing.T) {
	t.Parallel()
	phone, phoneValue := generated(t, nil)
	revoked, _ := generated(t, nil)
	mistyped := mistype(phone)
	expired, expiredValue := generated(t, func(p *secrets.Params) { p.Expires = newClock().now() })
	smtp, smtpValue := generated(t, func(p *secrets.Params) { p.Services = []string{"smtp"} })
	office, officeValue := generated(t, func(p *secrets.Params) { p.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	legacy := "$app$legacy$" + ssha("legacy password")

	with := func(name, password string, change func(*Bind)) Bind {
		b := request(name, password)
		if change != nil {
			change(&b)
		}
		return b
	}
	tests := []struct {
		name   string
		bind   Bind
		row    int
		kind   Kind
		reason string
		sent   string // "": nothing
	}{
		{"plain", with("alice", "x", func(b *Bind) { b.SASL = "PLAIN" }), 0, MechanismNotSupported, ReasonMechanism, ""},
		{"external in lower case", with("", "", func(b *Bind) { b.SASL = "external" }), 0, MechanismNotSupported, ReasonMechanism, ""},
		{"external of nobody", with("", "", func(b *Bind) { b.SASL = "EXTERNAL" }), 0, InvalidCredentials, ReasonExternalUnknown, ""},
		{"external", with("alice", "ignored", func(b *Bind) {
			b.SASL, b.External = "EXTERNAL", &ServiceLogin{"cn=dovecot,dc=example", Password("dovecot secret")}
		}), 0, Accepted, ReasonExternal, "cn=dovecot,dc=example dovecot secret"},
		{"external, our password wrong", with("", "", func(b *Bind) {
			b.SASL, b.External = "EXTERNAL", &ServiceLogin{"cn=dovecot,dc=example", Password("old")}
		}), 0, Unavailable, ReasonExternal, "cn=dovecot,dc=example old"},
		{"external without a password", with("", "", func(b *Bind) {
			b.SASL, b.External = "EXTERNAL", &ServiceLogin{DN: "cn=dovecot,dc=example"}
		}), 0, Unavailable, ReasonUpstream, ""},
		{"empty password", with("alice", "", nil), 1, EmptyPassword, ReasonEmptyPassword, ""},
		{"empty password of a service", with("cn=dovecot,dc=example", "", nil), 1, EmptyPassword, ReasonEmptyPassword, ""},
		{"anonymous", with("", "", nil), 2, Anonymous, ReasonAnonymous, ""},
		{"anonymous in clear", with("", "", func(b *Bind) { b.Secure = false }), 2, Anonymous, ReasonAnonymous, ""},
		{"anonymous refused", with("", "", func(b *Bind) { b.Listener.Anonymous = false }), 2, AnonymousRefused, ReasonAnonymousRefused, ""},
		{"clear", with("alice", phone, func(b *Bind) { b.Secure = false }), 3, ConfidentialityRequired, ReasonClearText, ""},
		{"clear, a service", with("cn=dovecot,dc=example", "dovecot secret", func(b *Bind) { b.Secure = false }), 3, ConfidentialityRequired, ReasonClearText, ""},
		{"context", with("alice", aliceMain, func(b *Bind) { b.ContextInvalid = true }), 6, InvalidCredentials, ReasonContext, ""},
		{"context of a service", with("cn=dovecot,dc=example", "dovecot secret", func(b *Bind) { b.ContextInvalid = true }), 6, InvalidCredentials, ReasonContext, ""},
		{"1024 bytes", with("alice", strings.Repeat("x", 1024), nil), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN + " " + strings.Repeat("x", 1024)},
		{"1025 bytes", with("alice", strings.Repeat("x", 1025), nil), 9, InvalidCredentials, ReasonTooLong, ""},
		{"1025 bytes of a service", with("cn=dovecot,dc=example", strings.Repeat("x", 1025), nil), 9, InvalidCredentials, ReasonTooLong, ""},
		{"listed", with("cn=dovecot,dc=example", "dovecot secret", nil), 4, Accepted, ReasonListed, "cn=dovecot,dc=example dovecot secret"},
		{"listed, other spelling", with("CN = Dovecot , DC=example", "dovecot secret", nil), 4, Accepted, ReasonListed, "cn=dovecot,dc=example dovecot secret"},
		{"listed, passthrough", with("cn=admin,dc=example", "admin secret", nil), 4, Accepted, ReasonListed, "cn=Admin,dc=Example admin secret"},
		{"listed, wrong", with("cn=dovecot,dc=example", "wrong", nil), 4, InvalidCredentials, ReasonUpstreamRefused, "cn=dovecot,dc=example wrong"},
		{"listed, app shape", with("cn=dovecot,dc=example", revoked, nil), 4, InvalidCredentials, ReasonUpstreamRefused, "cn=dovecot,dc=example " + revoked},
		{"nobody", with("nobody", "x", nil), 6, InvalidCredentials, ReasonNotFound, "absent"},
		{"nobody, app shape", with("nobody", revoked, nil), 6, InvalidCredentials, ReasonNotFound, ""},
		{"nobody, mistyped", with("nobody", mistyped, nil), 6, InvalidCredentials, ReasonNotFound, ""},
		{"nobody, stored form", with("nobody", "$app$x", nil), 6, InvalidCredentials, ReasonNotFound, ""},
		{"nobody, app shape and code", with("nobody", revoked+"$123456", nil), 6, InvalidCredentials, ReasonNotFound, ""},
		{"two", with("twins", "x", nil), 6, InvalidCredentials, ReasonAmbiguous, "absent"},
		{"no name", with("", "x", nil), 6, InvalidCredentials, ReasonNotFound, "absent"},
		{"a name of spaces", with("  ", "x", nil), 6, InvalidCredentials, ReasonNotFound, "absent"},
		{"the root", with("root", "x", nil), 6, InvalidCredentials, ReasonNotFound, "absent"},
		{"no user", with("printer", "printer secret", nil), 7, Accepted, ReasonNotUser, "cn=printer,dc=example printer secret"},
		{"no user, wrong", with("printer", "app", nil), 7, InvalidCredentials, ReasonUpstreamRefused, "cn=printer,dc=example app"},
		{"no user, app prefix", with("printer", "$app$", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"no user, app prefix in capitals", with("printer", "$APP$x$y", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"no user, otpauth prefix", with("printer", "otpauth://totp/x?secret=y", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"no user, stored value", with("printer", "printer value", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"no user, stored value with a code", with("printer", "printer value$123456", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"no user, app password", with("printer", phone, nil), 11, InvalidCredentials, ReasonNoAppPassword, ""},
		{"no user, mistyped", with("printer", mistyped, nil), 11, InvalidCredentials, ReasonMistyped, ""},
		{"no user, app password with a code", with("printer", phone+"$123456", nil), 11, InvalidCredentials, ReasonAppWithCode, ""},
		{"listed, app prefix", with("cn=dovecot,dc=example", "$app$x", nil), 4, InvalidCredentials, ReasonUpstreamRefused, "cn=dovecot,dc=example $app$x"},
		{"disabled", with("carol", "carol secret", nil), 8, InvalidCredentials, ReasonIneligible, "absent"},
		{"disabled, app password", with("carol", phone, nil), 8, InvalidCredentials, ReasonIneligible, ""},
		{"account over, app password", with("frank", phone, nil), 8, InvalidCredentials, ReasonIneligible, ""},
		{"account over, main password", with("frank", "frank secret", nil), 8, InvalidCredentials, ReasonIneligible, "absent"},
		{"account that will end, app password", with("grace", phone, nil), 10, Accepted, ReasonAppPassword, ""},
		{"app prefix", with("alice", "$app$anything", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"app prefix in capitals", with("alice", "$APP$anything", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"otpauth prefix", with("alice", "OTPAuth://", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"stored value", with("alice", "foreign value", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"stored value with a code", with("alice", "foreign value$123456", nil), 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"app password", with("alice", phone, nil), 10, Accepted, ReasonAppPassword, ""},
		{"app password as typed", with("alice", strings.ToUpper(strings.ReplaceAll(phone, "-", " ")), nil), 10, Accepted, ReasonAppPassword, ""},
		{"app password without selector", with("alice", "legacy password", nil), 10, Accepted, ReasonAppPassword, ""},
		{"expired", with("alice", expired, nil), 10, InvalidCredentials, ReasonExpired, ""},
		{"other service", with("alice", smtp, nil), 10, InvalidCredentials, ReasonService, ""},
		{"its service", with("alice", smtp, func(b *Bind) { b.Client.Service = "submission" }), 10, Accepted, ReasonAppPassword, ""},
		{"service unknown", with("alice", smtp, func(b *Bind) { b.Client.Service = "" }), 10, InvalidCredentials, ReasonService, ""},
		{"other address", with("alice", office, nil), 10, InvalidCredentials, ReasonNetwork, ""},
		{"its address", with("alice", office, func(b *Bind) { b.Client.Addr = netip.MustParseAddr("198.51.100.9") }), 10, Accepted, ReasonAppPassword, ""},
		{"address unknown, the peer's fits", with("alice", office, func(b *Bind) {
			b.Client.Addr, b.Client.Peer = netip.Addr{}, netip.MustParseAddr("198.51.100.9")
		}), 10, InvalidCredentials, ReasonNetwork, ""},
		{"revoked", with("alice", revoked, nil), 11, InvalidCredentials, ReasonNoAppPassword, ""},
		{"mistyped", with("alice", mistyped, nil), 11, InvalidCredentials, ReasonMistyped, ""},
		{"app password with a code, none enrolled", with("alice", phone+"$123456", nil), 11, InvalidCredentials, ReasonAppWithCode, ""},
		{"listener denies", with("alice", aliceMain, func(b *Bind) { b.Listener.Fallback = "deny" }), 12, InvalidCredentials, ReasonFallbackDenied, ""},
		{"code required, none enrolled", with("alice", aliceMain+"$123456", func(b *Bind) { b.Listener.TOTP = "required" }), 12, InvalidCredentials, ReasonTOTPMissing, ""},
		{"main password", with("alice", aliceMain, nil), 15, Accepted, ReasonMain, aliceDN + " " + aliceMain},
		{"main password by DN", with(aliceDN, aliceMain, nil), 15, Accepted, ReasonMain, aliceDN + " " + aliceMain},
		{"wrong", with("alice", "wrong", nil), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN + " wrong"},
		{"digits, none enrolled", with("alice", "$123456", nil), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN + " $123456"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.user("alice", aliceMain, phoneValue, "foreign value", expiredValue, smtpValue, officeValue, legacy, "")
			s.entries["printer"] = &Entry{Key: "entryUUID:printer", DN: "cn=printer,dc=example", Values: [][]byte{[]byte("printer value"), []byte(phoneValue)}}
			s.passwords["cn=printer,dc=example"] = "printer secret"
			s.entries["root"] = &Entry{}
			s.user("carol", "carol secret", phoneValue).Eligible = false
			s.user("frank", "frank secret", phoneValue).Ends = s.clock.now()
			s.user("grace", "grace secret", phoneValue).Ends = s.clock.now().Add(time.Nanosecond)
			d := s.v.Verify(context.Background(), tt.bind, s.upstream)
			if tt.sent == "" {
				s.expect(t, tt.name, d, tt.row, tt.kind, tt.reason)
			} else {
				s.expect(t, tt.name, d, tt.row, tt.kind, tt.reason, tt.sent)
			}
			checkAccepted(t, d, tt.sent)
			if (tt.row < 5 || strings.TrimSpace(tt.bind.Name) == "") && s.finds > 0 {
				t.Error("looked up")
			}
		})
	}
}

// checkAccepted: success only by a named value or the upstream's 0, and never both.
func checkAccepted(t *testing.T, d Decision, sent string) {
	t.Helper()
	if d.Kind != Accepted {
		return
	}
	byUpstream := d.Answer != nil && d.Answer.Code == 0 && sent != "" && sent != "absent"
	if (d.App != nil) == byUpstream {
		t.Errorf("accepted by app %v and answer %v", d.App, d.Answer)
	}
	if d.DN == "" {
		t.Error("accepted without a DN")
	}
	if d.App != nil && d.DN != d.Entry.DN {
		t.Errorf("an app password made %q of %q", d.DN, d.Entry.DN)
	}
}

// TestNoVerifierNoSuccess: an entry without anything that could match accepts nothing (no value, only
// malformed, disabled, foreign or empty ones).
func TestNoVerifierNoSuccess(t *testing.T) {
	t.Parallel()
	lists := [][]string{
		nil, {""}, {"$app$"}, {"$app$x$"}, {"$app$x"}, {"$app$x$clear"}, {"$app$x${PLAIN}clear"}, {"$app$x${CLEAR}clear"},
		{"$app$x$*"}, {"$app$x$!"}, {"$app$x$$y$j9T$abc$def"}, {"clear"}, {"{SSHA}"}, {"$app$x;new=1$" + ssha("clear")}, {"$disabled$"},
	}
	for _, values := range lists {
		s := newSite(t, nil)
		s.user("alice", "", values...)
		for _, password := range []string{"x", "clear", "{PLAIN}clear", "*", "!", "$", " ", "\x00", "{SSHA}"} {
			if d := s.bind("alice", password); d.Kind != InvalidCredentials {
				t.Errorf("values %q, password %q: row %d, kind %d", values, password, d.Row, d.Kind)
			}
		}
	}
}

// TestPassTheHash: no stored value is a password, whatever it is, alone or with a code.
func TestPassTheHash(t *testing.T) {
	t.Parallel()
	_, value := generated(t, nil)
	values := []string{
		value, "$app$legacy$" + ssha("x"), "$app$x$clear text", "$app$broken", totpValue, "otpauth://bad", "{SSHA}abc", "clear text",
		"$app$bcrypt$" + slowHash(t, "y"), "$6$salt$hash",
	}
	for _, totp := range []string{"when_enrolled", "ignore"} {
		s := newSite(t, func(c *config.Config) { c.Fallback.TOTP = totp })
		s.user("alice", aliceMain, values...)
		s.answer = func(dn, password string) *Answer { return &Answer{} } // would take anything
		for _, v := range values {
			for _, password := range []string{v, v + "$" + s.code(t), v + "$12345678"} {
				s.expect(t, password, s.bind("alice", password), 9, InvalidCredentials, ReasonStoredSecret)
			}
		}
	}
}

// TestSpellings: state follows the entry, not the name that was given.
func TestSpellings(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	e := s.user("alice", aliceMain)
	s.lockout = Lockout{MaxFailures: 5}
	spellings := []string{"UID=alice,ou=people,dc=example", `uid=\61lice,ou=people,dc=example`, "0.9.2342.19200300.100.1.1=alice,ou=people,dc=example", "alice@example.org"}
	for _, name := range spellings {
		s.entries[name] = e
	}
	for i, name := range append(spellings, "alice", aliceDN) {
		d := s.bind(name, "stale")
		if i == 0 {
			s.expect(t, name, d, 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
		} else {
			s.expect(t, name, d, 14, InvalidCredentials, ReasonKnownBad)
		}
	}
	for i, name := range spellings {
		if d := s.bind(name, "guess "+name); (d.Row == 15) != (i < 2) {
			t.Errorf("guess %d by %q: row %d, %q", i, name, d.Row, d.Reason)
		}
	}
}

// TestFallbackMatrix: mode x service x listener x filter.
func TestFallbackMatrix(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"allow", "deny"} {
		for _, service := range []string{"", "allow", "deny"} {
			for _, listener := range []string{"", "inherit", "allow", "deny"} {
				for _, filter := range []bool{false, true} {
					s := newSite(t, func(c *config.Config) {
						c.Fallback.Mode = mode
						if service != "" {
							c.Fallback.ByService = map[string]string{"submission": service}
						}
						c.Fallback.DenyFilter = "(memberOf=x)"
					})
					s.user("alice", aliceMain)
					s.denied[aliceDN] = filter
					b := request("alice", aliceMain)
					b.Client.Service, b.Listener.Fallback = "smtp", listener
					d := s.v.Verify(context.Background(), b, s.upstream)
					want := !filter && listener != "deny" && service != "deny" && (mode == "allow" || service == "allow" || listener == "allow")
					if (d.Kind == Accepted) != want || !want && d.Row != 12 {
						t.Errorf("mode %s, service %q, listener %q, filter %v: row %d, kind %d", mode, service, listener, filter, d.Row, d.Kind)
					}
					byRule := d.Reason == ReasonFallbackDenied
					if asked := s.denies > 0; asked == byRule {
						t.Errorf("mode %s, service %q, listener %q: filter asked %v, reason %q", mode, service, listener, asked, d.Reason)
					}
					if !want && len(s.sent()) > 0 {
						t.Error("forwarded")
					}
				}
			}
		}
	}
}

// TestUnusableValues are skipped, logged once per value and hour, and counted.
func TestUnusableValues(t *testing.T) {
	t.Parallel()
	t.Run("a bind's own entry", func(t *testing.T) { testUnusableValues(t, nil) })
	t.Run("shared", func(t *testing.T) { testUnusableValues(t, new(Index)) })
}

func testUnusableValues(t *testing.T, index *Index) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain, "$app$broken$$y$j9T$abc$def", "$app$clear$secret text", "$app$good$"+ssha("good")).Index = index
	for range 3 {
		if d := s.bind("alice", "good"); d.Row != 10 || d.Kind != Accepted {
			t.Fatalf("row %d, %q", d.Row, d.Reason)
		}
	}
	if n := strings.Count(s.log.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, s.log.String())
	}
	if n := s.mem.Unusable(); n != 6 {
		t.Errorf("counted %d", n)
	}
	s.clock.add(time.Hour)
	s.bind("alice", "good")
	if n := strings.Count(s.log.String(), "\n"); n != 4 {
		t.Errorf("%d lines after an hour", n)
	}
	for _, leak := range []string{"y$j9T", "secret text"} {
		if strings.Contains(s.log.String(), leak) {
			t.Errorf("the log shows %q", leak)
		}
	}
}
