package backend

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// copyOf is an upstream with a copy for an outage, behind a relay.
func copyOf(t *testing.T, ldif ...string) (*Upstream, *relay, config.URL) {
	t.Helper()
	return copyAt(t, time.Now, ldif...)
}

// copyAt is copyOf with a clock.
func copyAt(t *testing.T, now func() time.Time, ldif ...string) (*Upstream, *relay, config.URL) {
	t.Helper()
	direct := slapd(t, false, ldif...)
	r, url := newRelay(t, direct)
	cfg := slapdConfig(url)
	cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(time.Hour)
	cfg.OwnEntryAttributes = []string{"uid", "cn", "surname", "givenName", "mail", "description", "memberOf"}
	u := upstream(t, cfg, func(u *Upstream) { u.replica.pause, u.clock.now = 50*time.Millisecond, now })
	if i := u.Replica(testContext(t, 10*time.Second)); !i.Current {
		t.Fatalf("replica: %+v", i)
	}
	return u, r, direct
}

// outage cuts the link and waits for the outage mode.
func outage(t *testing.T, u *Upstream, r *relay) {
	t.Helper()
	r.cut()
	u.examineAll()
	until(t, "the server is down", 10*time.Second, u.Down)
	if !u.Outage(t.Context()) {
		t.Fatal("no outage mode")
	}
}

// answerOf is an answer in a form to compare: result code, and entries with their attributes, sorted.
func answerOf(t *testing.T, code int32, bodies [][]byte) string {
	t.Helper()
	var lines []string
	for _, b := range bodies {
		e, err := wire.DecodeEntry(b)
		if err != nil {
			t.Fatal(err)
		}
		parts := []string{}
		_ = wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
			var values []string
			_ = wire.EachString(a.Values, func(v []byte) bool { values = append(values, string(v)); return true })
			slices.Sort(values)
			parts = append(parts, fmt.Sprintf("%s=%q", a.Type, values))
			return true
		})
		slices.Sort(parts)
		lines = append(lines, string(e.DN)+" "+strings.Join(parts, " "))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d %s", code, strings.Join(lines, "\n"))
}

