package manage

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"appbind/secrets"
)

// noon is the time of all these tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	day   = 24 * time.Hour
	aHash = "{SSHA256}D5tBbpqxCTr4fDNGBLCANSjxjvWbMVCCYTVCRKbQMRsxMjM0NTY3OA=="
	aTOTP = "otpauth://totp/alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	// aPassword is of the generated shape, with selector 7f3k.
	canary = "canary-password-in-clear"
)

func testRules() *Rules {
	return &Rules{MaxPerUser: 3, MaxLifetime: 365 * day, DefaultLifetime: 90 * day, RequireExpiry: true,
		Algorithm: secrets.SHA256, ChosenAlgorithm: secrets.Bcrypt}
}

func set(values ...string) *Set {
	list := make([][]byte, len(values))
	for i, v := range values {
		list[i] = []byte(v)
	}
	return NewSet(list)
}

// isViolation reports whether err is one, and that it tells no secret.
func isViolation(t *testing.T, err error, says string) bool {
	t.Helper()
	var v *Violation
	if !errors.As(err, &v) {
		return false
	}
	if strings.Contains(v.Reason, canary) || strings.Contains(v.Reason, aHash) {
		t.Errorf("the diagnostic tells a secret: %s", v.Reason)
	}
	return strings.Contains(v.Reason, says)
}

