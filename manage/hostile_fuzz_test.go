package manage

import (
	"strings"
	"testing"
	"time"

	"appbind/secrets"
)

// FuzzAdmit: whatever somebody writes, what is stored is usable or a second factor, holds no clear text, expires, and does not
// collide with what is there.
func FuzzAdmit(f *testing.F) {
	for _, s := range []string{"$app$phone$secret-word", "$app$phone${CLEAR}secret-word", "$app$a;exp=20260401000000Z$" + aHash, "$app$$x", aTOTP, "$app$Phone$" + aHash,
		"$app$x;svc=imap;net=192.0.2.0/24$word-word", "{SSHA}abc", "$app$a%24b;x-y=z$word-word", "$app$a;id=7f3k$7f3k-aaaa-bbbb-cccc-dddd-eeee"} {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := testRules()
	r.ChosenAlgorithm = secrets.SHA256 // bcrypt would be slow here
	held := NewSet([][]byte{[]byte("$app$phone;id=7f3k;exp=20260501000000Z$" + aHash)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		stored, err := r.Admit(held, raw, now)
		if err != nil {
			return
		}
		v := secrets.Parse(stored)
		switch {
		case v.Err != nil:
			t.Fatalf("%q is stored as an unusable value: %v", raw, v.Err)
		case v.Kind == secrets.TOTP:
			return
		case v.Kind != secrets.App:
			t.Fatalf("%q is stored as something else", raw)
		case v.Expires.IsZero() || v.Expires.After(now.Add(r.MaxLifetime+skew)):
			t.Errorf("%q is stored with the expiry %v", raw, v.Expires)
		case held.conflict(v) != nil:
			t.Errorf("%q: %v", raw, held.conflict(v))
		}
		given := secrets.Parse(raw)
		password, isClear := clearText(given.Params().Hash)
		if isClear && len(password) > 8 && strings.Contains(v.Params().Hash, password) {
			t.Errorf("%q is stored in clear", raw)
		}
		if isClear && !v.Verify([]byte(password)) {
			t.Errorf("%q: the password does not fit what is stored", raw)
		}
	})
}
