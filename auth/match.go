package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"appbind/secrets"
)

// appPassword is rows 10 and 11. A password of the generated shape ends here, whatever it
// matches: forwarded, a revoked one on an old phone would lock the account.
func (a *attempt) appPassword(ctx context.Context) bool {
	p := present(a.bind.Password)
	if p.shape == secrets.Mistyped {
		return a.refuse(11, ReasonMistyped)
	}
	m, err := a.match(ctx, p)
	switch {
	case a.off && (p.shape == secrets.Ours || m.value != nil || m.denied != nil):
		// Certain whatever the hash would say. Forwarded, all phones at once would lock their accounts.
		a.d.Selector = p.selector
		if a.d.Denied = m.value; m.value == nil {
			a.d.Denied = m.deniedValue
		}
		return a.refuse(10, ReasonOff)
	case errors.Is(err, errThrottled), errors.Is(err, errFull):
		return a.fail(10, Busy, ReasonGuesses, err)
	case err != nil:
		return a.fail(10, Busy, ReasonHashing, err)
	case m.value != nil:
		a.d.DN, a.d.App = a.d.Entry.DN, m.value
		if a.d.Entry.Stale {
			return a.decide(10, Accepted, ReasonAppPasswordStale)
		}
		return a.decide(10, Accepted, ReasonAppPassword)
	case m.denied != nil:
		a.d.Denied = m.deniedValue
		return a.refuse(10, denialReason(m.denied))
	case p.shape == secrets.Ours:
		a.d.Selector = p.selector
		return a.refuse(11, ReasonNoAppPassword)
	}
	// The shape with a code behind it is an app password too, where no code is asked for.
	rest, _, hasCode := splitCode(p.text)
	return hasCode && present(rest).shape != secrets.NotOurs && a.refuse(11, ReasonAppWithCode)
}

// presented is a password with its shape.
type presented struct {
	text      []byte
	shape     secrets.Shape
	selector  string
	canonical []byte
}

func present(text []byte) presented {
	p := presented{text: text}
	p.shape, p.selector, p.canonical = secrets.ShapeOf(text)
	return p
}

func denialReason(err error) string {
	switch {
	case errors.Is(err, secrets.ErrExpired):
		return ReasonExpired
	case errors.Is(err, secrets.ErrService):
		return ReasonService
	case errors.Is(err, secrets.ErrNetwork):
		return ReasonNetwork
	default:
		return ReasonDenied
	}
}

// matched is what a password fits among the entry's app passwords.
type matched struct {
	value       *secrets.Value // fits and is allowed
	denied      error          // one fits and none that fits is allowed: why the first is not
	deniedValue *secrets.Value
}

// found takes a value that fits; true: it is allowed.
func (m *matched) found(v *secrets.Value, err error) bool {
	if err == nil {
		m.value = v
		return true
	}
	if m.denied == nil {
		m.denied, m.deniedValue = err, v
	}
	return false
}

func (a *attempt) allows(v *secrets.Value) error {
	return v.Allows(a.mem.now(), a.bind.Client.Service, a.bind.Client.Addr)
}

// idMark is before the selector in every value that has one.
const idMark = ";id="

// match tries the values that the password can be for: those with its selector; if there are none, or
// it has none, those without. The error says that this could not be found out now.
func (a *attempt) match(ctx context.Context, p presented) (m matched, err error) {
	if p.shape != secrets.Ours {
		return a.matchUnselected(ctx, p.text, a.mem.guesses)
	}
	selected := false
	var room [32]byte
	text := append(append(room[:0], idMark...), p.selector...)
	marks, mark := a.d.Entry.marks(), selectorMark(p.selector)
	for i, raw := range a.d.Entry.Values {
		// Most values need no further look.
		if marks != nil && marks[i]&^markUnusable != mark || marks == nil && !bytes.Contains(raw, text) {
			continue
		}
		v := a.mem.parsed.parse(raw)
		if v.Kind != secrets.App || v.ID != p.selector {
			continue
		}
		selected = true
		if !a.usable(v) {
			continue
		}
		fits, err := a.fits(ctx, v, p.canonical)
		if err != nil {
			return matched{}, err
		}
		if fits && m.found(v, a.allows(v)) {
			return m, nil
		}
	}
	if selected {
		return m, nil
	}
	return a.matchUnselected(ctx, p.text, a.mem.generated)
}

