// Package secrets is an app password as a value: parse, generate, hash, verify.
//
// The values of a user's secrets attribute are of three kinds. An app password
// is $app$NAME$HASH; the first "$" after "$app$" ends NAME, and HASH is any of
// the forms that [Value.Verify] knows. A second factor is an otpauth:// URL.
// Anything else is Foreign, and never matches. doc/secret-format.md is the
// administrator's description of all of it.
//
// # Order of steps
//
//  1. [Parse] each value of the entry. It never fails: a value that cannot be
//     used says why in Err, and the others still count.
//  2. [ShapeOf] the presented password. Ours and Mistyped are decided here and
//     are not for the upstream.
//  3. [Value.Verify] the candidates: for Ours the values whose ID is the
//     selector, and if there is none those without ID; for any other password
//     those without ID, in stored order. [Value.Cost] tells beforehand what one
//     Verify needs. Verify itself does what the spelling needs: callers give it
//     the password as it was presented, or its canonical text, as they like.
//  4. [Value.Allows] judges expiry, service and address of the value that matched.
//  5. [Value.VerifyTOTP] checks a code. It keeps no state: the caller remembers
//     the step that it returns, so that a code counts once.
//
// [Generate], [Hash] and [New] make new values.
//
// # Security
//
// A value matches only through a hash that was recognised, is within the caps
// of this package and was computed over every byte of the password. What is
// stored in clear ({PLAIN}, {CLEAR}, no scheme at all) is never a credential,
// so the stored text never logs in. Where an algorithm takes two different
// passwords for the same (bcrypt after 72 bytes or around a NUL, HMAC with
// trailing NULs, DES after 8 bytes), the ambiguous ones are refused. An empty
// password matches nothing, and one of more than [MaxPassword] bytes is never
// hashed. Comparisons take constant time.
//
// The costs in a stored hash come from the directory, so whoever writes there
// could ask for any amount of work. Each has a cap, a named constant beside the
// code that reads it; over the cap a value is unusable.
//
// No error text contains anything of a value or a password but parameter words
// that this package knows. A Value, printed in any way, shows its kind and label.
//
// # Limits
//
// Hashes are verified only if this package can do it exactly: argon2 of version
// 16 (1.0), argon2 with keyid or data, PBKDF2 with SHA-1, yescrypt and apr1 are
// unusable. Nothing is normalised: passwords are compared as octets.
package secrets

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Kind tells what a value of the secrets attribute is.
type Kind int

const (
	// Foreign is a value that is neither of ours nor Stalwart's, such as a userPassword hash; it never matches.
	Foreign Kind = iota
	// App is $app$NAME$HASH.
	App
	// TOTP is otpauth://...
	TOTP
)

// Sizes, in bytes.
const (
	// MaxPassword is the longest password that is ever hashed: a megabyte of it would be a cheap way to burn CPU.
	MaxPassword = 1024
	// MaxValue is the longest value that is parsed: some hundred networks and the longest hash fit in.
	MaxValue = 8192
)

const (
	appPrefix = "$app$"
	otpPrefix = "otpauth://"
)

// Why a value is unusable. Parse returns these and errors like them in Value.Err; none contains material.
var (
	// ErrClearText is a HASH without a scheme, or {PLAIN} or {CLEAR}.
	ErrClearText = errors.New("the hash part is clear text, which never matches; store a hash (appbind hash prints one)")
	// ErrScheme is a HASH of a scheme that is not supported.
	ErrScheme = errors.New("the hash scheme is not supported; doc/secret-format.md lists those that are")
	// ErrOverCap is a HASH whose cost is over the cap of its algorithm.
	ErrOverCap = errors.New("the hash asks for more work or memory than is allowed; doc/secret-format.md lists the caps")
	// ErrMalformed is a HASH of a known scheme that does not follow its form.
	ErrMalformed = errors.New("the hash is malformed")

	errNoHash  = errors.New("no hash: the form is $app$NAME$HASH")
	errTooLong = errors.New("the value is longer than 8192 bytes")
)

// Value is one value of the secrets attribute, parsed. It is not changed after
// Parse, so that many goroutines may use it. Printing it never shows the stored value.
type Value struct {
	Raw  string // the exact stored value
	Kind Kind
	// Err says why the value is unusable; nil: it can match.
	Err error

	// Of an App value:
	Name     string // as stored
	Label    string // for people: decoded
	ID       string // the selector; "" when the value has none
	Expires  time.Time
	Created  time.Time
	Services []string       // as stored; nil: any service
	Networks []netip.Prefix // nil: any address

	hash       hash     // what verifies; nil: nothing matches
	hashText   string   // HASH as stored
	extensions []string // the x-word=value parameters as stored
	totp       *totpKey // of a TOTP value that is usable
}

// Parse never fails: what is wrong with a value is its Err.
func Parse(raw []byte) *Value {
	v := &Value{Raw: string(raw)}
	switch {
	case strings.HasPrefix(v.Raw, appPrefix):
		v.Kind = App
		v.Err = v.parseApp()
	case strings.HasPrefix(v.Raw, otpPrefix):
		v.Kind = TOTP
		v.Err = v.parseTOTP()
	}
	return v
}

// parseApp reads $app$NAME$HASH. The hash is read even when NAME is in error and the other way round,
// so that a report shows the label; with any error nothing is left that could verify.
func (v *Value) parseApp() error {
	if len(v.Raw) > MaxValue {
		return errTooLong
	}
	name, hashText, found := strings.Cut(v.Raw[len(appPrefix):], "$")
	if !found {
		// What stands there may be a password that was stored by mistake: it is nobody's label.
		return errNoHash
	}
	v.Name, v.hashText = name, hashText
	if err := v.parseName(); err != nil {
		return err
	}
	h, err := parseHash(hashText)
	if err != nil {
		return err
	}
	v.hash = h
	return nil
}

// Verify reports whether password fits the value, in constant time with regard
// to the password. It says nothing about expiry, service and address: see Allows.
//
// A value with an ID was made for a generated password, and only that matches, in any
// spelling; another selector costs no hash. A value without ID is compared with the
// presented bytes; if these are a generated password (made here, its hash stored by
// another tool), also with the canonical text, which is what such a hash is made of.
func (v *Value) Verify(password []byte) bool {
	if v.Err != nil || v.hash == nil || len(password) == 0 || len(password) > MaxPassword {
		return false
	}
	shape, selector, canonical := ShapeOf(password)
	if v.ID != "" {
		return shape == Ours && selector == v.ID && v.hash.verify(canonical)
	}
	if shape == Ours && !bytes.Equal(canonical, password) && v.hash.verify(canonical) {
		return true
	}
	return v.hash.verify(password)
}

// Cost is what one Verify needs: memory in bytes, and whether it is slow (a KDF) and needs a slot.
// A value that cannot match costs nothing.
func (v *Value) Cost() (memory int64, slow bool) {
	if v.Err != nil || v.hash == nil {
		return 0, false
	}
	return v.hash.cost()
}
