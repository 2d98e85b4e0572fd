package portal

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/config"
	"appbind/manage"
)

// enrolling is a browser with an enrolment code.
func (r *rig) enrolling(name string) *browser {
	r.t.Helper()
	u, err := r.Manager.Find(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	code, _, err := IssueEnrolCode(r.t.Context(), r.Store, r.cfg, u, r.clock.now())
	if err != nil {
		r.t.Fatal(err)
	}
	b := r.browser()
	b.password(name)
	b.post("/second-factor", "code", code).expect(r.t, "enrolment code", 303, "/factors/add", "")
	return b
}

// passkeyOf gives a user a passkey by an enrolment code; the browser is signed in.
func (r *rig) passkeyOf(name, label string) (*authenticator, *browser) {
	r.t.Helper()
	a, b := newAuthenticator(r.t), r.enrolling(name)
	a.enrol(b, label).expect(r.t, "enrol", 200, "", "recovery codes")
	return a, b
}

// TestPasskeyDay: a user who has passkeys and no app can do everything.
func TestPasskeyDay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.enrolling("alice")
	b.get("/factors/add").expect(t, "add", 200, "", "/factors/passkey")
	b.get("/factors/passkey").expect(t, "page", 200, "", "noscript")
	o := readOptions(t, b.post("/factors/passkey/options")).PublicKey
	if o.RP.ID != "localhost" || o.RP.Name != "Example" || o.Selection.UserVerification != "required" || o.Attestation != "none" || o.User.Name != "alice@example.org" ||
		strings.Contains(o.User.ID, "alice") || len(o.Exclude) != 0 {
		t.Errorf("options: %+v", o)
	}
	a := newAuthenticator(t)
	before := b.cookies[cookieName]
	p := a.enrol(b, " my \x01phone ")
	p.expect(t, "enrolled", 200, "", "recovery codes")
	if b.cookies[cookieName] == before || len(r.mails) != 1 || !strings.Contains(r.mails[0], "a second factor was set up") {
		t.Errorf("the cookie changed: %t; mails %q", b.cookies[cookieName] != before, r.mails)
	}
	if len(r.values("alice")) != 0 {
		t.Error("a passkey is in the directory")
	}
	b.get("/factors").expect(t, "listed", 200, "", "<h2>my phone</h2>")
	if body := b.get("/factors").body; !strings.Contains(body, "not yet") || strings.Contains(body, "/factors/remove") {
		t.Error("used already, or the last one can be removed")
	}

	b.post("/sign-out")
	b.password("alice").expect(t, "password", 303, "/second-factor", "")
	b.get("/second-factor").expect(t, "second factor", 200, "", `data-options="/second-factor/options"`)
	o = readOptions(t, b.post("/second-factor/options")).PublicKey
	if o.RPID != "localhost" || o.UserVerification != "required" || len(o.AllowCredentials) != 1 || o.AllowCredentials[0].ID != b64.EncodeToString(a.id) {
		t.Errorf("options: %+v", o)
	}
	a.prove(b, "/second-factor").expect(t, "proved", 303, "/passwords", "")
	if body := b.get("/factors").body; strings.Contains(body, "not yet") {
		t.Error("the use is not shown")
	}
	b.post("/passwords", "label", "phone").expect(t, "create", 201, "", "never again")

	r.clock.add(6 * time.Minute)
	b.post("/passwords", "label", "laptop").expect(t, "not fresh", 401, "", "/confirm")
	b.get("/confirm").expect(t, "confirm", 200, "", `data-options="/confirm/options"`)
	a.prove(b, "/confirm").expect(t, "confirmed", 303, "/passwords", "")
	b.post("/passwords", "label", "laptop").expect(t, "create", 201, "", "never again")
	if o := readOptions(t, b.post("/factors/passkey/options")).PublicKey; len(o.Exclude) != 1 || o.Exclude[0].ID != b64.EncodeToString(a.id) {
		t.Errorf("the one that there is, is not excluded: %+v", o)
	}

	// A second one, and one away; others' sessions end.
	elsewhere := r.browser()
	elsewhere.password("alice")
	a.prove(elsewhere, "/second-factor")
	key := newAuthenticator(t)
	key.enrol(b, "key").expect(t, "a second one", 303, "/factors?done=enrolled", "")
	elsewhere.get("/passwords").expect(t, "elsewhere", 303, "/sign-in", "")
	ids := regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`).FindAllStringSubmatch(b.get("/factors").body, -1)
	if len(ids) != 2 {
		t.Fatalf("%q", ids)
	}
	b.post("/factors/remove", "id", b64.EncodeToString(a.id)).expect(t, "by another name", 404, "", "")
	b.post("/factors/remove", "id", ids[0][1]).expect(t, "remove", 303, "/factors?done=removed", "")
	b.post("/factors/remove", "id", ids[1][1]).expect(t, "the last", 422, "", "last second factor")
	if last := r.mails[len(r.mails)-1]; !strings.Contains(last, "a second factor was removed") {
		t.Errorf("mail: %q", last)
	}
	b.post("/sign-out")
	b.password("alice")
	a.prove(b, "/second-factor").expect(t, "removed", 401, "", "not accepted")
	key.prove(b, "/second-factor").expect(t, "the other", 303, "/passwords", "")
	events, err := r.Store.events(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]bool{}
	for _, e := range events {
		done[e.Action+" "+e.Detail] = true
	}
	if !done["second factor enrolled passkey"] || !done["second factor removed passkey"] || !done["second factor proved passkey"] {
		t.Errorf("audit: %v", done)
	}
	admin := r.browser()
	r.enrol("admin")
	admin.enter("admin").get("/admin/user?name=alice").expect(t, "an admin sees it", 200, "", "1 passkey,")
}

// TestPasskeyRefused: each thing that is demanded, one at a time. A try that fails is counted and uses the challenge up.
func TestPasskeyRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.passkeyOf("alice", "phone")
	his, _ := r.passkeyOf("bob", "phone")
	b := r.browser()
	b.password("alice")
	never := *a
	never.id = []byte("never-enrolled-credential")
	for name, c := range map[string]func(o *options, a *authenticator) string{
		"wrong challenge": func(o *options, a *authenticator) string {
			o.PublicKey.Challenge = b64.EncodeToString([]byte("another challenge of some length"))
			return a.get(*o)
		},
		"wrong origin":      func(o *options, a *authenticator) string { a.origin = "https://evil.example"; return a.get(*o) },
		"wrong port":        func(o *options, a *authenticator) string { a.origin = "http://localhost:9"; return a.get(*o) },
		"no TLS's origin":   func(o *options, a *authenticator) string { a.origin = "https://localhost:8443"; return a.get(*o) },
		"wrong rp":          func(o *options, a *authenticator) string { a.rp = "evil.example"; return a.get(*o) },
		"user not verified": func(o *options, a *authenticator) string { a.flags = flagPresent; return a.get(*o) },
		"user not there":    func(o *options, a *authenticator) string { a.flags = flagVerified; return a.get(*o) },
		"backed up now":     func(o *options, a *authenticator) string { a.flags |= flagEligible | flagBackedUp; return a.get(*o) },
		"in a frame": func(o *options, a *authenticator) string {
			a.say = func(c map[string]any) { c["crossOrigin"], c["topOrigin"] = true, "https://evil.example" }
			return a.get(*o)
		},
		"another ceremony": func(o *options, a *authenticator) string {
			a.say = func(c map[string]any) { c["type"] = "webauthn.create" }
			return a.get(*o)
		},
		"another user's":         func(o *options, _ *authenticator) string { return his.get(*o) },
		"another user's handle":  func(o *options, a *authenticator) string { a.handle = his.handle; return a.get(*o) },
		"another's under his id": func(o *options, a *authenticator) string { a.id = his.id; return a.get(*o) },
		"signed by another key":  func(o *options, a *authenticator) string { a.key = his.key; return a.get(*o) },
		"of no passkey":          func(o *options, _ *authenticator) string { return never.get(*o) },
		"an enrolment":           func(o *options, a *authenticator) string { return a.create(*o) },
		"nonsense":               func(*options, *authenticator) string { return "{" },
		"null":                   func(*options, *authenticator) string { return "null" },
		"empty":                  func(*options, *authenticator) string { return "{}" },
	} {
		r.clock.add(tryWindow)
		o, wrong := readOptions(t, b.post("/second-factor/options")), *a
		wrong.count = a.count + 100
		b.post("/second-factor", "passkey", c(&o, &wrong)).expect(t, name, 401, "", "not accepted")
		fine := *a
		b.post("/second-factor", "passkey", fine.get(o)).expect(t, name+": the challenge is used up", 401, "", "not accepted")
		b.get("/passwords").expect(t, name, 303, "/second-factor", "")
	}
	if log := r.log.String(); !strings.Contains(log, "passkey refused") || strings.Contains(log, "internal error") {
		t.Errorf("log: %s", log)
	}
	r.clock.add(tryWindow)
	o := readOptions(t, b.post("/second-factor/options"))
	answer := a.get(o)
	other := r.browser()
	other.password("alice")
	other.post("/second-factor/options")
	other.post("/second-factor", "passkey", answer).expect(t, "in another session", 401, "", "")
	r.clock.add(challengeTime)
	b.post("/second-factor", "passkey", answer).expect(t, "too late", 401, "", "")
	o = readOptions(t, b.post("/second-factor/options"))
	answer = a.get(o)
	b.post("/second-factor", "passkey", answer).expect(t, "as it should be", 303, "/passwords", "")
	b.post("/confirm", "passkey", answer).expect(t, "replayed", 401, "", "")
	b.post("/confirm/options")
	b.post("/confirm", "passkey", answer).expect(t, "replayed on a new challenge", 401, "", "")
	b.post("/factors/passkey/options")
	b.post("/confirm", "passkey", a.get(o)).expect(t, "on the challenge of an enrolment", 401, "", "")
}

// TestPasskeyCopied: a counter that goes back, or stands still, is refused and in the audit; one that is always 0 says nothing.
func TestPasskeyCopied(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.passkeyOf("alice", "phone")
	b := r.browser()
	b.password("alice")
	a.count = 50
	a.prove(b, "/second-factor").expect(t, "first", 303, "/passwords", "")
	for i, count := range []uint32{49, 50, 0} {
		twin := *a
		twin.count = count
		twin.prove(b, "/confirm").expect(t, "the copy", 401, "", "there is a copy")
		events, err := r.Store.events(t.Context(), "", 1)
		if err != nil || events[0].Action != "second factor refused" || events[0].DN != aliceDN {
			t.Errorf("%d: audit: %+v %v", i, events, err)
		}
	}
	a.count = 51
	a.prove(b, "/confirm").expect(t, "the one ahead", 303, "/passwords", "")

	still := newAuthenticator(t)
	still.count, still.step = 0, 0
	still.flags |= flagEligible | flagBackedUp
	still.enrol(r.enrolling("bob"), "synced").expect(t, "enrol", 200, "", "")
	b = r.browser()
	b.password("bob")
	still.prove(b, "/second-factor").expect(t, "without a counter", 303, "/passwords", "")
	still.flags &^= flagBackedUp
	still.prove(b, "/confirm").expect(t, "again", 303, "/passwords", "")
}

// TestPasskeyEnrolRefused: what makes no passkey.
func TestPasskeyEnrolRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	his, _ := r.passkeyOf("bob", "phone")
	b := r.enrolling("alice")
	for name, c := range map[string]func(o *options, a *authenticator) string{
		"wrong challenge": func(o *options, a *authenticator) string {
			o.PublicKey.Challenge = b64.EncodeToString([]byte("another challenge of some length"))
			return a.create(*o)
		},
		"wrong origin":      func(o *options, a *authenticator) string { a.origin = "https://evil.example"; return a.create(*o) },
		"wrong rp":          func(o *options, a *authenticator) string { a.rp = "evil.example"; return a.create(*o) },
		"user not verified": func(o *options, a *authenticator) string { a.flags = flagPresent; return a.create(*o) },
		"user not there":    func(o *options, a *authenticator) string { a.flags = flagVerified; return a.create(*o) },
		"a proof":           func(o *options, a *authenticator) string { return a.get(*o) },
		"nonsense":          func(*options, *authenticator) string { return "[]" },
		"nothing":           func(*options, *authenticator) string { return "" },
		"no ID":             func(o *options, a *authenticator) string { a.id = nil; return a.create(*o) },
	} {
		a := newAuthenticator(t)
		o := readOptions(t, b.post("/factors/passkey/options"))
		b.post("/factors/passkey", "name", "x", "passkey", c(&o, a)).expect(t, name, 422, "", "not accepted")
		b.post("/factors/passkey", "name", "x", "passkey", newAuthenticator(t).create(o)).expect(t, name+": the challenge is used up", 422, "", "not accepted")
	}
	a := newAuthenticator(t)
	for _, name := range []string{"", "  ", "\x00", strings.Repeat("x", maxPasskeyName+1)} {
		a.enrol(b, name).expect(t, "name", 422, "", "at most 100")
	}
	stolen := newAuthenticator(t)
	stolen.id = his.id
	stolen.enrol(b, "bob's ID").expect(t, "another user's ID", 422, "", "already")
	his.prove(func() *browser { b := r.browser(); b.password("bob"); return b }(), "/second-factor").expect(t, "bob's is bob's", 303, "/passwords", "")
	late := readOptions(t, b.post("/factors/passkey/options"))
	r.clock.add(challengeTime)
	b.post("/factors/passkey", "name", "x", "passkey", a.create(late)).expect(t, "too late", 422, "", "not accepted")
	if n := len(r.passkeys("alice")); n != 0 {
		t.Fatalf("%d passkeys", n)
	}
	a.enrol(b, "1").expect(t, "as it should be", 200, "", "recovery codes")
	a.enrol(b, "again").expect(t, "the same again", 422, "", "already")
	for range maxFactors - 1 {
		newAuthenticator(t).enrol(b, "more").expect(t, "more", 303, "/factors?done=enrolled", "")
	}
	newAuthenticator(t).enrol(b, "too many").expect(t, "too many", 422, "", "as many")
}

// passkeys are the names of a user's.
func (r *rig) passkeys(name string) (names []string) {
	r.t.Helper()
	u, err := r.Manager.Find(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	list, err := r.Store.passkeys(r.t.Context(), u.Key, "localhost")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, k := range list {
		names = append(names, k.name)
	}
	return names
}

// TestPasskeyOnce: a hundred at one time, at two instances, answer one challenge.
func TestPasskeyOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.passkeyOf("alice", "phone")
	two := &rig{t: t, dir: r.dir, clock: r.clock, log: r.log}
	two.serve(r.Config)
	b := r.browser()
	b.password("alice")
	answer := a.get(readOptions(t, b.post("/second-factor/options")))
	var accepted atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		one := []*rig{r, two}[i%2].browser()
		one.cookies[cookieName] = b.cookies[cookieName]
		wg.Go(func() {
			switch p := one.post("/second-factor", "passkey", answer); {
			case p.code == 303 && p.location == "/passwords":
				accepted.Add(1)
			case p.code != 303 && p.code != 401 && p.code != 429:
				t.Errorf("%d\n%s", p.code, clip(p.body))
			}
		})
	}
	wg.Wait()
	if accepted.Load() != 1 {
		t.Errorf("accepted %d times", accepted.Load())
	}
}

// TestPasskeyCountOnce: of requests that have all seen the same count, one notes the next; none does when it is removed.
func TestPasskeyCountOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, b := r.passkeyOf("alice", "phone")
	newAuthenticator(t).enrol(b, "key").expect(t, "another", 303, "/factors?done=enrolled", "")
	h := r.holderOf("alice")
	ctx, seen := t.Context(), h.WebAuthnCredentials()[0]
	seen.Authenticator.SignCount++
	if err := h.v.countPasskey(ctx, &seen); err != nil {
		t.Error(err)
	}
	if err := h.v.countPasskey(ctx, &seen); err != errWrong {
		t.Errorf("the same count: %v", err)
	}
	if err := h.v.dropPasskey(ctx, h, 0); err != nil {
		t.Error(err)
	}
	seen.Authenticator.SignCount++
	if err := h.v.countPasskey(ctx, &seen); err != errWrong {
		t.Errorf("removed: %v", err)
	}
}

// TestPasskeyTries: passkeys and codes are counted together, for one user, at all instances; and any instance takes an answer.
func TestPasskeyTries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	a := newAuthenticator(t)
	b := r.browser().enter("alice")
	a.enrol(b, "phone").expect(t, "with a fresh factor", 200, "", "recovery codes") // there were none yet
	two := &rig{t: t, dir: r.dir, clock: r.clock, log: r.log}
	two.serve(r.Config)
	c := two.browser()
	c.cookies = b.cookies
	o := readOptions(t, b.post("/confirm/options"))
	c.post("/confirm", "passkey", a.get(o)).expect(t, "begun here, ended there", 303, "/passwords", "")
	for i := range maxTries {
		if i%2 == 0 {
			b.post("/confirm", "code", "000000").expect(t, "code", 401, "", "")
		} else {
			c.post("/confirm", "passkey", "{}").expect(t, "passkey", 401, "", "")
		}
	}
	a.prove(b, "/confirm").expect(t, "throttled", 429, "", "five minutes")
	r.clock.add(30 * time.Second)
	b.post("/confirm", "code", r.code()).expect(t, "codes too", 429, "", "five minutes")
	r.clock.add(tryWindow)
	a.prove(b, "/confirm").expect(t, "later", 303, "/passwords", "")
	for range 2 * maxTries {
		a.prove(b, "/confirm").expect(t, "what is right is not counted", 303, "/passwords", "")
	}
}

// TestPasskeyIdentity: another entry under the same name has none of the passkeys, nor has another host.
func TestPasskeyIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.passkeyOf("alice", "phone")
	if handle := readOptions(t, b.post("/factors/passkey/options")).PublicKey.User.ID; handle != a.handle {
		t.Errorf("another handle for the same user: %q, %q", handle, a.handle)
	}
	r.dir.Add(aliceDN, mainWord+"-alice", "objectClass", "inetOrgPerson", "uid", "alice", "mail", "alice@example.org", "entryUUID", "00000000-0000-0000-0000-0000000000ff", "entryCSN", "0")
	b.get("/passwords").expect(t, "its session", 303, "/sign-in", "")
	b = r.browser()
	b.password("alice").expect(t, "the new one", 303, "/second-factor", "")
	b.get("/second-factor").expect(t, "has no factor", 200, "", "no second factor yet")
	b.post("/second-factor/options").expect(t, "nothing to answer", 404, "", "")
	b.post("/second-factor", "passkey", a.get(options{})).expect(t, "refused", 401, "", "")
	if handle := readOptions(t, r.enrolling("alice").post("/factors/passkey/options")).PublicKey.User.ID; handle == a.handle {
		t.Error("the handle of the one before")
	}

	for url, want := range map[string]bool{"http://localhost:8443": true, "https://pages.example.org": true, "https://192.0.2.1": false, "https://[2001:db8::1]": false} {
		moved := &rig{t: t, dir: r.dir, clock: r.clock, log: r.log}
		cfg := *r.Config
		cfg.Portal.URL = url
		moved.serve(&cfg)
		if has := moved.party != nil; has != want {
			t.Errorf("%s: passkeys %t", url, has)
		}
	}
	if !strings.Contains(r.log.String(), "no passkeys") {
		t.Error("the log does not say that there are none")
	}
	list, err := r.Store.passkeys(t.Context(), "another", "localhost")
	if err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}

func TestBrowserOrigin(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://example.org": "https://example.org", "https://example.org:443": "https://example.org", "https://example.org:80": "https://example.org:80",
		"http://localhost:80": "http://localhost", "http://localhost:8443": "http://localhost:8443", "http://localhost:443": "http://localhost:443",
	} {
		u, err := url.Parse(text)
		if err != nil || browserOrigin(u) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestNoPasskeys: pages at an address offer none and take none.
func TestNoPasskeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Portal.URL = "https://192.0.2.1" })
	r.enrol("alice")
	b := r.browser()
	b.host = "192.0.2.1"
	b.origin = "https://192.0.2.1"
	b.enter("alice")
	if strings.Contains(b.get("/factors/add").body, "passkey") {
		t.Error("offered")
	}
	b.get("/factors/passkey").expect(t, "page", 404, "", "no passkeys")
	b.post("/factors/passkey/options").expect(t, "options", 404, "", "no passkeys")
	b.post("/factors/passkey", "name", "x", "passkey", "{}").expect(t, "enrol", 404, "", "no passkeys")
	b.post("/confirm/options").expect(t, "options", 404, "", "")
	b.post("/confirm", "passkey", "{}").expect(t, "prove", 401, "", "")
}

// TestStorePasskeys: a counter only goes up, and of many at one time one is counted; an ID is one entry's.
func TestStorePasskeys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, a, b *Store) {
		ctx := t.Context()
		var k passkey
		if err := json.Unmarshal([]byte(`{"id":"aWQ=","publicKey":"a2V5","authenticator":{"signCount":5}}`), &k.credential); err != nil {
			t.Fatal(err)
		}
		k.name, k.created = "phone", morning
		for _, c := range []struct {
			entry string
			want  bool
		}{{"alice", true}, {"alice", false}, {"bob", false}} {
			if ok, err := a.addPasskey(ctx, c.entry, "localhost", &k); ok != c.want || err != nil {
				t.Errorf("%s: %t %v", c.entry, ok, err)
			}
		}
		list, err := b.passkeys(ctx, "alice", "localhost")
		if err != nil || len(list) != 1 || list[0].name != "phone" || !list[0].created.Equal(morning) || !list[0].used.IsZero() || list[0].credential.Authenticator.SignCount != 5 {
			t.Fatalf("%+v %v", list, err)
		}
		for _, other := range [][2]string{{"bob", "localhost"}, {"alice", "example.org"}, {"", ""}} {
			if list, err := b.passkeys(ctx, other[0], other[1]); err != nil || len(list) != 0 {
				t.Errorf("%q: %v %v", other, list, err)
			}
		}
		use := func(s *Store, entry string, count uint32) bool {
			k := list[0]
			k.credential.Authenticator.SignCount = count
			ok, err := s.usedPasskey(ctx, entry, &k, morning.Add(time.Hour))
			if err != nil {
				t.Error(err)
			}
			return ok
		}
		var used, taken atomic.Int32
		if err := a.challenge(ctx, "s", ceremonyProve, "old", morning.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := a.challenge(ctx, "s", ceremonyProve, "new", morning.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 100 {
			s := []*Store{a, b}[i%2]
			wg.Go(func() {
				if use(s, "alice", 6) {
					used.Add(1)
				}
				switch data, err := s.takeChallenge(ctx, "s", ceremonyProve, morning); {
				case err != nil:
					t.Error(err)
				case data == "new":
					taken.Add(1)
				case data != "":
					t.Errorf("challenge %q", data)
				}
			})
		}
		wg.Wait()
		if used.Load() != 1 || taken.Load() != 1 || use(a, "alice", 5) || use(a, "alice", 0) || use(a, "bob", 7) || !use(b, "alice", 7) {
			t.Errorf("used %d times, taken %d", used.Load(), taken.Load())
		}
		for _, c := range []struct {
			session, ceremony string
			at                time.Duration
			want              string
		}{{"s", ceremonyEnrol, 0, ""}, {"t", ceremonyProve, 0, ""}, {"s", ceremonyProve, time.Minute, ""}, {"s", ceremonyProve, 0, ""},
			{"s", ceremonyProve, -challengeTime - skew, ""}, {"s", ceremonyProve, -time.Second, "x"}} { // before it was begun: the clock was put back
			if c.at != 0 {
				if err := a.challenge(ctx, "s", ceremonyProve, "x", morning.Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := b.takeChallenge(ctx, c.session, c.ceremony, morning.Add(c.at)); got != c.want || err != nil {
				t.Errorf("%+v: %q %v", c, got, err)
			}
		}
		for _, c := range []struct {
			entry, id string
			want      bool
		}{{"bob", "aWQ", false}, {"alice", "x", false}, {"alice", "aWQ", true}, {"alice", "aWQ", false}} {
			if ok, err := b.dropPasskey(ctx, c.entry, c.id); ok != c.want || err != nil {
				t.Errorf("%+v: %t %v", c, ok, err)
			}
		}
		if use(a, "alice", 8) {
			t.Error("a removed one was used")
		}
		if err := a.challenge(ctx, "u", ceremonyProve, "x", morning); err != nil {
			t.Fatal(err)
		}
		if err := a.purge(ctx, morning.Add(time.Second), &config.Default().Portal, time.Hour); err != nil {
			t.Fatal(err)
		}
		n := -1
		if err := b.db.QueryRow("SELECT COUNT(*) FROM portal_challenges").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d challenges are left, %v", n, err)
		}
	})
}

// TestPasskeyLastTwo: two requests that have both seen two passkeys.
func TestPasskeyLastTwo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, b := r.passkeyOf("alice", "phone")
	newAuthenticator(t).enrol(b, "key").expect(t, "second", 303, "/factors?done=enrolled", "")
	h := r.holderOf("alice")
	if err := h.v.dropPasskey(t.Context(), h, 0); err != nil {
		t.Error(err)
	}
	if err := h.v.dropPasskey(t.Context(), h, 0); err != errNoFactor {
		t.Errorf("again: %v", err)
	}
	if err := h.v.dropPasskey(t.Context(), h, 1); err != manage.ErrLastFactor || strings.Join(r.passkeys("alice"), " ") != h.keys[1].name {
		t.Errorf("the last one: %v, left %q", err, r.passkeys("alice"))
	}
}

// TestPasskeyLast: of two factors that are taken away at one time, in the store or one of them in the directory, one stays.
func TestPasskeyLast(t *testing.T) {
	t.Parallel()
	for i := range 12 {
		r := newRig(t)
		_, b := r.passkeyOf("alice", "phone")
		if i%2 == 0 {
			newAuthenticator(t).enrol(b, "second").expect(t, "second", 303, "/factors?done=enrolled", "")
		} else {
			r.enrol("alice")
		}
		b.removeBoth()
		if len(r.values("alice"))+len(r.passkeys("alice")) == 0 {
			t.Fatal("none is left")
		}
	}
}
