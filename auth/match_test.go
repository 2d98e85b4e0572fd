package auth

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"appbind/config"
	"appbind/secrets"
)

// TestHashesOnce: a password that fits, and one that fits none, cost their hashes once, for as long as the values are these.
func TestHashesOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	values := []string{
		"$app$one$" + slowHash(t, "first password"), "$app$two$" + slowHash(t, "second password"), "$app$three$" + slowHash(t, "third password"),
	}
	e := s.user("alice", aliceMain, values...)
	cost := func(password string, row int, want uint64) {
		t.Helper()
		before := s.mem.Hashed()
		if d := s.bind("alice", password); d.Row != row {
			t.Errorf("%s: row %d, %q, %v", password, d.Row, d.Reason, d.Err)
		}
		if n := s.mem.Hashed() - before; n != want {
			t.Errorf("%s: %d hashes, want %d", password, n, want)
		}
	}
	cost("second password", 10, 2)
	cost("second password", 10, 0)
	cost("wrong", 15, 3)
	cost("wrong", 14, 0)
	cost(aliceMain, 15, 3)
	cost(aliceMain, 15, 0)

	// A value more: what fitted fits, what fitted none is tried anew.
	fourth := "$app$four$" + slowHash(t, "fourth password")
	e.Values = append(e.Values, []byte(fourth))
	cost("second password", 10, 0)
	cost("wrong", 14, 4)
	// Its value gone, a password is wrong, however well it is remembered; nor does another user's memory help.
	e.Values = e.Values[2:]
	cost("second password", 15, 2)
	s.user("bob", "", values[1])
	before := s.mem.Hashed()
	if d := s.bind("bob", "second password"); d.Kind != Accepted || s.mem.Hashed() != before+1 {
		t.Errorf("bob: row %d, %d hashes", d.Row, s.mem.Hashed()-before)
	}
}

// TestSelector: one hash at most for the generated shape, whatever else is stored.
func TestSelector(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	g, err := secrets.Generate(nil)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := secrets.New(secrets.Params{Label: "mine", ID: g.ID, Hash: slowHash(t, g.Password)})
	if err != nil {
		t.Fatal(err)
	}
	s.user("alice", aliceMain, "$app$one$"+slowHash(t, "first password"), slow, "$app$two$"+slowHash(t, "second password"))
	for range 2 {
		s.expect(t, "right", s.bind("alice", g.Password), 10, Accepted, ReasonAppPassword)
	}
	if n := s.mem.Hashed(); n != 1 {
		t.Errorf("%d hashes", n)
	}
	// Another password with that selector: one hash, once; and never the values without a selector.
	var other string
	for other == "" {
		o, err := secrets.Generate(&selected{id: g.ID})
		if err != nil {
			t.Fatal(err)
		}
		other = o.Password
	}
	for range 2 {
		s.expect(t, "same selector", s.bind("alice", other), 11, InvalidCredentials, ReasonNoAppPassword)
	}
	if n := s.mem.Hashed(); n != 2 {
		t.Errorf("%d hashes", n)
	}
}

// selected is a random source that draws a given selector and then zeros.
type selected struct{ id string }

func (r *selected) Read(p []byte) (int, error) {
	const letters = "0123456789abcdefghjkmnpqrstvwxyz"
	for i := range p {
		p[i] = 0
		if i < len(r.id) {
			p[i] = byte(strings.IndexByte(letters, r.id[i]))
		}
	}
	return len(p), nil
}

