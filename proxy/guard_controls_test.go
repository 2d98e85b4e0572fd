package proxy

import (
	"bytes"
	"slices"
	"testing"

	"appbind/wire"
)

// withControl is a search with one control.
func withControl(t testing.TB, oid string, value []byte) wire.Message {
	return ask(wire.OpSearchRequest, searchBody(t, "dc=org", "(uid=a)"), wire.AppendControl(nil, oid, true, value))
}

// list is a SEQUENCE of strings.
func list(s ...string) []byte {
	return wire.AppendElement(nil, wire.TagSequence, wire.AppendStrings(nil, s...))
}

func vlv(target ...[]byte) []byte {
	return sequence(slices.Concat([][]byte{wire.AppendElement(nil, wire.TagInteger, []byte{0}), wire.AppendElement(nil, wire.TagInteger, []byte{9})}, target)...)
}

func TestGuardControlsNamingTheSecrets(t *testing.T) {
	t.Parallel()
	for _, name := range append(append([]string{"anySecret"}, spellings...), logNames...) {
		for what, m := range map[string]wire.Message{
			"sort":              withControl(t, "1.2.840.113556.1.4.473", sequence(list(name))),
			"second sort key":   withControl(t, "1.2.840.113556.1.4.473", sequence(list("uid"), sequence(text(name), wire.AppendElement(nil, 0x81, []byte{0xff})))),
			"assertion":         withControl(t, "1.3.6.1.1.12", compile(t, "(&(uid=a)(!("+name+"=$app$*)))")),
			"matched values":    withControl(t, "1.2.826.0.1.3344810.2.3", sequence(compile(t, "(uid=a)"), compile(t, "("+name+"=x*)"))),
			"pre-read":          withControl(t, "1.3.6.1.1.13.1", list("uid", name)),
			"post-read":         withControl(t, "1.3.6.1.1.13.2", list(name)),
			"deref":             withControl(t, "1.3.6.1.4.1.4203.666.5.16", sequence(sequence(text("member"), list("uid", name)))),
			"deref through it":  withControl(t, "1.3.6.1.4.1.4203.666.5.16", sequence(sequence(text("member"), list("uid")), sequence(text(name), list("uid")))),
			"attribute scope":   withControl(t, "1.2.840.113556.1.4.1504", list(name)),
			"duplicate entries": withControl(t, "2.16.840.1.113719.1.27.101.1", sequence(list("mail", name))),
		} {
			if r := testGuard.request(m); r != refuseSecrets {
				t.Errorf("%s, %s: %+v", what, name, r)
			}
		}
	}
}

func TestGuardControlsTooWide(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, oid string
		value     []byte
		want      *refusal
	}{
		{"pre-read of all", controlPreRead, list(), refuseWide},
		{"pre-read of *", controlPreRead, list("uid", "*"), refuseWide},
		{"post-read of +", controlPostRead, list("+"), refuseWide},
		{"post-read of a class", controlPostRead, list("@appPasswordUser"), refuseWide},
		{"post-read of a class, the other way", controlPostRead, list("!person"), refuseWide},
		{"post-read of an empty name", controlPostRead, list(""), refuseWide},
		{"deref of all", controlDeref, sequence(sequence(text("member"), list())), refuseWide},
		{"deref of *", controlDeref, sequence(sequence(text("member"), list("*"))), refuseWide},
		{"duplicates of all", controlDuplicates, sequence(list(), wire.AppendElement(nil, wire.TagBoolean, []byte{0})), refuseWide},
		{"matched values without a type", controlMatched, sequence(compile(t, "(:caseExactMatch:=$app$)")), refuseUntyped},
		{"assertion without a type", controlAssertion, compile(t, "(|(uid=a)(:caseExactMatch:=$app$))"), refuseUntyped},
		{"join", controlJoin, sequence(), refuseCarrier},
		{"authorization entry", controlAuthzEntry, nil, refuseCarrier},
	} {
		if r := testGuard.request(withControl(t, c.oid, c.value)); r != c.want {
			t.Errorf("%s: %+v", c.what, r)
		}
	}
}

// goodControls are controls that pass.
func goodControls(t testing.TB) map[string][]byte {
	return map[string][]byte{
		controlSort:       sequence(sequence(text("sn"), wire.AppendElement(nil, 0x80, []byte("2.5.13.3")), wire.AppendElement(nil, 0x81, []byte{0}))),
		controlVLV:        vlv(wire.AppendElement(nil, 0x81, []byte("smith")), text("context")),
		controlAssertion:  compile(t, "(&(uid=a)(entryCSN=x))"),
		controlMatched:    sequence(compile(t, "(mail=*@example.org)"), compile(t, "(cn:caseExactMatch:=x)")),
		controlPreRead:    list("uid", "sn;lang-de"),
		controlPostRead:   list("entryUUID"),
		controlDeref:      sequence(sequence(text("member"), list("uid", "mail"))),
		controlASQ:        list("member"),
		controlDuplicates: sequence(list("mail"), wire.AppendElement(nil, wire.TagBoolean, []byte{0xff})),
	}
}

