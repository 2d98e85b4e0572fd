package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"appbind/secrets"
)

// LDAP result codes of bind answers (RFC 4511 section 4.1.9).
const (
	codeSuccess             = 0
	codeReferral            = 10
	codeConstraintViolation = 19
	codeNoSuchObject        = 32
	codeInvalidDNSyntax     = 34
	codeInappropriateAuth   = 48
	codeInvalidCredentials  = 49
	codeInsufficientAccess  = 50
	codeBusy                = 51
	codeUnavailable         = 52
	codeUnwilling           = 53
)

// sasl is row 0: no SASL bind is ever forwarded. The upstream would take EXTERNAL
// for the identity of our own connection.
func (a *attempt) sasl(ctx context.Context) bool {
	if a.bind.SASL == "" {
		return false
	}
	if a.bind.SASL != "EXTERNAL" {
		return a.decide(0, MechanismNotSupported, ReasonMechanism)
	}
	login := a.bind.External
	if login == nil {
		return a.refuse(0, ReasonExternalUnknown)
	}
	a.serviceBind(ctx, 0, ReasonExternal, login.DN, login.Password)
	if a.d.Kind == InvalidCredentials {
		// The peer proved who it is; what does not fit is the password in our configuration.
		a.fail(0, Unavailable, ReasonExternal, fmt.Errorf("the upstream refuses the configured password of %s", login.DN))
	}
	return true
}

// emptyPassword is row 1: the "unauthenticated authentication" of RFC 4513 section 5.1.2, which
// servers answer with success.
func (a *attempt) emptyPassword(context.Context) bool {
	if a.bind.Name == "" || len(a.bind.Password) > 0 {
		return false
	}
	return a.decide(1, EmptyPassword, ReasonEmptyPassword)
}

// anonymous is row 2 (RFC 4513 section 5.1.1).
func (a *attempt) anonymous(context.Context) bool {
	if a.bind.Name != "" || len(a.bind.Password) > 0 {
		return false
	}
	if !a.bind.Listener.Anonymous {
		return a.decide(2, AnonymousRefused, ReasonAnonymousRefused)
	}
	return a.decide(2, Anonymous, ReasonAnonymous)
}

// clearText is row 3, before the password is looked at.
func (a *attempt) clearText(context.Context) bool {
	if a.bind.Secure {
		return false
	}
	return a.decide(3, ConfidentialityRequired, ReasonClearText)
}

// unbelieved refuses a name whose context is not believed or not well formed. It names nobody, and
// what is before the context must not be tried without it: that would drop a restriction.
func (a *attempt) unbelieved(context.Context) bool {
	return a.bind.ContextInvalid && a.refuse(6, ReasonContext)
}

// tooLong refuses a password that is never hashed and never forwarded, not even for a listed account.
func (a *attempt) tooLong(context.Context) bool {
	return len(a.bind.Password) > secrets.MaxPassword && a.refuse(9, ReasonTooLong)
}

// listedAccount is row 4. The names are compared in the form of wire.DN.Key, which does not prove
// that they are equal; what goes upstream is the spelling of the configuration.
func (a *attempt) listedAccount(ctx context.Context) bool {
	dn := a.listed.find(a.bind.Name)
	return dn != "" && a.serviceBind(ctx, 4, ReasonListed, dn, a.bind.Password)
}

// lookup is rows 5 and 6: who the name is, is the upstream's to say.
func (a *attempt) lookup(ctx context.Context) bool {
	name := a.bind.Name
	if strings.TrimSpace(name) == "" {
		// As a DN it would be the root DSE, and a bind as that is anonymous.
		return a.refuseAtCost(ctx, 6, ReasonNotFound, name)
	}
	e, err := a.dir.Find(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return a.refuseAtCost(ctx, 6, ReasonNotFound, name)
	case errors.Is(err, ErrAmbiguous):
		return a.refuseAtCost(ctx, 6, ReasonAmbiguous, name)
	case err != nil:
		return a.fail(5, Unavailable, ReasonLookup, err)
	case e == nil || e.Key == "" && e.DN != "":
		return a.fail(5, Unavailable, ReasonInternal, errors.New("appbind: internal error: lookup without an entry or its key"))
	case e.Stale && !(e.User && e.Enabled(a.mem.now())):
		return a.fail(5, Unavailable, ReasonOutage, errNotCurrent)
	case e.DN == "":
		return a.refuseAtCost(ctx, 6, ReasonNotFound, name)
	}
	a.d.Entry = e
	return false
}

