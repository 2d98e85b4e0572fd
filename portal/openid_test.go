package portal

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/config"
)

// TestOpenID: a user without a factor of her own signs in at the provider with two, makes an app password, proves the
// factor again there, enrols one here, and signs out.
func TestOpenID(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	b := r.browser()
	b.get("/sign-in").expect(t, "sign in", 200, "", `href="/openid/start">Sign in with Example ID<`)
	away := b.begin("/openid/start")
	asked, _ := url.Parse(away)
	if q := asked.Query(); q.Get("acr_values") != levelMFA || q.Get("scope") != "openid email" || q.Get("max_age") != "28800" || q.Has("prompt") {
		t.Errorf("asked: %s", away)
	}
	b.get(o.back(t, away)).expect(t, "back", 303, "/passwords", "")
	if b.cookies[flowCookie] != "" {
		t.Error("the journey's cookie stays")
	}
	b.get("/passwords/new").expect(t, "new", 200, "", `name="label"`)
	b.post("/passwords", "label", "phone").expect(t, "create", 201, "", "never again")

	// After a while the factor must be proved again, and there is none but the provider's.
	r.clock.add(6 * time.Minute)
	b.get("/passwords/new").expect(t, "not fresh", 303, "/confirm?next=%2Fpasswords%2Fnew", "")
	b.get("/confirm?next=%2Fpasswords%2Fnew").expect(t, "confirm", 200, "", `href="/openid/confirm?next=%2Fpasswords%2Fnew"`)
	away = b.begin("/openid/confirm?next=%2Fpasswords%2Fnew")
	asked, _ = url.Parse(away)
	if q := asked.Query(); q.Get("acr_values") != levelMFA || q.Get("max_age") != "0" || q.Get("prompt") != "login" {
		t.Errorf("asked: %s", away)
	}
	b.get(o.back(t, away)).expect(t, "confirmed", 303, "/passwords/new", "")
	b.get("/passwords/new").expect(t, "new", 200, "", `name="label"`)

	// The first factor of her own, without an administrator's code.
	b.get("/factors/totp").expect(t, "enrol", 200, "", "otpauth://")
	p := b.post("/sign-out")
	p.expect(t, "sign out", 200, "", "taken to Example ID")
	to, _ := url.Parse(strings.TrimPrefix(p.header.Get("Refresh"), "0;url="))
	if to == nil || to.Path != "/end" || to.Query().Get("client_id") != "appbind" || to.Query().Get("post_logout_redirect_uri") != origin+"/sign-in" || to.Query().Has("id_token_hint") {
		t.Errorf("sent to %v", to)
	}
	b.get("/passwords").expect(t, "signed out", 303, "/sign-in", "")
	events, err := r.Store.events(t.Context(), "", 100)
	if err != nil || len(events) != 3 || events[2].Action != "signed in" || events[2].Detail != "openid" || events[0].Action != "second factor proved" || events[0].Detail != "openid" {
		t.Errorf("audit: %v %v", events, err)
	}
	noCanary(t, r)
}

// noCanary demands that no code, token or claim is in the log.
func noCanary(t *testing.T, r *rig) {
	t.Helper()
	for _, canary := range []string{"code-canary", "access-canary", clientSecret, "sub-", "sid-", "eyJ", "alice@"} {
		if strings.Contains(r.log.String(), canary) {
			t.Errorf("the log holds %q\n%s", canary, r.log)
		}
	}
}

