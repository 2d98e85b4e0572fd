package auth

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/config"
)

// policyModel is an upstream that locks alice's account. It lives in the fake upstream, whose lock guards it.
type policyModel struct {
	s        *site
	max      int
	interval time.Duration // failures are forgotten; 0: never
	restart  bool          // with every failure, as Active Directory does
	ad       bool          // its texts
	opaque   bool          // nothing of the state is readable
	noisy    bool          // every failure changes the state that can be read, as entryCSN does
	behind   bool          // entries are found in a copy, which is always one change behind
	hidden   bool          // nobody knows of the policy

	password string
	changed  int
	failures []time.Time
	locked   bool
	worst    int
	noise    int
	before   State // of the last publish but one
}

func (m *policyModel) install(s *site) {
	m.s = s
	if !m.hidden {
		s.lockout = Lockout{MaxFailures: m.max, Interval: m.interval}
	}
	s.user("alice", "")
	if m.behind {
		s.copied = func(e *Entry) { e.State = m.before }
	}
	m.password = aliceMain
	s.answer = m.answer
	m.publish()
}

// publish writes what is readable of the state.
func (m *policyModel) publish() {
	state := State{Fingerprint: fmt.Sprint(m.changed, m.noise), Lock: fmt.Sprint(m.locked), Locked: m.locked}
	if m.opaque {
		state = State{}
	}
	m.before, m.s.entries["alice"].State = m.s.entries["alice"].State, state
}

func (m *policyModel) answer(_, password string) *Answer {
	now := m.s.clock.now()
	if m.interval > 0 {
		m.forget(now)
	}
	refused := &Answer{Code: 49}
	switch {
	case m.locked:
		if m.ad {
			refused.Diagnostic = "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 775, v3839\x00"
		}
		return refused
	case password == m.password:
		m.failures = nil
		return &Answer{}
	}
	m.failures = append(m.failures, now)
	m.worst = max(m.worst, len(m.failures))
	m.locked = len(m.failures) >= m.max
	if m.noisy {
		m.noise++
	}
	m.publish()
	if m.ad {
		refused.Diagnostic = "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 52e, v3839\x00"
	}
	return refused
}

func (m *policyModel) forget(now time.Time) {
	if m.restart {
		if n := len(m.failures); n > 0 && now.Sub(m.failures[n-1]) >= m.interval {
			m.failures = nil
		}
		return
	}
	for len(m.failures) > 0 && now.Sub(m.failures[0]) >= m.interval {
		m.failures = m.failures[1:]
	}
}

// reset is an administrator's new password; unlock only unlocks.
func (m *policyModel) reset(password string) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.password, m.failures, m.locked = password, nil, false
	m.changed++
	m.publish()
}

func (m *policyModel) unlock() {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.failures, m.locked = nil, false
	m.publish()
}

// lock is somebody who fails elsewhere until the account is locked.
func (m *policyModel) lock() {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	for range m.max {
		m.answer("", "attack")
	}
}

var models = map[string]policyModel{
	"openldap":                {max: 5},
	"openldap, interval":      {max: 5, interval: 30 * time.Minute},
	"active directory":        {max: 5, interval: 30 * time.Minute, restart: true, ad: true},
	"nothing readable":        {max: 5, opaque: true},
	"nothing readable, timed": {max: 5, interval: 30 * time.Minute, restart: true, opaque: true},
	"state changes by itself": {max: 5, noisy: true},

	"replica, openldap":                {max: 5, behind: true},
	"replica, active directory":        {max: 5, interval: 30 * time.Minute, restart: true, ad: true, behind: true},
	"replica, nothing readable":        {max: 5, opaque: true, behind: true},
	"replica, state changes by itself": {max: 5, noisy: true, behind: true},
}

