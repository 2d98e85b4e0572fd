package auth

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"appbind/secrets"
)

// A code is 6 to 8 digits behind the last "$".
const (
	minCode = 6
	maxCode = 8
)

// splitCode splits PASSWORD$CODE. Without a code rest is the whole password.
func splitCode(password []byte) (rest, code []byte, found bool) {
	i := bytes.LastIndexByte(password, '$')
	if i < 0 {
		return password, nil, false
	}
	code = password[i+1:]
	if len(code) < minCode || len(code) > maxCode {
		return password, nil, false
	}
	for _, c := range code {
		if c < '0' || c > '9' {
			return password, nil, false
		}
	}
	return password[:i], code, true
}

// oneTimeCode is what row 12 says of one-time codes, and row 13.
func (a *attempt) oneTimeCode(ctx context.Context) bool {
	if a.totp == ignore {
		return false
	}
	enrolled, malformed := a.enrolled()
	switch {
	case malformed:
		return a.refuse(12, ReasonTOTPMalformed)
	case len(enrolled) == 0:
		return a.totp == required && a.refuse(12, ReasonTOTPMissing)
	}
	rest, code, found := splitCode(a.bind.Password)
	if !found || len(rest) == 0 {
		return a.refuse(13, ReasonCodeMissing)
	}
	// Rows 9 and 11 have looked at REST by its form already; whether it fits a value, only a hash can tell.
	return a.checkCode(enrolled, code) || a.isAppPassword(ctx, rest)
}

// enrolled are the usable otpauth values. One that is not, or whose prefix is spelled in another case, is a second
// factor that was meant: ignoring it would take the user's second factor away.
func (a *attempt) enrolled() (list []*secrets.Value, malformed bool) {
	for _, raw := range a.d.Entry.Values {
		if !hasPrefixFold(raw, otpauthPrefix) {
			continue
		}
		switch v := a.mem.parsed.parse(raw); {
		case v.Kind == secrets.TOTP && v.Err == nil:
			list = append(list, v)
		default:
			malformed = true
		}
	}
	return list, malformed
}

// checkCode takes one of the five tries, and gives it back if the code is right: a hundred
// parallel tries are five. A used code is right, and refused.
func (a *attempt) checkCode(enrolled []*secrets.Value, code []byte) bool {
	key, now := a.d.Entry.Key, a.mem.now()
	switch err := a.mem.codes.take(key, now); {
	case errors.Is(err, errFull):
		return a.fail(13, Busy, ReasonCodesBusy, err)
	case err != nil:
		return a.refuse(13, ReasonCodesThrottled)
	}
	valid := false
	for _, v := range enrolled {
		step, ok := v.VerifyTOTP(string(code), now)
		if !ok {
			continue
		}
		valid = true
		claim := a.mem.digest(useClaim, key, binary.BigEndian.AppendUint64(nil, uint64(step)), v)
		if !a.mem.claims.has(claim) {
			a.code = claim
		}
	}
	if !valid {
		return a.refuse(13, ReasonCodeWrong)
	}
	a.mem.codes.giveBack(key, 1)
	return a.code == digest{} && a.refuse(13, ReasonCodeUsed)
}

// isAppPassword refuses an app password with a code, allowed or not; else REST is the password from here on.
func (a *attempt) isAppPassword(ctx context.Context, rest []byte) bool {
	m, err := a.match(ctx, present(rest))
	switch {
	case errors.Is(err, errThrottled), errors.Is(err, errFull):
		return a.fail(13, Busy, ReasonGuesses, err)
	case err != nil:
		return a.fail(13, Busy, ReasonHashing, err)
	case m.value != nil || m.denied != nil:
		return a.refuse(13, ReasonAppWithCode)
	}
	a.password = rest
	return false
}

// claimCode uses the code up; true: the bind is decided, since another one was faster.
func (a *attempt) claimCode() bool {
	if (a.code == digest{}) {
		return false
	}
	claimed, err := a.mem.claims.claim(a.code, a.mem.now())
	switch {
	case err != nil:
		return a.fail(13, Busy, ReasonCodesBusy, err)
	case !claimed:
		return a.refuse(13, ReasonCodeUsed)
	}
	return false
}

// releaseCode gives the code back after trouble: the user, who did nothing wrong, will try again with it.
// After a refusal it stays used, so that a code is worth one guess at the password.
func (a *attempt) releaseCode() {
	if (a.code != digest{}) {
		a.mem.claims.release(a.code)
	}
}