// TestOpenIDOneFactor: what does not prove a second factor at the provider is a first one, and no more.
func TestOpenIDOneFactor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(claims map[string]any){
		"password only":   func(c map[string]any) { c["acr"], c["amr"] = "urn:level:pwd", []string{"pwd"} },
		"no acr":          func(c map[string]any) { delete(c, "acr") },
		"no amr":          func(c map[string]any) { delete(c, "amr") },
		"another acr":     func(c map[string]any) { c["acr"] = levelMFA + " x" },
		"acr as list":     func(c map[string]any) { c["acr"] = []string{levelMFA} },
		"another amr":     func(c map[string]any) { c["amr"] = []string{"pwd", "mfa2"} },
		"amr as map":      func(c map[string]any) { c["amr"] = map[string]any{"mfa": true} },
		"of days ago":     func(c map[string]any) { c["auth_time"] = c["auth_time"].(int64) - 9*3600 },
		"neither claimed": func(c map[string]any) { delete(c, "acr"); delete(c, "amr") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, o := withOP(t)
			r.enrol("alice")
			o.mistake = func(_, claims map[string]any) { c(claims) }
			b := r.browser()
			b.through(o).expect(t, "back", 303, "/second-factor", "")
			b.get("/passwords").expect(t, "not in", 303, "/second-factor", "")
			b.get("/factors/totp").expect(t, "nor enrolling", 303, "/second-factor", "")
			b.get("/openid/confirm").expect(t, "nor confirming", 303, "/second-factor", "")
			b.get("/second-factor").expect(t, "ask", 200, "", `href="/openid/start?again=yes"`)
			b.post("/second-factor", "code", "000000").expect(t, "wrong", 401, "", "wrong")
			b.post("/second-factor", "code", r.code()).expect(t, "own factor", 303, "/passwords", "")
			if p := b.post("/sign-out"); p.header.Get("Refresh") == "" {
				t.Error("the sign-in at the provider is forgotten")
			}
		})
	}
}

// TestOpenIDRequired: where the configuration demands the provider's second factor there is no way around it.
func TestOpenIDRequired(t *testing.T) {
	t.Parallel()
	r, o := withOP(t, func(c *config.OpenID) { c.Require, c.Password, c.ACR = true, false, nil })
	r.enrol("alice")
	b := r.browser()
	o.claims["amr"] = []string{"pwd"}
	b.through(o).expect(t, "weak", 403, "", `href="/openid/start?again=yes"`)
	if b.cookies[cookieName] != "" {
		t.Error("a session")
	}
	if away, _ := url.Parse(b.begin("/openid/start?again=yes")); away.Query().Get("prompt") != "login" || away.Query().Has("acr_values") {
		t.Error("the provider need not ask again", away)
	}
	if p := b.get("/sign-in"); strings.Contains(p.body, `name="password"`) {
		t.Error("a password is asked for")
	}
	b.password("alice").expect(t, "password", 403, "", "turned off")
	o.claims["amr"] = "mfa" // as some providers spell a list of one
	b.through(o).expect(t, "strong", 303, "/passwords", "")
}

// TestOpenIDNotAFactor: unless the configuration says by what it is known, no sign-in there is a second factor.
func TestOpenIDNotAFactor(t *testing.T) {
	t.Parallel()
	r, o := withOP(t, func(c *config.OpenID) { c.ACR, c.AMR = nil, nil })
	r.enrol("alice")
	b := r.browser()
	b.through(o).expect(t, "back", 303, "/second-factor", "")
	if p := b.get("/second-factor"); strings.Contains(p.body, "/openid/") {
		t.Error("the provider is offered as second factor")
	}
	r.clock.add(30 * time.Second)
	b.post("/second-factor", "code", r.code()).expect(t, "own factor", 303, "/passwords", "")
	r.clock.add(6 * time.Minute)
	b.get("/openid/confirm").expect(t, "confirm there", 404, "", "")
}