// TestSevenDays: two phones with old passwords ask every minute, all from behind the same router as the user, and
// a third has a revoked app password. In the middle the password is reset, and where that
// can be seen, somebody locks the account elsewhere and an administrator unlocks it.
func TestSevenDays(t *testing.T) {
	t.Parallel()
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			m.install(s)
			revoked, _ := generated(t, nil)
			right := aliceMain
			login := func(what string) {
				t.Helper()
				if d := s.bind("alice", right); d.Kind != Accepted {
					t.Fatalf("%s: the right password: row %d, %q", what, d.Row, d.Reason)
				}
			}
			for minute := range 7 * 24 * 60 {
				for _, stale := range []string{"stale one", "stale two", revoked} {
					if d := s.bind("alice", stale); d.Kind != InvalidCredentials {
						t.Fatalf("minute %d: row %d, kind %d, %v", minute, d.Row, d.Kind, d.Err)
					}
				}
				if m.locked {
					t.Fatalf("minute %d: locked", minute)
				}
				switch {
				case minute%(24*60) == 9*60: // the user reads mail once a day
					login(fmt.Sprint("minute ", minute))
				case minute == 3*24*60:
					right = "a new password"
					m.reset(right)
					login("after the reset")
				case minute == 5*24*60 && !m.opaque:
					m.lock()
					if d := s.bind("alice", right); d.Kind != InvalidCredentials || d.Reason != ReasonLocked && d.Reason != ReasonAccount {
						t.Fatalf("while locked: row %d, %q", d.Row, d.Reason)
					}
					m.worst = 0
					m.unlock()
					login("after the unlock")
				}
				s.clock.add(time.Minute)
			}
			if m.worst > 4 {
				t.Errorf("%d failures upstream", m.worst)
			}
			t.Logf("%d binds upstream, at worst %d failures of %d", len(s.sent()), m.worst, m.max)
		})
	}
}

// TestRevokedNeverForwarded: ten thousand binds with revoked app passwords, all different.
func TestRevokedNeverForwarded(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	m := models["openldap"]
	m.install(s)
	s.user("alice", "", "$app$legacy$"+ssha("legacy password"))
	m.publish()
	busy := 0
	for range 10000 {
		revoked, _ := generated(t, nil)
		switch d := s.bind("alice", revoked); d.Kind {
		case InvalidCredentials:
		case Busy: // guesses at the value without a selector are limited
			busy++
		default:
			t.Fatalf("row %d, kind %d", d.Row, d.Kind)
		}
	}
	s.expect(t, "legacy app password", s.bind("alice", "legacy password"), 10, Accepted, ReasonAppPassword)
	s.expect(t, "main password", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	if busy != 10000-maxGuesses {
		t.Errorf("busy %d", busy)
	}
}

// TestAttacker burns the budget with all different passwords from many addresses.
func TestAttacker(t *testing.T) {
	t.Parallel()
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			m.install(s)
			s.bind("alice", aliceMain)
			for i := range 5000 {
				b := request("alice", fmt.Sprint("guess ", i))
				b.Client.Addr = netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
				if d := s.v.Verify(context.Background(), b, s.upstream); d.Kind != InvalidCredentials {
					t.Fatalf("guess %d: row %d, kind %d", i, d.Row, d.Kind)
				}
				if m.locked {
					t.Fatalf("locked by guess %d", i)
				}
				if i%100 == 99 { // the user is not held up
					if d := s.bind("alice", aliceMain); d.Kind != Accepted {
						t.Fatalf("after guess %d: row %d, %q", i, d.Row, d.Reason)
					}
				}
				s.clock.add(17 * time.Second)
			}
			if m.worst > 3 {
				t.Errorf("%d failures upstream", m.worst)
			}
		})
	}
}