// TestGeneratedWithoutSelector: a generated password whose hash another tool stored.
func TestGeneratedWithoutSelector(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	g, err := secrets.Generate(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.user("alice", aliceMain, "$app$one$"+ssha("first password"), "$app$stalwart$"+ssha(g.Password))
	s.expect(t, "displayed", s.bind("alice", g.Password), 10, Accepted, ReasonAppPassword)
	s.expect(t, "typed", s.bind("alice", strings.ToUpper(g.Password)), 10, Accepted, ReasonAppPassword)
}

// TestDuplicates: of several values that fit, one that is allowed is enough; and the denied one costs no hash the next time.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	hash := slowHash(t, "legacy password")
	made := func(p secrets.Params) string {
		p.Hash = hash
		v, err := secrets.New(p)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	smtp := made(secrets.Params{Label: "a", Services: []string{"smtp"}})
	old := made(secrets.Params{Label: "b", Expires: newClock().now()})
	open := made(secrets.Params{Label: "c"})
	wrong := "$app$d$" + slowHash(t, "first password")
	for _, tt := range []struct {
		values []string
		kind   Kind
		reason string
		hashes uint64
	}{
		{[]string{smtp, old, open}, Accepted, ReasonAppPassword, 3},
		{[]string{open, smtp}, Accepted, ReasonAppPassword, 1},
		{[]string{smtp, old, wrong}, InvalidCredentials, ReasonService, 3},
		{[]string{wrong, old, smtp}, InvalidCredentials, ReasonExpired, 3},
		{[]string{wrong, wrong, open, open}, Accepted, ReasonAppPassword, 2},
	} {
		s := newSite(t, nil)
		s.user("alice", aliceMain, tt.values...)
		for range 2 {
			s.expect(t, fmt.Sprint(tt.reason), s.bind("alice", "legacy password"), 10, tt.kind, tt.reason)
		}
		if n := s.mem.Hashed(); n != tt.hashes {
			t.Errorf("%q: %d hashes, want %d", tt.values, n, tt.hashes)
		}
		if tt.kind == Accepted {
			continue
		}
		// Allowed again, it is accepted from memory.
		b := request("alice", "legacy password")
		b.Client.Service = "smtp"
		s.expect(t, "smtp", s.v.Verify(context.Background(), b, s.upstream), 10, Accepted, ReasonAppPassword)
		if n := s.mem.Hashed(); n != tt.hashes {
			t.Errorf("%q: %d hashes then", tt.values, n)
		}
	}
}

// TestGuesses: ten in a minute at values without a selector; known passwords, right or wrong, go on.
func TestGuesses(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain, "$app$legacy$"+ssha("legacy password"))
	s.user("bob", aliceMain, "$app$legacy$"+ssha("legacy password"))
	for range 20 { // the main password is no guess, once it is known to be one
		s.expect(t, "main", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	}
	s.bind("alice", "legacy password")
	for i := range 10 {
		if d := s.bind("alice", fmt.Sprint("guess ", i)); d.Kind != InvalidCredentials {
			t.Fatalf("guess %d: row %d, kind %d", i, d.Row, d.Kind)
		}
	}
	s.sent()
	s.expect(t, "eleventh", s.bind("alice", "guess 10"), 10, Busy, ReasonGuesses)
	s.expect(t, "known wrong", s.bind("alice", "guess 3"), 14, InvalidCredentials, ReasonKnownBad)
	s.expect(t, "known right", s.bind("alice", "legacy password"), 10, Accepted, ReasonAppPassword)
	s.expect(t, "main", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	if d := s.bind("bob", "guess 10"); d.Row != 15 {
		t.Errorf("somebody else: row %d", d.Row)
	}
	s.sent()
	s.clock.add(time.Minute)
	s.expect(t, "a minute later", s.bind("alice", "guess 10"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" guess 10")
	s.mem.guesses.max = 0
	s.user("carol", aliceMain, "$app$legacy$"+ssha("legacy password"))
	s.expect(t, "no room to count", s.bind("carol", "guess"), 10, Busy, ReasonGuesses)
}

// TestNoCrossAccept: many users with passwords and names that run into each other; each password is its owner's only.
func TestNoCrossAccept(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	const users = 2000
	hash := slowHash(t, "shared")
	for i := range users {
		// Neighbours have one value text, or one password under another label; keys are prefixes of each other.
		values := []string{fmt.Sprintf("$app$n$%s", ssha(fmt.Sprint("p", i/2)))}
		if i%500 == 0 {
			values = append(values, "$app$s$"+hash)
		}
		s.user(fmt.Sprint("u", i), "", values...)
	}
	for i := range users {
		for _, other := range []int{i, i ^ 1, (i + 2) % users, i * 10 % users, i / 10} {
			s.clock.add(10 * time.Second)
			d := s.bind(fmt.Sprint("u", i), fmt.Sprint("p", other/2))
			if want := i/2 == other/2; (d.Kind == Accepted) != want {
				t.Fatalf("u%d with the password of u%d: row %d, kind %d", i, other, d.Row, d.Kind)
			}
		}
		if d := s.bind(fmt.Sprint("u", i), "shared"); (d.Kind == Accepted) != (i%500 == 0) {
			t.Fatalf("u%d: row %d, kind %d", i, d.Row, d.Kind)
		}
	}
}

// TestHashMemory: a value that needs more memory than hashing may take does not match and is reported; after a
// reload that gives it room it does.
func TestHashMemory(t *testing.T) {
	t.Parallel()
	hash, err := secrets.Hash(secrets.Argon2id, []byte("legacy password"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *config.Config) { c.AppPasswords.HashMemory = 4 })
	s.user("alice", aliceMain, "$app$big$"+hash)
	s.expect(t, "too big", s.bind("alice", "legacy password"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" legacy password")
	if s.mem.Hashed() != 0 || s.mem.Unusable() != 1 || !strings.Contains(s.log.String(), "hash_memory") {
		t.Errorf("%d hashes, %d unusable, log %s", s.mem.Hashed(), s.mem.Unusable(), s.log.String())
	}
	s.cfg.AppPasswords.HashMemory = 0 // the default
	s.v = New(s.cfg, s.upstream, s.mem, discard())
	s.expect(t, "room", s.bind("alice", "legacy password"), 10, Accepted, ReasonAppPassword)
}

// TestUnparsedValues: what is passed over without parsing is what parsing would have passed over, for values
// made of the parts that matter, in any order.
func TestUnparsedValues(t *testing.T) {
	t.Parallel()
	parts := []string{"$app$", "$", ";", "=", ";id=", "id=", "w1nd", "W1ND", "phone", "%3B", "exp=20990101000000Z", "svc=imap", "x-a=b", " ",
		"{SSHA256}", ssha("secret")[len("{SSHA256}"):], ssha("secret"), "otpauth://", "$2a$"}
	random := rand.New(rand.NewPCG(1, 2))
	usable, selected := 0, 0
	for range 200000 {
		raw := []byte(appPrefix)
		if random.IntN(20) == 0 {
			raw = nil
		}
		for range random.IntN(9) {
			raw = append(raw, parts[random.IntN(len(parts))]...)
		}
		if random.IntN(2) == 0 {
			raw = append(append(raw, '$'), ssha("secret")...)
		}
		v := secrets.Parse(raw)
		if v.Kind == secrets.App && v.ID == "" && v.Err == nil {
			if usable++; !mayBeUnselected(raw) {
				t.Fatalf("%q has no selector and is passed over", raw)
			}
		}
		if v.Kind == secrets.App && v.ID != "" {
			if selected++; !bytes.Contains(raw, []byte(idMark+v.ID)) {
				t.Fatalf("%q has the selector %q and is passed over", raw, v.ID)
			}
		}
		if totp := v.Kind == secrets.TOTP || v.Kind == secrets.Foreign && hasPrefixFold(v.Raw, otpauthPrefix); totp != hasPrefixFold(raw, otpauthPrefix) {
			t.Fatalf("%q is taken for a second factor, or is not", raw)
		}
	}
	if usable < 1000 || selected < 100 {
		t.Errorf("%d usable without a selector, %d with one: too few to tell", usable, selected)
	}
}