// TestOpenIDToken: answers that are not good sign nobody in.
func TestOpenIDToken(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	for name, c := range map[string]struct {
		mistake func(header, claims map[string]any)
		code    int
	}{
		"wrong nonce":        {func(_, c map[string]any) { c["nonce"] = "another" }, 400},
		"no nonce":           {func(_, c map[string]any) { delete(c, "nonce") }, 400},
		"wrong audience":     {func(_, c map[string]any) { c["aud"] = "another" }, 400},
		"no audience":        {func(_, c map[string]any) { delete(c, "aud") }, 400},
		"another's too":      {func(_, c map[string]any) { c["aud"] = []string{"another", "appbind"} }, 400},
		"another party":      {func(_, c map[string]any) { c["azp"] = "another" }, 400},
		"wrong issuer":       {func(_, c map[string]any) { c["iss"] = "https://evil.example" }, 400},
		"expired":            {func(_, c map[string]any) { c["exp"] = c["iat"].(int64) - 1 }, 400},
		"no expiry":          {func(_, c map[string]any) { delete(c, "exp") }, 400},
		"not yet":            {func(_, c map[string]any) { c["nbf"] = c["iat"].(int64) + 3600 }, 400},
		"of tomorrow":        {func(_, c map[string]any) { c["auth_time"] = c["iat"].(int64) + 3600 }, 400},
		"no subject":         {func(_, c map[string]any) { delete(c, "sub") }, 400},
		"alg none":           {func(h, _ map[string]any) { h["alg"] = "none" }, 400},
		"alg HS256":          {func(h, _ map[string]any) { h["alg"] = "HS256" }, 400},
		"another key":        {func(h, _ map[string]any) { h["kid"] = "2" }, 400},
		"another's access":   {func(_, c map[string]any) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }, 400},
		"unverified":         {func(_, c map[string]any) { c["email_verified"] = false }, 403},
		"not said":           {func(_, c map[string]any) { delete(c, "email_verified") }, 403},
		"verified by a 1":    {func(_, c map[string]any) { c["email_verified"] = 1 }, 403},
		"no email":           {func(_, c map[string]any) { delete(c, "email") }, 403},
		"empty":              {func(_, c map[string]any) { c["email"] = "" }, 403},
		"a list":             {func(_, c map[string]any) { c["email"] = []string{"alice@example.org"} }, 403},
		"wildcard":           {func(_, c map[string]any) { c["email"] = "*" }, 403},
		"prefix":             {func(_, c map[string]any) { c["email"] = "alice*" }, 403},
		"injection":          {func(_, c map[string]any) { c["email"] = "x)(mail=alice@example.org" }, 403},
		"closed":             {func(_, c map[string]any) { c["email"] = "alice@example.org)(mail=*" }, 403},
		"nul":                {func(_, c map[string]any) { c["email"] = "alice@example.org\x00" }, 403},
		"blanks":             {func(_, c map[string]any) { c["email"] = " alice@example.org " }, 403},
		"invisible":          {func(_, c map[string]any) { c["email"] = "al\u00adice@example.org" }, 403},
		"look-alike":         {func(_, c map[string]any) { c["email"] = "\uff41lice@example.org" }, 403},
		"a variant":          {func(_, c map[string]any) { c["email"] = "alice@example.org\ufe0f" }, 403},
		"unknown":            {func(_, c map[string]any) { c["email"], c["sub"] = "nobody@example.org", "nobody" }, 403},
		"no user":            {func(_, c map[string]any) { c["email"], c["sub"] = "gone@example.org", "gone" }, 403},
		"a service account":  {func(_, c map[string]any) { c["email"], c["sub"] = "appbind", "service" }, 403},
		"too long for a DN":  {func(_, c map[string]any) { c["email"] = strings.Repeat("a", 5000) }, 403},
		"by name, not by DN": {func(_, c map[string]any) { c["email"] = aliceDN }, 403},
	} {
		o.mu.Lock()
		o.reset()
		o.mistake = c.mistake
		o.mu.Unlock()
		r.clock.add(6 * time.Minute)
		b := r.browser()
		p := b.through(o)
		if p.code != c.code || b.cookies[cookieName] != "" {
			t.Errorf("%s: %d, a session: %t\n%s", name, p.code, b.cookies[cookieName] != "", clip(p.body))
		}
	}
	noCanary(t, r)
	o.mistake = nil
	r.browser().through(o).expect(t, "no mistake", 303, "/passwords", "")
}

// TestOpenIDUniform: who is refused learns nothing of why.
func TestOpenIDUniform(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	var first string
	r.dir.Add("uid=twin1,"+base, "x", "objectClass", "inetOrgPerson", "mail", "twin@example.org")
	r.dir.Add("uid=twin2,"+base, "x", "objectClass", "inetOrgPerson", "mail", "twin@example.org")
	for _, mail := range []string{"nobody@example.org", "gone@example.org", "twin@example.org", "*", ""} {
		o.claims["email"], o.claims["sub"] = mail, "sub "+mail
		p := r.browser().through(o)
		if first == "" {
			first = p.body
		}
		if p.code != 403 || p.body != first {
			t.Errorf("%q: %d\n%s", mail, p.code, clip(p.body))
		}
	}
	if !strings.Contains(r.log.String(), "more than one entry") || !strings.Contains(r.log.String(), "no such entry") {
		t.Errorf("the log does not say why\n%s", r.log)
	}
}

