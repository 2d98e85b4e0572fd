package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"appbind/secrets"
)

// fallbackDenied is row 12 as far as the password is not needed for it.
func (a *attempt) fallbackDenied(ctx context.Context) bool {
	if a.deniedByRule() {
		return a.refuse(12, ReasonFallbackDenied)
	}
	if !a.denyFilter {
		return false
	}
	denied, err := a.dir.FallbackDenied(ctx, a.d.Entry)
	if err != nil {
		return a.fail(12, Unavailable, ReasonFilterFailed, err)
	}
	return denied && a.refuse(12, ReasonFallbackFilter)
}

// deniedByRule says whether the main password is denied to everybody who comes this way. A deny of the
// listener or of the service is final. An allow of the listener stands in for the mode; so does one of
// the service, where the listener says nothing.
func (a *attempt) deniedByRule() bool {
	service := a.byService[secrets.CanonicalService(a.bind.Client.Service)]
	if service == deny || a.bind.Listener.Fallback == deny {
		return true
	}
	return service != allow && a.bind.Listener.Fallback != allow && a.mode == deny
}

// knownBadOrBudget is row 14. Where it does not decide it holds a ticket, which row 15 lands.
func (a *attempt) knownBadOrBudget(ctx context.Context) bool {
	password := a.mem.digest(useFailure, a.d.Entry.Key, a.password)
	v, err := unread, error(nil)
	if e := a.d.Entry; !e.Copied || !e.State.Locked { // a lock may be over, and nothing tells a copy
		a.ticket, v, err = a.mem.failures.admit(ctx, a.question(password), a.mem.now)
	}
	if v == unread && err == nil {
		if err := a.readState(ctx); err != nil {
			return a.fail(14, Unavailable, ReasonUpstream, err)
		}
		a.ticket, v, err = a.mem.failures.admit(ctx, a.question(password), a.mem.now)
	}
	switch {
	case err != nil:
		return a.fail(14, Unavailable, ReasonUpstream, fmt.Errorf("waiting for the same password: %w", err))
	case v == knownBad:
		return a.refuse(14, ReasonKnownBad)
	case v == overBudget:
		return a.refuse(14, ReasonBudget)
	}
	return false
}

// question is what row 14 asks of the memory, by the state that the entry has.
func (a *attempt) question(password digest) question {
	e := a.d.Entry
	return question{
		key:         e.Key,
		password:    password,
		fingerprint: e.State.Fingerprint,
		lock:        e.State.Lock,
		counted:     e.State.Failures,
		server:      e.State.Server,
		copied:      e.Copied,
		source:      sourceOf(a.bind.Client.Addr),
		budget:      a.budget(),
	}
}

// readState replaces the state of a copy by that of the moment. An entry that is gone is the upstream's to refuse.
func (a *attempt) readState(ctx context.Context) error {
	state, err := a.dir.State(ctx, a.d.Entry)
	e := *a.d.Entry
	e.Copied = false
	switch {
	case err == nil:
		e.State = state
	case !errors.Is(err, ErrNotFound):
		return err
	}
	a.d.Entry = &e
	return nil
}

// budget is what the configuration makes of the upstream's lock-out policy: two below its limit, since others than
// appbind may fail there too. A number in the configuration stands for itself, and where no policy is known
// its failures are forgotten after the window.
func (v *Verifier) budget() budget {
	policy := v.dir.Lockout()
	b := budget{limit: v.maxFailures, interval: policy.Interval, window: v.window}
	if policy.MaxFailures <= 0 {
		b.interval = v.window
	}
	if v.maxFailures == autoFailures {
		b.limit, b.most = 0, max(0, policy.MaxFailures-1)
		if policy.MaxFailures > 0 {
			b.limit = max(1, policy.MaxFailures-2)
		}
	}
	return b
}

// sourceOf is the address that failures are counted by: of IPv6 the /64, since whoever has one address has them all.
func sourceOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return addr // unreachable: every IPv6 address has a /64
	}
	return p.Addr()
}

// forward is row 15: the one bind with the user's password. The code is claimed here and not before, so that it buys
// exactly one question upstream, and is not wasted on what was decided without asking.
func (a *attempt) forward(ctx context.Context) bool {
	l := landing{}
	defer func() { a.ticket.land(l.outcome, l.after, l.readable, a.mem.now()) }()
	if a.claimCode() {
		return true
	}
	answer, err := a.send(ctx, a.d.Entry.DN, a.password)
	if err != nil {
		a.releaseCode()
		return a.fail(15, Unavailable, ReasonUpstream, err)
	}
	a.d.Answer = answer
	switch answer.Code {
	case codeSuccess:
		l.outcome = wasAccepted
		a.mem.guesses.giveBack(a.d.Entry.Key, a.guesses)
		a.d.DN = a.d.Entry.DN
		return a.decide(15, Accepted, ReasonMain)
	case codeInvalidCredentials, codeNoSuchObject:
		l = a.learn(ctx, answer)
		return a.refuse(15, l.reason)
	case codeConstraintViolation, codeInsufficientAccess, codeUnwilling:
		return a.locked(ctx, answer)
	default:
		a.releaseCode()
		return a.fail(15, Unavailable, ReasonUpstream, answerError(answer))
	}
}

// landing is what row 15 tells row 14's memory.
type landing struct {
	outcome  outcome
	after    State // of the entry, after a failure
	readable bool  // after was read, from the server that refused
	reason   string
}

// learn finds out whether the password failed for its own sake. The answer stands: it was verified, and trouble with
// reading the state afterwards only means that the failure is remembered for the window.
func (a *attempt) learn(ctx context.Context, answer *Answer) landing {
	switch {
	case answer.Code == codeNoSuchObject:
		return landing{reason: ReasonUpstreamRefused}
	case !failedByPassword(answer.Diagnostic):
		return landing{reason: ReasonAccount}
	}
	state, err := a.dir.State(ctx, a.d.Entry)
	// A copy cannot tell whether this failure locked the account or one before it. What was refused by a lock is not remembered.
	if before := a.d.Entry; before.State.Locked || before.Copied && state.Locked {
		return landing{reason: ReasonLocked}
	}
	// After a failover the state may be that of a server which knows a newer password than the one that refused, or an
	// older one. It is as good as none then.
	readable := err == nil && state.Server == answer.Server
	return landing{outcome: hasFailed, after: state, readable: readable, reason: ReasonUpstreamRefused}
}

// failedByPassword tells Active Directory's refusals of a wrong password from those of an account (locked,
// disabled, expired, must change ...), which are all 49 and differ in the text:
// "..., comment: AcceptSecurityContext error, data 52e, v4563". Other servers' texts have no such part.
func failedByPassword(diagnostic string) bool {
	_, rest, found := strings.Cut(diagnostic, "data ")
	if !found {
		return true
	}
	data, _, _ := strings.Cut(rest, ",")
	data = strings.TrimRight(data, " \x00")
	if _, err := strconv.ParseUint(data, 16, 32); err != nil {
		return true
	}
	return strings.EqualFold(data, "52e")
}

// locked judges the codes that some servers give for a locked or disabled account, and others for trouble.
func (a *attempt) locked(ctx context.Context, answer *Answer) bool {
	state, err := a.dir.State(ctx, a.d.Entry)
	if err == nil && state.Locked {
		return a.refuse(15, ReasonLocked)
	}
	a.releaseCode()
	if err == nil {
		err = answerError(answer)
	}
	return a.fail(15, Unavailable, ReasonUpstream, err)
}