func TestGuardControlsPass(t *testing.T) {
	t.Parallel()
	for oid, value := range goodControls(t) {
		if r := testGuard.request(withControl(t, oid, value)); r != nil {
			t.Errorf("%s: %+v", oid, r)
		}
	}
	for _, value := range [][]byte{vlv(wire.AppendElement(nil, 0xa0, slices.Concat(wire.AppendElement(nil, wire.TagInteger, []byte{1}), wire.AppendElement(nil, wire.TagInteger, []byte{0}))))} {
		if r := testGuard.request(withControl(t, controlVLV, value)); r != nil {
			t.Errorf("%x: %+v", value, r)
		}
	}
}

func TestGuardControlsMalformed(t *testing.T) {
	t.Parallel()
	for oid, value := range goodControls(t) {
		for i := range value {
			if r := testGuard.request(withControl(t, oid, value[:i])); r != refuseControlValue {
				t.Errorf("%s, %d of %d octets: %+v", oid, i, len(value), r)
			}
		}
		if r := testGuard.request(withControl(t, oid, append(bytes.Clone(value), 4, 0))); r != refuseControlValue {
			t.Errorf("%s, with something behind it: %+v", oid, r)
		}
		if r := testGuard.request(withControl(t, oid, nil)); r != refuseControlValue {
			t.Errorf("%s, without a value: %+v", oid, r)
		}
	}
	for oid, value := range map[string][]byte{
		controlSort:       sequence(),
		controlMatched:    sequence(),
		controlDeref:      sequence(sequence(text(""), list("uid"))),
		controlASQ:        list(""),
		controlVLV:        vlv(text("a"), text("b"), text("c")),
		controlDuplicates: sequence(list("mail"), text("x")),
	} {
		if r := testGuard.request(withControl(t, oid, value)); r != refuseControlValue {
			t.Errorf("%s %x: %+v", oid, value, r)
		}
	}
	if r := testGuard.request(wire.Message{Op: wire.OpDelRequest, Body: []byte(aliceDN), Controls: []byte{1}}); r != refuseControlValue {
		t.Errorf("no list of controls: %+v", r)
	}
}

func TestStripIdentityControls(t *testing.T) {
	t.Parallel()
	paged := wire.AppendControl(nil, "1.2.840.113556.1.4.319", true, text("x"))
	manage := wire.AppendControl(nil, "2.16.840.1.113730.3.4.2", false, nil)
	for _, oid := range []string{"2.16.840.1.113730.3.4.18", "2.16.840.1.113730.3.4.12", controlIntermediate} {
		as := func(critical bool) []byte { return wire.AppendControl(nil, oid, critical, []byte("dn:cn=admin")) }
		out, changed, r := stripIdentityControls([]byte("x"), slices.Concat(paged, as(false), manage, as(false)))
		if !changed || r != nil || !bytes.Equal(out, slices.Concat([]byte("x"), paged, manage)) {
			t.Errorf("%s: %q %v %+v", oid, out, changed, r)
		}
		out, changed, r = stripIdentityControls([]byte("x"), slices.Concat(paged, as(true)))
		if changed || r != refuseIdentity || string(out) != "x" {
			t.Errorf("%s, critical: %q %v %+v", oid, out, changed, r)
		}
	}
	out, changed, r := stripIdentityControls([]byte("x"), slices.Concat(paged, manage))
	if changed || r != nil || string(out) != "x" {
		t.Errorf("none: %q %v %+v", out, changed, r)
	}
	if _, _, r := stripIdentityControls(nil, []byte{1}); r != refuseControlValue {
		t.Errorf("malformed: %+v", r)
	}
}

// entryBody is the body of an entry from names and values: "uid=a" adds a value
// to the attribute uid, "uid" an attribute without one.
func entryBody(dn string, avas ...string) []byte {
	e := wire.SearchEntry{DN: []byte(dn), Attributes: attributeList(avas...)}
	return e.Append(nil)
}

func attributeList(avas ...string) []byte {
	var out []byte
	for i := 0; i < len(avas); {
		name, value, hasValue := bytes.Cut([]byte(avas[i]), []byte("="))
		var values [][]byte
		for i++; hasValue; i++ {
			values = append(values, value)
			if i == len(avas) || !bytes.HasPrefix([]byte(avas[i]), append(bytes.Clone(name), '=')) {
				break
			}
			value = []byte(avas[i])[len(name)+1:]
		}
		out = wire.AppendAttribute(out, string(name), values...)
	}
	return out
}