// TestOpenIDFilter: portal.filter and the state of the entry hold for who comes from the provider, at once and later.
func TestOpenIDFilter(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	r := newRig(t, func(cfg *config.Config) {
		cfg.Portal.Filter, cfg.Users.EnabledFilter = "(!(uid=bob))", "(!(employeeType=gone))"
		c := &cfg.Portal.OpenID
		c.Issuer, c.ClientID, c.ClientSecret, c.AMR = o.srv.URL, "appbind", clientSecret, []string{"mfa"}
	})
	o.clock = r.clock
	b := r.browser()
	b.through(o).expect(t, "alice", 303, "/passwords", "")
	o.user("bob")
	r.browser().through(o).expect(t, "bob, who is filtered", 403, "", "nobody who may use")
	r.dir.Add(aliceDN, "x", "objectClass", "inetOrgPerson", "uid", "alice", "mail", "alice@example.org", "employeeType", "gone", "entryUUID", "00000000-0000-0000-0000-00000000000a")
	b.get("/passwords").expect(t, "disabled", 303, "/sign-in", "")
	o.user("alice")
	r.browser().through(o).expect(t, "disabled", 403, "", "nobody who may use")
}

// TestOpenIDJourney: a journey counts once, in the browser that began it, at the provider to which it went.
func TestOpenIDJourney(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	b := r.browser()
	b.get(callbackPath+"?code=x&state=y").expect(t, "never begun", 400, "", "not begun in this browser")

	// Somebody else's: an attacker's answer in a victim's browser signs the victim in as nobody.
	attacker := r.browser()
	answer := o.back(t, attacker.begin("/openid/start"))
	victim := r.browser()
	victim.get(answer).expect(t, "no journey", 400, "", "not begun in this browser")
	victim.begin("/openid/start")
	mine := victim.cookies[flowCookie]
	victim.get(answer).expect(t, "another's journey", 400, "", "not begun in this browser")
	if victim.cookies[cookieName] != "" || victim.cookies[flowCookie] != mine {
		t.Error("a session, or the own journey is over")
	}
	attacker.agent = "another browser"
	attacker.get(answer).expect(t, "another browser's name", 400, "", "not begun in this browser")
	attacker.agent = "test browser"
	attacker.get(answer).expect(t, "and it is over", 400, "", "not begun in this browser")

	// Once.
	answer = o.back(t, b.begin("/openid/start"))
	cookie := b.cookies[flowCookie]
	b.get(answer).expect(t, "first", 303, "/passwords", "")
	b.get(answer).expect(t, "again", 400, "", "not begun in this browser")
	b.cookies[flowCookie] = cookie
	b.get(answer).expect(t, "with its cookie", 400, "", "not begun in this browser")
	// The code of one journey in another one: PKCE and the nonce tell.
	one, two := r.browser(), r.browser()
	first, _ := url.Parse(o.back(t, one.begin("/openid/start")))
	two.get(o.back(t, two.begin("/openid/start"), "code", first.Query().Get("code"))).expect(t, "a stolen code", 400, "", "was not good")
	one.get(o.back(t, one.begin("/openid/start"), "code", "code-canary-unknown")).expect(t, "unknown code", 400, "", "was not good")
	one.get(o.back(t, one.begin("/openid/start"), "code", "")).expect(t, "no code", 400, "", "was not good")

	// Mix-up (RFC 9207): the answer of another provider, or of nobody.
	codes := o.asked("/token")
	for _, iss := range []string{"https://evil.example", "", o.srv.URL + "/"} {
		r.browser().through(o, "iss", iss).expect(t, "issuer "+iss, 400, "", "was not good")
		r.browser().through(o, "iss", iss, "error", "access_denied").expect(t, "error of issuer "+iss, 400, "", "was not good")
	}
	if o.asked("/token") != codes {
		t.Error("another provider's code was sent")
	}
	r.browser().through(o, "error", "access_denied", "code", "").expect(t, "denied", 403, "", "cancelled or refused")

	late := r.browser()
	answer = o.back(t, late.begin("/openid/start"))
	r.clock.add(flowLife)
	late.get(answer).expect(t, "too late", 400, "", "took too long")

	other := r.browser()
	other.change = func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }
	other.get("/openid/start").expect(t, "begun by another site", 303, "/sign-in", "")
	noCanary(t, r)
}

