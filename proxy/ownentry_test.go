package proxy

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"appbind/wire"
)

// testOwn has the default attributes, and some that must not be had.
var testOwn = newOwnEntry([]string{"objectClass", "uid", "cn", "sn", "mail", "memberOf", "UidNumber", "uid",
	"userPassword", "2.5.4.35", "appPassword", "AppPassword;x", "*", "+", "1.1=", "@person", ""}, "appPassword")

// selected is an attribute selection.
func selected(names ...string) []byte { return wire.AppendStrings(nil, names...) }

func TestOwnEntryScope(t *testing.T) {
	t.Parallel()
	const other, parent = "uid=bob,ou=people,dc=example,dc=org", "ou=people,dc=example,dc=org"
	for _, c := range []struct {
		base  string
		scope int
		want  bool
	}{
		{aliceDN, wire.ScopeBase, true},
		{"UID=Alice, OU=People,DC=Example,DC=Org", wire.ScopeBase, true},
		{"userid=alice,ou=people,dc=example,dc=org", wire.ScopeBase, true},
		{aliceDN, wire.ScopeOne, false},
		{aliceDN, wire.ScopeChildren, false},
		{aliceDN, wire.ScopeWhole, true},
		{parent, wire.ScopeBase, false},
		{parent, wire.ScopeOne, true},
		{parent, wire.ScopeChildren, true},
		{"ou=groups,dc=example,dc=org", wire.ScopeChildren, false},
		{parent, wire.ScopeWhole, true},
		{"dc=example,dc=org", wire.ScopeOne, false},
		{"dc=example,dc=org", wire.ScopeWhole, true},
		{"", wire.ScopeWhole, true},
		{"", wire.ScopeOne, false},
		{"", wire.ScopeBase, false},
		{other, wire.ScopeBase, false},
		{other, wire.ScopeWhole, false},
		{"cn=x," + aliceDN, wire.ScopeWhole, false},
		{"cn=x," + aliceDN, wire.ScopeOne, false},
		{"ou=groups,dc=example,dc=org", wire.ScopeWhole, false},
		{"ou=groups,dc=example,dc=org", wire.ScopeOne, false},
	} {
		s := wire.SearchRequest{Base: []byte(c.base), Scope: c.scope, Filter: compile(t, "(uid=alice)")}
		_, send, r := testOwn.search(s, nil, aliceDN)
		if send != c.want || r != nil {
			t.Errorf("%q %d: %v %+v", c.base, c.scope, send, r)
		}
	}
	s := wire.SearchRequest{Base: []byte("not a DN"), Filter: compile(t, "(uid=alice)")}
	if _, send, r := testOwn.search(s, nil, aliceDN); send || r == nil || r.code != wire.ResultInvalidDNSyntax {
		t.Errorf("malformed base: %v %+v", send, r)
	}
	// A DN that the upstream writes in a form of its own.
	const odd = "<odd>"
	for base, want := range map[string]bool{aliceDN: false, "": false} {
		s.Base = []byte(base)
		if _, send, r := testOwn.search(s, nil, odd); send != want || r != nil {
			t.Errorf("odd name, base %q: %v %+v", base, send, r)
		}
	}
}

func TestOwnEntryRequest(t *testing.T) {
	t.Parallel()
	s := wire.SearchRequest{Base: []byte("dc=example,dc=org"), Scope: wire.ScopeWhole, Deref: 3, SizeLimit: 7, TimeLimit: 9, TypesOnly: true,
		Filter: compile(t, "(&(objectClass=inetOrgPerson)(|(uid=alice)(mail=alice)))"), Attributes: selected("uid")}
	got, send, r := testOwn.search(s, wire.AppendControl(nil, "2.16.840.1.113730.3.4.18", false, []byte("dn:cn=admin")), aliceDN)
	want := wire.SearchRequest{Base: []byte(aliceDN), Scope: wire.ScopeBase, Deref: 0, SizeLimit: 7, TimeLimit: 9, TypesOnly: true, Filter: s.Filter, Attributes: s.Attributes}
	if !send || r != nil || !bytes.Equal(got.Append(nil), want.Append(nil)) {
		t.Errorf("%v %+v\n got %+v\nwant %+v", send, r, got, want)
	}
}

func TestOwnEntryControls(t *testing.T) {
	t.Parallel()
	s := wire.SearchRequest{Base: []byte(aliceDN), Filter: compile(t, "(uid=alice)")}
	paged := wire.AppendControl(nil, "1.2.840.113556.1.4.319", false, text("x"))
	if _, send, r := testOwn.search(s, paged, aliceDN); !send || r != nil {
		t.Errorf("not critical: %v %+v", send, r)
	}
	critical := wire.AppendControl(nil, "2.16.840.1.113730.3.4.2", true, nil)
	if _, send, r := testOwn.search(s, slices.Concat(paged, critical), aliceDN); send || r == nil || r.code != wire.ResultUnavailableCriticalExtension {
		t.Errorf("critical: %v %+v", send, r)
	}
	if _, send, r := testOwn.search(s, []byte{1}, aliceDN); send || r != refuseControlValue {
		t.Errorf("malformed: %v %+v", send, r)
	}
}

