package manage

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"appbind/secrets"
	"appbind/wire"
)

// skew is by how much another machine's clock may be ahead when it computes an
// expiry of max_lifetime.
const skew = 5 * time.Minute

func violationf(format string, args ...any) *Violation {
	return &Violation{Reason: fmt.Sprintf(format, args...)}
}

// of names the rule that is broken.
func (v *Violation) of(rule Rule, args ...any) *Violation {
	v.Rule, v.Args = rule, args
	return v
}

// errOff refuses what makes or renews an app password while they are switched off.
var errOff = &Violation{Rule: RuleOff, Reason: "app passwords are switched off (app_passwords.enabled): they can be listed, renamed, restricted and revoked, and none is made or renewed"}

// room refuses a change after which more app passwords are live than may be, unless it makes no more of them.
func (r *Rules) room(before, after *Set, now time.Time) error {
	n := after.Live(now)
	if live := before.Live(now); n > r.MaxPerUser && n > live {
		return full(live)
	}
	return nil
}

// expiry is the moment of expiry that is asked for, in whole seconds, or the zero time for never.
func (r *Rules) expiry(at time.Time, never bool, now time.Time) (time.Time, error) {
	if r.Off {
		return time.Time{}, errOff
	}
	switch {
	case never && r.RequireExpiry:
		return time.Time{}, violationf("an app password must expire here, within %s", days(r.MaxLifetime)).of(RuleMustExpire, wholeDays(r.MaxLifetime))
	case never:
		return time.Time{}, nil
	case at.IsZero():
		return now.Add(r.DefaultLifetime).UTC().Truncate(time.Second), nil
	}
	at = at.UTC().Truncate(time.Second)
	return at, r.checkExpiry(at, now)
}

// checkExpiry holds a moment of expiry against the bounds.
func (r *Rules) checkExpiry(at, now time.Time) error {
	switch latest := now.Add(r.MaxLifetime).UTC().Truncate(time.Second); {
	case !now.Before(at):
		return violationf("the expiry is over already; write a later one, exp=%s at the latest", stamp(latest)).of(RuleExpiryOver)
	case at.After(latest.Add(skew)):
		return violationf("an app password lives for %s at most; write exp=%s or an earlier time", days(r.MaxLifetime), stamp(latest)).of(RuleExpiryLate, wholeDays(r.MaxLifetime))
	}
	return nil
}

// stamp is a time as it stands in a value.
func stamp(t time.Time) string { return t.UTC().Format("20060102150405Z") }

// days is a lifetime for people.
func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", wholeDays(d))
	}
	return d.String()
}

// wholeDays are the days that a lifetime has at least.
func wholeDays(d time.Duration) int { return int(d / (24 * time.Hour)) }

// checkLabel refuses a label that nobody can read or that names nothing.
func checkLabel(label string) error {
	switch {
	case labelKey(label) == labelKey(""):
		return violationf("the label is empty: write $app$LABEL$HASH").of(RuleLabelEmpty)
	case strings.ContainsFunc(label, unicode.IsControl):
		return violationf("the label contains control characters").of(RuleLabelControl)
	case strings.TrimSpace(label) != label:
		return violationf("the label begins or ends with a space").of(RuleLabelSpace)
	}
	return nil
}

// build makes the stored value; what New refuses is a Violation.
func build(p secrets.Params) (string, error) {
	if err := checkLabel(p.Label); err != nil {
		return "", err
	}
	raw, err := secrets.New(p)
	if err != nil {
		return "", &Violation{Reason: err.Error()}
	}
	return raw, nil
}

// hash hashes a password in clear: a generated one as such, any other as one
// that a person chose. It returns the selector of a generated one.
func (r *Rules) hash(password []byte) (hash, id string, err error) {
	shape, selector, _ := secrets.ShapeOf(password)
	algorithm := r.ChosenAlgorithm
	switch {
	case shape == secrets.Mistyped:
		return "", "", violationf("the password looks like a generated one with a typing mistake, and would never be accepted")
	case shape == secrets.Ours:
		algorithm, id = r.Algorithm, selector
	case strings.HasPrefix(string(password), "$app$"), strings.HasPrefix(string(password), "otpauth://"):
		return "", "", violationf("the password begins like a stored value, and would never be accepted")
	}
	wire.WakeMonitor()
	hash, err = secrets.Hash(algorithm, password, nil)
	if err != nil {
		return "", "", &Violation{Reason: err.Error()}
	}
	return hash, id, nil
}

