package portal

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/config"
	"appbind/secrets"
)

// TestFirstDay: from an enrolment code to an app password that is revoked.
func TestFirstDay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	u, err := r.Manager.Find(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	code, _, err := IssueEnrolCode(t.Context(), r.Store, r.cfg, u, r.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	b := r.browser()
	b.get("/").expect(t, "home", 303, "/sign-in", "")
	b.get("/sign-in").expect(t, "sign in", 200, "", "Your main password")
	b.password("alice").expect(t, "password", 303, "/second-factor", "")
	b.get("/passwords").expect(t, "no factor", 303, "/second-factor", "")
	b.get("/second-factor").expect(t, "factor", 200, "", "enrolment code")
	b.post("/second-factor", "code", strings.ToUpper(code)).expect(t, "enrolment code", 303, "/factors/add", "")
	b.get("/passwords").expect(t, "still no factor", 303, "/factors/add", "")
	b.get("/factors/add").expect(t, "add", 200, "", "/factors/totp")
	p := b.get("/factors/totp")
	given := regexp.MustCompile(`name="secret" value="([A-Z2-7]{32})"`).FindStringSubmatch(p.body)
	proof := regexp.MustCompile(`name="proof" value="([0-9a-f]{64})"`).FindStringSubmatch(p.body)
	if given == nil || proof == nil {
		t.Fatal(p.body)
	}
	b.post("/factors/totp", "secret", secret, "proof", proof[1], "code", r.code()).expect(t, "a secret of one's own", 403, "", "")
	b.post("/factors/totp", "secret", given[1], "proof", proof[1], "code", "000000").expect(t, "wrong code", 422, "", "wrong")
	totpCode := codeOf(t, given[1], r.clock.now())
	before := b.cookies[cookieName]
	p = b.post("/factors/totp", "secret", given[1], "proof", proof[1], "code", totpCode)
	p.expect(t, "enrolled", 200, "", "recovery codes")
	if n := strings.Count(p.body, "<li><code>"); n != recoveryCodes || b.cookies[cookieName] == before {
		t.Errorf("%d recovery codes; the cookie changed: %t", n, b.cookies[cookieName] != before)
	}
	recoveryCode := regexp.MustCompile(`<li><code>([^<]+)<`).FindStringSubmatch(p.body)[1]
	if list := r.values("alice"); len(list) != 1 || !strings.HasPrefix(list[0], "otpauth://totp/Example:alice@example.org?secret="+given[1]) {
		t.Fatalf("stored: %d values", len(list))
	}
	if len(r.mails) != 1 || !strings.HasPrefix(r.mails[0], "alice@example.org: Example: a second factor was set up") {
		t.Errorf("mails: %q", r.mails)
	}

	b.get("/passwords").expect(t, "list", 200, "", "no app passwords yet")
	b.get("/passwords/new").expect(t, "new", 200, "", `name="label"`)
	p = b.post("/passwords", "label", "my phone", "expires", "2026-06-30", "service", "imap", "networks", "192.0.2.0/24, 2001:db8::1")
	p.expect(t, "created", 201, "", "never again")
	password := p.shown(t)
	if cc := p.header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("cache: %q", cc)
	}
	stored := secrets.Parse([]byte(r.values("alice")[1]))
	if !stored.Verify([]byte(password)) || stored.Label != "my phone" || stored.Expires.UTC().Format("20060102150405") != "20260630235959" ||
		len(stored.Services) != 1 || len(stored.Networks) != 2 {
		t.Errorf("stored: %v %v %v %v", stored, stored.Expires, stored.Services, stored.Networks)
	}
	for path, p := range map[string]page{"list": b.get("/passwords"), "one": b.get("/passwords/" + stored.ID)} {
		if strings.Contains(p.body, password) || !strings.Contains(p.body, "my phone") || p.code != 200 {
			t.Errorf("%s: %d; shows the password again, or no label", path, p.code)
		}
	}
	b.post("/passwords", "label", "my phone").expect(t, "sent again", 422, "", "in use")
	b.post("/passwords/"+stored.ID+"/rename", "label", "old phone").expect(t, "rename", 303, "/passwords?done=renamed", "")
	b.get("/passwords?done=renamed").expect(t, "list", 200, "", "old phone")
	b.post("/passwords/"+stored.ID+"/extend", "expires", "2027-03-01").expect(t, "extend", 303, "/passwords?done=extended", "")
	b.post("/passwords/"+stored.ID+"/extend", "expires", "2027-03-02").expect(t, "too long", 422, "", "365 days at most")
	r.dir.Add(aliceDN, mainWord+"-alice", append([]string{"objectClass", "inetOrgPerson", "uid", "alice", "mail", "alice@example.org",
		"entryUUID", "00000000-0000-0000-0000-00000000000a", "entryCSN", "0"}, pairs([]string{r.values("alice")[0], strings.Replace(r.values("alice")[1], "svc=imap", "svc=imap,dav", 1)})...)...)
	b.get("/passwords/"+stored.ID).expect(t, "a service of somebody else's", 200, "", `value="dav" checked`)
	b.post("/passwords/"+stored.ID+"/restrict", "service", "http").expect(t, "no such service", 422, "", "no such service")
	b.post("/passwords/"+stored.ID+"/restrict", "service", "dav").expect(t, "kept", 303, "/passwords?done=restricted", "")
	if v := secrets.Parse([]byte(r.values("alice")[1])); len(v.Services) != 1 || v.Services[0] != "dav" {
		t.Errorf("services: %q", v.Services)
	}
	b.post("/passwords/"+stored.ID+"/restrict").expect(t, "restrict", 303, "/passwords?done=restricted", "")
	b.post("/passwords/"+stored.ID+"/revoke").expect(t, "revoke", 303, "/passwords?done=revoked", "")
	if len(r.values("alice")) != 1 {
		t.Error("still there")
	}
	b.get("/passwords/"+stored.ID).expect(t, "gone", 404, "", "")

	// The second factor is not used up by a try that came to nothing, and the first code is.
	b.post("/sign-out").expect(t, "sign out", 303, "/sign-in?done=signedout", "")
	b.get("/passwords").expect(t, "signed out", 303, "/sign-in", "")
	b.password("alice")
	b.post("/second-factor", "code", totpCode).expect(t, "used code", 401, "", "used before")
	b.post("/second-factor", "code", recoveryCode, "next", "//evil.example").expect(t, "recovery code", 303, "/passwords", "")
	b.post("/confirm", "code", recoveryCode).expect(t, "the same again", 401, "", "")
	if strings.Contains(r.log.String(), password) || strings.Contains(r.log.String(), mainWord) || strings.Contains(r.log.String(), given[1]) {
		t.Error("the log holds a secret")
	}
}

