package auth

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/secrets"
)

// restart is a new process in the same outage, which has what was kept and nothing else.
func restart(t *testing.T, s *site, c *cutOff, kept []KeptService) (*site, *cutOff) {
	t.Helper()
	again, cut := newCutOff(t, nil)
	again.clock = s.clock
	again.mem.now = again.clock.now
	again.mem.RestoreServices(kept)
	cut.entries, cut.passwords = c.entries, c.passwords
	cut.goDown()
	return again, cut
}

// serves binds as the service account in an outage.
func serves(t *testing.T, s *site, what, password string, want bool) {
	t.Helper()
	d := s.bind(dovecot, password)
	if want && (d.Kind != Accepted || d.Reason != ReasonRemembered || d.DN != dovecot || d.Until.IsZero()) || !want && (d.Kind != Unavailable || !d.Until.IsZero()) {
		t.Errorf("%s: %+v", what, d)
	}
}

// TestKeptService: what outlives the process serves the same account with the same password up to the same moment, and shows neither.
func TestKeptService(t *testing.T) {
	t.Parallel()
	const password = "dovecot secret"
	s, c := newCutOff(t, nil)
	s.bind(dovecot, password)
	if kept := s.mem.KeptServices(); kept != nil || s.mem.Hashed() != 0 {
		t.Fatalf("kept without being asked to: %+v", kept)
	}
	s.mem.KeepServices(true)
	began := s.clock.now()
	for range 3 {
		s.bind(dovecot, password)
		s.bind("cn=Admin,dc=Example", "admin secret") // no service account
		s.bind(dovecot, "wrong")
	}
	kept := s.mem.KeptServices()
	if len(kept) != 1 || kept[0].DN != dovecot || !kept[0].At.Equal(began) || s.mem.Hashed() != 1 {
		t.Fatalf("%+v, %d hashes", kept, s.mem.Hashed())
	}
	if text := fmt.Sprint(kept); strings.Contains(text, password) || !strings.HasPrefix(kept[0].Hash, "$argon2id$") {
		t.Fatalf("kept %s", text)
	}
	if secrets.Parse([]byte("$app$x$" + kept[0].Hash)).Verify([]byte(password)) {
		t.Error("what is kept is a hash of the password itself")
	}
	s.clock.add(time.Hour)
	again, cut := restart(t, s, c, kept)
	serves(t, again, "wrong", "wrong", false)
	serves(t, again, "empty", "x", false)
	serves(t, again, "right", password, true)
	hashes := again.mem.Hashed()
	serves(t, again, "again", password, true)
	serves(t, again, "wrong again", "wrong", false)
	if again.mem.Hashed() != hashes {
		t.Error("what is known by now is hashed again")
	}
	if more := again.mem.KeptServices(); len(more) != 1 || more[0] != kept[0] {
		t.Errorf("kept on as %+v", more)
	}
	s.clock.add(23*time.Hour - time.Second)
	serves(t, again, "just within", password, true)
	another, _ := restart(t, s, c, again.mem.KeptServices())
	serves(t, another, "just within, after another start", password, true)
	s.clock.add(time.Second)
	serves(t, again, "too long ago", password, false)
	another, _ = restart(t, s, c, kept)
	serves(t, another, "too long ago, after another start", password, false)
	if another.mem.KeptServices() != nil {
		t.Error("kept for longer")
	}
	_ = cut
}

