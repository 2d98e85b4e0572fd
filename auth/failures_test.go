package auth

import (
	"testing"
	"time"
)

// asker puts questions to failures, for tests of what is under way at the same time.
type asker struct {
	f      *failures
	now    time.Time
	b      budget
	copied bool
}

// try is f, w, r or u: the password may be forwarded, waits for another, is refused, or the state must be read.
func (a *asker) try(password byte) (string, *ticket) {
	q := question{key: "alice", password: digest{password}, fingerprint: "x", budget: a.b, copied: a.copied}
	t, v, wait := a.f.try(q, a.now)
	switch {
	case wait != nil:
		return "w", nil
	case v == unread:
		return "u", nil
	case v != toForward:
		return "r", nil
	default:
		return "f", t
	}
}

// all asks for one password after the other, none landing.
func (a *asker) all(passwords ...byte) (verdicts string, tickets []*ticket) {
	for _, p := range passwords {
		v, t := a.try(p)
		verdicts += v
		if t != nil {
			tickets = append(tickets, t)
		}
	}
	return verdicts, tickets
}

// TestOneAtATime: a password that was not accepted just now is forwarded once at a time.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	a := &asker{f: newFailures(16), now: newClock().now(), b: budget{window: time.Hour}}
	verdicts, tickets := a.all(1, 1, 2, 1, 2)
	if verdicts != "fwfww" {
		t.Errorf("unknown: %s", verdicts)
	}
	tickets[0].land(wasAccepted, State{}, false, a.now)
	tickets[1].land(hasFailed, State{Fingerprint: "x"}, true, a.now)
	a.now = a.now.Add(freshFor - time.Second)
	if verdicts, tickets = a.all(1, 1, 2, 1); verdicts != "ffrf" {
		t.Errorf("just accepted: %s", verdicts)
	}
	for _, ticket := range tickets {
		ticket.land(undecided, State{}, false, a.now)
	}
	a.now = a.now.Add(time.Second)
	if verdicts, tickets = a.all(1, 1, 1); verdicts != "fww" {
		t.Errorf("accepted some time ago: %s", verdicts)
	}
	tickets[0].land(wasAccepted, State{}, false, a.now)
	if verdicts, _ = a.all(1, 1, 1); verdicts != "fff" {
		t.Errorf("accepted again: %s", verdicts)
	}
}

// TestCopiedState: by the state of a copy a password is forwarded alone, and only while nothing is remembered and nothing limited.
func TestCopiedState(t *testing.T) {
	t.Parallel()
	a := &asker{f: newFailures(16), now: newClock().now(), b: budget{window: time.Hour}, copied: true}
	verdicts, tickets := a.all(1, 1, 2, 2)
	if verdicts != "fufu" {
		t.Errorf("under way: %s", verdicts)
	}
	tickets[0].land(wasAccepted, State{}, false, a.now)
	if verdicts, _ := a.all(1, 1); verdicts != "fu" {
		t.Errorf("just accepted: %s", verdicts)
	}
	tickets[1].land(hasFailed, State{}, false, a.now)
	if verdicts, _ := a.all(1, 2, 3); verdicts != "uuu" {
		t.Errorf("a failure is remembered: %s", verdicts)
	}
	a = &asker{f: newFailures(16), now: a.now, b: budget{limit: 100, window: time.Hour}, copied: true}
	if verdicts, _ := a.all(1, 2); verdicts != "uu" {
		t.Errorf("a budget: %s", verdicts)
	}
}

// TestReservation: passwords under way count as failures until they have landed, but for the one accepted last.
func TestReservation(t *testing.T) {
	t.Parallel()
	a := &asker{f: newFailures(16), now: newClock().now(), b: budget{limit: 3, window: time.Hour}}
	_, tickets := a.all(9)
	tickets[0].land(wasAccepted, State{}, false, a.now)
	verdicts, tickets := a.all(1, 2, 9, 9, 3, 4, 5)
	if verdicts != "fffffww" {
		t.Errorf("under way: %s", verdicts)
	}
	tickets[0].land(hasFailed, State{Fingerprint: "x"}, true, a.now)
	tickets[1].land(undecided, State{}, false, a.now) // trouble is no failure
	tickets[2].land(undecided, State{}, false, a.now)
	tickets[3].land(undecided, State{}, false, a.now)
	if verdicts, _ = a.all(4, 5, 1); verdicts != "fwr" {
		t.Errorf("one failed, one in trouble: %s", verdicts)
	}
	tickets[4].land(hasFailed, State{Fingerprint: "x"}, true, a.now)
	if verdicts, _ = a.all(5); verdicts != "w" {
		t.Errorf("two failed, one under way: %s", verdicts)
	}
	_, accepted := a.all(9)
	accepted[0].land(wasAccepted, State{}, false, a.now)
	if verdicts, _ = a.all(5, 6, 7); verdicts != "ffw" {
		t.Errorf("after a success: %s", verdicts)
	}
}

// TestFingerprints: what a failure leaves behind, by what could be read of the state.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	const window = 15 * time.Minute
	for _, tt := range []struct {
		name          string
		before, after string
		readable      bool
		later         string // the next lookup's
		inWindow, end verdict
	}{
		{"unchanged", "x", "x", true, "x", knownBad, knownBad},
		{"changed later", "x", "x", true, "y", toForward, toForward},
		{"changed by the failure", "x", "y", true, "y", knownBad, toForward},
		{"not read afterwards", "x", "", false, "x", knownBad, toForward},
		{"never readable", "", "", true, "", knownBad, toForward},
		{"readable from now on", "", "", true, "x", toForward, toForward},
	} {
		for _, wait := range []time.Duration{window - time.Second, window} {
			f, now := newFailures(16), newClock().now()
			q := question{key: "alice", password: digest{1}, fingerprint: tt.before, budget: budget{window: window}}
			ticket, _, _ := f.try(q, now)
			ticket.land(hasFailed, State{Fingerprint: tt.after}, tt.readable, now)
			q.fingerprint = tt.later
			want := tt.inWindow
			if wait == window {
				want = tt.end
			}
			if _, v, _ := f.try(q, now.Add(wait)); v != want {
				t.Errorf("%s, after %v: %d, want %d", tt.name, wait, v, want)
			}
		}
	}
}
