package backend

import (
	"math"
	"strconv"
	"strings"
	"time"

	"appbind/auth"
	"appbind/wire"
)

// stateAttribute is one attribute that tells about an entry's password or lock.
type stateAttribute struct {
	name string
	// password: it changes with the password. Without any such attribute
	// nothing can be said about whether the password is still the same.
	password bool
	// only: and with nothing else.
	only bool
}

// The indexes of the attributes that are looked into.
const (
	attrEntryCSN = iota
	attrPwdLocked
	attrLockoutTime
	attrAccountControl
	attrNsLock
	attrUnlockTime
	attrComputed
	attrTmpLockEnd
	attrPwdStart
	attrPwdEnd
	attrAccountExpires
	attrPrincipalExpiration
	attrShadowExpire
)

// stateAttributes are what State looks at, in the order of the fingerprint.
// None of them is changed by a failed bind, but for the one that locks. That is
// why badPwdCount, pwdFailureTime and modifyTimestamp are not here, and
// entryCSN, which ppolicy changes with every failed bind, only counts where no
// password policy is about.
var stateAttributes = [...]stateAttribute{
	attrEntryCSN:       {name: "entryCSN", password: true},
	attrPwdLocked:      {name: "pwdAccountLockedTime"},
	attrLockoutTime:    {name: "lockoutTime"},
	attrAccountControl: {name: "userAccountControl"},
	attrNsLock:         {name: "nsAccountLock"},
	attrUnlockTime:     {name: "accountUnlockTime"},
	attrComputed:       {name: "msDS-User-Account-Control-Computed"},
	attrTmpLockEnd:     {name: "pwdAccountTmpLockoutEnd"},
	attrPwdStart:       {name: "pwdStartTime"},
	attrPwdEnd:         {name: "pwdEndTime"},

	attrAccountExpires:      {name: "accountExpires"},
	attrPrincipalExpiration: {name: "krbPrincipalExpiration"},
	attrShadowExpire:        {name: "shadowExpire"},

	{name: "pwdChangedTime", password: true, only: true},
	{name: "pwdLastSet", password: true, only: true},
	{name: "krbLastPwdChange", password: true, only: true},
	{name: "passwordExpirationTime", password: true},
	{name: "pwdReset"},
	{name: "pwdUpdateTime", password: true, only: true}, // 389 DS with passwordTrackUpdateTime
}

// stateSelection is the encoded selection of stateAttributes and failureAttributes.
func stateSelection() []byte {
	var dst []byte
	for _, a := range stateAttributes {
		dst = wire.AppendStrings(dst, a.name)
	}
	return wire.AppendStrings(dst, failureAttributes[:]...)
}

// stateValues are the values of stateAttributes of one entry; "" when absent.
type stateValues [len(stateAttributes)]string

// take notes an attribute if it is one of them.
func (v *stateValues) take(a wire.Attribute) {
	for i, known := range stateAttributes {
		if len(a.Type) == len(known.name) && strings.EqualFold(known.name, string(a.Type)) {
			v[i] = firstValue(a)
		}
	}
}

// state is the fingerprint and the lock. The fingerprint is of the attributes
// that change with the password, "" where none is readable: the lock state
// alone would stay the same over a password reset. Changed is of those that change with nothing else. lockFor is how long the
// server keeps an account locked; 0: for good, or not known.
func (v *stateValues) state(useCSN bool, lockFor time.Duration, now time.Time) auth.State {
	var password, changed, lock strings.Builder
	for i, a := range stateAttributes {
		switch {
		case v[i] == "", i == attrEntryCSN && !useCSN:
		case i == attrComputed, i == attrTmpLockEnd:
			// They change by the mere passing of time, and with each failed bind.
		case a.password:
			password.WriteString(a.name + "=" + v[i] + "\n")
			if a.only {
				changed.WriteString(a.name + "=" + v[i] + "\n")
			}
		default:
			lock.WriteString(a.name + "=" + v[i] + "\n")
		}
	}
	return auth.State{Fingerprint: password.String(), Changed: changed.String(), Lock: lock.String(), Locked: v.locked(lockFor, now)}
}

// Bits of userAccountControl and of its computed sister.
const (
	controlDisabled = 0x2
	controlLocked   = 0x10
)

// locked reports a lock or a disabled account.
func (v *stateValues) locked(lockFor time.Duration, now time.Time) bool {
	control, _ := number(v[attrAccountControl])
	computed, known := number(v[attrComputed])
	switch {
	case control&controlDisabled != 0, computed&controlLocked != 0:
		return true
	case v.lockedSince(lockFor, now), strings.EqualFold(v[attrNsLock], "TRUE"):
		return true
	case after(v[attrTmpLockEnd], now), after(v[attrPwdStart], now), v[attrPwdEnd] != "" && !after(v[attrPwdEnd], now):
		return true
	case !known && v[attrLockoutTime] != "" && v[attrLockoutTime] != "0":
		// Active Directory leaves lockoutTime when the lock is over; the computed bit knows better.
		return true
	}
	return v.lockedUntil(now)
}

// number reads an INTEGER; 0 and false for what is none, or absent.
func number(text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// lockedSince reads pwdAccountLockedTime of draft-behera-ldap-password-policy
// 5.3.3, which stays in the entry when the lock is over; its special value
// 000001010000Z stands for "until an administrator unlocks it".
func (v *stateValues) lockedSince(lockFor time.Duration, now time.Time) bool {
	if v[attrPwdLocked] == "" {
		return false
	}
	t, err := generalizedTime(v[attrPwdLocked])
	return err != nil || lockFor <= 0 || t.Year() <= 1 || now.Before(t.Add(lockFor))
}

// ends is when the account ends, by the first of its dates; zero: never. A directory that refuses the main password from
// then on says nothing about it in a filter that holds for all times, and shadowExpire is for its clients to obey.
func (v *stateValues) ends() (first time.Time) {
	sooner := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	// 0 and the greatest number are never (MS-ADA1 2.2).
	if n, ok := number(v[attrAccountExpires]); ok && n > 0 && n != math.MaxInt64 {
		sooner(fileTime(n))
	}
	// Days since 1970, a negative number is never (shadow(5), RFC 2307).
	if days, ok := number(v[attrShadowExpire]); ok && days >= 0 && days <= maxDays {
		sooner(time.Unix(days*24*60*60, 0))
	}
	for _, i := range [...]int{attrPwdEnd, attrPrincipalExpiration} {
		if v[i] == "" {
			continue // an error would be made of it at each lookup
		}
		if at, err := generalizedTime(v[i]); err == nil {
			sooner(at)
		}
	}
	return first
}

// maxDays bounds shadowExpire: what is later is never.
const maxDays = 3_000_000

// after reports whether a GeneralizedTime is later than now; false for what is none.
func after(text string, now time.Time) bool {
	if text == "" {
		return false
	}
	t, err := generalizedTime(text)
	return err == nil && t.After(now)
}

// generalizedTime reads the forms that servers write (RFC 4517 3.3.13), UTC, with or without a fraction.
func generalizedTime(text string) (time.Time, error) { return time.Parse("20060102150405Z", text) }

// lockedUntil reads accountUnlockTime of 389 DS, which stays when the lock is
// over; the epoch stands for "until an administrator unlocks it".
func (v *stateValues) lockedUntil(now time.Time) bool {
	if v[attrUnlockTime] == "" {
		return false
	}
	t, err := generalizedTime(v[attrUnlockTime])
	return err != nil || t.Unix() == 0 || t.After(now)
}
