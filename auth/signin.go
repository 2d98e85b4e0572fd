package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"

	"appbind/secrets"
)

// signInRows are the rows for a sign-in that only the main password opens. They differ from those of a bind: no name is passed
// through by its spelling, who is no user is refused, an app password that fits is refused and not forwarded, and neither
// fallback nor the one-time code behind the password matter, since a second factor is asked for by itself.
var signInRows = [...]func(*attempt, context.Context) bool{
	(*attempt).nameless,         // 1, 2
	(*attempt).tooLong,          // 9
	(*attempt).lookup,           // 5, 6
	(*attempt).usersOnly,        // 7
	(*attempt).notEligible,      // 8
	(*attempt).storedSecret,     // 9
	(*attempt).noAppPassword,    // 10, 11
	(*attempt).stale,            // 15
	(*attempt).knownBadOrBudget, // 14
	(*attempt).forward,          // 15
}

// SignIn decides whether a name and a main password fit, for a page on which people sign in. Budgets and memories are those of
// binds, so that guesses here and there count together. Accepted only where the upstream has accepted the
// password; Entry is set then. It returns within the deadline of ctx and calls up at most once.
func (v *Verifier) SignIn(ctx context.Context, name string, password Password, client Client, up Binder) Decision {
	b := Bind{Name: name, Password: password, Secure: true, Client: client, Listener: Listener{Fallback: allow}}
	a := attempt{Verifier: v, bind: b, up: up, totp: ignore, password: password}
	a.fail(15, Unavailable, ReasonInternal, errUndecided)
	for _, row := range signInRows {
		if row(&a, ctx) {
			break
		}
	}
	a.notVerified()
	return a.d
}

// nameless refuses what would be an anonymous or unauthenticated bind (RFC 4513 section 5.1).
func (a *attempt) nameless(context.Context) bool {
	if strings.TrimSpace(a.bind.Name) == "" || len(a.bind.Password) == 0 {
		return a.decide(1, EmptyPassword, ReasonEmptyPassword)
	}
	return false
}

// usersOnly is row 7 where nobody is passed through.
func (a *attempt) usersOnly(ctx context.Context) bool {
	return !a.d.Entry.User && a.refuseAtCost(ctx, 7, ReasonNotUser, a.d.Entry.Key)
}

// noAppPassword is rows 10 and 11 where app passwords do not count, allowed or not.
func (a *attempt) noAppPassword(ctx context.Context) bool {
	if !a.appPassword(ctx) {
		return false
	}
	if a.d.Kind == Accepted {
		a.d.DN, a.d.App = "", nil
		a.refuse(10, ReasonAppSignIn)
	}
	return true
}

// Errors of SpendCode.
var (
	// ErrCodeWrong says that a code fits none of the values.
	ErrCodeWrong = errors.New("wrong one-time code")
	// ErrCodeUsed says that a code was right, and was used before.
	ErrCodeUsed = errors.New("one-time code used before")
	// ErrCodeThrottled says that there were too many wrong codes.
	ErrCodeThrottled = errors.New("too many wrong one-time codes")
)

// SpendCode uses up a one-time code of an entry outside of a bind. It shares the tries and the used codes of binds: five wrong ones
// in five minutes, and a right one counts once, here or there. values are those of the entry's secrets attribute.
// It returns the value that the code fits and the step. Errors: ErrCodeWrong, ErrCodeUsed,
// ErrCodeThrottled, or that there is no room to remember it.
func (v *Verifier) SpendCode(key string, values []*secrets.Value, code string) (fits *secrets.Value, step int64, err error) {
	now := v.mem.now()
	switch err := v.mem.codes.take(key, now); {
	case errors.Is(err, errThrottled):
		return nil, 0, ErrCodeThrottled
	case err != nil:
		return nil, 0, err
	}
	err = ErrCodeWrong
	for _, value := range values {
		s, ok := value.VerifyTOTP(code, now)
		if !ok {
			continue
		}
		if err == ErrCodeWrong {
			v.mem.codes.giveBack(key, 1)
			err = ErrCodeUsed
		}
		claim := v.mem.digest(useClaim, key, binary.BigEndian.AppendUint64(nil, uint64(s)), value)
		claimed, full := v.mem.claims.claim(claim, now)
		switch {
		case full != nil:
			return nil, 0, full
		case claimed:
			return value, s, nil
		}
	}
	return nil, 0, err
}
