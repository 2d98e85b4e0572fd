package backend

import (
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
	{name: "pwdChangedTime", password: true},
	{name: "pwdLastSet", password: true},
	{name: "krbLastPwdChange", password: true},
	{name: "passwordExpirationTime", password: true},
	{name: "pwdReset"},
	{name: "accountExpires"},
	{name: "krbPrincipalExpiration"},
}

// stateSelection is the encoded selection of stateAttributes.
func stateSelection() []byte {
	var dst []byte
	for _, a := range stateAttributes {
		dst = wire.AppendStrings(dst, a.name)
	}
	return dst
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

// state is the fingerprint and the lock. The fingerprint is "" where no
// attribute is readable that would change with the password: the lock state
// alone would stay the same over a password reset.
func (v *stateValues) state(useCSN bool, now time.Time) auth.State {
	st := auth.State{Locked: v.locked(now)}
	var b strings.Builder
	readable := false
	for i, a := range stateAttributes {
		if v[i] == "" || i == attrEntryCSN && !useCSN || i == attrComputed {
			continue // the computed one changes by the mere passing of time
		}
		readable = readable || a.password
		b.WriteString(a.name + "=" + v[i] + "\n")
	}
	if readable {
		st.Fingerprint = b.String()
	}
	return st
}

// Bits of userAccountControl and of its computed sister.
const (
	controlDisabled = 0x2
	controlLocked   = 0x10
)

// locked reports a lock or a disabled account.
func (v *stateValues) locked(now time.Time) bool {
	control, _ := strconv.ParseInt(v[attrAccountControl], 10, 64) // absent: 0
	computed, err := strconv.ParseInt(v[attrComputed], 10, 64)
	switch {
	case control&controlDisabled != 0, computed&controlLocked != 0:
		return true
	case v[attrPwdLocked] != "", strings.EqualFold(v[attrNsLock], "TRUE"):
		return true
	case err != nil && v[attrLockoutTime] != "" && v[attrLockoutTime] != "0":
		// Active Directory leaves lockoutTime when the lock is over; the computed bit knows better.
		return true
	}
	return v.lockedUntil(now)
}

// lockedUntil reads accountUnlockTime of 389 DS, which stays when the lock is
// over; the epoch stands for "until an administrator unlocks it".
func (v *stateValues) lockedUntil(now time.Time) bool {
	if v[attrUnlockTime] == "" {
		return false
	}
	t, err := time.Parse("20060102150405Z", v[attrUnlockTime])
	return err != nil || t.Unix() == 0 || t.After(now)
}
