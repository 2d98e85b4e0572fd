package proxy

import (
	"slices"
	"strings"
	"testing"

	"appbind/wire"
)

// fakeSecrets is a schema with the secrets attribute, an alias of it, its OID
// and a supertype.
type fakeSecrets struct{}

func (fakeSecrets) Secrets(description []byte) bool {
	for i, c := range description {
		if c == ';' {
			description = description[:i]
			break
		}
	}
	for _, n := range [...]string{"appPassword", "mailSecret", "2.25.987654321"} {
		if equalFoldASCII(description, n) {
			return true
		}
	}
	return false
}

func (f fakeSecrets) SecretsInFilter(description []byte) bool {
	return f.Secrets(description) || equalFoldASCII(description, "anySecret")
}

// fakeShared is a schema where userPassword is the secrets attribute.
type fakeShared struct{}

func (fakeShared) Secrets(d []byte) bool {
	name, _, _ := strings.Cut(string(d), ";")
	return strings.EqualFold(name, "userPassword") || name == "2.5.4.35"
}
func (f fakeShared) SecretsInFilter(d []byte) bool { return f.Secrets(d) }

var (
	testGuard   = &guard{schema: fakeSecrets{}}
	sharedGuard = &guard{schema: fakeShared{}, shared: true}
)

// spellings are ways to name the secrets attribute.
var spellings = []string{"appPassword", "APPPASSWORD", "mailsecret", "2.25.987654321", "appPassword;binary", "appPassword;lang-de;x-y"}

// logNames are the attributes of logs that must not be asked about.
var logNames = []string{"reqMod", "REQOLD", "reqAssertion", "reqFilter", "reqNewRDN", "reqData", "changes", "changes;x-a", "newrdn", "nscpEntryWSI",
	"reqControls", "reqRespControls", "1.3.6.1.4.1.4203.666.11.5.1.16", "2.16.840.1.113730.3.1.8"}

// ask is a request as a message.
func ask(op wire.Op, body, controls []byte) wire.Message {
	m, err := wire.Parse(wire.AppendMessage(nil, 1, op, body, controls))
	if err != nil {
		panic("appbind: internal error: " + err.Error())
	}
	return m
}

func searchBody(t testing.TB, base, filter string, attributes ...string) []byte {
	s := wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: compile(t, filter), Attributes: wire.AppendStrings(nil, attributes...)}
	return s.Append(nil)
}

func compareBody(dn, attribute, value string) []byte {
	c := wire.CompareRequest{DN: []byte(dn), Attribute: []byte(attribute), Value: []byte(value)}
	return c.Append(nil)
}

func modifyDNBody(dn, rdn, superior string) []byte {
	m := wire.ModifyDNRequest{DN: []byte(dn), NewRDN: []byte(rdn)}
	if superior != "" {
		m.NewSuperior = []byte(superior)
	}
	return m.Append(nil)
}

// sequence is a SEQUENCE of what is given.
func sequence(parts ...[]byte) []byte {
	return wire.AppendElement(nil, wire.TagSequence, slices.Concat(parts...))
}

func text(s string) []byte { return wire.AppendElement(nil, wire.TagOctetString, []byte(s)) }

// change is the rest of a Modify or an Add: what it holds passes.
func change() []byte {
	return sequence(sequence(wire.AppendElement(nil, 0x0a, []byte{0}), sequence(text("appPassword"), []byte{0x31, 0})))
}

func TestGuardRefusesFilters(t *testing.T) {
	t.Parallel()
	var items []string
	for _, name := range append(append([]string{"anySecret"}, spellings...), logNames...) {
		items = append(items, "("+name+"=*)", "("+name+"=$app$x)", "("+name+"=$app$*)", "("+name+"=*x*)", "("+name+">=$)", "("+name+"<=~)",
			"("+name+"~=x)", "("+name+":=x)", "("+name+":dn:=x)", "("+name+":caseExactMatch:=x)")
	}
	items = append(items, "(:caseExactMatch:=$app$)", "(:dn:2.5.13.17:=x)")
	for _, item := range items {
		for _, f := range []string{item, "(!" + item + ")", "(&(objectClass=*)" + item + ")", "(|(uid=a)(&(uid=b)(!(|(cn=x)" + item + "))))"} {
			r := testGuard.request(ask(wire.OpSearchRequest, searchBody(t, "dc=example,dc=org", f), nil))
			if r == nil || r.code != wire.ResultInsufficientAccessRights {
				t.Errorf("%s: %+v", f, r)
			}
		}
	}
}

