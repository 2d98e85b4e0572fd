package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strings"

	"appbind/secrets"
)

// refuseAtCost is rows 6 and 8: 49 for a name that cannot log in, at the cost that the
// same password has for one that can: a hash for an app password, a bind for any other, nothing for
// what is refused unseen. The bind goes to a DN that does not exist, with a random password
// of the same length, never the user's. Like a user's it is made once for the same
// password, and not at all when the budget is used up. Trouble is answered as a user's would be.
func (a *attempt) refuseAtCost(ctx context.Context, row int, reason, key string) bool {
	a.refuse(row, reason)
	dn := a.dir.AbsentDN()
	if dn == "" || !a.costsBind() {
		return true
	}
	// Names come from the client: of any length, and any number of spellings.
	name := a.mem.digest(useAbsent, strings.ToLower(key), nil)
	key = string(name[:])
	t, v, err := a.mem.absent.admit(ctx, question{
		key:      key,
		password: a.mem.digest(useFailure, key, a.bind.Password),
		source:   sourceOf(a.bind.Client.Addr),
		budget:   a.budget(),
	}, a.mem.now)
	if err != nil {
		return a.fail(row, Unavailable, ReasonUpstream, err)
	}
	if v != toForward {
		return true
	}
	outcome := undecided
	defer func() { t.land(outcome, State{}, true, a.mem.now()) }()
	answer, err := a.send(ctx, dn, randomLike(a.bind.Password))
	switch {
	case err != nil:
		return a.fail(row, Unavailable, ReasonUpstream, err)
	case isTrouble(answer.Code):
		return a.fail(row, Unavailable, ReasonUpstream, answerError(answer))
	}
	outcome = hasFailed
	return true
}

// costsBind says whether the password of a user who exists would be forwarded, as far as that can be
// told without one. An app password costs a hash, here.
func (a *attempt) costsBind() bool {
	password := a.bind.Password
	rest, _, hasCode := splitCode(password)
	p := present(password)
	if p.shape == secrets.Ours {
		_ = sha256.Sum256(p.canonical)
		return false
	}
	return p.shape == secrets.NotOurs && present(rest).shape == secrets.NotOurs && !looksStored(password) &&
		!a.deniedByRule() && (a.totp != required || hasCode && len(rest) > 0)
}

// isTrouble tells the answers to the bind to an absent DN that say nothing about it. What a server may say of a
// DN that it does not have is not trouble: 49 and 32, no syntax or place it knows (34, 10), not
// to you (50, 53, 48, 19). Not even success is: the password is nobody's, and the client gets 49.
func isTrouble(code int32) bool {
	switch code {
	case codeSuccess, codeInvalidCredentials, codeNoSuchObject, codeInvalidDNSyntax, codeReferral,
		codeInsufficientAccess, codeUnwilling, codeInappropriateAuth, codeConstraintViolation:
		return false
	default:
		return true
	}
}

// randomLike is a random password of the same length.
func randomLike(password []byte) []byte {
	const letters = "0123456789abcdefghijklmnopqrstuv"
	random := make([]byte, len(password))
	rand.Read(random) // never fails (Go 1.24)
	for i, b := range random {
		random[i] = letters[b&31]
	}
	return random
}