func TestAdmitRefuses(t *testing.T) {
	t.Parallel()
	holds := set("$app$phone;id=7f3k;exp=20260601000000Z$"+aHash, "$app$iPhone; work$"+aHash, "$app$old;exp=20250101000000Z$"+aHash)
	for _, c := range []struct{ value, says string }{
		{canary, "write $app$LABEL$HASH"},
		{" $app$x$" + aHash, "write $app$LABEL$HASH"},
		{"$APP$x$" + aHash, "write $app$LABEL$HASH"},
		{"{SSHA}" + canary, "write $app$LABEL$HASH"},
		{"", "write $app$LABEL$HASH"},
		{"$app$x", "no hash"},
		{"$app$x$", "no hash"},
		{"$app$$" + aHash, "label is empty"},
		{"$app$ $" + aHash, "label is empty"},
		{"$app$ x$" + aHash, "space"},
		{"$app$x%0Ay;id=0000$" + aHash, "control characters"},
		{"$app$x\n$" + aHash, "control characters"},
		{"$app$phone$" + aHash, `label "phone" is in use`},
		{"$app$PHONE;id=0000$" + aHash, "is in use"},
		{"$app$iphone%3B work;id=0000$" + aHash, "is in use"},
		{"$app$old$" + aHash, "is in use"},
		{"$app$new;id=7f3k$" + aHash, "id 7f3k is in use"},
		{"$app$new;rot=1$" + aHash, "unknown parameter"},
		{"$app$new;svc=IMAP$" + aHash, "svc is not a list"},
		{"$app$new;net=192.0.2.1/24$" + aHash, "net is not a list"},
		{"$app$new;id=ABCD$" + aHash, "id is not"},
		{"$app$new;exp=tomorrow$" + aHash, "exp is not"},
		{"$app$new;exp=20260301115959Z$" + aHash, "over already"},
		{"$app$new;exp=20260301120000Z$" + aHash, "over already"},
		{"$app$new;exp=20270301120501Z$" + aHash, "exp=20270301120000Z"},
		{"$app$new$$y$j9T$" + canary, "{CLEAR}PASSWORD"},
		{"$app$new$$" + canary, "{CLEAR}PASSWORD"},
		{"$app$new${NTLM}" + canary, "{CLEAR}PASSWORD"},
		{"$app$new${SSHA}" + canary, "{CLEAR}PASSWORD"},
		{"$app$new${" + canary, "{CLEAR}PASSWORD"},
		{"$app$new$_" + canary, "{CLEAR}PASSWORD"},
		{"$app$new$$argon2id$v=19$m=4194304,t=1,p=1$MTIzNDU2Nzg$MTIzNDU2Nzg5MDEyMzQ1Ng", "more work or memory"},
		{"$app$new${CLEAR}", "empty password"},
		{"$app$new${CLEAR}$app$x$y", "begins like a stored value"},
		{"$app$new$otpauth://totp/x", "begins like a stored value"},
		{"$app$new$abcd-efgh-jkmn-pqrs-tvwx-yz01", "typing mistake"},
		{"$app$new;id=0000$" + canary, "leave ;id= out"},
		{"$app$new$" + strings.Repeat("x", 73), "bcrypt takes no more"},
		{"$app$new$a\x00b", "NUL"},
		{"otpauth://totp/alice?secret=ABC", "128 bits"},
		{"otpauth://hotp/alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "only otpauth://totp/"},
	} {
		got, err := testRules().Admit(holds, []byte(c.value), noon)
		if got != nil && err == nil || !isViolation(t, err, c.says) {
			t.Errorf("%q: %v, want a violation that says %q", c.value, err, c.says)
		}
	}
}

func TestAdmitKeepsBytes(t *testing.T) {
	t.Parallel()
	for _, v := range []string{
		"$app$new;exp=20260601000000Z$" + aHash,
		"$app$new;exp=20270301120500Z$" + aHash, // another clock, five minutes ahead
		"$app$new;id=0000;exp=20260601000000Z;svc=imap,submission;net=192.0.2.0/24;crt=20260101000000Z;x-a=b$" + aHash,
		aTOTP,
	} {
		got, err := testRules().Admit(set("$app$phone$"+aHash), []byte(v), noon)
		if err != nil || string(got) != v {
			t.Errorf("%q: %q, %v", v, got, err)
		}
	}
	lax, shared := testRules(), testRules()
	lax.RequireExpiry = false
	for _, v := range []string{"$app$iPhone; work$" + aHash, "$app$bXkgcGhvbmUkMjAyNC0wMS0wMVQwMDowMDowMFo=$" + aHash} {
		if got, err := lax.Admit(set(), []byte(v), noon); err != nil || string(got) != v {
			t.Errorf("%q: %q, %v", v, got, err)
		}
	}
	shared.Shared = true
	for _, v := range []string{"{SSHA}x", canary, ""} {
		if got, err := shared.Admit(set(), []byte(v), noon); err != nil || string(got) != v {
			t.Errorf("shared attribute, %q: %q, %v", v, got, err)
		}
	}
}

// TestAdmitHashes: what is written in clear matches afterwards, and is not in the value.
func TestAdmitHashes(t *testing.T) {
	t.Parallel()
	g, err := secrets.Generate(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ value, password, id, hash string }{
		{"$app$new$" + canary, canary, "", "$2a$"},
		{"$app$new$my$" + canary, "my$" + canary, "", "$2a$"},
		{"$app$new${CLEAR}$" + canary, "$" + canary, "", "$2a$"},
		{"$app$new${plain}{x}" + canary, "{x}" + canary, "", "$2a$"},
		{"$app$new$" + g.Password, g.Password, g.ID, "{SSHA256}"},
		{"$app$new$" + strings.ToUpper(strings.ReplaceAll(g.Password, "-", "")), g.Password, g.ID, "{SSHA256}"},
		{"$app$new;id=" + g.ID + "$" + g.Password, g.Password, g.ID, "{SSHA256}"},
	} {
		got, err := testRules().Admit(set(), []byte(c.value), noon)
		if err != nil {
			t.Errorf("%q: %v", c.value, err)
			continue
		}
		v := secrets.Parse(got)
		switch {
		case v.Err != nil, !v.Verify([]byte(c.password)), v.ID != c.id, !strings.HasPrefix(v.Params().Hash, c.hash):
			t.Errorf("%q became %q", c.value, got)
		case strings.Contains(string(got), c.password), strings.Contains(string(got), canary):
			t.Errorf("%q is stored in clear: %q", c.value, got)
		case !v.Expires.Equal(noon.Add(90 * day)):
			t.Errorf("%q expires %v", c.value, v.Expires)
		}
	}
}

func TestAdmitAddsExpiry(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"$app$new$" + aHash:                        "$app$new;exp=20260530120000Z$" + aHash,
		"$app$a; b$" + aHash:                       "$app$a%3B b;exp=20260530120000Z$" + aHash,
		"$app$new;id=0000;svc=imap;x-k=v$" + aHash: "$app$new;id=0000;exp=20260530120000Z;svc=imap;x-k=v$" + aHash,
	} {
		got, err := testRules().Admit(set(), []byte(value), noon)
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", value, got, err, want)
		}
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	r := testRules()
	holds := set("$app$old;exp=20250101000000Z$"+aHash, "$app$phone$"+aHash, aTOTP)
	made, c, err := r.Issue(holds, Request{Label: "tablet; 2", Services: []string{"IMAP", "submission", "smtp"},
		Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24"), netip.MustParsePrefix("::ffff:192.0.2.0/120")}}, noon)
	if err != nil {
		t.Fatal(err)
	}
	v := made.Value
	if len(c.Add) != 1 || len(c.Delete) != 0 || c.Add[0] != v.Raw || !v.Verify([]byte(made.Password)) || v.Label != "tablet; 2" ||
		!v.Expires.Equal(noon.Add(90*day)) || !v.Created.Equal(noon) || strings.Join(v.Services, ",") != "imap,smtp" ||
		len(v.Networks) != 1 || v.Networks[0].String() != "192.0.2.0/24" || strings.Contains(c.Add[0], made.Password) {
		t.Errorf("%q", c.Add)
	}
	if text := made.String(); strings.Contains(text, made.Password) || strings.Contains(text, v.Raw) {
		t.Errorf("printed: %s", text)
	}
	for _, q := range []struct {
		Request
		says string
	}{
		{Request{}, "label is empty"},
		{Request{Label: "Phone"}, "is in use"},
		{Request{Label: "x", Never: true}, "must expire"},
		{Request{Label: "x", Expires: noon}, "over already"},
		{Request{Label: "x", Expires: noon.Add(366 * day)}, "at most"},
		{Request{Label: "x", Services: []string{""}}, "no name"},
		{Request{Label: "x", Services: []string{"a b"}}, "svc is not"},
		{Request{Label: "x", Networks: make([]netip.Prefix, 1)}, "network is malformed"},
		{Request{Label: "x", Password: []byte(canary)}, "generated here"},
		{Request{Label: strings.Repeat("x", 256)}, "255 bytes"},
	} {
		if _, c, err := r.Issue(holds, q.Request, noon); !isViolation(t, err, q.says) || len(c.Add) > 0 {
			t.Errorf("%+v: %v", q.Label, err)
		}
	}
	full := set("$app$a$"+aHash, "$app$b$"+aHash, "$app$c$"+aHash)
	if _, _, err := r.Issue(full, Request{Label: "d"}, noon); !isViolation(t, err, "3 app passwords already") {
		t.Errorf("a fourth one: %v", err)
	}
	r.UserChosen = true
	made, c, err = r.Issue(holds, Request{Label: "x", Password: []byte(canary)}, noon)
	if err != nil || made.Password != "" || !made.Value.Verify([]byte(canary)) || !strings.HasPrefix(made.Value.Params().Hash, "$2a$") {
		t.Errorf("chosen: %v %v %v", made, c, err)
	}
}

func TestEdits(t *testing.T) {
	t.Parallel()
	r := testRules()
	const phone, tablet = "$app$phone;id=7f3k;exp=20260401000000Z;svc=imap;x-a=b$" + aHash, "$app$tablet$" + aHash
	holds := set(phone, tablet, "$app$bad;zzz=1$"+aHash, aTOTP, "$app$twin$"+aHash, "$app$TWIN;id=0001$"+aHash)
	ref := Ref{Label: "PHONE"}
	for name, c := range map[string]struct {
		do   func() (Change, error)
		want string
	}{
		"renew":       {func() (Change, error) { return r.Renew(holds, ref, time.Time{}, false, noon) }, "$app$phone;id=7f3k;exp=20260530120000Z;svc=imap;x-a=b$" + aHash},
		"renew until": {func() (Change, error) { return r.Renew(holds, Ref{ID: "7F3K"}, noon.Add(day), false, noon) }, "$app$phone;id=7f3k;exp=20260302120000Z;svc=imap;x-a=b$" + aHash},
		"relabel":     {func() (Change, error) { return r.Relabel(holds, ref, "Phone", noon) }, "$app$Phone;id=7f3k;exp=20260401000000Z;svc=imap;x-a=b$" + aHash},
		"rescope": {func() (Change, error) {
			return r.Rescope(holds, ref, nil, []netip.Prefix{netip.MustParsePrefix("2001:db8::1/128")}, noon)
		}, "$app$phone;id=7f3k;exp=20260401000000Z;net=2001:db8::1/128;x-a=b$" + aHash},
		"edit": {func() (Change, error) {
			return r.Edit(holds, ref, noon, func(p *secrets.Params) error {
				p.Label, p.Services, p.Hash, p.ID = "mail", []string{"POP3S"}, "{CLEAR}x", ""
				return nil
			})
		}, "$app$mail;id=7f3k;exp=20260401000000Z;svc=pop3;x-a=b$" + aHash},
	} {
		got, err := c.do()
		if err != nil || len(got.Delete) != 1 || got.Delete[0] != phone || len(got.Add) != 1 || got.Add[0] != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	refused := func(name string, c Change, err error, says string) {
		if !isViolation(t, err, says) || len(c.Add)+len(c.Delete) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := r.Relabel(holds, ref, "Tablet", noon)
	refused("a label in use", c, err, "is in use")
	c, err = r.Renew(holds, ref, noon.Add(400*day), false, noon)
	refused("too long", c, err, "at most")
	c, err = r.Renew(holds, ref, time.Time{}, true, noon)
	refused("never", c, err, "must expire")
	c, err = r.Edit(holds, ref, noon, func(p *secrets.Params) error { p.Expires = time.Time{}; return nil })
	refused("edited to never", c, err, "must expire")
	c, err = r.Relabel(holds, Ref{Label: "bad"}, "good", noon)
	refused("an unusable one", c, err, "only revoked")
	if c, err := r.Relabel(holds, ref, "phone", noon); err != nil || len(c.Add) > 0 {
		t.Errorf("no change: %q, %v", c, err)
	}
	for ref, want := range map[Ref]error{{}: ErrNoSuchPassword, {Label: "x"}: ErrNoSuchPassword, {ID: "0001", Label: "phone"}: ErrNoSuchPassword, {Label: "twin"}: ErrSeveral} {
		if _, err := r.Revoke(holds, ref); !errors.Is(err, want) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	if c, err := r.Revoke(holds, Ref{Label: "bad"}); err != nil || len(c.Delete) != 1 {
		t.Errorf("revoke an unusable one: %q, %v", c, err)
	}
	if c := r.RevokeAll(holds, func(*secrets.Value) bool { return true }); len(c.Delete) != 5 {
		t.Errorf("revoke all: %q", c.Delete)
	}
}

// TestRenewExpired: an expired one counts again when it is renewed.
func TestRenewExpired(t *testing.T) {
	t.Parallel()
	holds := set("$app$old;exp=20250101000000Z$"+aHash, "$app$a$"+aHash, "$app$b$"+aHash, "$app$c$"+aHash)
	if _, err := testRules().Renew(holds, Ref{Label: "old"}, time.Time{}, false, noon); !isViolation(t, err, "already") {
		t.Errorf("a fourth live one: %v", err)
	}
	if _, err := testRules().Renew(holds, Ref{Label: "a"}, time.Time{}, false, noon); err != nil {
		t.Errorf("renewal of a live one: %v", err)
	}
}

func TestHandles(t *testing.T) {
	t.Parallel()
	s := set("$app$phone;id=7f3k$"+aHash, "$app$tablet$"+aHash, "$app$tablet$"+"$1$abc$"+strings.Repeat("x", 22))
	if h := Handle(s.Values[0]); h != "7f3k" {
		t.Error(h)
	}
	h := Handle(s.Values[1])
	if len(h) != 8 || h != Handle(s.Values[2]) {
		t.Errorf("%q: the hash must have no part in a handle", h)
	}
	if _, err := s.Find(Ref{ID: h}); !errors.Is(err, ErrSeveral) {
		t.Error(err)
	}
	if v, err := set("$app$tablet$" + aHash).Find(Ref{ID: h}); err != nil || v.Label != "tablet" {
		t.Error(v, err)
	}
}