func TestGuardRefusesNames(t *testing.T) {
	t.Parallel()
	var dns []string
	for _, name := range []string{"appPassword", "APPPASSWORD", "mailsecret", "2.25.987654321", "OID.2.25.987654321", "oid.2.25.987654321"} {
		dns = append(dns, name+"=x,dc=org", "uid=a+"+name+"=x,dc=org", "uid=a,"+name+"=x", "uid=a;"+name+"=x", `uid="a", `+name+" =x,dc=org", "cn=a\n,\t"+name+"\t=#0401", " "+name+"=")
	}
	for _, dn := range dns {
		for what, m := range map[string]wire.Message{
			"search":       ask(wire.OpSearchRequest, searchBody(t, dn, "(objectClass=*)"), nil),
			"compare":      ask(wire.OpCompareRequest, compareBody(dn, "uid", "a"), nil),
			"modify":       ask(wire.OpModifyRequest, wire.AppendTarget(nil, []byte(dn), change()), nil),
			"add":          ask(wire.OpAddRequest, wire.AppendTarget(nil, []byte(dn), change()), nil),
			"delete":       ask(wire.OpDelRequest, []byte(dn), nil),
			"modifyDN":     ask(wire.OpModifyDNRequest, modifyDNBody(dn, "uid=b", ""), nil),
			"new RDN":      ask(wire.OpModifyDNRequest, modifyDNBody(aliceDN, dn, ""), nil),
			"new superior": ask(wire.OpModifyDNRequest, modifyDNBody(aliceDN, "uid=b", dn), nil),
		} {
			if r := testGuard.request(m); r != refuseSecrets {
				t.Errorf("%s of %q: %+v", what, dn, r)
			}
		}
	}
}

