package auth

import (
	"context"
	"fmt"
	"testing"

	"appbind/config"
	"appbind/secrets"
)

// The truth table: every kind of user with every kind of password under every policy, against
// a second statement of the table, written from its text and not from the code.

type policy struct {
	fallback string // of the listener
	filter   bool   // the user matches the deny filter
	totp     string
	secure   bool
}

// material is what a case is made of.
type material struct {
	password string
	app      bool // fits a value
	denied   bool // which is not allowed
	shape    bool // looks generated
	stored   bool // looks or is stored
	empty    bool
	main     bool   // is the user's main password
	code     string // "": none; right, wrong
	rest     *material
}

func truthPasswords(t *testing.T, s *site, apps map[string]string) map[string]material {
	right, wrong := "$"+s.code(t), "$"+s.wrongCode(t)
	m := map[string]material{
		"empty":          {empty: true},
		"main":           {password: aliceMain, main: true},
		"wrong":          {password: "wrong"},
		"app":            {password: apps["phone"], app: true, shape: true},
		"legacy app":     {password: "legacy password", app: true},
		"expired app":    {password: apps["expired"], app: true, denied: true, shape: true},
		"revoked app":    {password: apps["revoked"], shape: true},
		"stored value":   {password: apps["phone value"], stored: true},
		"prefix":         {password: "$aPP$x", stored: true},
		"code only":      {password: right, code: "right", rest: &material{empty: true}},
		"app and code":   {password: apps["phone"] + right, code: "right", rest: &material{shape: true, app: true}},
		"old and code":   {password: apps["revoked"] + right, code: "right", rest: &material{shape: true}},
		"legacy+code":    {password: "legacy password" + right, code: "right", rest: &material{app: true}},
		"stored+code":    {password: apps["phone value"] + right, stored: true, code: "right", rest: &material{stored: true}},
		"main and code":  {password: aliceMain + right, code: "right", rest: &material{main: true}},
		"main, bad code": {password: aliceMain + wrong, code: "wrong", rest: &material{main: true}},
		"wrong and code": {password: "wrong" + right, code: "right", rest: &material{}},
		"five digits":    {password: aliceMain + "$12345"},
		"nine digits":    {password: aliceMain + "$123456789"},
	}
	return m
}

// truth says the row and the kind. enrolled: "", good, bad.
func truth(user string, enrolled string, m material, p policy) (int, Kind) {
	switch {
	case m.empty:
		return 1, EmptyPassword
	case !p.secure:
		return 3, ConfidentialityRequired
	case user == "absent":
		return 6, InvalidCredentials
	case user == "outside" && m.stored:
		return 9, InvalidCredentials
	case user == "outside" && (m.shape || m.rest != nil && m.rest.shape):
		return 11, InvalidCredentials
	case user == "outside" && m.main:
		return 7, Accepted
	case user == "outside":
		return 7, InvalidCredentials
	case user == "disabled":
		return 8, InvalidCredentials
	case m.stored:
		return 9, InvalidCredentials
	case m.app && m.denied:
		return 10, InvalidCredentials
	case m.app:
		return 10, Accepted
	case m.shape, m.rest != nil && m.rest.shape:
		return 11, InvalidCredentials
	case p.fallback == "deny" || p.filter:
		return 12, InvalidCredentials
	}
	if p.totp != "ignore" {
		switch {
		case enrolled == "bad", enrolled == "" && p.totp == "required":
			return 12, InvalidCredentials
		case enrolled == "good":
			if m.code != "right" || m.rest.empty || m.rest.app || m.rest.stored {
				return 13, InvalidCredentials
			}
			m = *m.rest
		}
	}
	if m.main {
		return 15, Accepted
	}
	return 15, InvalidCredentials
}

func TestTruthTable(t *testing.T) {
	t.Parallel()
	phone, phoneValue := generated(t, nil)
	expired, expiredValue := generated(t, func(p *secrets.Params) { p.Expires = newClock().now() })
	revoked, _ := generated(t, nil)
	apps := map[string]string{"phone": phone, "phone value": phoneValue, "expired": expired, "revoked": revoked}
	users := []string{"absent", "outside", "disabled", "plain", "enrolled", "malformed"}
	cases := 0
	for _, user := range users {
		for _, fallback := range []string{"inherit", "deny"} {
			for _, filter := range []bool{false, true} {
				for _, totp := range []string{"when_enrolled", "required", "ignore"} {
					for _, secure := range []bool{true, false} {
						cases += truthCases(t, apps, expiredValue, user, policy{fallback, filter, totp, secure})
					}
				}
			}
		}
	}
	if cases != 6*2*2*3*2*19 {
		t.Errorf("%d cases", cases)
	}
}

func truthCases(t *testing.T, apps map[string]string, expiredValue, user string, p policy) int {
	values := []string{apps["phone value"], expiredValue, "$app$legacy$" + ssha("legacy password")}
	enrolled := map[string]string{"enrolled": "good", "malformed": "bad"}[user]
	switch enrolled {
	case "good":
		values = append(values, totpValue)
	case "bad":
		values = append(values, "otpauth://totp/x?secret=short", totpValue)
	}
	passwords := truthPasswords(t, newSite(t, nil), apps)
	for name, m := range passwords {
		s := newSite(t, func(c *config.Config) { c.Fallback.DenyFilter = "(x=y)" })
		e := s.user("alice", aliceMain, values...)
		e.User, e.Eligible = user != "outside", user != "disabled" && user != "outside"
		s.denied[aliceDN] = p.filter
		b := request("alice", m.password)
		if user == "absent" {
			b.Name = "nobody"
		}
		b.Secure, b.Listener.Fallback, b.Listener.TOTP = p.secure, p.fallback, p.totp
		d := s.v.Verify(context.Background(), b, s.upstream)
		what := fmt.Sprintf("%s, %s, %+v", user, name, p)
		if row, kind := truth(user, enrolled, m, p); d.Row != row || d.Kind != kind {
			t.Errorf("%s: row %d, kind %d, %q (%v); want row %d, kind %d", what, d.Row, d.Kind, d.Reason, d.Err, row, kind)
		}
		checkSent(t, what, d, s.sent(), m, p)
	}
	return len(passwords)
}

// checkSent: a user's password goes upstream in row 15 only, once, to the entry's DN, without its code where that was checked.
func checkSent(t *testing.T, what string, d Decision, sent []string, m material, p policy) {
	t.Helper()
	switch d.Row {
	case 15:
		password := m.password
		if m.rest != nil && p.totp != "ignore" && len(d.Entry.Values) == 4 {
			password = password[:len(password)-7]
		}
		if len(sent) != 1 || sent[0] != aliceDN+" "+password {
			t.Errorf("%s: sent %q", what, sent)
		}
	case 7:
		if len(sent) != 1 || sent[0] != aliceDN+" "+m.password {
			t.Errorf("%s: sent %q", what, sent)
		}
	case 6, 8:
		if len(sent) > 1 || len(sent) == 1 && sent[0] != "absent" {
			t.Errorf("%s: sent %q", what, sent)
		}
	default:
		if len(sent) > 0 {
			t.Errorf("%s: sent %q", what, sent)
		}
	}
	if d.Kind == Accepted && (d.App != nil) != (d.Row == 10) {
		t.Errorf("%s: accepted in row %d by app password %v", what, d.Row, d.App)
	}
}
