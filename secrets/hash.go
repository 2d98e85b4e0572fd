package secrets

import (
	"bytes"
	"strings"
)

// hash is one HASH that can match.
type hash interface {
	// verify compares in constant time. The password has 1 to MaxPassword bytes.
	verify(password []byte) bool
	// cost is the memory in bytes, and whether it is slow.
	cost() (memory int64, slow bool)
}

// light is the cost of a hash without memory to speak of.
type light struct{}

func (light) cost() (int64, bool) { return 0, true }

// parseHash reads any HASH. It hashes nothing.
func parseHash(s string) (hash, error) {
	switch {
	case s == "":
		return nil, errNoHash
	case s[0] == '$':
		return parseDollar(s)
	case s[0] == '_':
		return parseBSDi(s)
	case s[0] == '{':
		return parseScheme(s)
	default:
		// Stalwart compares this byte by byte, and OpenLDAP would. Here it is never a credential.
		return nil, ErrClearText
	}
}

// parseDollar reads the forms that begin with $id$.
func parseDollar(s string) (hash, error) {
	id, rest, found := strings.Cut(s[1:], "$")
	if !found {
		return nil, ErrScheme
	}
	switch id {
	case "argon2i", "argon2d", "argon2id":
		return parseArgon2(id, rest)
	case "pbkdf2-sha256", "pbkdf2-sha512":
		return parsePBKDF2(id, rest)
	case "scrypt":
		return parseScrypt(rest)
	case "2a", "2b", "2y":
		return parseBcrypt(s)
	case "5", "6":
		return parseSHACrypt(id, rest)
	case "sha1":
		return parseSHA1Crypt(rest)
	case "1":
		return parseMD5Crypt(rest)
	default:
		return nil, ErrScheme
	}
}

// parseScheme reads {SCHEME}body, the name in any case.
func parseScheme(s string) (hash, error) {
	name, body, found := strings.Cut(s[1:], "}")
	if !found {
		return nil, ErrScheme
	}
	name = strings.ToUpper(name)
	switch name {
	case "PLAIN", "CLEAR", "CLEARTEXT":
		return nil, ErrClearText
	case "ARGON2", "ARGON2I", "ARGON2ID", "PBKDF2":
		// The inner form decides, not the name: slappasswd writes {ARGON2}$argon2i$.
		if !strings.HasPrefix(body, "$") {
			return nil, ErrMalformed
		}
		return parseDollar(body)
	case "CRYPT":
		if strings.HasPrefix(body, "$") {
			return parseDollar(body)
		}
		return parseDES(body)
	}
	return parseDigest(name, body)
}

// hasNUL says whether a NUL byte stands in the password. Several algorithms take "abc" and
// "abc\x00" for the same, or "abc" and "abc\x00abc"; they refuse such a password instead.
func hasNUL(password []byte) bool { return bytes.IndexByte(password, 0) >= 0 }

// isOf says whether s has min to max characters, all of set.
func isOf(s string, set *[256]bool, min, max int) bool {
	if len(s) < min || len(s) > max {
		return false
	}
	for i := range len(s) {
		if !set[s[i]] {
			return false
		}
	}
	return true
}

// setOf makes the set of the characters of s.
func setOf(s string) *[256]bool {
	var set [256]bool
	for i := range len(s) {
		set[s[i]] = true
	}
	return &set
}

// decimal reads a number without sign and leading zero that is at most max.
// over says that it is a number, but a greater one.
func decimal(s string, max int) (n int, ok, over bool) {
	if s == "" || len(s) > 1 && s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return 0, false, false
	}
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
		if n > max {
			return 0, false, true
		}
	}
	return n, true, false
}
