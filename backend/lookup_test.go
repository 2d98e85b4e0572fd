package backend

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// TestFindBy: a value stands for one user or for nobody, whatever characters it has.
func TestFindBy(t *testing.T) {
	d := directory()
	d.Add("uid=disabled,"+people, "x", "objectClass", "person", "uid", "disabled", "mail", "d@example.org", "employeeType", "gone")
	d.Add("cn=printer,"+people, "x", "objectClass", "device", "uid", "printer", "mail", "printer@example.org")
	d.Add("uid=twin1,"+people, "x", "objectClass", "person", "mail", "twin@example.org", "employeeType", "gone")
	d.Add("uid=twin2,"+people, "x", "objectClass", "person", "mail", "twin@example.org")
	d.Add("uid=odd,"+people, "x", "objectClass", "person", "mail", "a*(b)\\c")
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	cfg := testConfig(urlOf(s))
	cfg.Users.EnabledFilter = "(!(employeeType=gone))"
	u := upstream(t, cfg)
	for _, c := range []struct {
		value, dn string
		eligible  bool
		err       error
	}{
		{value: "alice@example.org", dn: alice, eligible: true},
		{value: "ALICE@example.org", dn: alice, eligible: true},
		{value: "d@example.org", dn: "uid=disabled," + people},
		{value: "a*(b)\\c", dn: "uid=odd," + people, eligible: true},
		{value: "twin@example.org", err: auth.ErrAmbiguous}, // one of them is disabled, and counts
		{value: "printer@example.org", err: auth.ErrNotFound},
		{value: "nobody@example.org", err: auth.ErrNotFound},
		{value: "", err: auth.ErrNotFound},
		{value: "*", err: auth.ErrNotFound},
		{value: "alice*", err: auth.ErrNotFound},
		{value: "alice@example.org)(uid=*", err: auth.ErrNotFound},
		{value: "\\2a", err: auth.ErrNotFound},
		{value: "alice@example.org\x00", err: auth.ErrNotFound},
	} {
		e, err := u.FindBy(testContext(t, 5*time.Second), "mail", c.value)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%q: error %v, want %v", c.value, err, c.err)
		} else if err == nil && (e.DN != c.dn || !e.User || e.Eligible != c.eligible) {
			t.Errorf("%q: %+v, want %+v", c.value, e, c)
		}
	}
}

func TestFind(t *testing.T) {
	d := directory()
	d.Add("uid=disabled,"+people, "x", "objectClass", "person", "uid", "disabled", "mail", "d@example.org", "employeeType", "gone")
	d.Add("cn=printer,"+people, "x", "objectClass", "device", "uid", "printer")
	d.Add("uid=twin1,"+people, "x", "objectClass", "person", "mail", "twin@example.org")
	d.Add("uid=twin2,"+people, "x", "objectClass", "person", "mail", "twin@example.org")
	d.Add("uid=half1,"+people, "x", "objectClass", "person", "mail", "half@example.org", "employeeType", "gone")
	d.Add("uid=half2,"+people, "x", "objectClass", "person", "mail", "half@example.org")
	long := strings.Repeat("x", wire.MaxDN)
	d.Add("uid=long1,"+people, "x", "objectClass", "person", "mail", long)
	d.Add("uid=long2,"+people, "x", "objectClass", "person", "mail", long+"x")
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	cfg := testConfig(urlOf(s))
	cfg.Users.EnabledFilter = "(!(employeeType=gone))"
	cfg.Users.NameFilter = "(|(uid=%s)(mail=%s))"
	u := upstream(t, cfg)
	for _, c := range []struct {
		name, dn       string
		user, eligible bool
		err            error
	}{
		{name: alice, dn: alice, user: true, eligible: true},
		{name: "UID=Alice , OU=People,dc=example,dc=org", dn: alice, user: true, eligible: true},
		{name: "alice", dn: alice, user: true, eligible: true},
		{name: "alice@example.org", dn: alice, user: true, eligible: true},
		{name: "uid=disabled," + people, dn: "uid=disabled," + people, user: true},
		{name: "d@example.org", dn: "uid=disabled," + people, user: true},
		{name: "cn=printer," + people, dn: "cn=printer," + people, user: true},
		{name: "printer", dn: "cn=printer," + people, user: true},
		{name: serviceDN, dn: serviceDN},
		{name: "half@example.org", dn: "uid=half2," + people, user: true, eligible: true},
		{name: "twin@example.org", err: auth.ErrAmbiguous},
		{name: "uid=nobody," + people, err: auth.ErrNotFound},
		{name: "nobody", err: auth.ErrNotFound},
		{name: "*", err: auth.ErrNotFound},
		{name: "a*", err: auth.ErrNotFound},
		{name: "x)(uid=alice", err: auth.ErrNotFound},
		{name: "alice)(|(uid=*", err: auth.ErrNotFound},
		{name: "", err: auth.ErrNotFound},
		{name: long, dn: "uid=long1," + people, user: true, eligible: true},
		{name: long + "x", err: auth.ErrNotFound}, // not looked up
		{name: "alice\x00", err: auth.ErrNotFound},
	} {
		e, err := u.Find(testContext(t, 5*time.Second), c.name)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%.40q: error %v, want %v", c.name, err, c.err)
			continue
		}
		if err == nil && (e.DN != c.dn || e.User != c.user || e.Eligible != c.eligible) {
			t.Errorf("%q: %+v, want %+v", c.name, e, c)
		}
	}
}