func TestOwnEntrySelection(t *testing.T) {
	t.Parallel()
	all := []string{"objectClass", "uid", "cn", "sn", "mail", "memberOf", "UidNumber"}
	for _, c := range []struct{ ask, want []string }{
		{nil, all},
		{[]string{"*"}, all},
		{[]string{"*", "+"}, all},
		{[]string{"userPassword", "*"}, all},
		{[]string{"uid", "MAIL", "memberof", "cn;lang-de"}, []string{"uid", "MAIL", "memberof", "cn;lang-de"}},
		{[]string{"dn"}, []string{"1.1"}}, // nslcd
		{[]string{"1.1"}, []string{"1.1"}},
		{[]string{"+"}, []string{"1.1"}},
		{[]string{"@inetOrgPerson"}, []string{"1.1"}},
		{[]string{"userPassword", "2.5.4.35", "appPassword", "appPassword;x", "APPPASSWORD", "sambaNTPassword", "entryUUID", "1.1=", ""}, []string{"1.1"}},
		{[]string{"uid", "appPassword", "description"}, []string{"uid"}},
	} {
		s := wire.SearchRequest{Base: []byte(aliceDN), Filter: compile(t, "(uid=alice)"), Attributes: selected(c.ask...)}
		out, send, r := testOwn.search(s, nil, aliceDN)
		if !send || r != nil || !bytes.Equal(out.Attributes, selected(c.want...)) {
			t.Errorf("%q: %v %+v %q", c.ask, send, r, out.Attributes)
		}
	}
	// Nothing allowed: nothing is shown, not everything.
	s := wire.SearchRequest{Base: []byte(aliceDN), Filter: compile(t, "(objectClass=*)")}
	if out, send, _ := newOwnEntry(nil).search(s, nil, aliceDN); !send || !bytes.Equal(out.Attributes, selected("1.1")) {
		t.Errorf("empty list: %v %q", send, out.Attributes)
	}
	s.Attributes = []byte{1}
	if _, send, r := testOwn.search(s, nil, aliceDN); send || r != refuseRequest {
		t.Errorf("malformed: %v %+v", send, r)
	}
}

func TestOwnEntryFilter(t *testing.T) {
	t.Parallel()
	const never, always = "", "(objectClass=*)"
	for _, c := range []struct{ in, want string }{
		{"(objectClass=*)", "(objectClass=*)"},
		{"(&(objectClass=inetOrgPerson)(|(uid=alice)(mail=alice)))", "(&(objectClass=inetOrgPerson)(|(uid=alice)(mail=alice)))"},
		{"(&(cn;lang-de=x)(SN=a*b)(uidNumber>=3)(mail~=x)(uid:caseExactMatch:=x)(!(memberOf=x)))", "(&(cn;lang-de=x)(SN=a*b)(uidNumber>=3)(mail~=x)(uid:caseExactMatch:=x)(!(memberOf=x)))"},
		// No item on another attribute gets through, whatever stands around it.
		{"(userPassword=*)", never},
		{"(appPassword=$app$x*)", never},
		{"(2.25.987654321=x)", never},
		{"(shadowExpire>=1)", never},
		{"(:caseExactMatch:=x)", never},
		{"(:dn:caseExactMatch:=x)", never},
		{"(!(appPassword=x))", never},
		{"(!(!(appPassword=x)))", never},
		{"(&(uid=alice)(appPassword=x))", never},
		{"(&(uid=alice)(!(appPassword=x)))", never},
		{"(|(appPassword=x)(!(description=y)))", never},
		{"(|(uid=alice)(appPassword=x))", "(|(uid=alice))"},
		{"(|(uid=alice)(!(appPassword=x)))", "(|(uid=alice))"},
		{"(!(&(uid=alice)(appPassword=x)))", "(!(&(uid=alice)))"},
		{"(!(|(uid=alice)(appPassword=x)))", never},
		{"(!(&(appPassword=x)(description=x)))", never},
		{"(&(objectClass=person)(|(uid=alice)(gecos=alice)))", "(&(objectClass=person)(|(uid=alice)))"},
		// The absolute filters of RFC 4526.
		{"(&)", always},
		{"(|)", never},
		{"(!(|))", always},
		{"(!(&))", never},
		{"(&(uid=alice)(&)(!(|)))", "(&(uid=alice))"},
		{"(|(uid=alice)(&))", always},
	} {
		s := wire.SearchRequest{Base: []byte(aliceDN), Filter: compileAny(t, c.in)}
		out, send, r := testOwn.search(s, nil, aliceDN)
		if r != nil || send != (c.want != never) || send && !bytes.Equal(out.Filter, compileAny(t, c.want)) {
			t.Errorf("%s: %v %+v %q, want %s", c.in, send, r, out.Filter, c.want)
		}
	}
}