// matchUnselected tries the values without a selector, in stored order. What is known costs no hash: "fits none
// of exactly these", and "fits this one". Anything else is a guess, and guesses are limited.
func (a *attempt) matchUnselected(ctx context.Context, password []byte, limit *throttle) (m matched, err error) {
	values := a.unselected()
	if len(values) == 0 || a.fitsNone(values, password) {
		return m, nil
	}
	unknown := values[:0:0]
	for _, v := range values {
		if !a.mem.verified.has(a.fitDigest(v, password), a.mem.now()) {
			unknown = append(unknown, v)
		} else if m.found(v, a.allows(v)) {
			return m, nil
		}
	}
	if len(unknown) == 0 || len(unknown) < len(values) && a.fitsNone(unknown, password) {
		return m, nil
	}
	if err := limit.take(a.d.Entry.Key, a.mem.now()); err != nil {
		return matched{}, err
	}
	m, err = a.tryEach(ctx, m, unknown, password)
	switch {
	case m.value != nil || m.denied != nil:
		limit.giveBack(a.d.Entry.Key, 1)
	case limit == a.mem.guesses:
		a.guesses++ // given back if it turns out to be the main password
	}
	return m, err
}

// tryEach hashes. It remembers what fits, and the rest as fitting none.
func (a *attempt) tryEach(ctx context.Context, m matched, values []*secrets.Value, password []byte) (matched, error) {
	misses := values[:0:0]
	for _, v := range values {
		fits, err := a.fits(ctx, v, password)
		if err != nil {
			return matched{}, err
		}
		if !fits {
			misses = append(misses, v)
			continue
		}
		a.mem.verified.add(a.fitDigest(v, password), a.mem.now())
		if m.found(v, a.allows(v)) {
			return m, nil
		}
	}
	if len(misses) > 0 {
		a.mem.misses.add(a.mem.digest(useMisses, a.d.Entry.Key, password, misses...), a.mem.now())
	}
	return m, nil
}

// unselected are the usable values without a selector, each once: nothing keeps a directory
// whose attribute has no equality rule from returning two equal values.
func (a *attempt) unselected() []*secrets.Value {
	var list []*secrets.Value
	marks := a.d.Entry.marks()
	for i, raw := range a.d.Entry.Values {
		if marks != nil && marks[i] != markUnselected || marks == nil && !mayBeUnselected(raw) {
			continue
		}
		v := a.mem.parsed.parse(raw)
		known := slices.ContainsFunc(list, func(o *secrets.Value) bool { return o.Raw == v.Raw })
		if v.Kind == secrets.App && v.ID == "" && !known && a.usable(v) {
			if list == nil {
				list = make([]*secrets.Value, 0, len(a.d.Entry.Values))
			}
			list = append(list, v)
		}
	}
	return list
}

// mayBeUnselected tells without parsing what is no usable app password without a selector: with the
// mark in its NAME, a value has a selector or is malformed.
func mayBeUnselected(raw []byte) bool {
	rest, app := bytes.CutPrefix(raw, []byte(appPrefix))
	if !app {
		return false
	}
	name, _, _ := bytes.Cut(rest, []byte("$"))
	return !bytes.Contains(name, []byte(idMark))
}

// usable says whether a value can be verified at all. One that needs more memory than hashing may take is
// none of the values, so that it is tried again when the configuration gives it room.
func (a *attempt) usable(v *secrets.Value) bool {
	memory, _ := v.Cost()
	if v.Err != nil || memory == 0 || a.mem.hashing.slots.room(memory) {
		return v.Err == nil
	}
	a.reportUnusable(v, fmt.Errorf("it needs %d MiB to hash, more than app_passwords.hash_memory", memory>>20))
	return false
}

func (a *attempt) fitsNone(values []*secrets.Value, password []byte) bool {
	return a.mem.misses.has(a.mem.digest(useMisses, a.d.Entry.Key, password, values...), a.mem.now())
}

func (a *attempt) fitDigest(v *secrets.Value, password []byte) digest {
	return a.mem.digest(useVerified, a.d.Entry.Key, password, v)
}

// fits verifies against one value. Fast hashes are computed here and now; slow ones
// are remembered, and wait for their slot.
func (a *attempt) fits(ctx context.Context, v *secrets.Value, password []byte) (bool, error) {
	if _, slow := v.Cost(); !slow {
		return v.Verify(password), nil
	}
	id := a.fitDigest(v, password)
	if a.mem.verified.has(id, a.mem.now()) {
		return true, nil
	}
	if v.ID != "" && a.fitsNone([]*secrets.Value{v}, password) {
		return false, nil
	}
	fits, err := a.mem.hashing.fits(ctx, a.d.Entry.Key, id, v, password)
	switch {
	case err != nil:
		return false, err
	case !fits && v.ID != "":
		a.mem.misses.add(a.mem.digest(useMisses, a.d.Entry.Key, password, v), a.mem.now())
	}
	return fits, nil
}