// TestAccountEnds: with auto, and with it alone, an account has the first of its end dates.
func TestAccountEnds(t *testing.T) {
	d := directory()
	day := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	never := time.Time{}
	cases := []struct {
		attributes []string
		want       time.Time
	}{
		{nil, never},
		{[]string{"shadowExpire", "20849"}, day},
		{[]string{"shadowExpire", "1"}, time.Unix(86400, 0)},
		{[]string{"shadowExpire", "0"}, time.Unix(0, 0)},
		{[]string{"shadowExpire", "-1"}, never},
		{[]string{"shadowExpire", ""}, never},
		{[]string{"shadowExpire", "soon"}, never},
		{[]string{"shadowExpire", "9223372036854775807"}, never},
		{[]string{"accountExpires", "134143776000000000"}, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)},
		{[]string{"accountExpires", "0"}, never},
		{[]string{"accountExpires", "9223372036854775807"}, never},
		{[]string{"krbPrincipalExpiration", "20270131000000Z"}, day},
		{[]string{"pwdEndTime", "20270131000000Z"}, day},
		{[]string{"pwdEndTime", "20270131000000Z", "shadowExpire", "20850", "krbPrincipalExpiration", "20280101000000Z"}, day},
	}
	name := func(i int) string { return fmt.Sprintf("uid=ends%d,%s", i, people) }
	for i, c := range cases {
		d.Add(name(i), "x", append([]string{"objectClass", "person"}, c.attributes...)...)
	}
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	for filter, asked := range map[string]bool{"auto": true, "none": false, "(objectClass=*)": false} {
		cfg := testConfig(urlOf(s))
		cfg.Users.EnabledFilter = filter
		u := upstream(t, cfg)
		for i, c := range cases {
			e, err := u.Find(testContext(t, 5*time.Second), name(i))
			if want := c.want; err != nil || !e.Eligible || asked && !e.Ends.Equal(want) || !asked && !e.Ends.IsZero() {
				t.Errorf("%s: %q: %v, %+v, want %v", filter, c.attributes, err, e, want)
			}
		}
	}
}

func TestFindEntry(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := upstream(t, testConfig(urlOf(s)))
	e, err := u.Find(testContext(t, 5*time.Second), alice)
	if err != nil {
		t.Fatal(err)
	}
	if want := "entryuuid:6f2b7c1e-0000-4000-8000-000000000001"; e.Key != want {
		t.Errorf("key %q, want %q", e.Key, want)
	}
	values := []string{}
	for _, v := range e.Values {
		values = append(values, string(v))
	}
	if !slices.Equal(values, []string{"$app$a$h", "$app$b$h"}) {
		t.Errorf("values %q", values)
	}
	if _, err := u.Find(testContext(t, 5*time.Second), "alice"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("a name without name_filter: %v", err)
	}
}