// compileAny is compile that knows (&) and (|), which go-ldap does not.
func compileAny(t testing.TB, filter string) []byte {
	t.Helper()
	const and, or = "(cn=ABSOLUTE-TRUE)", "(cn=ABSOLUTE-FALSE)"
	b := []byte(filter)
	b = bytes.ReplaceAll(b, []byte("(&)"), []byte(and))
	b = bytes.ReplaceAll(b, []byte("(|)"), []byte(or))
	return absolute(t, compile(t, string(b)), compile(t, and), compile(t, or))
}

// absolute replaces the two stand-ins.
func absolute(t testing.TB, filter, and, or []byte) []byte {
	tag, content, _, err := wire.Element(filter)
	switch {
	case err != nil:
		t.Fatal(err)
	case bytes.Equal(filter, and):
		return []byte{filterAnd, 0}
	case bytes.Equal(filter, or):
		return []byte{filterOr, 0}
	case tag != filterAnd && tag != filterOr && tag != filterNot:
		return filter
	}
	var parts []byte
	for len(content) > 0 {
		_, _, rest, _ := wire.Element(content)
		parts = append(parts, absolute(t, content[:len(content)-len(rest)], and, or)...)
		content = rest
	}
	return wire.AppendElement(nil, tag, parts)
}

func TestOwnEntryFilterWithoutObjectClass(t *testing.T) {
	t.Parallel()
	o := newOwnEntry([]string{"uid"})
	for filter, want := range map[string]bool{"(objectClass=*)": true, "(objectClass=person)": false, "(uid=a)": true} {
		s := wire.SearchRequest{Base: []byte(aliceDN), Filter: compile(t, filter)}
		if _, send, r := o.search(s, nil, aliceDN); send != want || r != nil {
			t.Errorf("%s: %v %+v", filter, send, r)
		}
	}
}

func TestOwnEntryFilterMalformed(t *testing.T) {
	t.Parallel()
	for _, f := range [][]byte{nil, {filterAnd, 9}, {filterAnd, 1, 0}, {filterNot, 0}, {filterEquality, 0}, {0x99, 0}, append(compile(t, "(uid=a)"), 1)} {
		if _, send, r := testOwn.search(wire.SearchRequest{Base: []byte(aliceDN), Filter: f}, nil, aliceDN); send || r != refuseRequest {
			t.Errorf("%x: %v %+v", f, send, r)
		}
	}
	deep := compile(t, "(uid=a)")
	for range wire.MaxNesting + 10 {
		deep = wire.AppendElement(nil, filterNot, deep)
	}
	if _, send, r := testOwn.search(wire.SearchRequest{Base: []byte(aliceDN), Filter: deep}, nil, aliceDN); send || r != refuseRequest {
		t.Errorf("nested too deep: %v %+v", send, r)
	}
}

func TestOwnEntryNeverShows(t *testing.T) {
	t.Parallel()
	names := []string{"userPassword", "USERPASSWORD", "userPassword;x", "2.5.4.35", "authPassword", "sambaNTPassword", "sambaLMPassword", "krbPrincipalKey",
		"unicodePwd", "dBCSPwd", "ntPwdHistory", "supplementalCredentials", "unixUserPassword", "msSFU30Password", "oathSecret", "ipaNTHash", "ipatokenOTPkey",
		"pwdHistory", "passwordHistory", "userPKCS12", "ms-Mcs-AdmPwd", "msLAPS-Password", "msDS-ManagedPassword", "olcRootPW", "mySecret", "sshPrivateKey", "appPassword", "mailToken", "mailToken;x"}
	o := newOwnEntry(append([]string{"uid", "pwdChangedTime", "sshPublicKey", "pwdLastSet"}, names...), "mailToken")
	if want := []string{"uid", "pwdChangedTime", "sshPublicKey", "pwdLastSet"}; !slices.Equal(o.attributes, want) {
		t.Errorf("%q, want %q", o.attributes, want)
	}
	for _, name := range names {
		out, changed, err := o.entry([]byte("x"), entryBody(aliceDN, "uid=a", name+"=x", "sn=b"))
		if err != nil || !changed || !bytes.Equal(out, append([]byte("x"), entryBody(aliceDN, "uid=a", "sn=b")...)) {
			t.Errorf("%s: %q %v %v", name, out, changed, err)
		}
	}
	if out, changed, err := o.entry([]byte("x"), entryBody(aliceDN, "uid=a", "mail;x=b")); changed || err != nil || string(out) != "x" {
		t.Errorf("%q %v %v", out, changed, err)
	}
	for _, body := range [][]byte{{1}, append(text(""), sequence([]byte{1, 1, 1})...)} {
		if _, _, err := o.entry(nil, body); err == nil {
			t.Errorf("%x: no error", body)
		}
	}
}