// clearSchemes are the schemes that mark a HASH as clear text.
var clearSchemes = [...]string{"{CLEAR}", "{CLEARTEXT}", "{PLAIN}"}

// clearText is the password that a HASH holds in clear; ok is false for any hash.
func clearText(hash string) (password string, ok bool) {
	for _, s := range clearSchemes {
		if len(hash) >= len(s) && strings.EqualFold(hash[:len(s)], s) {
			return hash[len(s):], true
		}
	}
	return hash, hash != "" && !strings.ContainsRune("${_", rune(hash[0]))
}

// Admit judges one value that somebody wants to add to an entry that holds s,
// and is what is to be stored instead: the same bytes, unless HASH is clear text,
// which is hashed (and the selector of a generated password put into NAME), or
// the expiry is missing where there must be one. Errors: *Violation.
//
// The number of live values is judged of a whole change, see Modify: the same
// change may delete others.
func (r *Rules) Admit(s *Set, raw []byte, now time.Time) ([]byte, error) {
	v := secrets.Parse(raw)
	switch {
	case v.Kind == secrets.TOTP && v.Err != nil:
		return nil, &Violation{Reason: v.Err.Error()}
	case v.Kind == secrets.TOTP, v.Kind == secrets.Foreign && r.Shared:
		return raw, nil
	case v.Kind == secrets.Foreign:
		return nil, violationf("not an app password: write $app$LABEL$HASH or $app$LABEL$PASSWORD, or an otpauth://totp/ URL")
	}
	if r.Off {
		return nil, errOff
	}
	p := v.Params()
	password, isClear := clearText(p.Hash)
	switch {
	case v.Err == nil:
	case !errors.Is(v.Err, secrets.ErrClearText) || !isClear:
		return nil, unusable(v.Err)
	}
	if err := s.conflict(v); err != nil {
		return nil, err
	}
	changed := false
	switch {
	case v.Expires.IsZero() && r.RequireExpiry:
		p.Expires, changed = now.Add(r.DefaultLifetime).UTC().Truncate(time.Second), true
	case !v.Expires.IsZero():
		if err := r.checkExpiry(v.Expires, now); err != nil {
			return nil, err
		}
	}
	if isClear {
		if err := r.hashInto(&p, s, []byte(password)); err != nil {
			return nil, err
		}
		changed = true
	}
	if !changed {
		return raw, checkLabel(v.Label)
	}
	stored, err := build(p)
	return []byte(stored), err
}

// hashInto replaces the clear text of a value by its hash, and takes its selector over.
func (r *Rules) hashInto(p *secrets.Params, s *Set, password []byte) error {
	shape, selector, _ := secrets.ShapeOf(password)
	if p.ID != "" && (shape != secrets.Ours || selector != p.ID) {
		return violationf("the id is not that of the password: leave ;id= out, it is derived from a generated password")
	}
	if shape == secrets.Ours && p.ID == "" {
		for _, id := range s.IDs() {
			if id == selector {
				return violationf("the id %s is in use: generate another password", selector)
			}
		}
	}
	hash, id, err := r.hash(password)
	p.Hash, p.ID = hash, id
	return err
}

// unusable says why a value is refused, and what to write instead of one that only looks like a hash.
func unusable(err error) error {
	if errors.Is(err, secrets.ErrScheme) || errors.Is(err, secrets.ErrMalformed) {
		return violationf("%s; a password in clear that begins with $ { or _ is written $app$LABEL${CLEAR}PASSWORD, and stored as a hash", err)
	}
	return &Violation{Reason: err.Error()}
}