// A user costs one search; only what is not found costs a second one.
func TestFindSearches(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := upstream(t, testConfig(urlOf(s)), func(u *Upstream) { u.clock = newFakeClock().clock() })
	_, _ = u.Find(testContext(t, 5*time.Second), "uid=nobody,"+people) // sees the base, see missing
	for name, want := range map[string]int{alice: 1, "uid=nobody," + people: 2} {
		before := len(s.Received(wire.OpSearchRequest))
		_, err := u.Find(testContext(t, 5*time.Second), name)
		if got := len(s.Received(wire.OpSearchRequest)) - before; got != want {
			t.Errorf("%s: %d searches, want %d (%v)", name, got, want, err)
		}
	}
}

// What the directory answers to a lookup, and what becomes of it. Nothing but
// a plain "there is none" is ErrNotFound: the rest is trouble.
func TestFindTrouble(t *testing.T) {
	entry := func(c *fakeldap.Conn, m wire.Message) { c.Entry(m.ID, alice, "uid", "alice") }
	for name, c := range map[string]struct {
		script func(c *fakeldap.Conn, m wire.Message)
		want   error // nil: any other
	}{
		"none":         {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 0) }, auth.ErrNotFound},
		"no object":    {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 32) }, auth.ErrNotFound},
		"no DN":        {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 34) }, auth.ErrNotFound},
		"operations":   {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 1) }, nil},
		"time limit":   {func(c *fakeldap.Conn, m wire.Message) { entry(c, m); c.Answer(m, 3) }, nil},
		"size limit":   {func(c *fakeldap.Conn, m wire.Message) { entry(c, m); c.Answer(m, 4) }, nil},
		"referral":     {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 10) }, nil},
		"admin limit":  {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 11) }, nil},
		"extended 12":  {func(c *fakeldap.Conn, m wire.Message) { c.Result(m.ID, wire.OpExtendedResponse, 12, "") }, nil},
		"extended 0":   {func(c *fakeldap.Conn, m wire.Message) { entry(c, m); c.Result(m.ID, wire.OpExtendedResponse, 0, "") }, nil},
		"credentials":  {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 49) }, nil},
		"access":       {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 50) }, nil},
		"busy":         {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 51) }, nil},
		"unavailable":  {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 52) }, nil},
		"other":        {func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 80) }, nil},
		"two entries":  {func(c *fakeldap.Conn, m wire.Message) { entry(c, m); entry(c, m); c.Answer(m, 0) }, nil},
		"no DN at all": {func(c *fakeldap.Conn, m wire.Message) { c.Entry(m.ID, "nonsense"); c.Answer(m, 0) }, nil},
		"closes":       {func(c *fakeldap.Conn, m wire.Message) { c.Close() }, nil},
		"entry, close": {func(c *fakeldap.Conn, m wire.Message) { entry(c, m); c.Close() }, nil},
		"nothing":      {func(c *fakeldap.Conn, m wire.Message) {}, nil},
		"reference": {func(c *fakeldap.Conn, m wire.Message) {
			c.Write(wire.AppendMessage(nil, m.ID, wire.OpSearchResultReference, wire.AppendStrings(nil, "ldap://evil/"), nil))
			c.Answer(m, 0)
		}, auth.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s := fake(t, fakeldap.Options{Handler: onSearch(c.script)})
			u := upstream(t, testConfig(urlOf(s)))
			start := time.Now()
			e, err := u.Find(testContext(t, 300*time.Millisecond), alice)
			if err == nil {
				t.Fatalf("found %+v", e)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
			known := errors.Is(err, auth.ErrNotFound) || errors.Is(err, auth.ErrAmbiguous)
			if c.want != nil && !errors.Is(err, c.want) || c.want == nil && known {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// A lookup is tried once more when its link is lost before the first entry, and only then.
func TestLookupRetry(t *testing.T) {
	for name, c := range map[string]struct {
		entries int
		want    int // searches for alice
	}{"before the first entry": {0, 2}, "after it": {1, 1}} {
		t.Run(name, func(t *testing.T) {
			s := fake(t, fakeldap.Options{Handler: onSearch(func(c2 *fakeldap.Conn, m wire.Message) {
				for range c.entries {
					c2.Entry(m.ID, alice)
				}
				c2.Close()
			})})
			u := upstream(t, testConfig(urlOf(s)))
			_, err := u.ServiceSearch(testContext(t, 5*time.Second), u.lookup.search(alice, wire.ScopeBase, presentObjectClass, nil), nil, nil)
			unavailable(t, err)
			n := 0
			for _, m := range s.Received(wire.OpSearchRequest) {
				if base(m) == alice {
					n++
				}
			}
			if n != c.want {
				t.Errorf("searched %d times, want %d", n, c.want)
			}
		})
	}
}

// An error of each ends the search, is returned as it is, and abandons the rest.
func TestServiceSearchEach(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) { c.Entry(m.ID, alice) })})
	u := upstream(t, testConfig(urlOf(s)))
	stop := errors.New("enough")
	_, err := u.ServiceSearch(testContext(t, 5*time.Second), u.lookup.search(alice, wire.ScopeBase, presentObjectClass, nil), nil,
		func(wire.SearchEntry, []byte) error { return stop })
	if !errors.Is(err, stop) || !s.WaitReceived(wire.OpAbandonRequest, 1) {
		t.Errorf("error %v, want the caller's own and an abandon", err)
	}
}

