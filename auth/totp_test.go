package auth

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"appbind/config"
	"appbind/secrets"
)

func TestSplitCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		password, rest, code string
	}{
		{"pw$123456", "pw", "123456"}, {"pw$1234567", "pw", "1234567"}, {"pw$12345678", "pw", "12345678"},
		{"pw$12345", "pw$12345", ""}, {"pw$123456789", "pw$123456789", ""}, {"pw$12345a", "pw$12345a", ""},
		{"$123456", "", "123456"}, {"a$b$123456", "a$b", "123456"}, {"123456", "123456", ""}, {"", "", ""},
		{"pw$123456$", "pw$123456$", ""}, {"pw$ 123456", "pw$ 123456", ""}, {"pw$١٢٣", "pw$١٢٣", ""},
	} {
		rest, code, found := splitCode([]byte(tt.password))
		if string(rest) != tt.rest || string(code) != tt.code || found != (tt.code != "") {
			t.Errorf("%q: %q, %q, %v", tt.password, rest, code, found)
		}
	}
}

// TestOneTimeCodes walks through what one user can do with codes.
func TestOneTimeCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain, totpValue)
	code := s.code(t)
	main := aliceDN + " " + aliceMain
	s.expect(t, "no code", s.bind("alice", aliceMain), 13, InvalidCredentials, ReasonCodeMissing)
	s.expect(t, "code alone", s.bind("alice", "$"+code), 13, InvalidCredentials, ReasonCodeMissing)
	s.expect(t, "eight digits", s.bind("alice", aliceMain+"$00"+code), 13, InvalidCredentials, ReasonCodeWrong)
	s.expect(t, "right", s.bind("alice", aliceMain+"$"+code), 15, Accepted, ReasonMain, main)
	s.expect(t, "again", s.bind("alice", aliceMain+"$"+code), 13, InvalidCredentials, ReasonCodeUsed)
	s.clock.add(30 * time.Second)
	s.expect(t, "a step later", s.bind("alice", aliceMain+"$"+code), 13, InvalidCredentials, ReasonCodeUsed)
	s.expect(t, "the next code", s.bind("alice", aliceMain+"$"+s.code(t)), 15, Accepted, ReasonMain, main)
	s.clock.add(90 * time.Second)
	s.expect(t, "too old", s.bind("alice", aliceMain+"$"+code), 13, InvalidCredentials, ReasonCodeWrong)

	// A wrong password uses its code up: one code, one guess. A known wrong one is not asked, and uses none.
	code = s.code(t)
	s.expect(t, "wrong password", s.bind("alice", "wrong$"+code), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" wrong")
	s.expect(t, "its code again", s.bind("alice", aliceMain+"$"+code), 13, InvalidCredentials, ReasonCodeUsed)
	s.clock.add(90 * time.Second)
	code = s.code(t)
	s.expect(t, "known wrong", s.bind("alice", "wrong$"+code), 14, InvalidCredentials, ReasonKnownBad)
	s.expect(t, "its code again", s.bind("alice", aliceMain+"$"+code), 15, Accepted, ReasonMain, main)

	// Trouble gives the code back.
	s.clock.add(90 * time.Second)
	code = s.code(t)
	s.bindErr = errTest
	s.expect(t, "trouble", s.bind("alice", aliceMain+"$"+code), 15, Unavailable, ReasonUpstream, main)
	s.bindErr = nil
	s.expect(t, "mended", s.bind("alice", aliceMain+"$"+code), 15, Accepted, ReasonMain, main)
}