// TestKeptServiceEnds: any answer of the upstream ends what was restored, and ten wrong passwords do.
func TestKeptServiceEnds(t *testing.T) {
	t.Parallel()
	const password = "dovecot secret"
	s, c := newCutOff(t, nil)
	s.mem.KeepServices(true)
	s.bind(dovecot, password)
	kept := s.mem.KeptServices()

	again, cut := restart(t, s, c, kept)
	cut.comeBack()
	cut.passwords[dovecot] = "new secret"
	if d := again.bind(dovecot, password); d.Kind != InvalidCredentials {
		t.Fatalf("%+v", d)
	}
	cut.goDown()
	serves(t, again, "refused by the directory since", password, false)
	cut.comeBack()
	again.mem.KeepServices(true)
	again.bind(dovecot, "new secret")
	cut.goDown()
	serves(t, again, "the new one", "new secret", true)
	serves(t, again, "the old one", password, false)
	if now := again.mem.KeptServices(); len(now) != 1 || now[0].Hash == kept[0].Hash {
		t.Errorf("kept %+v", now)
	}
	cut.passwords[dovecot] = password

	again, _ = restart(t, s, c, kept)
	for i := range maxServiceWrong {
		serves(t, again, "wrong", fmt.Sprint("wrong", i), false)
	}
	if again.mem.KeptServices() != nil {
		t.Error("still kept after ten wrong passwords")
	}
	serves(t, again, "after ten wrong ones", password, false)

	// Nothing restored takes the place of what is known, and what cannot be a hash never fits.
	s.mem.RestoreServices([]KeptService{{DN: dovecot, Hash: "{PLAIN}x", At: s.clock.now()}})
	if got := s.mem.KeptServices(); len(got) != 1 || got[0] != kept[0] {
		t.Errorf("%+v", got)
	}
	for _, hash := range []string{"{PLAIN}" + string(hashed(dovecot, []byte(password))), "", string(hashed(dovecot, []byte(password))), kept[0].Hash + "x"} {
		again, _ = restart(t, s, c, []KeptService{{DN: dovecot, Hash: hash, At: s.clock.now()}})
		serves(t, again, "by the hash "+hash, password, false)
	}
	other, _ := restart(t, s, c, []KeptService{{DN: "cn=other,dc=example", Hash: kept[0].Hash, At: s.clock.now()}})
	serves(t, other, "another account's", password, false)
}

// TestKeptServiceChanges: a hash is that of the password that the directory took last, or of none.
func TestKeptServiceChanges(t *testing.T) {
	t.Parallel()
	s, _ := newCutOff(t, nil)
	s.mem.KeepServices(true)
	m, now := &s.mem.services, s.clock.now()
	first, second := digest{1}, digest{2}
	for _, c := range []struct {
		what        string
		password    digest
		needs       bool
		hash, after string
	}{
		{"the first", first, true, "", ""},
		{"somebody computes it", first, false, "one", "one"},
		{"known", first, false, "", "one"},
		{"another", second, true, "", ""},
	} {
		if got := m.accepted("cn=x", c.password, now); got != c.needs {
			t.Errorf("%s: a hash is needed: %v", c.what, got)
		}
		if c.hash != "" {
			m.learnt("cn=x", c.password, c.hash)
		}
		got := ""
		for _, k := range s.mem.KeptServices() {
			got += k.Hash
		}
		if got != c.after {
			t.Errorf("%s: kept %q, want %q", c.what, got, c.after)
		}
	}
	if m.learnt("cn=x", first, "one"); s.mem.KeptServices() != nil {
		t.Error("the hash of an earlier password came late, and is kept")
	}
	if m.learnt("cn=x", second, ""); !m.accepted("cn=x", second, now) {
		t.Error("without room for it, it is never computed again")
	}
}

// TestKeptServiceBusy: without room to hash the answer is "busy", and the password not taken for a wrong one.
func TestKeptServiceBusy(t *testing.T) {
	t.Parallel()
	s, c := newCutOff(t, nil)
	s.mem.KeepServices(true)
	s.bind(dovecot, "dovecot secret")
	again, _ := restart(t, s, c, s.mem.KeptServices())
	slots := again.mem.hashing.slots
	slots.wait = time.Millisecond
	if err := slots.acquire(t.Context(), serviceEntry(dovecot), 1); err != nil {
		t.Fatal(err)
	}
	if d := again.bind(dovecot, "dovecot secret"); d.Kind != Busy || !d.Until.IsZero() {
		t.Errorf("%+v", d)
	}
	slots.release(serviceEntry(dovecot), 1)
	serves(t, again, "afterwards", "dovecot secret", true)
}

// TestKeptServiceAtOnce: many binds at one time cost one hash, when it is made and when it is needed.
func TestKeptServiceAtOnce(t *testing.T) {
	t.Parallel()
	s, c := newCutOff(t, nil)
	s.mem.KeepServices(true)
	many := func(s *site) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if d := s.bind(dovecot, "dovecot secret"); d.Kind != Accepted {
					t.Errorf("%+v", d)
				}
			})
		}
		all.Wait()
		if n := s.mem.Hashed(); n != 1 {
			t.Errorf("%d hashes", n)
		}
	}
	many(s)
	again, _ := restart(t, s, c, s.mem.KeptServices())
	many(again)
}