// TestSignInRefused: who may not sign in gets one and the same page.
func TestSignInRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Portal.Filter = "(!(uid=bob))" })
	r.enrol("alice", hisBottle)
	var first string
	for _, c := range [][2]string{
		{"alice", "wrong"}, {"nobody", "wrong"}, {"bob", mainWord + "-bob"}, {"gone", mainWord + "-gone"}, {"alice", ""}, {"", ""}, {"", "x"},
		{"cn=appbind,dc=example,dc=org", "reader-password"}, {"alice", hisBottle}, {"*", "x"}, {"alice", aTOTP},
	} {
		p := r.browser().post("/sign-in", "name", c[0], "password", c[1])
		body := strings.Replace(p.body, `value="`+html.EscapeString(c[0])+`" autocomplete="username"`, `value="" autocomplete="username"`, 1)
		if first == "" {
			first = body
		}
		if p.code != 401 || body != first || p.header.Get("Set-Cookie") != "" {
			t.Errorf("%q: %d, cookie %q\n%s", c, p.code, p.header.Get("Set-Cookie"), clip(body))
		}
	}
	// An app password that is good for mail is none here.
	b := r.browser().enter("alice")
	password := b.post("/passwords", "label", "phone").shown(t)
	r.browser().post("/sign-in", "name", "alice", "password", password).expect(t, "app password", 401, "", "")
}