func readEntryControl(oid string, avas ...string) []byte {
	return wire.AppendControl(nil, oid, false, wire.AppendElement(nil, byte(wire.OpSearchResultEntry), entryBody(aliceDN, avas...)))
}

func derefControl(avas ...[]byte) []byte {
	var results []byte
	for _, a := range avas {
		result := slices.Concat(text("member"), text(aliceDN))
		if a != nil {
			result = wire.AppendElement(result, 0xa0, a)
		}
		results = append(results, sequence(result)...)
	}
	return wire.AppendControl(nil, controlDeref, false, sequence(results))
}

func TestGuardResponseControls(t *testing.T) {
	t.Parallel()
	paged := wire.AppendControl(nil, "1.2.840.113556.1.4.319", false, text("x"))
	for name, c := range map[string]struct{ in, want []byte }{
		"none":                 {nil, nil},
		"others":               {paged, nil},
		"clean":                {slices.Concat(paged, readEntryControl(controlPreRead, "uid=a")), nil},
		"clean deref":          {derefControl(attributeList("uid=a"), nil), nil},
		"pre-read":             {slices.Concat(readEntryControl(controlPreRead, "uid=a", "appPassword=$app$x$y", "sn=b"), paged), slices.Concat(readEntryControl(controlPreRead, "uid=a", "sn=b"), paged)},
		"post-read":            {readEntryControl(controlPostRead, "MAILSECRET;x=y"), readEntryControl(controlPostRead)},
		"pre-read of a log":    {readEntryControl(controlPreRead, "reqMod=appPassword:+ $app$x", "reqMod=sn:= b"), readEntryControl(controlPreRead, "reqMod=sn:= b")},
		"deref":                {derefControl(attributeList("uid=a"), nil, attributeList("uid=b", "2.25.987654321=x")), derefControl(attributeList("uid=a"), nil, attributeList("uid=b"))},
		"deref, nothing left":  {derefControl(attributeList("appPassword=x")), derefControl([]byte{})},
		"no entry":             {slices.Concat(paged, wire.AppendControl(nil, controlPreRead, false, text("appPassword"))), paged},
		"no value":             {slices.Concat(wire.AppendControl(nil, controlPostRead, false, nil), paged), paged},
		"entry cut off":        {slices.Concat(paged, wire.AppendControl(nil, controlPostRead, false, wire.AppendElement(nil, 0x64, []byte{4, 9}))), paged},
		"malformed attributes": {slices.Concat(paged, wire.AppendControl(nil, controlPostRead, false, wire.AppendElement(nil, 0x64, slices.Concat(text(""), sequence([]byte{1, 1, 1}))))), paged},
		"malformed deref":      {slices.Concat(paged, wire.AppendControl(nil, controlDeref, false, sequence(sequence(text("member"))))), paged},
		"deref with a tail":    {slices.Concat(paged, wire.AppendControl(nil, controlDeref, false, sequence(sequence(text("member"), text(aliceDN), text("x"))))), paged},
		"deref of garbage":     {slices.Concat(paged, derefControl([]byte{1, 1, 1})), paged},
		"deref, no sequence":   {slices.Concat(paged, wire.AppendControl(nil, controlDeref, false, text("x"))), paged},
		"deref, no results":    {slices.Concat(paged, wire.AppendControl(nil, controlDeref, false, sequence(text("x")))), paged},
		"joined entries":       {slices.Concat(paged, wire.AppendControl(nil, controlJoin, false, sequence())), paged},
		"only joined entries":  {wire.AppendControl(nil, controlJoin, false, sequence()), []byte{}},
	} {
		out, changed, err := testGuard.responseControls([]byte("x"), c.in)
		if err != nil || changed != (c.want != nil) || !bytes.Equal(out, append([]byte("x"), c.want...)) {
			t.Errorf("%s: %q %v %v, want %q", name, out, changed, err, c.want)
		}
	}
	if _, _, err := testGuard.responseControls(nil, []byte{1}); err == nil {
		t.Error("malformed: no error")
	}
	if _, _, err := testGuard.responseControls(nil, slices.Concat(readEntryControl(controlPreRead), []byte{1})); err == nil {
		t.Error("malformed behind an entry: no error")
	}
}

func TestGuardResponseControlsDoNotAllocate(t *testing.T) {
	controls := slices.Concat(wire.AppendControl(nil, "1.2.840.113556.1.4.319", false, text("x")), wire.AppendControl(nil, "1.3.6.1.4.1.4203.1.9.1.2", false, text("y")))
	if n := testing.AllocsPerRun(100, func() { testGuard.responseControls(nil, controls) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