func TestGuardRefusesCompares(t *testing.T) {
	t.Parallel()
	for _, name := range append(append([]string{"anySecret"}, spellings...), logNames...) {
		if r := testGuard.request(ask(wire.OpCompareRequest, compareBody(aliceDN, name, "$app$x"), nil)); r != refuseSecrets {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestGuardRefusesDescriptions: what is no attribute description may be the attribute to a server.
func TestGuardRefusesDescriptions(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*refusal{
		"appPassword\x00": refuseDescription, "appPassword\x00x": refuseDescription, "OID.2.25.987654321\x00": refuseDescription,
		"|(cn=x)(appPassword": refuseDescription, "cn\x00x": refuseDescription, "2.25.0987654321": refuseDescription, "cn=x": refuseDescription,
		"cn*": refuseDescription, " ": refuseDescription, "c\u00f6": refuseDescription,
		"cn": nil, " cn ": nil, "cn;lang-de": nil, "OID.2.5.4.3": nil, "2.5.4.3": nil, "0.9.2342.19200300.100.1.1": nil, "my_name-0": nil,
	} {
		item := wire.CloseElement(wire.AppendStrings(nil, name, "$app$"), 0, 0xa3)
		s := wire.SearchRequest{Base: []byte("dc=org"), Filter: item}
		list := sequence(sequence(text(name)))
		for what, m := range map[string]wire.Message{
			"filter":         ask(wire.OpSearchRequest, s.Append(nil), nil),
			"compare":        ask(wire.OpCompareRequest, compareBody(aliceDN, name, "$app$*)"), nil),
			"sort":           ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(uid=*)"), wire.AppendControl(nil, controlSort, false, list)),
			"assertion":      ask(wire.OpDelRequest, []byte(aliceDN), wire.AppendControl(nil, controlAssertion, false, item)),
			"matched values": ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(uid=*)"), wire.AppendControl(nil, controlMatched, false, sequence(item))),
			"deref":          ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(uid=*)"), wire.AppendControl(nil, controlDeref, false, sequence(sequence(text(name), sequence(text("cn")))))),
			"scoped query":   ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(uid=*)"), wire.AppendControl(nil, controlASQ, false, sequence(text(name)))),
		} {
			if r := testGuard.request(m); r != want {
				t.Errorf("%s of %q: %+v", what, name, r)
			}
		}
	}
}

func TestGuardRefusesBatches(t *testing.T) {
	t.Parallel()
	inner := wire.AppendMessage(nil, 1, wire.OpSearchRequest, searchBody(t, "dc=org", "(appPassword=$app$*)", "appPassword"), nil)
	m := ask(wire.OpExtendedRequest, wire.AppendExtended(nil, "1.2.840.113556.1.4.2212", sequence(text(string(inner)))), nil)
	if r := testGuard.request(m); r != refuseBatch {
		t.Errorf("%+v", r)
	}
}

// passing are requests that go upstream as they are.
func passing(t testing.TB) map[string]wire.Message {
	return map[string]wire.Message{
		"search":           ask(wire.OpSearchRequest, searchBody(t, "dc=example,dc=org", "(|(&(objectClass=inetOrgPerson)(uid=alice))(mail=*@example.org)(cn:dn:=x)(entryCSN>=2)(!(sn~=a)))", "*", "+"), nil),
		"selection":        ask(wire.OpSearchRequest, searchBody(t, "dc=example,dc=org", "(uid=appPassword)", "appPassword", "1.1"), nil),
		"log":              ask(wire.OpSearchRequest, searchBody(t, "cn=accesslog", "(&(objectClass=auditModify)(reqDN="+aliceDN+")(reqStart>=2026)(reqType=modify))"), nil),
		"root DSE":         ask(wire.OpSearchRequest, searchBody(t, "", "(objectClass=*)", "+"), nil),
		"value in a DN":    ask(wire.OpDelRequest, []byte("cn=appPassword,dc=org"), nil),
		"compare":          ask(wire.OpCompareRequest, compareBody(aliceDN, "uid", "alice"), nil),
		"modify of it":     ask(wire.OpModifyRequest, wire.AppendTarget(nil, []byte(aliceDN), change()), nil),
		"add with it":      ask(wire.OpAddRequest, wire.AppendTarget(nil, []byte(aliceDN), sequence(sequence(text("appPassword"), wire.AppendElement(nil, 0x31, text("$app$x$y"))))), nil),
		"delete":           ask(wire.OpDelRequest, []byte(aliceDN), nil),
		"modifyDN":         ask(wire.OpModifyDNRequest, modifyDNBody(aliceDN, "uid=bob", "ou=people,dc=example,dc=org"), nil),
		"password modify":  ask(wire.OpExtendedRequest, wire.AppendExtended(nil, "1.3.6.1.4.1.4203.1.11.1", sequence(text("x"))), nil),
		"who am I":         ask(wire.OpExtendedRequest, wire.AppendExtended(nil, "1.3.6.1.4.1.4203.1.11.3", nil), nil),
		"abandon":          ask(wire.OpAbandonRequest, []byte{1}, nil),
		"paged, sorted":    ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(uid=*)"), slices.Concat(wire.AppendControl(nil, "1.2.840.113556.1.4.319", true, sequence(wire.AppendElement(nil, wire.TagInteger, []byte{10}), text(""))), wire.AppendControl(nil, controlSort, false, sequence(sequence(text("sn")), sequence(text("givenName"), wire.AppendElement(nil, 0x80, []byte("2.5.13.3")), wire.AppendElement(nil, 0x81, []byte{0xff})))))),
		"unknown controls": ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(uid=*)"), slices.Concat(wire.AppendControl(nil, "1.2.3.4", true, text("appPassword")), wire.AppendControl(nil, "2.16.840.1.113730.3.4.2", true, nil))),
	}
}

func TestGuardPasses(t *testing.T) {
	t.Parallel()
	for name, m := range passing(t) {
		if err := m.ValidateRequest(); err != nil {
			t.Errorf("%s: the test's own request: %v", name, err)
		}
		if r := testGuard.request(m); r != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestGuardRequestDoesNotAllocate(t *testing.T) {
	for name, m := range passing(t) {
		if n := testing.AllocsPerRun(100, func() { testGuard.request(m) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Requests are validated before they come here; what is not must not pass all the same.
func TestGuardRefusesMalformed(t *testing.T) {
	t.Parallel()
	for _, op := range []wire.Op{wire.OpSearchRequest, wire.OpCompareRequest, wire.OpModifyDNRequest, wire.OpModifyRequest, wire.OpAddRequest, wire.OpExtendedRequest} {
		if r := testGuard.request(wire.Message{Op: op, Body: []byte{4, 9}}); r != refuseRequest {
			t.Errorf("%x: %+v", op, r)
		}
	}
	s := wire.SearchRequest{Filter: []byte{filterAnd, 1, 0}}
	if r := testGuard.request(wire.Message{Op: wire.OpSearchRequest, Body: s.Append(nil)}); r != refuseRequest {
		t.Errorf("filter: %+v", r)
	}
}

func TestSharedAttribute(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"userPassword": true, "USERPASSWORD": true, "unixUserPassword": true, "2.5.4.35": true, "extensionAttribute7": true,
		"appPassword": false, "mailSecret": false, "": false} {
		if sharedAttribute(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
	// Requests about a shared attribute are refused as well.
	for _, f := range []string{"(userPassword=*)", "(2.5.4.35=$app$x*)"} {
		if r := sharedGuard.request(ask(wire.OpSearchRequest, searchBody(t, "dc=org", f), nil)); r != refuseSecrets {
			t.Errorf("%s: %+v", f, r)
		}
	}
}
