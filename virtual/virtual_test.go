package virtual

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/manage"
	"appbind/secrets"
	"appbind/wire"
)

const (
	alice = "uid=alice,ou=people,dc=example,dc=org"
	hash  = "{SSHA256}I5UJThe6pzcCd0T0M+qJSArlKB4nwrPO+P/WPDoQF+jLN5we4q4weoZo//0PKvms"
	phone = "$app$Mein Büro;id=k7qm;exp=20270102030405Z;svc=imap,smtp;net=192.0.2.0/24,2001:db8::/48;crt=20260102030405Z$" + hash
)

func setOf(values ...string) *manage.Set {
	var list [][]byte
	for _, v := range values {
		list = append(list, []byte(v))
	}
	return manage.NewSet(list)
}

func entry(t testing.TB, value string) *Entry {
	t.Helper()
	list := List(alice, setOf(value))
	if len(list) != 1 {
		t.Fatalf("%d entries", len(list))
	}
	return list[0]
}

// The parts of filters.
func item(tag byte, attribute, value string) []byte {
	return wire.CloseElement(wire.AppendStrings(nil, attribute, value), 0, tag)
}
func is(attribute, value string) []byte { return item(filterEqual, attribute, value) }
func present(attribute string) []byte {
	return wire.AppendElement(nil, filterPresent, []byte(attribute))
}
func of(tag byte, parts ...[]byte) []byte {
	return wire.CloseElement(slices.Concat(parts...), 0, tag)
}

// sub is a substrings filter; parts are initial, any ..., final, "" for none at the ends.
func sub(attribute string, parts ...string) []byte {
	var list []byte
	for i, p := range parts {
		tag := byte(substringInitial + 1)
		switch {
		case i == 0:
			tag = substringInitial
		case i == len(parts)-1:
			tag = substringFinal
		}
		if p != "" {
			list = wire.AppendElement(list, tag, []byte(p))
		}
	}
	f := wire.AppendStrings(nil, attribute)
	return wire.CloseElement(wire.AppendElement(f, wire.TagSequence, list), 0, filterSubstrings)
}

func extensible(rule, attribute, value string) []byte {
	var f []byte
	if rule != "" {
		f = wire.AppendElement(f, 0x81, []byte(rule))
	}
	f = wire.AppendElement(f, 0x82, []byte(attribute))
	return wire.CloseElement(wire.AppendElement(f, 0x83, []byte(value)), 0, filterExtensible)
}