// TestRecallAsSlapd: what memory answers is what slapd answered, for searches that are made up at random. The rest it leaves.
func TestRecallAsSlapd(t *testing.T) {
	u, r, _ := copyOf(t, "dn: ou=a,"+people+"\nobjectClass: organizationalUnit\nou: a\n\n",
		user("eve", "mail: Eve@example.org", "mail: e@example.org", "description: x  Y", "givenName: Eve"),
		user("jo", "mail: jo@example.org", "cn:: SsO2cmc=", "cn;lang-de: jo"),
		strings.Replace(user("al ice", "description: *x"), ","+people, ",ou=a,"+people, 1))
	rng := rand.New(rand.NewPCG(1, 2))
	values := []string{"eve", "EVE", " eve ", "jo", "jörg", "JÖRG", "al ice", "al  ice", "nobody", "eve@EXAMPLE.org", "x y", "person", "inetorgperson",
		"ve", "e", "2.16.840.1.113730.3.2.2", "device"}
	types := []string{"uid", "userid", "CN", "sn", "surname", "mail", "objectClass", "description", "givenName", "2.5.4.3", "employeeType", "memberOf", "cn;lang-de"}
	escape := strings.NewReplacer("*", `\2a`, "(", `\28`, ")", `\29`, "\\", `\5c`)
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	var filter func(depth int) string
	filter = func(depth int) string {
		n := rng.IntN(10)
		if depth == 0 {
			n %= 6
		}
		switch v := escape.Replace(pick(values)); n {
		case 4:
			return fmt.Sprintf("(%s=*)", pick(types))
		case 5:
			return fmt.Sprintf("(%s=%s)", pick(types), pick([]string{v + "*", "*" + v, "*" + v + "*", "e*" + v}))
		case 6, 7:
			return "(&" + filter(depth-1) + filter(depth-1) + ")"
		case 8:
			return "(|" + filter(depth-1) + filter(depth-1) + ")"
		case 9:
			return "(!" + filter(depth-1) + ")"
		default:
			return fmt.Sprintf("(%s=%s)", pick(types), v)
		}
	}
	type question struct {
		text   string
		search *wire.SearchRequest
		live   string
	}
	var questions []question
	for i := range 3000 {
		text := filter(2)
		f, err := compileFilter("t", text)
		if err != nil {
			t.Fatal(text, err)
		}
		s := &wire.SearchRequest{Base: []byte(pick([]string{people, people, "OU=People,dc=example, dc=org", "ou=a," + people, "uid=eve," + people})),
			Scope: pick2(rng, wire.ScopeWhole, wire.ScopeChildren, wire.ScopeOne, wire.ScopeBase), Filter: f, TypesOnly: i%20 == 0,
			Attributes: wire.AppendStrings(nil, [][]string{{"uid"}, {"cn", "mail"}, {"1.1"}, {"sn", "objectClass"}}[i%4]...)}
		var bodies [][]byte
		res, err := u.ServiceSearch(t.Context(), s, nil, func(e wire.SearchEntry, _ []byte) error {
			bodies = append(bodies, e.Append(nil))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		questions = append(questions, question{fmt.Sprintf("%s %d %s", s.Base, s.Scope, text), s, answerOf(t, res.Code, bodies)})
	}
	outage(t, u, r)
	answered := 0
	for _, q := range questions {
		bodies, code, err := u.Recall(q.search, "")
		if err != nil {
			if !errors.Is(err, ErrInexact) {
				t.Fatal(err)
			}
			continue
		}
		answered++
		if got := answerOf(t, code, bodies); got != q.live {
			t.Errorf("%s: from memory\n%s\nfrom slapd\n%s", q.text, got, q.live)
		}
	}
	t.Logf("%d of %d answered", answered, len(questions))
	if answered < 150 {
		t.Errorf("only %d answered", answered)
	}
}

func pick2(rng *rand.Rand, list ...int) int { return list[rng.IntN(len(list))] }

// TestRecallLeaves: what memory must not answer.
func TestRecallLeaves(t *testing.T) {
	var more []string
	for i := range maxRecalled + 1 {
		more = append(more, user(fmt.Sprintf("u%d", i), "mail: m@example.org"))
	}
	direct := slapd(t, false, strings.Join(more, ""))
	r, url := newRelay(t, direct)
	cfg := slapdConfig(url)
	cfg.AppPasswords.Lookup, cfg.AppPasswords.MaxStale = "replica", config.Duration(time.Hour)
	cfg.OwnEntryAttributes = []string{"uid", "cn", "mail", "employeeNumber"}
	u := upstream(t, cfg)
	search := func(base string, filter string, limit int32, attributes ...string) error {
		t.Helper()
		f, err := compileFilter("t", filter)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = u.Recall(&wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: f, SizeLimit: limit,
			Attributes: wire.AppendStrings(nil, attributes...)}, "")
		return err
	}
	if err := search(people, "(uid=alice)", 0, "uid"); !errors.Is(err, ErrAnswers) {
		t.Errorf("without an outage: %v", err)
	}
	// slapd's size limit keeps the replica from being complete: without a copy there is no outage mode.
	r.cut()
	u.examineAll()
	until(t, "down", 10*time.Second, u.Down)
	if u.Outage(t.Context()) {
		t.Error("an outage mode without a copy")
	}
	tb := newTable(newCopied([]string{"objectclass", "uid", "mail", "employeenumber"}, newSchema("appPassword", nil)))
	for i := range maxRecalled + 1 {
		uid := fmt.Sprintf("u%d", i)
		list := wire.AppendAttribute(nil, "uid", []byte(uid))
		list = wire.AppendAttribute(list, "mail", []byte("m@example.org"))
		tb.put(fmt.Sprint(i), &record{entry: &auth.Entry{DN: "uid=" + uid + "," + people}, copied: list}, people)
	}
	tb.prove(time.Now())
	tb.end()
	u.replica.last.Store(tb)
	for _, c := range []struct {
		base, filter string
		limit        int32
		attributes   []string
		want         error
	}{
		{people, "(uid=u1)", 0, []string{"uid"}, nil},
		{people, "(mail=m@example.org)", 0, []string{"uid"}, ErrInexact}, // too many
		{people, "(uid=u1)", 0, []string{"employeeNumber"}, ErrInexact},  // nobody shows it
		{people, "(!(employeeNumber=1))", 0, []string{"uid"}, ErrInexact},
		{people, "(&(uid=u1)(!(employeeNumber=1)))", 0, []string{"uid"}, ErrInexact},
		{people, "(uid=u1)", 0, []string{"appPassword"}, ErrInexact},
		{people, "(uid=u1)", 0, []string{"*"}, ErrInexact},
		{people, "(uid=u1)", 0, []string{"uid", "+"}, ErrInexact},
		{people, "(uid=u1)", 0, nil, ErrInexact},
		{people, "(appPassword=x)", 0, []string{"uid"}, ErrInexact},
		{people, "(uid>=u1)", 0, []string{"uid"}, ErrInexact},
		{people, "(uid~=u1)", 0, []string{"uid"}, ErrInexact},
		{people, "(uid:caseExactMatch:=u1)", 0, []string{"uid"}, ErrInexact},
		{people, "(uid=nobody)", 0, []string{"uid"}, ErrNoMatch},
		{"dc=example,dc=org", "(uid=u1)", 0, []string{"uid"}, ErrInexact},
		{"", "(uid=u1)", 0, []string{"uid"}, ErrInexact},
		{"not a DN", "(uid=u1)", 0, []string{"uid"}, ErrInexact},
	} {
		if err := search(c.base, c.filter, c.limit, c.attributes...); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s below %q for %v: %v, want %v", c.filter, c.base, c.attributes, err, c.want)
		}
	}
	if _, code, err := u.Recall(&wire.SearchRequest{Base: []byte(people), Scope: wire.ScopeWhole, SizeLimit: 1,
		Filter: mustFilter(t, "(|(uid=u1)(uid=u2))"), Attributes: wire.AppendStrings(nil, "uid")}, ""); err != nil || code != wire.ResultSizeLimitExceeded {
		t.Errorf("size limit: %d %v", code, err)
	}
	both := &wire.SearchRequest{Base: []byte(people), Scope: wire.ScopeWhole, Filter: mustFilter(t, "(|(uid=u1)(uid=u2))"), Attributes: wire.AppendStrings(nil, "uid")}
	if bodies, code, err := u.Recall(both, "uid=u2,"+people); err != nil || code != 0 || len(bodies) != 1 || !bytes.Contains(bodies[0], []byte("uid=u2,")) {
		t.Errorf("a session with an app password finds %d entries, code %d, %v", len(bodies), code, err)
	}
	if _, _, err := u.Recall(both, "uid=u3,"+people); !errors.Is(err, ErrNoMatch) {
		t.Errorf("others are found by a session with an app password: %v", err)
	}
	if _, _, err := u.Recall(both, "uid=nobody,"+people); err == nil || errors.Is(err, ErrNoMatch) {
		t.Errorf("somebody who is not in the copy: %v", err)
	}
	r.open.Store(true)
	until(t, "up again", 10*time.Second, func() bool { return !u.Down() })
	if err := search(people, "(uid=u1)", 0, "uid"); !errors.Is(err, ErrAnswers) {
		t.Errorf("while a server answers: %v", err)
	}
	r.cut()
	u.examineAll()
	until(t, "down again", 10*time.Second, u.Down)
	if err := search(people, "(uid=u1)", 0, "uid"); err != nil {
		t.Errorf("down again: %v", err)
	}
	tb.proven = time.Now().Add(-time.Hour)
	if err := search(people, "(uid=u1)", 0, "uid"); !errors.Is(err, ErrAnswers) || u.Outage(t.Context()) {
		t.Errorf("a copy that is too old answers: %v", err)
	}
}

func mustFilter(t *testing.T, text string) []byte {
	t.Helper()
	f, err := compileFilter("t", text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