// TestBudgetRecovers: used up, it comes back by the interval, by a change of the state, and by a success; and where
// the upstream never forgets, by time alone never.
func TestBudgetRecovers(t *testing.T) {
	t.Parallel()
	burnt := func(t *testing.T, m *policyModel) *site {
		s := newSite(t, nil)
		m.install(s)
		for i := range 3 {
			s.bind("alice", fmt.Sprint("guess ", i))
		}
		if d := s.bind("alice", "guess"); d.Row != 14 || d.Reason != ReasonBudget {
			t.Fatalf("row %d, %q", d.Row, d.Reason)
		}
		s.sent()
		return s
	}
	t.Run("interval", func(t *testing.T) {
		m := models["active directory"]
		s := burnt(t, &m)
		s.clock.add(30 * time.Minute)
		s.expect(t, "at the interval", s.bind("alice", aliceMain), 14, InvalidCredentials, ReasonBudget)
		s.clock.add(time.Second)
		s.expect(t, "after it", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	})
	t.Run("state", func(t *testing.T) {
		m := models["openldap"]
		s := burnt(t, &m)
		s.clock.add(1000 * time.Hour)
		s.expect(t, "never by time", s.bind("alice", aliceMain), 14, InvalidCredentials, ReasonBudget)
		m.reset(aliceMain)
		s.expect(t, "after a reset", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	})
	t.Run("success", func(t *testing.T) {
		m := models["openldap"]
		s := newSite(t, nil)
		m.install(s)
		s.bind("alice", aliceMain)
		for i := range 4 {
			s.bind("alice", fmt.Sprint("guess ", i))
		}
		s.sent()
		s.expect(t, "the last accepted", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
		s.expect(t, "a new one", s.bind("alice", "guess"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" guess")
	})
}

// TestBudgetSizes: from the policy, from the configuration, or off.
func TestBudgetSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		max      string
		policy   Lockout
		want     int // distinct passwords of 20 that are forwarded
		interval time.Duration
	}{
		{"auto", Lockout{}, 20, 15 * time.Minute},
		{"auto", Lockout{MaxFailures: 5}, 3, 0},
		{"auto", Lockout{MaxFailures: 10, Interval: time.Hour}, 8, time.Hour},
		{"auto", Lockout{MaxFailures: 2}, 1, 0},
		{"auto", Lockout{MaxFailures: 1}, 1, 0},
		{"", Lockout{MaxFailures: 5}, 3, 0},
		{"0", Lockout{MaxFailures: 5}, 20, 0},
		{"7", Lockout{MaxFailures: 5}, 7, 0},
		{"7", Lockout{}, 7, 15 * time.Minute},
	} {
		s := newSite(t, func(c *config.Config) { c.Fallback.MaxFailures = tt.max })
		s.user("alice", aliceMain)
		s.lockout = tt.policy
		for i := range 20 {
			b := request("alice", fmt.Sprint("guess ", i))
			b.Client.Addr = netip.Addr{}
			s.v.Verify(context.Background(), b, s.upstream)
		}
		if n := len(s.sent()); n != tt.want {
			t.Errorf("%q with %+v: %d forwarded, want %d", tt.max, tt.policy, n, tt.want)
		}
		if got := s.v.budget().interval; got != tt.interval {
			t.Errorf("%q with %+v: interval %v", tt.max, tt.policy, got)
		}
	}
}

// TestSourceShare: one address leaves a unit of a larger budget to the others.
func TestSourceShare(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	s.lockout = Lockout{MaxFailures: 10}
	from := func(addr, password string) Decision {
		b := request("alice", password)
		b.Client.Addr = netip.MustParseAddr(addr)
		return s.v.Verify(context.Background(), b, s.upstream)
	}
	for i := range 20 {
		from(fmt.Sprintf("2001:db8::%x", i+1), fmt.Sprint("guess ", i)) // one /64
	}
	if n := len(s.sent()); n != 7 {
		t.Errorf("%d forwarded", n)
	}
	if d := from("192.0.2.9", aliceMain); d.Kind != Accepted {
		t.Errorf("another address: row %d, %q", d.Row, d.Reason)
	}
}

// TestParallelStale: a phone opens fifteen connections at once with an old password; one bind goes upstream. So it is
// with the password that was accepted until it was changed.
func TestParallelStale(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"openldap", "nothing readable"} {
		m := models[name]
		s := newSite(t, nil)
		m.install(s)
		parallel := func(password string) (accepted int) {
			var n atomic.Int32
			var wg sync.WaitGroup
			for range 15 {
				wg.Go(func() {
					if s.bind("alice", password).Kind == Accepted {
						n.Add(1)
					}
				})
			}
			wg.Wait()
			return int(n.Load())
		}
		if n := parallel("stale"); n != 0 || len(s.sent()) != 1 {
			t.Errorf("%s: stale: %d accepted", name, n)
		}
		if n := parallel(aliceMain); n != 15 || len(s.sent()) != 15 {
			t.Errorf("%s: right: %d accepted", name, n)
		}
		s.clock.add(time.Hour)
		m.reset("a new password")
		if n := parallel(aliceMain); n != 0 || len(s.sent()) != 1 {
			t.Errorf("%s: changed: %d accepted", name, n)
		}
		if m.worst > 1 {
			t.Errorf("%s: %d failures upstream", name, m.worst)
		}
	}
}

// TestParallelGuesses: no more distinct passwords are under way than the budget could bear.
func TestParallelGuesses(t *testing.T) {
	t.Parallel()
	m := models["openldap"]
	s := newSite(t, nil)
	m.install(s)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { s.bind("alice", fmt.Sprint("guess ", i)) })
	}
	wg.Wait()
	if n := len(s.sent()); n != 3 || m.locked {
		t.Errorf("%d forwarded, locked %v", n, m.locked)
	}
}