func TestOwnEntryGuard(t *testing.T) {
	t.Parallel()
	g := testOwn.guard(fakeSecrets{})
	for _, name := range []string{"appPassword", "mailSecret", "anySecret", "2.25.987654321", "userPassword", "USERPASSWORD;x", "2.5.4.35", "krbPrincipalKey", "reqMod"} {
		if r := g.request(ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(|(uid=a)("+name+"=x*))"), nil)); r != refuseSecrets {
			t.Errorf("filter on %s: %+v", name, r)
		}
		if r := g.request(ask(wire.OpCompareRequest, compareBody(aliceDN, name, "x"), nil)); r != refuseSecrets {
			t.Errorf("compare of %s: %+v", name, r)
		}
	}
	if r := g.request(ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(&(uid=a)(pwdChangedTime>=2026))", "userPassword"), nil)); r != nil {
		t.Errorf("%+v", r)
	}
	out, changed, err := g.entry(nil, entryBody(aliceDN, "uid=a", "userPassword={SSHA}x", "2.25.987654321=x", "sn=b", "unicodePwd=x"))
	if err != nil || !changed || !bytes.Equal(out, entryBody(aliceDN, "uid=a", "sn=b")) {
		t.Errorf("%q %v %v", out, changed, err)
	}
}

// truth is the three-valued logic of RFC 4511 4.5.1.7.
type truth int

const (
	isFalse truth = iota
	isUndefined
	isTrue
)

// evaluate is a filter's truth where items on cn have the truth that value
// says, and all others are Undefined.
func evaluate(t testing.TB, filter []byte, value map[string]truth) truth {
	tag, content, _, err := wire.Element(filter)
	if err != nil {
		t.Fatal(err)
	}
	if tag != filterAnd && tag != filterOr && tag != filterNot {
		result := isUndefined
		if err := wire.EachFilterItem(filter, func(i wire.FilterItem) bool {
			if string(i.Attribute) == "cn" {
				result = value[string(i.Value)]
			} else if i.Tag == filterPresent {
				result = isTrue
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return result
	}
	least, most := isTrue, isFalse
	for len(content) > 0 {
		_, _, rest, _ := wire.Element(content)
		v := evaluate(t, content[:len(content)-len(rest)], value)
		least, most = min(least, v), max(most, v)
		content = rest
	}
	switch tag {
	case filterAnd:
		return least
	case filterOr:
		return most
	}
	return isTrue - least
}

// randomFilter has items on cn, which is allowed, and on description, which is not.
func randomFilter(r *rand.Rand, depth int) []byte {
	tag, parts := byte(filterAnd), r.IntN(4)
	switch n := r.IntN(8); {
	case depth == 0 || n < 2:
		return wire.AppendElement(nil, filterEquality, slices.Concat(text("cn"), text([]string{"a", "b"}[r.IntN(2)])))
	case n < 4:
		return wire.AppendElement(nil, filterEquality, slices.Concat(text("description"), text("x")))
	case n < 5:
		tag, parts = filterNot, 1
	case n < 6:
		tag = filterOr
	}
	var content []byte
	for range parts {
		content = append(content, randomFilter(r, depth-1)...)
	}
	return wire.AppendElement(nil, tag, content)
}

// What is sent upstream selects the entry exactly when the client's filter, with
// the items that are not allowed Undefined, is TRUE.
func TestOwnEntryFilterMeansTheSame(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		s := wire.SearchRequest{Base: []byte(aliceDN), Filter: randomFilter(r, 5)}
		out, send, refused := testOwn.search(s, nil, aliceDN)
		if refused != nil {
			t.Fatalf("%x: %+v", s.Filter, refused)
		}
		if bytes.Contains(out.Filter, []byte("description")) {
			t.Fatalf("%x: %q", s.Filter, out.Filter)
		}
		for i := range 9 {
			value := map[string]truth{"a": truth(i % 3), "b": truth(i / 3)}
			want := evaluate(t, s.Filter, value) == isTrue
			got := send && evaluate(t, out.Filter, value) == isTrue
			if got != want {
				t.Fatalf("%x with %v: %v, want %v; sent %v %q", s.Filter, value, got, want, send, out.Filter)
			}
		}
	}
}