// Lookups on one link run at the same time and each hears its own answer.
func TestPipelinedFind(t *testing.T) {
	d := directory()
	for i := range 100 {
		d.Add(fmt.Sprintf("uid=u%d,%s", i, people), "", "objectClass", "person", "entryUUID", fmt.Sprint(i), "appPassword", fmt.Sprint(i))
	}
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	u := upstream(t, testConfig(urlOf(s)))
	ended := make(chan error, 100)
	for i := range 100 {
		go func() {
			for range 10 {
				e, err := u.Find(testContext(t, 10*time.Second), fmt.Sprintf("uid=u%d,%s", i, people))
				if err == nil && (e.Key != fmt.Sprint("entryuuid:", i) || string(e.Values[0]) != fmt.Sprint(i)) {
					err = fmt.Errorf("u%d got %+v", i, e)
				}
				if err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	for range 100 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := s.Accepted(); n != 2 {
		t.Errorf("%d connections for lookups, want 2", n)
	}
}

// A refused bind as bind_dn is trouble for everybody, said plainly, logged once, and not repeated with every lookup.
func TestServiceBindRefused(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.BindPassword = "canary-wrong"
	clk := newFakeClock()
	log := &logBuffer{}
	u := upstream(t, cfg, func(u *Upstream) { u.clock, u.log = clk.clock(), log.logger() })
	for range 20 {
		_, err := u.Find(testContext(t, 5*time.Second), alice)
		if !ErrServiceBind(err) || !strings.Contains(err.Error(), "upstream.bind_dn") {
			t.Fatalf("error %v", err)
		}
	}
	if n := userBinds(s, serviceDN); n > 2 {
		t.Errorf("%d binds with a wrong password", n)
	}
	if n := strings.Count(log.String(), "lookups fail"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if strings.Contains(log.String(), "canary") {
		t.Error("the password is in the log")
	}
	if !u.Info().Servers[0].Up {
		t.Error("a refused bind made the server ill")
	}
	d := directory()
	d.Add(serviceDN, "canary-wrong")
	s.SetHandler(d.Handle)
	clk.advance(maxRefusal)
	if _, err := u.Find(testContext(t, 5*time.Second), alice); err != nil {
		t.Errorf("after the password was mended: %v", err)
	}
}

func TestAnonymousService(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.BindDN = ""
	u := upstream(t, cfg)
	if _, err := u.Find(testContext(t, 5*time.Second), alice); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Received(wire.OpBindRequest)); n != 0 {
		t.Errorf("%d binds without a bind_dn", n)
	}
}

// A base that the upstream spells in its own way is learnt.
func TestBaseSpelling(t *testing.T) {
	const spelled = "x-unit=people,dc=example,dc=org"
	s := fake(t, fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) {
		switch {
		case m.Op == wire.OpSearchRequest && base(m) == people:
			c.Entry(m.ID, spelled)
		case m.Op == wire.OpSearchRequest && base(m) == alice:
			c.Entry(m.ID, "uid=alice,"+spelled)
		}
		c.Answer(m, 0)
	}})
	u := upstream(t, testConfig(urlOf(s)))
	e, err := u.Find(testContext(t, 5*time.Second), alice)
	if err != nil || !e.User {
		t.Errorf("%+v, %v; want a user", e, err)
	}
}

func TestFallbackDenied(t *testing.T) {
	d := directory()
	d.Add("uid=bob,"+people, "", "objectClass", "person", "memberOf", "cn=apponly")
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	for filter, want := range map[string][2]bool{"": {false, false}, "(memberOf=cn=apponly)": {false, true}, "(objectClass=person)": {true, true}} {
		cfg := testConfig(urlOf(s))
		cfg.Fallback.DenyFilter = filter
		u := upstream(t, cfg)
		for i, dn := range []string{alice, "uid=bob," + people} {
			got, err := u.FallbackDenied(testContext(t, 5*time.Second), &auth.Entry{DN: dn})
			if err != nil || got != want[i] {
				t.Errorf("%s on %s: %v, %v", filter, dn, got, err)
			}
		}
		_, err := u.FallbackDenied(testContext(t, 5*time.Second), &auth.Entry{DN: "uid=gone," + people})
		if filter != "" && err == nil {
			t.Error("an entry that is gone is not denied")
		}
	}
}

func TestState(t *testing.T) {
	d := directory()
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	u := upstream(t, testConfig(urlOf(s)))
	e, err := u.Find(testContext(t, 5*time.Second), alice)
	if err != nil || e.State.Fingerprint != "" || e.State.Locked {
		t.Fatalf("%+v, %v", e, err)
	}
	d.Add(alice, "", "objectClass", "person", "pwdChangedTime", "20260101000000Z", "pwdAccountLockedTime", "20260102000000Z")
	st, err := u.State(testContext(t, 5*time.Second), e)
	if err != nil || !st.Locked || st.Fingerprint == "" {
		t.Errorf("%+v, %v", st, err)
	}
	d.Remove(alice)
	if _, err := u.State(testContext(t, 5*time.Second), e); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("an entry that is gone: %v", err)
	}
}

