package embedded

import (
	"runtime"
	"strings"

	"appbind/secrets"
)

// absentHash is verified where there is no entry or no hash, so that the time of a
// bind does not tell which. It is the hash of a random string that nobody kept.
const absentHash = "{CRYPT}$2a$10$YLfXuPSrfSnHZWWQ0pLSiO.bQKpsY9hz2C55As5ces8PYqb1XkbKu"

// verifying bounds the slow hashes that are computed at once, so that a crowd of binds cannot take all memory.
type verifying chan struct{}

func newVerifying() verifying { return make(verifying, runtime.GOMAXPROCS(0)) }

// any reports whether the password fits one of the stored userPassword values.
func (v verifying) any(stored []string, password string) bool {
	tried := false
	for _, s := range stored {
		if !isHash(s) {
			continue
		}
		if v.one(s, password) {
			return true
		}
		tried = true
	}
	if !tried {
		v.one(absentHash, password)
	}
	return false
}

// one verifies one hash. Package secrets knows the schemes, as the part of its
// values behind the name; what has no known scheme, or is in clear, never fits.
func (v verifying) one(hash, password string) bool {
	value := parseHash(hash)
	if value.Err != nil {
		return false
	}
	v <- struct{}{}
	defer func() { <-v }()
	return value.Verify([]byte(password))
}

// parseHash reads a hash as the app password that it would be.
func parseHash(hash string) *secrets.Value { return secrets.Parse([]byte("$app$bind$" + hash)) }

// isHash tells a stored hash from a password in clear: {SCHEME}... or $scheme$...
func isHash(value string) bool {
	if rest, ok := strings.CutPrefix(value, "{"); ok {
		scheme, _, closed := strings.Cut(rest, "}")
		return closed && schemeChars(scheme) && !clearScheme(scheme)
	}
	if rest, ok := strings.CutPrefix(value, "$"); ok {
		scheme, _, closed := strings.Cut(rest, "$")
		return closed && schemeChars(scheme)
	}
	return false
}

// inClear gives the password of a userPassword value in clear. A value that is
// a hash, or a TOTP secret that a site keeps there, is not one.
func inClear(value string) (password string, clear bool) {
	if isHash(value) || strings.HasPrefix(value, "otpauth://") {
		return "", false
	}
	if rest, ok := strings.CutPrefix(value, "{"); ok {
		if scheme, password, closed := strings.Cut(rest, "}"); closed && clearScheme(scheme) {
			return password, true
		}
	}
	return value, true
}

func clearScheme(s string) bool {
	return strings.EqualFold(s, "plain") || strings.EqualFold(s, "clear") || strings.EqualFold(s, "cleartext")
}

func schemeChars(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !keychars(s[i:i+1]) && c != '_' && c != '.' && c != '/' {
			return false
		}
	}
	return s != ""
}

// hashed is the values of userPassword with those in clear replaced by their hashes; replaced tells whether there was one.
func hashed(values []string) (out []string, replaced bool, err error) {
	for _, v := range values {
		password, clear := inClear(v)
		if !clear {
			out = append(out, v)
			continue
		}
		h, err := hashPassword(password)
		if err != nil {
			return nil, false, err
		}
		out = append(out, h)
		replaced = true
	}
	return out, replaced, nil
}

// hashPassword makes the stored form of a password, as OpenLDAP takes it too.
// People choose these, so the hash is slow (some 60 ms).
func hashPassword(password string) (string, error) {
	h, err := secrets.Hash(secrets.Bcrypt, []byte(password), nil)
	if err != nil {
		return "", fail(resultConstraint, "userPassword: "+err.Error())
	}
	return "{CRYPT}" + h, nil
}