// TestOneTimeCodeRules: modes, enrolments and what may stand before the code.
func TestOneTimeCodeRules(t *testing.T) {
	t.Parallel()
	phone, phoneValue := generated(t, nil)
	other := strings.Replace(totpValue, totpSecret, "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU", 1)
	legacy := "$app$legacy$" + ssha("legacy password")
	for _, tt := range []struct {
		name     string
		mode     string // of the listener
		values   []string
		password string // @ is the code
		row      int
		kind     Kind
		reason   string
		sent     string
	}{
		{"any of two enrolled", "", []string{other, totpValue}, aliceMain + "$@", 15, Accepted, ReasonMain, aliceMain},
		{"required", "required", []string{totpValue}, aliceMain + "$@", 15, Accepted, ReasonMain, aliceMain},
		{"required, none enrolled", "required", nil, aliceMain, 12, InvalidCredentials, ReasonTOTPMissing, ""},
		{"malformed", "", []string{"otpauth://totp/x"}, aliceMain + "$@", 12, InvalidCredentials, ReasonTOTPMalformed, ""},
		{"malformed beside a good one", "", []string{totpValue, "otpauth://hotp/x?secret=" + totpSecret}, aliceMain + "$@", 12, InvalidCredentials, ReasonTOTPMalformed, ""},
		{"prefix in capitals is no way out", "", []string{"OTPAUTH" + totpValue[7:]}, aliceMain, 12, InvalidCredentials, ReasonTOTPMalformed, ""},
		{"ignored", "ignore", []string{totpValue}, aliceMain, 15, Accepted, ReasonMain, aliceMain},
		{"ignored, the code goes along", "ignore", []string{totpValue, "otpauth://bad"}, aliceMain + "$@", 15, InvalidCredentials, ReasonUpstreamRefused, aliceMain + "$@"},
		{"required, app password needs none", "required", []string{totpValue, phoneValue}, phone, 10, Accepted, ReasonAppPassword, ""},
		{"malformed, app password", "", []string{"otpauth://bad", phoneValue}, phone, 10, Accepted, ReasonAppPassword, ""},
		{"app password with the code", "", []string{totpValue, phoneValue}, phone + "$@", 11, InvalidCredentials, ReasonAppWithCode, ""},
		{"revoked app password with the code", "", []string{totpValue}, phone + "$@", 11, InvalidCredentials, ReasonAppWithCode, ""},
		{"legacy app password with the code", "", []string{totpValue, legacy}, "legacy password$@", 13, InvalidCredentials, ReasonAppWithCode, ""},
		{"stored form with the code", "", []string{totpValue}, "$app$x$@", 9, InvalidCredentials, ReasonStoredSecret, ""},
		{"not enrolled", "", nil, aliceMain + "$@", 15, InvalidCredentials, ReasonUpstreamRefused, aliceMain + "$@"},
	} {
		s := newSite(t, nil)
		s.user("alice", aliceMain, tt.values...)
		at := func(text string) string { return strings.ReplaceAll(text, "@", s.code(t)) }
		b := request("alice", at(tt.password))
		b.Listener.TOTP = tt.mode
		d := s.v.Verify(context.Background(), b, s.upstream)
		if tt.sent == "" {
			s.expect(t, tt.name, d, tt.row, tt.kind, tt.reason)
		} else {
			s.expect(t, tt.name, d, tt.row, tt.kind, tt.reason, aliceDN+" "+at(tt.sent))
		}
	}
}

// TestListenerTOTP: the listener's word stands before the configuration's.
func TestListenerTOTP(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config, listener string
		kind             Kind
	}{
		{"required", "", InvalidCredentials}, {"required", "inherit", InvalidCredentials}, {"required", "when_enrolled", Accepted},
		{"when_enrolled", "required", InvalidCredentials}, {"ignore", "required", InvalidCredentials}, {"required", "ignore", Accepted},
	} {
		s := newSite(t, func(c *config.Config) { c.Fallback.TOTP = tt.config })
		s.user("alice", aliceMain)
		b := request("alice", aliceMain)
		b.Listener.TOTP = tt.listener
		if d := s.v.Verify(context.Background(), b, s.upstream); d.Kind != tt.kind {
			t.Errorf("%s, listener %q: row %d, kind %d", tt.config, tt.listener, d.Row, d.Kind)
		}
	}
}