func TestMatches(t *testing.T) {
	t.Parallel()
	e := entry(t, phone)
	for name, c := range map[string]struct {
		filter []byte
		want   truth
	}{
		"present":                 {present("objectClass"), yes},
		"present, by OID":         {present(specs[label].oid), yes},
		"present, not ours":       {present("uid"), undefined},
		"present, with an option": {present("appPasswordLabel;lang-de"), undefined},
		"not present":             {present("appPasswordNothing"), undefined},
		"class":                   {is("objectclass", "APPPASSWORDENTRY"), yes},
		"class, by OID":           {is("2.5.4.0", classOID), yes},
		"top":                     {is("objectClass", "top"), yes},
		"another class":           {is("objectClass", "person"), no},
		"id":                      {is("appPasswordId", "K7QM"), yes},
		"label, folded":           {is("appPasswordLabel", " mein  BÜRO "), yes},
		"another label":           {is("appPasswordLabel", "Mein"), no},
		"service":                 {is("appPasswordService", "IMAP"), yes},
		"service, by its alias":   {is("appPasswordService", "submission"), yes},
		"no service":              {is("appPasswordService", "pop3"), no},
		"network":                 {is("appPasswordNetwork", "192.0.2.77/24"), yes},
		"network, v6":             {is("appPasswordNetwork", "2001:DB8:0::/48"), yes},
		"no network":              {is("appPasswordNetwork", "192.0.2.1"), no},
		"expiry":                  {is("appPasswordExpires", "202701020404.5+0100"), undefined}, // no fraction of a minute
		"expiry, another zone":    {is("appPasswordExpires", "20270102040405+0100"), yes},
		"expiry, malformed":       {is("appPasswordExpires", "soon"), undefined},
		"before":                  {item(filterLess, "appPasswordExpires", "20270102030405Z"), yes},
		"not before":              {item(filterLess, "appPasswordExpires", "2027010203Z"), no},
		"after":                   {item(filterGreater, "appPasswordExpires", "2027010203Z"), yes},
		"order of labels":         {item(filterLess, "appPasswordLabel", "zzz"), undefined},
		"approximately":           {item(filterApprox, "appPasswordLabel", "mein büro"), yes},
		"initial":                 {sub("appPasswordLabel", "MEIN ", ""), yes},
		"final":                   {sub("appPasswordLabel", "", "BÜRO"), yes},
		"any":                     {sub("appPasswordLabel", "m", "n b", "o"), yes},
		"any, in another order":   {sub("appPasswordLabel", "", "b", "m", ""), no},
		"initial, overlapping":    {sub("appPasswordLabel", "mein b", " büro"), no},
		"substrings of a time":    {sub("appPasswordExpires", "2027", ""), undefined},
		"own rule":                {extensible("caseIgnoreMatch", "appPasswordLabel", "mein büro"), yes},
		"no rule":                 {extensible("", "appPasswordLabel", "mein büro"), yes},
		"another rule":            {extensible("caseExactMatch", "appPasswordLabel", "Mein Büro"), undefined},
		"the hash":                {sub("appPassword", "", "SSHA", ""), undefined},
		"not undefined":           {of(filterNot, present("uid")), undefined},
		"not false":               {of(filterNot, is("objectClass", "person")), yes},
		"and with undefined":      {of(filterAnd, present("uid"), present("objectClass")), undefined},
		"and with false":          {of(filterAnd, present("uid"), is("objectClass", "person")), no},
		"or with undefined":       {of(filterOr, present("uid"), present("objectClass")), yes},
		"and of nothing":          {of(filterAnd), yes},
		"or of nothing":           {of(filterOr), no},
		"operational":             {is("hasSubordinates", "FALSE"), yes},
	} {
		if err := wire.EachFilterItem(c.filter, func(wire.FilterItem) bool { return true }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := e.match(c.filter, 0); got != c.want || e.Matches(c.filter) != (c.want == yes) {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestConcerns(t *testing.T) {
	any, class := present("objectClass"), of(filterAnd, is("objectClass", Class), present("uid"))
	for name, c := range map[string]struct {
		base   string
		scope  int
		filter []byte
		want   Concern
	}{
		"an entry":            {"appPasswordId=k7qm," + alice, wire.ScopeBase, any, Self},
		"an entry, by OID":    {" OID." + specs[id].oid + " = k7qm," + alice, wire.ScopeBase, any, Self},
		"base":                {alice, wire.ScopeBase, class, None},
		"one":                 {alice, wire.ScopeOne, any, Below},
		"sub":                 {"", wire.ScopeWhole, any, Below},
		"the class":           {"", wire.ScopeWhole, class, Named},
		"the class, negated":  {"", wire.ScopeWhole, of(filterNot, is("2.5.4.0", classOID)), Named},
		"a label is no class": {"", wire.ScopeWhole, is("cn", Class), Below},
		"below an entry":      {"cn=x,appPasswordId=k7qm," + alice, wire.ScopeBase, any, None},
	} {
		s := &wire.SearchRequest{Base: []byte(c.base), Scope: c.scope, Filter: c.filter}
		if got := Concerns(s); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
		if n := testing.AllocsPerRun(100, func() { Concerns(s) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestList: one entry for each name, nothing of a hash in any, and every DN leads back to its entry.
func TestList(t *testing.T) {
	t.Parallel()
	values := []string{phone, "$app$by hand$" + hash, "$app$by hand$" + strings.ToLower(hash), "$app$odd, name+x;y$" + hash,
		"$app$unusable;id=abcd;new=1$" + hash, "$app$never-a-hash", "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "{SSHA}foreign"}
	set := setOf(values...)
	list := List(alice, set)
	if len(list) != 5 {
		t.Fatalf("%d entries", len(list))
	}
	if other := List(alice, setOf(values[len(values)-2:]...)); len(other) != 0 {
		t.Errorf("%q is no app password", other[0].DN)
	}
	for _, e := range list {
		handle, userDN, err := Split(e.DN)
		if err != nil || userDN != alice || !e.Is(handle) || !e.Is(strings.ToUpper(handle)) || !IsEntry([]byte(e.DN)) {
			t.Errorf("%q: %q %q %v", e.DN, handle, userDN, err)
		}
		holds := 0
		for _, v := range set.Values {
			if Holds(handle, v) {
				holds++
			}
		}
		if holds < 1 || holds > 2 {
			t.Errorf("%q stands for %d values", e.DN, holds)
		}
		all := &wire.SearchRequest{Attributes: wire.AppendStrings(nil, "*", "+", "appPassword", "userPassword")}
		body := string(e.Append(nil, []byte(e.DN), NewSelection(all)))
		for _, secret := range []string{hash, hash[9:], "SSHA256", "never-a-hash", "$app$"} {
			if strings.Contains(body, secret) {
				t.Errorf("%q shows %q", e.DN, secret)
			}
		}
	}
	for _, dn := range []string{"", alice, "appPasswordId=x", "appPasswordId=x+cn=y," + alice, "appPasswordId=#040178," + alice, "cn=x,appPasswordId=x," + alice, "appPasswordId=x,,"} {
		if handle, _, err := Split(dn); err == nil {
			t.Errorf("%q is that of %q", dn, handle)
		}
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	e := entry(t, phone)
	user := "objectClass appPasswordId appPasswordLabel appPasswordCreated appPasswordExpires appPasswordService appPasswordNetwork"
	for asked, want := range map[string]string{
		"":                              user,
		"*":                             user,
		"@appPasswordEntry":             user,
		"+":                             "structuralObjectClass hasSubordinates",
		"1.1":                           "",
		"uid":                           "",
		"APPPASSWORDLABEL cn":           "appPasswordLabel",
		specs[expires].oid + " 2.5.4.0": "objectClass appPasswordExpires",
		"appPasswordLabel;lang-de":      "",
	} {
		for _, typesOnly := range []bool{false, true} {
			s := &wire.SearchRequest{TypesOnly: typesOnly, Attributes: wire.AppendStrings(nil, strings.Fields(asked)...)}
			back, err := wire.DecodeEntry(e.Append(nil, []byte("dn"), NewSelection(s)))
			if err != nil || string(back.DN) != "dn" {
				t.Fatal(err)
			}
			var got []string
			err = wire.EachAttribute(back.Attributes, func(a wire.Attribute) bool {
				got = append(got, string(a.Type))
				if (len(a.Values) == 0) != typesOnly {
					t.Errorf("%q: values of %s", asked, a.Type)
				}
				return true
			})
			if strings.Join(got, " ") != want || err != nil {
				t.Errorf("%q: %q %v", asked, got, err)
			}
		}
	}
}

// TestLastUse: what is not known is Undefined to a filter; never used is False.
func TestLastUse(t *testing.T) {
	t.Parallel()
	const at = "20260304050607Z"
	when, ok := parseMoment(at)
	if !ok {
		t.Fatal(at)
	}
	used, unused, unknown := entry(t, phone), entry(t, phone), entry(t, phone)
	used.SetLastUse(when, netip.MustParseAddr("::ffff:192.0.2.77"))
	unused.SetLastUse(time.Time{}, netip.Addr{})
	before := item(filterLess, "appPasswordLastUsed", "20260601000000Z")
	since := item(filterGreater, "appPasswordLastUsed", "20260601000000Z")
	for name, c := range map[string]struct {
		filter                []byte
		used, unused, unknown truth
	}{
		"present":            {present("appPasswordLastUsed"), yes, no, undefined},
		"before":             {before, yes, no, undefined},
		"not since":          {of(filterNot, since), yes, yes, undefined},
		"address":            {is("appPasswordLastAddress", "192.0.2.77"), yes, no, undefined},
		"a part of it":       {sub("appPasswordLastAddress", "192.0.2.", ""), yes, no, undefined},
		"present, by an OID": {present(specs[lastFrom].oid), yes, no, undefined},
	} {
		for e, want := range map[*Entry]truth{used: c.used, unused: c.unused, unknown: c.unknown} {
			if got := e.match(c.filter, 0); got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
		if _, filtered := AsksForUses(&wire.SearchRequest{Filter: c.filter}, Selection{}); !filtered {
			t.Errorf("%s: does not ask", name)
		}
	}
	for asked, want := range map[string]bool{"": true, "*": true, "+": false, "appPasswordLabel": false, "APPPASSWORDLASTADDRESS": true} {
		s := &wire.SearchRequest{Filter: present("objectClass"), Attributes: wire.AppendStrings(nil, strings.Fields(asked)...)}
		if shown, filtered := AsksForUses(s, NewSelection(s)); shown != want || filtered {
			t.Errorf("%q: %v %v", asked, shown, filtered)
		}
	}
	body := string(used.Append(nil, []byte("dn"), NewSelection(&wire.SearchRequest{})))
	if !strings.Contains(body, at) || !strings.Contains(body, "192.0.2.77") {
		t.Errorf("%q", body)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	e := entry(t, "$app$x;id=k7qm$"+hash)
	for _, c := range []struct {
		attribute, value string
		want             int32
	}{
		{"appPasswordLabel", "X", wire.ResultCompareTrue},
		{"appPasswordLabel", "y", wire.ResultCompareFalse},
		{"appPasswordExpires", "20270102030405Z", wire.ResultNoSuchAttribute},
		{"appPassword", "x", wire.ResultUndefinedAttributeType},
	} {
		if got := e.Compare([]byte(c.attribute), []byte(c.value)); got != c.want {
			t.Errorf("%s: %d, want %d", c.attribute, got, c.want)
		}
	}
	if got := entry(t, phone).Compare([]byte("appPasswordExpires"), []byte("x")); got != wire.ResultInvalidAttributeSyntax {
		t.Errorf("no time: %d", got)
	}
}

// mod is one change of a modify request.
func mod(operation byte, attribute string, values ...string) []byte {
	var list [][]byte
	for _, v := range values {
		list = append(list, []byte(v))
	}
	return wire.CloseElement(wire.AppendAttribute([]byte{tagEnumerated, 1, operation}, attribute, list...), 0, wire.TagSequence)
}

func TestChanges(t *testing.T) {
	t.Parallel()
	const label, exp, svc, net = "appPasswordLabel", "appPasswordExpires", "appPasswordService", "appPasswordNetwork"
	head, tail := "$app$", "$"+hash
	for name, c := range map[string]struct {
		mods [][]byte
		want string // NAME afterwards
		code int32
	}{
		"nothing":               {nil, "Mein Büro;id=k7qm;exp=20270102030405Z;svc=imap,smtp;net=192.0.2.0/24,2001:db8::/48;crt=20260102030405Z", 0},
		"label":                 {[][]byte{mod(opReplace, label, "x")}, "x;id=k7qm;exp=20270102030405Z;svc=imap,smtp;net=192.0.2.0/24,2001:db8::/48;crt=20260102030405Z", 0},
		"as ldapvi does":        {[][]byte{mod(opDelete, label, "mein büro"), mod(opAdd, label, "x"), mod(opDelete, svc), mod(opDelete, net)}, "x;id=k7qm;exp=20270102030405Z;crt=20260102030405Z", 0},
		"the other way round":   {[][]byte{mod(opAdd, label, "x"), mod(opDelete, label, "mein büro"), mod(opReplace, svc), mod(opReplace, net)}, "x;id=k7qm;exp=20270102030405Z;crt=20260102030405Z", 0},
		"networks":              {[][]byte{mod(opDelete, net, "2001:DB8::1/48"), mod(opAdd, net, "198.51.100.7")}, "Mein Büro;id=k7qm;exp=20270102030405Z;svc=imap,smtp;net=192.0.2.0/24,198.51.100.7/32;crt=20260102030405Z", 0},
		"services":              {[][]byte{mod(opReplace, svc, "pop3", "sieve")}, "Mein Büro;id=k7qm;exp=20270102030405Z;svc=pop3,sieve;net=192.0.2.0/24,2001:db8::/48;crt=20260102030405Z", 0},
		"expiry":                {[][]byte{mod(opReplace, exp, "20261231235959Z")}, "Mein Büro;id=k7qm;exp=20261231235959Z;svc=imap,smtp;net=192.0.2.0/24,2001:db8::/48;crt=20260102030405Z", 0},
		"no expiry":             {[][]byte{mod(opDelete, exp)}, "Mein Büro;id=k7qm;svc=imap,smtp;net=192.0.2.0/24,2001:db8::/48;crt=20260102030405Z", 0},
		"no label":              {[][]byte{mod(opDelete, label)}, "", wire.ResultConstraintViolation},
		"two labels":            {[][]byte{mod(opAdd, label, "x")}, "", wire.ResultConstraintViolation},
		"two expiries":          {[][]byte{mod(opAdd, exp, "20261231235959Z")}, "", wire.ResultConstraintViolation},
		"no time":               {[][]byte{mod(opReplace, exp, "x")}, "", wire.ResultInvalidAttributeSyntax},
		"no network":            {[][]byte{mod(opAdd, net, "x")}, "", wire.ResultInvalidAttributeSyntax},
		"a zone":                {[][]byte{mod(opAdd, net, "fe80::1%eth0")}, "", wire.ResultInvalidAttributeSyntax},
		"twice":                 {[][]byte{mod(opAdd, svc, "submission")}, "", wire.ResultAttributeOrValueExists},
		"twice in one":          {[][]byte{mod(opReplace, svc, "pop3", "POP3")}, "", wire.ResultAttributeOrValueExists},
		"not there":             {[][]byte{mod(opDelete, svc, "pop3")}, "", wire.ResultNoSuchAttribute},
		"nothing there":         {[][]byte{mod(opDelete, svc), mod(opDelete, svc)}, "", wire.ResultNoSuchAttribute},
		"no text":               {[][]byte{mod(opReplace, label, "a\xff")}, "", wire.ResultInvalidAttributeSyntax},
		"no text, a service":    {[][]byte{mod(opAdd, svc, "\xff")}, "", wire.ResultInvalidAttributeSyntax},
		"increment":             {[][]byte{mod(3, exp, "1")}, "", wire.ResultUnwillingToPerform},
		"the id":                {[][]byte{mod(opReplace, "appPasswordId", "abcd")}, "", wire.ResultNotAllowedOnRDN},
		"the class":             {[][]byte{mod(opAdd, "objectClass", "person")}, "", wire.ResultObjectClassModsProhibited},
		"the last use":          {[][]byte{mod(opReplace, "appPasswordLastUsed", "20260101000000Z")}, "", wire.ResultConstraintViolation},
		"the creation":          {[][]byte{mod(opDelete, "appPasswordCreated")}, "", wire.ResultConstraintViolation},
		"the stored value":      {[][]byte{mod(opAdd, "appPassword", "$app$x$y")}, "", wire.ResultUndefinedAttributeType},
		"more than is bearable": {[][]byte{mod(opReplace, svc, strings.Fields(strings.Repeat("x ", maxValues+1))...)}, "", wire.ResultUnwillingToPerform},
	} {
		p := secrets.Parse([]byte(phone)).Params()
		changes, err := DecodeChanges(wire.CloseElement(slices.Concat(c.mods...), 0, wire.TagSequence))
		if err == nil {
			err = changes.Apply(&p)
		}
		var no *Refusal
		if c.code != 0 {
			if !errors.As(err, &no) || no.Code != c.code || no.Reason == "" {
				t.Errorf("%s: %v, want %d", name, err, c.code)
			}
			if raw, e := secrets.New(p); e != nil || raw != phone {
				t.Errorf("%s: half of it was done: %q", name, raw)
			}
			continue
		}
		raw, e := secrets.New(p)
		if err != nil || e != nil || raw != head+c.want+tail {
			t.Errorf("%s: %q %v %v", name, raw, err, e)
		}
	}
	long := mod(opReplace, label, "x")
	long = wire.CloseElement(append([]byte{tagEnumerated, 2, 1, opReplace}, long[5:]...), 0, wire.TagSequence) // 258
	for _, bad := range [][]byte{nil, {0x30}, {0x30, 2, 0x30, 0}, wire.CloseElement(long, 0, wire.TagSequence), append(wire.CloseElement(nil, 0, wire.TagSequence), 0)} {
		if _, err := DecodeChanges(bad); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("% x: %v", bad, err)
		}
	}
}

// FuzzMatches: any well formed filter is evaluated, and by the laws of logic.
func FuzzMatches(f *testing.F) {
	e := entry(f, phone)
	f.Add(of(filterAnd, present("objectClass"), of(filterNot, sub("appPasswordLabel", "m", "x", "o"))))
	f.Add(of(filterOr, is("appPasswordExpires", "20270102040405+0100"), extensible("2.5.13.2", "appPasswordService", "x")))
	f.Add(item(filterGreater, "appPasswordNetwork", "192.0.2.0/24"))
	f.Fuzz(func(t *testing.T, filter []byte) {
		if wire.EachFilterItem(filter, func(wire.FilterItem) bool { return true }) != nil {
			return
		}
		v := e.match(filter, 0)
		not := of(filterNot, filter)
		if wire.EachFilterItem(not, func(wire.FilterItem) bool { return true }) != nil {
			return // too deep by now
		}
		if e.match(not, 0) != -v || e.match(of(filterAnd, filter, not), 0) != min(v, -v) || e.match(of(filterOr, filter, not), 0) != max(v, -v) {
			t.Errorf("% x is %d", filter, v)
		}
	})
}

// FuzzChanges: whatever a modify says, an app password keeps its id and its hash, and stays one.
func FuzzChanges(f *testing.F) {
	f.Add(wire.CloseElement(slices.Concat(mod(opReplace, "appPasswordLabel", "x"), mod(opDelete, "appPasswordService")), 0, wire.TagSequence))
	f.Add(wire.CloseElement(slices.Concat(mod(opAdd, "appPasswordNetwork", "::/0"), mod(opReplace, "appPasswordExpires", "20261231235959Z")), 0, wire.TagSequence))
	f.Fuzz(func(t *testing.T, rest []byte) {
		changes, err := DecodeChanges(rest)
		if err != nil {
			return
		}
		p := secrets.Parse([]byte(phone)).Params()
		if changes.Apply(&p) != nil {
			return
		}
		if p.ID != "k7qm" || p.Hash != hash || p.Created.IsZero() {
			t.Errorf("% x makes %+v", rest, p)
		}
		if raw, err := secrets.New(p); err == nil && !strings.HasSuffix(raw, "$"+hash) {
			t.Errorf("% x makes %q", rest, raw)
		}
	})
}

// FuzzSplit: a DN that is taken for an entry's is the handle and the DN of the
// user, and the entry made of the two is found by it.
func FuzzSplit(f *testing.F) {
	f.Add("appPasswordId=k7qm," + alice)
	f.Add("OID.2.25.302488783916863150299710732887557678725.1.2 = \"a,b\" ; uid=alice\\2c,dc=example")
	f.Fuzz(func(t *testing.T, dn string) {
		handle, userDN, err := Split(dn)
		if err != nil {
			return
		}
		if !IsEntry([]byte(dn)) {
			t.Fatalf("%q is split, and no entry's", dn)
		}
		whole, err := wire.ParseDN(dn)
		if err != nil {
			t.Fatal(err)
		}
		user, err := wire.ParseDN(userDN)
		if err != nil || user.Key() != whole[1:].Key() || handle != whole[0][0].Value {
			t.Fatalf("%q is %q below %q: %v", dn, handle, userDN, err)
		}
		made := newEntry(userDN, handle, secrets.Parse([]byte(phone)))
		back, under, err := Split(made.DN)
		if err != nil || !made.Is(back) || !made.Is(handle) || under != userDN {
			t.Errorf("%q: %q below %q, %v", made.DN, back, under, err)
		}
	})
}