// TestOpenIDOneOfMany: of many arrivals of one answer one signs in.
func TestOpenIDOneOfMany(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	b := r.browser()
	answer := o.back(t, b.begin("/openid/start"))
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		one := r.browser()
		one.cookies[flowCookie] = b.cookies[flowCookie]
		wg.Go(func() {
			if one.get(answer).location == "/passwords" {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("%d sign-ins", in.Load())
	}
}

// TestOpenIDPinned: an account at the provider does not become another user, whatever its claim says.
func TestOpenIDPinned(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	r.enrol("admin")
	r.browser().through(o).expect(t, "alice", 303, "/passwords", "")
	o.claims["email"] = "ALICE@Example.org"
	r.browser().through(o).expect(t, "in capitals", 303, "/passwords", "")
	o.claims["email"] = "bob@example.org"
	r.browser().through(o).expect(t, "alice's account, bob's address", 403, "", "nobody who may use")
	events, err := r.Store.events(t.Context(), "", 1)
	if err != nil || len(events) != 1 || events[0].DN != bobDN || events[0].Action != "sign-in refused" {
		t.Errorf("audit: %v %v", events, err)
	}
	// A second account for alice is taken, and she is told.
	o.claims["email"], o.claims["sub"] = "alice@example.org", "sub-second"
	r.browser().through(o).expect(t, "a second account", 303, "/passwords", "")
	if len(r.mails) != 1 || !strings.Contains(r.mails[0], "a further account") {
		t.Errorf("mails: %q", r.mails)
	}
	r.browser().through(o).expect(t, "again", 303, "/passwords", "")
	if len(r.mails) != 1 {
		t.Errorf("mails: %q", r.mails)
	}
	// An administrator unties her accounts; the first one may be bob's now.
	admin := r.browser().enter("admin")
	admin.get("/admin/user?name=alice").expect(t, "linked", 200, "", "2 accounts at the sign-in provider")
	admin.post("/admin/unlink", "user", aliceDN).expect(t, "untie", 200, "", "accounts at the provider untied")
	o.claims["email"], o.claims["sub"] = "bob@example.org", "sub-alice"
	r.browser().through(o).expect(t, "bob's", 303, "/passwords", "")
}

// TestOpenIDConfirm: only the session's own user proves a factor at the provider, newly and with two factors.
func TestOpenIDConfirm(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	r.enrol("bob")
	b := r.browser()
	b.through(o).expect(t, "alice", 303, "/passwords", "")
	r.clock.add(6 * time.Minute)
	confirm := func(b *browser) page { return b.get(o.back(t, b.begin("/openid/confirm?next=/factors"))) }
	for name, c := range map[string]struct {
		change func(claims map[string]any)
		says   string
	}{
		"one factor":    {func(c map[string]any) { c["amr"] = []string{"pwd"} }, "second factor again"},
		"not asked":     {func(c map[string]any) { c["auth_time"] = c["iat"].(int64) - 120 }, "second factor again"},
		"not said when": {func(c map[string]any) { delete(c, "auth_time") }, "second factor again"},
		"another user":  {func(c map[string]any) { c["sub"], c["email"] = "sub-bob", "bob@example.org" }, "another account"},
		"another sub":   {func(c map[string]any) { c["sub"] = "sub-alice-2" }, "another account"},
	} {
		o.mistake = func(_, claims map[string]any) { c.change(claims) }
		confirm(b).expect(t, name, 403, "", c.says)
		b.get("/passwords/new").expect(t, name+", still not fresh", 303, "/confirm?next=%2Fpasswords%2Fnew", "")
	}
	o.mistake = nil
	// The answer belongs to the session that asked.
	answer := o.back(t, b.begin("/openid/confirm"))
	flow := b.cookies[flowCookie]
	bob := r.browser().enter("bob")
	bob.cookies[flowCookie] = flow
	bob.get(answer).expect(t, "in another session", 403, "", "not begun in this browser")
	answer = o.back(t, b.begin("/openid/confirm"))
	session := b.cookies[cookieName]
	delete(b.cookies, cookieName)
	b.get(answer).expect(t, "in no session", 403, "", "not begun in this browser")
	b.cookies[cookieName] = session
	confirm(b).expect(t, "well", 303, "/factors", "")
	b.get("/passwords/new").expect(t, "fresh", 200, "", "")
	b.get(o.back(t, b.begin("/openid/confirm?next=//evil.example"))).expect(t, "elsewhere", 303, "/passwords", "")

	// Who signed in without the provider may prove the factor there, and not with another's account.
	r.clock.add(6 * time.Minute)
	confirm(bob).expect(t, "bob's session, alice's account", 403, "", "another account")
	bob.get("/passwords/new").expect(t, "still not fresh", 303, "/confirm?next=%2Fpasswords%2Fnew", "")
	o.user("bob")
	confirm(bob).expect(t, "bob", 303, "/factors", "")
}

// TestOpenIDOlder: a sign-in at the provider is as fresh as the provider says, and not fresh where it does not say.
func TestOpenIDOlder(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	for name, change := range map[string]func(claims map[string]any){
		"ten minutes ago": func(c map[string]any) { c["auth_time"] = c["iat"].(int64) - 600 },
		"not said":        func(c map[string]any) { delete(c, "auth_time") },
		"a text":          func(c map[string]any) { c["auth_time"] = "now" },
	} {
		o.mistake = func(_, claims map[string]any) { change(claims) }
		b := r.browser()
		b.through(o).expect(t, name, 303, "/passwords", "")
		b.get("/passwords/new").expect(t, name, 303, "/confirm?next=%2Fpasswords%2Fnew", "")
		b.post("/passwords", "label", "phone").expect(t, name, 401, "", "confirm your second factor")
	}
}

// TestOpenIDDown: without the provider the password's sign-in goes on, and the pages start.
func TestOpenIDDown(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	r.enrol("alice")
	o.down = true
	b := r.browser()
	b.get("/openid/start").expect(t, "down", 503, "", "does not answer at the moment")
	b.enter("alice")
	b.post("/sign-out").expect(t, "sign out", 303, "/sign-in?done=signedout", "")
	o.down = false
	b.through(o).expect(t, "up again", 303, "/passwords", "")
	other := r.browser()
	answer := o.back(t, other.begin("/openid/start"))
	o.down = true
	other.get(answer).expect(t, "down while away", 503, "", "does not answer at the moment")
	b.post("/sign-out").expect(t, "sign out", 200, "", "") // by what is known of it

	// Metadata that would send the secret, or a browser, somewhere unsafe.
	for _, bad := range []map[string]any{{"issuer": "https://evil.example"}, {"token_endpoint": "http://192.0.2.1/token"}, {"authorization_endpoint": "javascript:alert(1)"},
		{"jwks_uri": ""}, {"end_session_endpoint": "http://evil.example/"}, {"userinfo_endpoint": "ftp://127.0.0.1/"}, {"token_endpoint": "https://u:p@a.example/"}} {
		r, o := withOP(t)
		o.more = bad
		r.browser().get("/openid/start").expect(t, "metadata", 503, "", "does not answer at the moment")
	}
}

// TestOpenIDUserinfo: a claim that is not in the ID token is asked for, of the same user.
func TestOpenIDUserinfo(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	delete(o.claims, "email")
	delete(o.claims, "email_verified")
	o.userinfo = map[string]any{"sub": "sub-alice", "email": "alice@example.org", "email_verified": "true"}
	r.browser().through(o).expect(t, "userinfo", 303, "/passwords", "")
	o.userinfo["email_verified"] = false
	r.browser().through(o).expect(t, "unverified", 403, "", "")
	o.userinfo["email_verified"], o.userinfo["sub"] = true, "sub-bob"
	r.browser().through(o).expect(t, "somebody else's", 400, "", "was not good")
}

// TestOpenIDGoodbye: the provider ends sessions, by tokens that are meant for that.
func TestOpenIDGoodbye(t *testing.T) {
	t.Parallel()
	r, o := withOP(t)
	r.enrol("bob")
	send := func(token string) int {
		q := httptest.NewRequest("POST", logoutPath, strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r.browser().do(q).code
	}
	token := func(change func(h, c map[string]any)) string {
		now := r.clock.now()
		h := map[string]any{"alg": "ES256", "kid": "1", "typ": "logout+jwt"}
		c := map[string]any{"iss": o.srv.URL, "aud": "appbind", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "jti-" + newToken(), "sub": "sub-alice",
			"sid": "sid-alice", "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}
		if change != nil {
			change(h, c)
		}
		return o.sign(h, c)
	}
	b := r.browser()
	b.through(o).expect(t, "alice", 303, "/passwords", "")
	for name, change := range map[string]func(h, c map[string]any){
		"nonce":           func(_, c map[string]any) { c["nonce"] = "x" },
		"no event":        func(_, c map[string]any) { delete(c, "events") },
		"no jti":          func(_, c map[string]any) { delete(c, "jti") },
		"no one":          func(_, c map[string]any) { delete(c, "sub"); delete(c, "sid") },
		"wrong audience":  func(_, c map[string]any) { c["aud"] = "another" },
		"wrong issuer":    func(_, c map[string]any) { c["iss"] = "https://evil.example" },
		"expired":         func(_, c map[string]any) { c["exp"] = c["iat"].(int64) - 1 },
		"of tomorrow":     func(_, c map[string]any) { c["iat"] = c["iat"].(int64) + 86400; c["exp"] = c["iat"].(int64) + 1 },
		"alg none":        func(h, _ map[string]any) { h["alg"] = "none" },
		"alg HS256":       func(h, _ map[string]any) { h["alg"] = "HS256" },
		"another key":     func(h, _ map[string]any) { h["kid"] = "7" },
		"a plain nothing": func(_, c map[string]any) { clear(c) },
	} {
		if code := send(token(change)); code != 400 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code := send(""); code != 400 {
		t.Errorf("no token: %d", code)
	}
	if code := send(token(func(_, c map[string]any) { c["sid"] = "sid-another" })); code != 200 {
		t.Errorf("another session of hers: %d", code)
	}
	if code := send(token(func(_, c map[string]any) { c["sub"] = "sub-bob" })); code != 200 {
		t.Errorf("another's: %d", code)
	}
	b.get("/passwords").expect(t, "still in", 200, "", "")
	last := token(func(_, c map[string]any) { delete(c, "sid") })
	if code := send(last); code != 200 {
		t.Errorf("by account: %d", code)
	}
	b.get("/passwords").expect(t, "out", 303, "/sign-in", "")
	b.through(o).expect(t, "in again", 303, "/passwords", "")
	if code := send(last); code != 400 {
		t.Errorf("the same token again: %d", code)
	}
	b.get("/passwords").expect(t, "still in", 200, "", "")
	if code := send(token(func(_, c map[string]any) { delete(c, "sub") })); code != 200 {
		t.Errorf("by session: %d", code)
	}
	b.get("/passwords").expect(t, "out", 303, "/sign-in", "")
	bob := r.browser().enter("bob")
	send(token(nil))
	bob.get("/passwords").expect(t, "who did not sign in there", 200, "", "")

	// Good ones are not counted, and bad ones are.
	for range maxGoodbyes {
		if code := send(token(nil)); code != 200 {
			t.Fatalf("a good one of many: %d", code)
		}
	}
	for range maxGoodbyes {
		send("bad")
	}
	if code := send("bad"); code != 429 {
		t.Errorf("one bad one of too many: %d", code)
	}
}

// TestOpenIDOff: without a provider there are no such routes.
func TestOpenIDOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	b := r.browser()
	for _, path := range []string{"/openid/start", callbackPath + "?code=x"} {
		b.get(path).expect(t, path, 404, "", "")
	}
	b.post(logoutPath, "logout_token", "x").expect(t, "logout", 404, "", "")
	b.enter("alice").get("/openid/confirm").expect(t, "confirm", 404, "", "")
}
