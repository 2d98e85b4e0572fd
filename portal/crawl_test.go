package portal

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/secrets"
)

// roles are those who come, from least to most.
var roles = []string{"nobody", "halfway", "enrolling", "user", "user, fresh", "admin", "admin, fresh"}

// allowed says which roles a need lets in.
func allowed(n need, role string) bool {
	full := strings.HasPrefix(role, "user") || strings.HasPrefix(role, "admin")
	isFresh := strings.HasSuffix(role, "fresh")
	switch n {
	case anybody:
		return true
	case halfway:
		return role == "halfway"
	case enroling:
		return role == "enrolling" || isFresh
	case signedIn:
		return full
	case fresh:
		return isFresh
	case admins:
		return strings.HasPrefix(role, "admin")
	default:
		return role == "admin, fresh"
	}
}

// come is a browser in a role, of alice or of the admin.
func (r *rig) come(role string) *browser {
	b := r.browser()
	name := "alice"
	if strings.HasPrefix(role, "admin") {
		name = "admin"
	}
	switch role {
	case "nobody":
	case "halfway":
		b.password(name)
	case "enrolling":
		return r.enrolling(name)
	default:
		b.enter(name)
		if !strings.HasSuffix(role, "fresh") {
			r.clock.add(6 * time.Minute)
		}
	}
	return b
}

// TestCrawl: every route in every role, with the session's token, with none and with another's. What is not allowed changes
// nothing; what names another user's app password finds none.
func TestCrawl(t *testing.T) {
	t.Parallel()
	reached := map[string]bool{}
	for _, role := range roles {
		r, _ := withOP(t)
		r.passkeyOf("alice", "phone")
		r.passkeyOf("admin", "desk")
		for _, route := range r.table() {
			r.enrol("alice", "$app$phone;id=aaaa;exp=20261201000000Z$"+aHash)
			r.enrol("admin", "$app$desk;id=bbbb;exp=20261201000000Z$"+aHash)
			r.enrol("bob", hisBottle)
			r.clock.add(5 * time.Minute) // the limits on sign-ins are another test's
			name := role + ": " + route.method + " " + route.path
			path := strings.TrimSuffix(route.path, "{$}")
			mine := "aaaa"
			if strings.HasPrefix(role, "admin") {
				mine = "bbbb"
			}
			b := r.come(role)
			full := func() string {
				return strings.Join(slices.Concat(r.values("alice"), r.values("admin"), r.passkeys("alice"), r.passkeys("admin")), " ")
			}
			before := full()
			if route.method == "POST" && len(b.cookies) > 0 {
				for _, token := range []string{"", "0", strings.Repeat("0", 64), (&visit{session: &session{token: "another"}}).Token()} {
					p := b.post(strings.ReplaceAll(path, "{id}", mine), "token", token, "id", mine, "user", aliceDN, "all", "yes")
					if p.code != 403 && p.code != 401 && !(p.code == 303 && !allowed(route.need, role)) {
						t.Errorf("%s: token %q: %d %s", name, token, p.code, p.location)
					}
				}
			}
			if strings.Contains(path, "{id}") && allowed(route.need, role) {
				for _, his := range []string{"7f3k", "7F3K", "his phone", "%2e%2e"} {
					q := strings.ReplaceAll(path, "{id}", strings.ReplaceAll(his, " ", "%20"))
					p := page{}
					if route.method == "GET" {
						p = b.get(q)
					} else {
						p = b.post(q, "label", "x", "user", bobDN, "id", "7f3k")
					}
					if p.code != 404 || his != "his phone" && strings.Contains(p.body, "his phone") {
						t.Errorf("%s: another user's: %d", name, p.code)
					}
				}
			}
			if full() != before {
				t.Errorf("%s: changed by a wrong token or an id of somebody else", name)
			}
			path = strings.ReplaceAll(path, "{id}", mine)
			p := page{}
			if route.method == "GET" {
				p = b.get(path)
			} else {
				p = b.post(path, "label", "new label", "user", bobDN, "id", mine)
			}
			switch {
			case !allowed(route.need, role):
				if p.code != 303 && p.code != 401 && p.code != 403 {
					t.Errorf("%s: %d", name, p.code)
				}
				if full() != before || strings.Join(r.values("bob"), " ") != hisBottle+" "+aTOTP {
					t.Errorf("%s: changed something", name)
				}
			case p.code == 500 || p.code == 503:
				t.Errorf("%s: %d\n%s", name, p.code, r.log)
			case p.code < 400:
				reached[route.method+" "+route.path] = true
			}
			if len(p.body) > 100<<10 {
				t.Errorf("%s: a page of %d bytes", name, len(p.body))
			}
			if strings.Contains(p.body, "style=") || regexp.MustCompile(`<script>|\son[a-z]+=`).MatchString(p.body) {
				t.Errorf("%s: inline style or script", name)
			}
		}
	}
	for _, route := range (&Portal{}).table() {
		switch route.path { // those whose success needs more than the crawl's form
		case "/sign-in", "/second-factor", "/confirm", "/factors/totp", "/factors/passkey", "/factors/remove", "/passwords/{id}/extend", "/admin/revoke", "/admin/user", callbackPath, logoutPath:
			continue
		}
		if !reached[route.method+" "+route.path] {
			t.Errorf("%s %s: reached by nobody", route.method, route.path)
		}
	}
}

