// Package manage is app passwords as things that people manage: created,
// renewed, renamed, restricted, revoked and listed.
//
// # Order of steps
//
// The rules come first and know nothing of a network. [NewSet] is the values
// that an entry holds. [Rules.Admit] judges one value that a person or a program
// writes over LDAP and says what is to be stored instead. [Rules.Issue],
// [Rules.Renew], [Rules.Relabel], [Rules.Rescope] and [Rules.Revoke] say which
// exact values are to be deleted and added ([Change]). Time is an argument.
//
// [Manager] carries such changes to the directory, with the identity of
// upstream.manage_dn: it finds the user by the rules of a bind, reads the
// entry's values, has the rules decide, and sends one modify that deletes and
// adds exact values, never a replace. A password is returned only after the
// directory has said that its value is stored. What a client may do with its own
// rights goes over the client's own link instead, see [Manager.Through].
//
// # Several writers
//
// Two writers who both find room for "phone" must not both succeed. Where the
// directory offers the assertion control (RFC 4528) the modify demands that
// entryCSN is still what was read, and whoever comes second reads again. Where it
// does not (389 DS, Active Directory), the values are read again after the add,
// and who finds a conflict then takes its own value back: of two at the same
// time at most one remains.
//
// # Security
//
// Nothing is stored in clear: a HASH part in clear text is hashed, and what looks
// like a hash and is none is refused. Errors and diagnostics carry labels and
// selectors, which are public, never a password, a hash or a TOTP secret.
// Everything that is read here is read live; the copies of lookup: replica serve
// binds only.
//
// # Limits
//
// After a modify that was sent and not answered, the values are read again; when
// that does not show the change either, the error is [ErrUnconfirmed] and the
// password is not shown, though a value may come to be stored. Without the assertion
// control, and with servers that lag behind each other, two writers at two
// servers can both succeed.
package manage

import (
	"errors"
	"time"

	"appbind/config"
)

// Violation says that a rule is broken, and what to do instead. It is answered
// constraintViolation (19); its text is for the client, and holds nothing secret.
type Violation struct {
	Reason string
	// Rule names the rule, for those who say it in their own words, with Args; empty: no name.
	Rule Rule
	Args []any
}

// Rule names a rule that somebody can break without writing a value by hand.
type Rule string

// The rules, and their arguments.
const (
	RuleOff          Rule = "off"
	RuleLabelEmpty   Rule = "labelempty"
	RuleLabelControl Rule = "labelcontrol"
	RuleLabelSpace   Rule = "labelspace"
	RuleLabelTaken   Rule = "labeltaken" // string: the label
	RuleFull         Rule = "full"       // int: app passwords that are live
	RuleMustExpire   Rule = "mustexpire" // int: days at most
	RuleExpiryOver   Rule = "expiryover"
	RuleExpiryLate   Rule = "expirylate" // int: days at most
)

// Error is the reason.
func (v *Violation) Error() string { return v.Reason }

// Errors of this package, beside *Violation, *Refused, auth.ErrNotFound and auth.ErrAmbiguous.
var (
	// ErrNoSuchPassword says that the user has no app password of that label or id.
	ErrNoSuchPassword = errors.New("the user has no app password of this label or id")
	// ErrSeveral says that more than one value has that label or id: values written past appbind.
	ErrSeveral = errors.New("more than one app password has this label or id; name one by its id, or revoke them all")
	// ErrNotUser says that an entry is not below users.bases.
	ErrNotUser = errors.New("the entry is not below users.bases")
	// ErrNotEligible says that an entry does not match users.filter and users.enabled_filter.
	ErrNotEligible = errors.New("the user is disabled, or does not match users.filter")
	// ErrLastFactor says that a user would be left without a second factor.
	ErrLastFactor = errors.New("it is the user's last second factor")
	// ErrContention says that others changed the entry again and again meanwhile.
	ErrContention = errors.New("the entry was changed by others at the same time; try again")
	// ErrUnconfirmed says that a change was sent and nothing tells whether it was made.
	ErrUnconfirmed = errors.New("the directory did not confirm the change; list the app passwords to see whether it was made")
)

// Rules are what new and changed values must keep.
type Rules struct {
	MaxPerUser      int           // live app passwords of one entry
	MaxLifetime     time.Duration // of what is made or renewed
	DefaultLifetime time.Duration // where no expiry is asked for
	RequireExpiry   bool          // everything made or renewed expires
	Algorithm       string        // hashes generated passwords
	ChosenAlgorithm string        // hashes passwords that people choose
	UserChosen      bool          // Issue takes a chosen password
	Off             bool          // app passwords are switched off: none is made or renewed
	// Shared says that the attribute holds passwords of the directory's own too: a
	// value that is neither $app$ nor otpauth:// is none of our business.
	Shared bool
}

// RulesOf are the rules of a configuration.
func RulesOf(a *config.AppPasswords) *Rules {
	return &Rules{
		MaxPerUser:      a.MaxPerUser,
		MaxLifetime:     time.Duration(a.MaxLifetime),
		DefaultLifetime: time.Duration(a.DefaultLifetime),
		RequireExpiry:   a.RequireExpiry,
		Algorithm:       a.Algorithm,
		ChosenAlgorithm: a.ChosenAlgorithm,
		UserChosen:      a.UserChosen == "allow",
		Off:             !a.Enabled,
	}
}

// Change is what becomes of an entry's values: exact values that are deleted,
// and values that are added, in one modify.
type Change struct {
	Delete, Add []string
}

// Clock tells the time; time.Now but in tests.
type Clock func() time.Time