// TestParallelReplays: of a hundred binds with one code exactly one succeeds, with one password or with different ones.
func TestParallelReplays(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{true, false} {
		s := newSite(t, nil)
		s.user("alice", aliceMain, totpValue)
		s.answer = func(string, string) *Answer { return &Answer{} }
		code := s.code(t)
		var accepted atomic.Int32
		var wg sync.WaitGroup
		for i := range 100 {
			password := aliceMain
			if !same {
				password = fmt.Sprint("guess ", i)
			}
			wg.Go(func() {
				if s.bind("alice", password+"$"+code).Kind == Accepted {
					accepted.Add(1)
				}
			})
		}
		wg.Wait()
		if accepted.Load() != 1 || len(s.sent()) != 1 {
			t.Errorf("same password %v: %d accepted", same, accepted.Load())
		}
	}
}

// TestWrongCodes: five in five minutes, then none is looked at; the right ones do not count, parallel ones do.
func TestWrongCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain, totpValue)
	s.user("bob", aliceMain, totpValue)
	for range 4 {
		s.expect(t, "wrong", s.bind("alice", aliceMain+"$"+s.wrongCode(t)), 13, InvalidCredentials, ReasonCodeWrong)
		s.expect(t, "right", s.bind("alice", aliceMain+"$"+s.code(t)), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
		s.clock.add(30 * time.Second)
	}
	s.expect(t, "fifth", s.bind("alice", aliceMain+"$"+s.wrongCode(t)), 13, InvalidCredentials, ReasonCodeWrong)
	s.expect(t, "right, unlooked", s.bind("alice", aliceMain+"$"+s.code(t)), 13, InvalidCredentials, ReasonCodesThrottled)
	if d := s.bind("bob", aliceMain+"$"+s.code(t)); d.Kind != Accepted {
		t.Errorf("somebody else: row %d, %q", d.Row, d.Reason)
	}
	s.sent()
	s.clock.add(3 * time.Minute)
	s.expect(t, "the first is five minutes old", s.bind("alice", aliceMain+"$"+s.code(t)), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)

	s = newSite(t, nil)
	s.user("alice", aliceMain, totpValue)
	wrong := s.wrongCode(t)
	var looked atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if s.bind("alice", aliceMain+"$"+wrong).Reason == ReasonCodeWrong {
				looked.Add(1)
			}
		})
	}
	wg.Wait()
	if looked.Load() != maxCodes {
		t.Errorf("%d wrong codes looked at", looked.Load())
	}
}

// TestClaimsFull: when there is no room to remember a code it is not taken, and none is forgotten in its time.
func TestClaimsFull(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain, totpValue)
	s.mem.claims.max = 1
	password := aliceMain + "$" + s.code(t)
	s.bind("alice", password)
	s.clock.add(30 * time.Second)
	if d := s.bind("alice", aliceMain+"$"+s.code(t)); d.Kind != Busy || d.Row != 13 {
		t.Errorf("full: row %d, kind %d", d.Row, d.Kind)
	}
	if d := s.bind("alice", password); d.Reason != ReasonCodeUsed {
		t.Errorf("the first code: row %d, %q", d.Row, d.Reason)
	}
	s.clock.add(claimFor)
	if d := s.bind("alice", aliceMain+"$"+s.code(t)); d.Kind != Accepted {
		t.Errorf("later: row %d, %q", d.Row, d.Reason)
	}
}

// TestClaimOutlivesCode: a code of the longest period is no longer valid when its claim is forgotten.
func TestClaimOutlivesCode(t *testing.T) {
	t.Parallel()
	v := secrets.Parse([]byte(totpValue + "&period=3600"))
	now := newClock().now().Truncate(time.Hour)
	code, err := totp.GenerateCodeCustom(totpSecret, now.Add(time.Hour), totp.ValidateOpts{Period: 3600, Digits: 6})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.VerifyTOTP(code, now); !ok {
		t.Error("the next step's code is not valid")
	}
	if _, ok := v.VerifyTOTP(code, now.Add(claimFor)); ok {
		t.Error("valid when its claim is forgotten")
	}
}