func TestTooManySignIns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range maxSignIns {
		r.browser().post("/sign-in", "name", "nobody", "password", "x")
	}
	r.browser().password("alice").expect(t, "over the limit", 429, "", "five minutes")
	other := r.browser()
	other.change = func(q *http.Request) { q.Header.Set("X-Forwarded-For", "198.51.100.9") }
	other.password("alice").expect(t, "from elsewhere", 303, "/second-factor", "")
	r.clock.add(signInWindow)
	r.browser().password("alice").expect(t, "later", 303, "/second-factor", "")
}

// TestSameCodeOnce: a hundred at one time send the same code.
func TestSameCodeOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	b := r.browser()
	b.password("alice")
	code := r.code()
	var accepted, refused atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		one := r.browser()
		one.cookies[cookieName] = b.cookies[cookieName]
		wg.Go(func() {
			switch p := one.post("/second-factor", "code", code); p.code {
			case 303:
				if p.location == "/passwords" {
					accepted.Add(1)
				}
			case 401, 429:
				refused.Add(1)
			default:
				t.Errorf("%d\n%s", p.code, clip(p.body))
			}
		})
	}
	wg.Wait()
	if accepted.Load() != 1 {
		t.Errorf("accepted %d times, refused %d", accepted.Load(), refused.Load())
	}
}

// TestTwoInstances share tries and used codes.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	two := &rig{t: t, dir: r.dir, clock: r.clock, log: r.log}
	two.serve(r.Config)
	a, b := r.browser(), two.browser()
	a.password("alice")
	b.password("alice")
	code := r.code()
	a.post("/second-factor", "code", code).expect(t, "first", 303, "/passwords", "")
	b.post("/second-factor", "code", code).expect(t, "used at the other", 401, "", "")
	b.get("/passwords").expect(t, "not in", 303, "/second-factor", "")
	b.cookies = a.cookies
	b.get("/passwords").expect(t, "the session of the other", 200, "", "")
	c := two.browser()
	c.password("alice")
	for i := range maxTries {
		who := []*browser{c, a}[i%2]
		path := []string{"/second-factor", "/confirm"}[i%2]
		who.post(path, "code", "000000").expect(t, "wrong", 401, "", "")
	}
	r.clock.add(30 * time.Second)
	a.post("/confirm", "code", r.code()).expect(t, "throttled", 429, "", "five minutes")
	c.post("/second-factor", "code", "0000-0000-0000-0000").expect(t, "throttled for recovery codes too", 429, "", "")
	r.clock.add(tryWindow)
	a.post("/confirm", "code", r.code()).expect(t, "later", 303, "/passwords", "")
}

// TestSessions: how they end, and what they are bound to.
func TestSessions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	b := r.browser().enter("alice")
	stolen := r.browser()
	stolen.cookies, stolen.agent = b.cookies, "another browser"
	stolen.get("/passwords").expect(t, "another browser", 303, "/sign-in", "")
	b.get("/passwords").expect(t, "still in", 200, "", "")
	for range 4 {
		r.clock.add(14 * time.Minute)
		b.get("/passwords").expect(t, "used", 200, "", "")
	}
	r.clock.add(15 * time.Minute)
	b.get("/passwords").expect(t, "idle", 303, "/sign-in", "")

	b.enter("alice")
	for range 8*60/10 - 1 {
		r.clock.add(10 * time.Minute)
		b.get("/passwords").expect(t, "used", 200, "", "")
	}
	r.clock.add(10 * time.Minute)
	b.get("/passwords").expect(t, "at its end", 303, "/sign-in", "")

	b, c := r.browser().enter("alice"), r.browser().enter("alice")
	c.post("/sign-out-everywhere").expect(t, "everywhere", 303, "/sign-in?done=signedout", "")
	b.get("/passwords").expect(t, "the other one", 303, "/sign-in", "")

	for what, entry := range map[string][]string{
		"disabled":      {"objectClass", "person", "uid", "alice", "entryUUID", "00000000-0000-0000-0000-00000000000a"},
		"another entry": {"objectClass", "inetOrgPerson", "uid", "alice", "entryUUID", "00000000-0000-0000-0000-00000000000f"},
	} {
		b = r.browser().enter("alice")
		r.dir.Add(aliceDN, mainWord+"-alice", entry...)
		b.get("/passwords").expect(t, what, 303, "/sign-in", "")
		r.enrol("alice")
		b.get("/passwords").expect(t, what+": its session is gone", 303, "/sign-in", "")
	}
	b = r.browser().enter("alice")
	r.dir.Remove(aliceDN)
	b.get("/passwords").expect(t, "deleted", 303, "/sign-in", "")
	if err := r.Purge(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStepUp: what makes a password or changes a factor asks for a fresh one.
func TestStepUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice", hisBottle)
	b := r.browser().enter("alice")
	r.clock.add(5 * time.Minute)
	b.get("/passwords/new").expect(t, "new", 303, "/confirm?next=%2Fpasswords%2Fnew", "")
	b.post("/passwords", "label", "x").expect(t, "create", 401, "", "/confirm?next=")
	b.post("/passwords/7f3k/extend", "expires", "2026-12-31").expect(t, "extend", 401, "", "/confirm")
	b.post("/factors/recovery").expect(t, "recovery codes", 401, "", "/confirm")
	b.get("/factors/totp").expect(t, "another factor", 303, "/confirm?next=%2Ffactors%2Ftotp", "")
	if len(r.values("alice")) != 2 {
		t.Error("changed without a fresh factor")
	}
	b.post("/confirm", "code", r.code(), "next", "/passwords/new").expect(t, "confirm", 303, "/passwords/new", "")
	b.get("/passwords/new").expect(t, "new", 200, "", "")
	r.clock.add(5*time.Minute - time.Second)
	b.post("/passwords", "label", "x").expect(t, "create", 201, "", "")
}