// TestNotThePassword: what Active Directory says of an account is not remembered of a password.
func TestNotThePassword(t *testing.T) {
	t.Parallel()
	text := "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data %s, v3839\x00"
	for data, remembered := range map[string]bool{"52e": true, "52E": true, "533": false, "775": false, "773": false, "701": false, "532": false, "530": false} {
		s := newSite(t, nil)
		s.user("alice", aliceMain)
		s.answer = func(string, string) *Answer { return &Answer{Code: 49, Diagnostic: fmt.Sprintf(text, data)} }
		s.bind("alice", aliceMain)
		if d := s.bind("alice", aliceMain); d.Kind != InvalidCredentials || (d.Row == 14) != remembered {
			t.Errorf("data %s: row %d, kind %d", data, d.Row, d.Kind)
		}
	}
	for text, byPassword := range map[string]bool{
		"": true, "data 775": false, "data 775\x00": false, "no data available": true, "data": true, "data ,": true,
	} {
		if failedByPassword(text) != byPassword {
			t.Errorf("%q", text)
		}
	}
}

// TestResetDuringBind: a password that is refused a moment before it is set must not be refused for ever.
func TestResetDuringBind(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	s.answer = func(string, string) *Answer {
		s.entries["alice"].State.Fingerprint = "pwdChangedTime:2"
		return &Answer{Code: 49}
	}
	s.bind("alice", "new")
	s.answer, s.passwords[aliceDN] = nil, "new"
	s.clock.add(15 * time.Minute)
	if d := s.bind("alice", "new"); d.Kind != Accepted {
		t.Errorf("row %d, %q", d.Row, d.Reason)
	}
}

// TestNoRetry: one bind upstream per bind of the client, and none is repeated after trouble.
// The bind and the state read after it may come from two servers, one of which has not heard of a new password yet. What
// the one refuses is then no truth about what the other shows: known bad for the window only.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bind, state string
		forGood     bool
	}{{"a", "a", true}, {"a", "b", false}, {"b", "a", false}} {
		s := newSite(t, nil)
		e := s.user("alice", "")
		e.State.Server = c.state
		refuse := true
		s.answer = func(string, string) *Answer {
			if refuse {
				return &Answer{Code: 49, Server: c.bind}
			}
			return &Answer{Server: c.state}
		}
		s.expect(t, "refused", s.bind("alice", "new"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" new")
		refuse = false
		s.expect(t, "known", s.bind("alice", "new"), 14, InvalidCredentials, ReasonKnownBad)
		s.clock.add(defaultWindow + time.Second)
		if c.forGood {
			s.expect(t, "known for good", s.bind("alice", "new"), 14, InvalidCredentials, ReasonKnownBad)
		} else {
			s.expect(t, "tried again", s.bind("alice", "new"), 15, Accepted, ReasonMain, aliceDN+" new")
		}
	}
}

func TestNoRetry(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	s.bindErr = errTest
	for _, name := range []string{"alice", "nobody", "cn=dovecot,dc=example"} {
		if d := s.bind(name, aliceMain); d.Kind != Unavailable || len(s.sent()) != 1 {
			t.Errorf("%s: kind %d", name, d.Kind)
		}
	}
}

// TestAbsentLikePresent: the same password asked again and again costs a name without an entry what it costs a user.
func TestAbsentLikePresent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	s.lockout = Lockout{MaxFailures: 5}
	for i := range 5 {
		for range 3 {
			s.bind("alice", fmt.Sprint("guess ", i))
			real := len(s.sent())
			s.bind("nobody", fmt.Sprint("guess ", i))
			if absent := len(s.sent()); real != absent {
				t.Errorf("guess %d: %d binds for a user, %d for nobody", i, real, absent)
			}
		}
	}
	s = newSite(t, nil)
	s.bind("nobody", "hunter2")
	if len(s.binds) != 1 || len(s.binds[0]) != len(absentDN+" hunter2") || s.binds[0] == absentDN+" hunter2" {
		t.Errorf("sent %q", s.binds)
	}
	s = newSite(t, nil)
	s.absent = ""
	s.expect(t, "no absent DN known", s.bind("nobody", "x"), 6, InvalidCredentials, ReasonNotFound)
}
