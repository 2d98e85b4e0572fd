package secrets

import (
	"strings"
	"testing"
)

// TestAccountVectors has what the rows of testdata/accounts.tsv say about single values; their combination with the
// main password and the second factor is the decision's, not a value's.
func TestAccountVectors(t *testing.T) {
	t.Parallel()
	hashed := map[string]string{"apppw": "{SHA256}" + digestOf("apppw")}
	apps, accepted := 0, 0
	for _, row := range readVectors(t, "accounts.tsv", 5) {
		secrets, password, note := row[0], row[1], row[4]
		match := false
		for _, raw := range strings.Split(secrets, " || ") {
			if Parse([]byte(raw)).Verify([]byte(password)) {
				t.Errorf("%s: %q matches, but holds clear text or nothing", note, raw)
			}
			// The same account with the app password stored as a hash. What is broken before it or behind it does not count.
			name, text, _ := strings.Cut(strings.TrimPrefix(raw, appPrefix), "$")
			if h, ok := hashed[text]; ok && strings.HasPrefix(raw, appPrefix) {
				apps++
				v := Parse([]byte(appPrefix + name + "$" + h))
				match = match || v.Verify([]byte(password))
			}
		}
		if match != (password == "apppw") {
			t.Errorf("%s: an app password matches: %v", note, match)
		}
		if match {
			accepted++
		}
	}
	if apps < 5 || accepted < 3 {
		t.Errorf("%d rows with an app password, %d accepted", apps, accepted)
	}
}

// TestAccountKinds has the values of accounts.tsv that are broken, each with what it is to the decision.
func TestAccountKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		raw  string
		kind Kind
		err  error
	}{
		{"$app$broken$$y$j9T$abc$def", App, ErrScheme},
		{"$app$nohash", App, errNoHash},
		{"$app$8958830913002348890$", App, errNoHash},
		{"otpauth://bad", TOTP, errOTPType},
		{"otpauth://totp/x:y?secret=S", TOTP, errOTPSecret}, // its codes were stubbed; eight bits are no secret
		{"mainpw", Foreign, nil},
	} {
		if v := Parse([]byte(c.raw)); v.Kind != c.kind || v.Err != c.err {
			t.Errorf("%q: kind %d, Err %v", c.raw, v.Kind, v.Err)
		}
	}
}

// TestEntryWithoutVerifier has entries in which nothing can match anything.
func TestEntryWithoutVerifier(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "$app$", "$app$x$", "$app$x$*", "$app$x$!", "$app$x$!!", "$app$x${CRYPT}*", "$app$x${CRYPT}!", "$app$x${SSHA}", "$app$x$$6$", "$app$x$$2b$", "$app$x${}", "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME", "correct horse",
	} {
		for _, password := range []string{"", "*", "!", "x", "correct horse", raw, "\x00"} {
			if Parse([]byte(raw)).Verify([]byte(password)) {
				t.Errorf("%q matches %q", raw, password)
			}
		}
	}
	var zero Value
	if zero.Verify([]byte("x")) {
		t.Error("the zero value matches")
	}
}

// TestPasswordSize has the longest password that is hashed, and one byte more.
func TestPasswordSize(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxPassword)
	if !Parse([]byte("$app$x${SHA256}" + digestOf(long))).Verify([]byte(long)) {
		t.Error("1024 bytes do not match")
	}
	if Parse([]byte("$app$x${SHA256}" + digestOf(long+"x"))).Verify([]byte(long + "x")) {
		t.Error("1025 bytes match")
	}
	salted := "{SSHA256}" + saltedOf(long, strings.Repeat("s", maxDigestSalt))
	if v := Parse([]byte("$app$x$" + salted)); !v.Verify([]byte(long)) {
		t.Errorf("1024 bytes and the longest salt do not match (Err: %v)", v.Err)
	}
}