// notUser is row 7. What goes upstream is the DN that it returned, and never what is an app password or stands
// for one, which rows 9 and 11 keep back from users: with a base forgotten in users.bases, their phones come this way.
func (a *attempt) notUser(ctx context.Context) bool {
	if a.d.Entry.User {
		return false
	}
	password := a.bind.Password
	rest, _, hasCode := splitCode(password)
	switch shape := present(password).shape; {
	case a.showsStored():
		return a.refuse(9, ReasonStoredSecret)
	case shape == secrets.Mistyped:
		return a.refuse(11, ReasonMistyped)
	case shape == secrets.Ours:
		return a.refuse(11, ReasonNoAppPassword)
	case hasCode && present(rest).shape != secrets.NotOurs:
		return a.refuse(11, ReasonAppWithCode)
	}
	return a.passThrough(ctx, 7, ReasonNotUser, a.d.Entry.DN, password)
}

// notEligible is row 8.
func (a *attempt) notEligible(ctx context.Context) bool {
	return !a.d.Entry.Enabled(a.mem.now()) && a.refuseAtCost(ctx, 8, ReasonIneligible, a.d.Entry.Key)
}

// storedSecret is row 9: what is stored is not a password, here or upstream.
func (a *attempt) storedSecret(context.Context) bool {
	a.reviewValues()
	return a.showsStored() && a.refuse(9, ReasonStoredSecret)
}

// showsStored tells a stored secret, with and without a one-time code at its end.
func (a *attempt) showsStored() bool {
	rest, _, hasCode := splitCode(a.bind.Password)
	return looksStored(a.bind.Password) || a.isStored(a.bind.Password) || hasCode && a.isStored(rest)
}

const (
	appPrefix     = "$app$"
	otpauthPrefix = "otpauth://"
)

// looksStored tells the prefixes of our values. Their case matters where they are stored; here
// a password is refused in any, to be on the safe side of directories that fold it.
func looksStored(password []byte) bool {
	return hasPrefixFold(password, appPrefix) || hasPrefixFold(password, "otpauth://")
}

func hasPrefixFold[T string | []byte](s T, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(string(s[:len(prefix)]), prefix)
}

// isStored compares with every value in constant time, so that the time does not tell which one was near.
func (a *attempt) isStored(password []byte) bool {
	equal := 0
	for _, raw := range a.d.Entry.Values {
		if len(raw) > 0 {
			equal |= subtle.ConstantTimeCompare(raw, password)
		}
	}
	return equal == 1
}

// reviewValues reports those of the entry's values that are unusable. A list in which there was none is not
// parsed again for as long: only the values that the password can be for are, see match.
func (a *attempt) reviewValues() {
	e, now := a.d.Entry, a.mem.now()
	if len(e.Values) == 0 || faultless(e.marks()) {
		return
	}
	id := a.mem.flawless.id(e.Values)
	if a.mem.flawless.has(id, now) {
		return
	}
	usable := true
	for _, raw := range e.Values {
		if v := secrets.Parse(raw); v.Err != nil {
			usable = false
			a.reportUnusable(v, v.Err)
		}
	}
	if usable {
		a.mem.flawless.add(id, now)
	}
}

func (a *attempt) reportUnusable(v *secrets.Value, err error) {
	if a.mem.report(a.d.Entry.Key, v) {
		a.log.Warn("unusable value in the secrets attribute", "user", a.d.Entry.DN, "label", v.Label, "reason", err)
	}
}

// passThrough forwards the bind of somebody who is no user. Its failures are neither
// remembered nor counted: one bad password of one mail server must not stop all of them.
func (a *attempt) passThrough(ctx context.Context, row int, reason, dn string, password Password) bool {
	answer, err := a.send(ctx, dn, password)
	if err != nil {
		return a.fail(row, Unavailable, ReasonUpstream, err)
	}
	a.d.Answer = answer
	switch answer.Code {
	case codeSuccess:
		a.d.DN = dn
		return a.decide(row, Accepted, reason)
	case codeInvalidCredentials, codeNoSuchObject:
		return a.refuse(row, ReasonUpstreamRefused)
	default:
		return a.fail(row, Unavailable, ReasonUpstream, answerError(answer))
	}
}

// send is the only way upstream. An empty name or password would be an anonymous bind there, and a success
// for anybody (RFC 4513 section 5.1): the rows see to it that there is none, this makes sure.
func (a *attempt) send(ctx context.Context, dn string, password []byte) (*Answer, error) {
	if dn == "" || len(password) == 0 {
		return nil, errors.New("appbind: internal error: bind without a name or a password")
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	answer, err := a.up.Bind(ctx, dn, password)
	if err == nil && answer == nil {
		err = errors.New("appbind: internal error: bind without an answer")
	}
	return answer, err
}

func answerError(answer *Answer) error {
	return fmt.Errorf("the upstream answered the bind with result code %d", answer.Code)
}