// TestGuard: what is refused before a route is looked for.
func TestGuard(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	in := r.browser().enter("alice")
	for name, c := range map[string]struct {
		change func(*http.Request)
		code   int
	}{
		"as it should be":           {func(*http.Request) {}, 303},
		"another host":              {func(q *http.Request) { q.Host = "evil.example" }, 421},
		"from another site":         {func(q *http.Request) { q.Header.Set("Origin", "https://evil.example") }, 403},
		"cross-site by the browser": {func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"from nowhere":              {func(q *http.Request) { q.Header.Del("Origin") }, 403},
		"not from a proxy":          {func(q *http.Request) { q.RemoteAddr = "192.0.2.1:1" }, 403},
		"another token":             {func(q *http.Request) { q.Header.Set("X-Token", strings.Repeat("0", 64)) }, 403},
	} {
		b := r.browser()
		b.cookies, b.change = map[string]string{cookieName: in.cookies[cookieName]}, c.change
		if p := b.post("/revoke-all"); p.code != c.code {
			t.Errorf("%s: %d", name, p.code)
		}
	}
	big := r.browser()
	big.post("/sign-in", "name", strings.Repeat("x", maxBody)).expect(t, "too large", 400, "", "")
	w := httptest.NewRecorder()
	q := httptest.NewRequest("TRACE", "/passwords", nil)
	q.Host, q.RemoteAddr = "localhost:8443", "127.0.0.1:1"
	r.ServeHTTP(w, q)
	if w.Code != 403 && w.Code != 405 {
		t.Errorf("TRACE: %d", w.Code)
	}
	for _, path := range []string{"/sign-in", "/nothing", "/passwords"} {
		h := in.get(path).header
		if h.Get("Content-Security-Policy") != policy || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// TestForwardedFor: whose word on an address counts.
func TestForwardedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { _ = c.Portal.TrustedProxies })
	for _, c := range []struct{ forwarded, want string }{
		{"", "127.0.0.1"}, {"198.51.100.1", "198.51.100.1"}, {"10.0.0.1, 198.51.100.1", "198.51.100.1"},
		{"nonsense", "127.0.0.1"}, {"198.51.100.1, nonsense", "127.0.0.1"}, {"::ffff:198.51.100.1", "198.51.100.1"},
	} {
		q := httptest.NewRequest("GET", "/", nil)
		q.RemoteAddr = "127.0.0.1:1"
		if c.forwarded != "" {
			q.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if a, ok := r.client(q); !ok || a.String() != c.want {
			t.Errorf("%q: %v %t", c.forwarded, a, ok)
		}
	}
}