// With enabled_filter auto nobody is judged before the kind of server is known.
func TestAutoNeedsSurvey(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	s.Pause()
	cfg := testConfig(urlOf(s))
	cfg.Users.EnabledFilter = "auto"
	u := upstream(t, cfg)
	_, err := u.Find(testContext(t, time.Second), alice)
	unavailable(t, err)
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	isUp(t, u, 0, true)
	if e, err := u.Find(testContext(t, 5*time.Second), alice); err != nil || !e.Eligible {
		t.Errorf("%+v, %v", e, err)
	}
	if !u.Info().Read {
		t.Error("nothing was read")
	}
}

func TestCount(t *testing.T) {
	d := directory()
	d.Add("uid=bob,"+people, "", "objectClass", "person", "employeeType", "gone")
	d.Add("uid=carol,"+people, "", "objectClass", "person")
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	cfg := testConfig(urlOf(s))
	cfg.Users.EnabledFilter = "(!(employeeType=gone))"
	u := upstream(t, cfg)
	got, err := u.Count(testContext(t, 5*time.Second))
	if want := (Counts{Users: 3, Eligible: 2, Readable: 1}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestAbsentDN(t *testing.T) {
	cfg := testConfig(config.URL{Scheme: "ldap", Address: "127.0.0.1:1"})
	a, b := unstarted(t, cfg), unstarted(t, cfg)
	if a.AbsentDN() == b.AbsentDN() || !strings.HasSuffix(a.AbsentDN(), ","+people) {
		t.Errorf("%q, %q", a.AbsentDN(), b.AbsentDN())
	}
	if _, err := wire.ParseDN(a.AbsentDN()); err != nil {
		t.Error(err)
	}
}