// TestAdminsDay: what an admin can do for bob, and what not.
func TestAdminsDay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("admin")
	b := r.browser().enter("admin")
	b.get("/admin").expect(t, "find", 200, "", `name="name"`)
	b.get("/admin/user?name=nobody").expect(t, "nobody", 404, "", "no such user")
	b.get("/admin/user?name=bob@example.org").expect(t, "bob", 200, "", "uid=bob")
	p := b.post("/admin/enrol-code", "user", bobDN)
	p.expect(t, "enrolment code", 200, "", "never again")
	code := p.shown(t)

	bob := r.browser()
	bob.password("bob")
	bob.post("/second-factor", "code", code).expect(t, "bob's code", 303, "/factors/add", "")
	alice := r.browser()
	alice.password("alice")
	alice.post("/second-factor", "code", code).expect(t, "used by bob", 401, "", "")

	r.enrol("bob", hisBottle, "$app$other;id=8f3k;exp=20300601000000Z$"+aHash)
	b.get("/admin/user?name=bob").expect(t, "bob's", 200, "", "his phone")
	b.post("/admin/revoke", "user", bobDN).expect(t, "none named", 404, "", "")
	b.post("/admin/revoke", "user", bobDN, "id", "7f3k").expect(t, "revoke", 200, "", "app password revoked: his phone")
	if list := r.values("bob"); len(list) != 2 {
		t.Errorf("%q", list)
	}
	b.post("/admin/revoke", "user", bobDN, "all", "yes").expect(t, "revoke all", 200, "", "")
	if list := r.values("bob"); len(list) != 1 || secrets.Parse([]byte(list[0])).Kind != secrets.TOTP {
		t.Errorf("the second factor stays: %q", list)
	}
	b.get("/admin/audit").expect(t, "audit", 200, "", "enrolment code issued")
	b.post("/passwords", "label", "for bob", "user", bobDN).expect(t, "create", 201, "", "")
	if len(r.values("bob")) != 1 || len(r.values("admin")) != 2 {
		t.Error("created for another user")
	}
	// Taken out of the group, an admin is none at the next request.
	r.dir.Add(groupDN, "", "objectClass", "groupOfNames", "member", aliceDN)
	b.get("/admin").expect(t, "no admin", 403, "", "administrators")
	b.get("/admin/user?name=bob").expect(t, "no admin", 403, "", "")
}

// TestEnrolCode: it lasts its time and counts once; a new one voids the old one; it is for one user.
func TestEnrolCode(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	issue := func(name string) string {
		u, err := r.Manager.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		code, _, err := IssueEnrolCode(t.Context(), r.Store, r.cfg, u, r.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	try := func(name, code string) page {
		b := r.browser()
		b.password(name)
		return b.post("/second-factor", "code", code)
	}
	old, present, bobs := issue("alice"), issue("alice"), issue("bob")
	try("alice", old).expect(t, "voided", 401, "", "")
	try("alice", bobs).expect(t, "bob's", 401, "", "")
	try("bob", bobs).expect(t, "bob's own", 303, "/factors/add", "")
	try("alice", " "+strings.ReplaceAll(strings.ToUpper(present), "-", " ")).expect(t, "typed by hand", 303, "/factors/add", "")
	try("alice", present).expect(t, "again", 401, "", "")
	late := issue("alice")
	r.clock.add(7 * 24 * time.Hour)
	try("alice", late).expect(t, "over", 401, "", "")

	// With a session it is no proof of a second factor.
	r.enrol("alice")
	code := issue("alice")
	b := r.browser().enter("alice")
	b.post("/confirm", "code", code).expect(t, "to confirm", 401, "", "")
}

// TestFactors: several, and not the last one away.
func TestFactors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := strings.Replace(aTOTP, "GEZDGNBVGY3TQOJQGEZDGNBV", "MFRGGZDFMZTWQ2LKNNWG23TP", 1)
	r.enrol("alice", other)
	b, elsewhere := r.browser().enter("alice"), r.browser().enter("alice")
	ids := regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`).FindAllStringSubmatch(b.get("/factors").body, -1)
	if len(ids) != 2 {
		t.Fatalf("%q", ids)
	}
	b.post("/factors/remove", "id", strings.Repeat("0", 64)).expect(t, "none", 404, "", "")
	b.post("/factors/remove", "id", ids[0][1]).expect(t, "one", 303, "/factors?done=removed", "")
	elsewhere.get("/passwords").expect(t, "other sessions end", 303, "/sign-in", "")
	b.post("/factors/remove", "id", ids[1][1]).expect(t, "the last one", 422, "", "last second factor")
	if list := r.values("alice"); len(list) != 1 || list[0] != aTOTP {
		t.Errorf("%q", list)
	}
}
