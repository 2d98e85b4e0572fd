package proxy

import (
	"bytes"
	"encoding/base64"
	"testing"

	"appbind/wire"
)

func TestGuardEntry(t *testing.T) {
	t.Parallel()
	type avas = []string
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name     string
		guard    *guard
		in, want avas // want nil: unchanged
	}{
		{"nothing", testGuard, avas{}, nil},
		{"nothing of it", testGuard, avas{"uid=alice", "MAIL=b", "mail;x=a", "appPasswords=x", "xappPassword=y", "cn=appPassword", "jpegPhoto=\xff\xd8"}, nil},
		{"the attribute", testGuard, avas{"uid=a", "appPassword=$app$x$y", "appPassword=other", "sn=b"}, avas{"uid=a", "sn=b"}},
		{"any spelling, order kept", testGuard, avas{"APPPASSWORD=x", "Uid=b", "Uid=a", "mailSecret;lang-de=x", "sN=c", "2.25.987654321=x", "appPassword;binary=x"}, avas{"Uid=b", "Uid=a", "sN=c"}},
		{"types only", testGuard, avas{"uid", "appPassword", "sn"}, avas{"uid", "sn"}},
		{"nothing left", testGuard, avas{"appPassword=x"}, avas{}},
		{"a supertype is another attribute", testGuard, avas{"anySecret=x"}, nil},

		{"shared: others' values", sharedGuard, avas{"userPassword={SSHA}x", "userPassword=secret", "userPassword=app$x", "userPassword=x$app$"}, nil},
		{"shared: ours", sharedGuard, avas{"uid=a", "userPassword={SSHA}x", "userPassword=$app$x$y", "userPassword=z", "userPassword=otpauth://totp/x?secret=y", "2.5.4.35;x-a= OTPAUTH://x"},
			avas{"uid=a", "userPassword={SSHA}x", "userPassword=z"}},
		{"shared: types only", sharedGuard, avas{"userPassword"}, nil},

		{"reqMod", testGuard, avas{"reqMod=sn:= b", "reqMod=appPassword:+ $app$x$y", "reqMod=APPPASSWORD;x:= a", "reqMod=2.25.987654321:-", "reqMod=description:+ my appPassword: none", "reqMod=:"},
			avas{"reqMod=sn:= b", "reqMod=description:+ my appPassword: none", "reqMod=:"}},
		{"reqOld", testGuard, avas{"REQOLD=mailsecret: $app$x$y", "REQOLD=sn: b"}, avas{"REQOLD=sn: b"}},
		{"reqOld, nothing left", testGuard, avas{"reqDN=" + aliceDN, "reqOld=appPassword: $app$x$y"}, avas{"reqDN=" + aliceDN}},
		{"reqMod by OID, with an option", testGuard, avas{"1.3.6.1.4.1.4203.666.11.5.1.16;x=appPassword:+ x"}, avas{}},
		{"reqMod of others", testGuard, avas{"reqMod=userPassword:= {SSHA}x", "reqMod=cn:+ appPassword", "reqMod=appPasswords:+ x", "reqMod", "reqMod="}, nil},
		{"shared: reqMod", sharedGuard, avas{"reqMod=userPassword:+ {SSHA}x", "reqMod=userPassword:+ $app$x$y", "reqMod=userPassword:-"}, avas{"reqMod=userPassword:+ {SSHA}x", "reqMod=userPassword:-"}},

		{"reqAssertion", testGuard, avas{"reqAssertion=appPassword=$app$x"}, avas{}},
		{"reqAssertion of others", testGuard, avas{"reqAssertion=uid=a"}, nil},
		{"reqFilter", testGuard, avas{"reqFilter=(&(objectClass=*)(!(mailSecret;x=*)))"}, avas{}},
		{"reqFilter without a type", testGuard, avas{"reqFilter=(:caseExactMatch:=$app$x)"}, avas{}},
		{"reqFilter of others", testGuard, avas{"reqFilter=(&(appPasswords=x)(uid=a))"}, nil},
		{"shared: reqFilter", sharedGuard, avas{"reqFilter=(userPassword=x)"}, nil},
		{"shared: reqFilter with ours", sharedGuard, avas{"reqFilter=(userPassword=otpauth://x)"}, avas{}},
		{"reqNewRDN", testGuard, avas{"reqNewRDN=uid=a+appPassword=$app$x", "newRDN=uid=b", "reqNewDN=MAILSECRET=x,dc=org"}, avas{"newRDN=uid=b"}},
		{"shared: reqNewRDN", sharedGuard, avas{"reqNewRDN=userPassword=x", "newRDN=userPassword=$app$x"}, avas{"reqNewRDN=userPassword=x"}},
		{"reqData", testGuard, avas{"reqData=\x30\x05$app$x", "reqType=extended"}, avas{"reqType=extended"}},
		{"reqData of others", testGuard, avas{"reqData=\x30\x05xy"}, nil},
		{"reqControls", testGuard, avas{`reqControls={0}{1.3.6.1.1.13.1 controlValue "3000"}`, `reqControls={1}{1.2.840.113556.1.4.319 criticality TRUE}`, `reqRespControls={1.3.6.1.1.13.2}`},
			avas{`reqControls={1}{1.2.840.113556.1.4.319 criticality TRUE}`}},
		{"reqControls, longer OID", testGuard, avas{`reqControls={1.3.6.1.1.13.11}`}, nil},

		{"changes", testGuard, avas{"changeNumber=7", "changes=replace: sn\nsn: b\n-\nadd: appPassword\nappPassword: $app$x$y\n-\n"}, avas{"changeNumber=7"}},
		{"the whole entry as text", testGuard, avas{"nscpEntryWSI=dn: " + aliceDN, "nscpEntryWSI=sn;vucsn-1: b", "nscpEntryWSI=appPassword;vucsn-1: $app$x$y", "NSCPENTRYWSI=mailSecret:: " + b64("$app$x")},
			avas{"nscpEntryWSI=dn: " + aliceDN, "nscpEntryWSI=sn;vucsn-1: b"}},
		{"changes of an add", testGuard, avas{"changes=objectClass: top\r\nMAILSECRET;x:: " + b64("$app$x") + "\r\n", "changes=sn: b\n"}, avas{"changes=sn: b\n"}},
		{"changes, folded", testGuard, avas{"changes=sn: b\napp\n Password: x\n"}, avas{}},
		{"changes, folded with CR", testGuard, avas{"changes=sn: b\r\nappPass\r\n word: x\r\n"}, avas{}},
		{"changes, a new RDN", testGuard, avas{"changes=newrdn: appPassword=x\ndeleteoldrdn: 1\n"}, avas{}},
		{"changes of others", testGuard, avas{"changes=description: appPassword: x\n appPassword: y\nsn: b\nno colon\n", "changes=newrdn: uid=appPassword\n"}, nil},
		{"shared: changes", sharedGuard, avas{"changes=userPassword: x\n", "changes=userPassword:: " + b64("{SSHA}abcdefghijklmnopqrst") + "\n", "changes=userPassword:: " + b64("$app$x") + "\n",
			"changes=userPassword: $app$x\n", "changes=userPassword:: " + b64("otpauth://totp/alice?secret=x") + "\n", "changes=userPassword:: ???\n", "changes=newrdn: userPassword=$app$x\n"},
			avas{"changes=userPassword: x\n", "changes=userPassword:: " + b64("{SSHA}abcdefghijklmnopqrst") + "\n"}},
	} {
		in := entryBody(aliceDN, c.in...)
		want := []byte("x")
		if c.want != nil {
			want = append(want, entryBody(aliceDN, c.want...)...)
		}
		out, changed, err := c.guard.entry([]byte("x"), in)
		if err != nil || changed != (c.want != nil) || !bytes.Equal(out, want) {
			t.Errorf("%s: %v %v\n got %q\nwant %q", c.name, changed, err, out, want)
		}
	}
}

func TestGuardEntryLarge(t *testing.T) {
	t.Parallel()
	avas := []string{"member=x"}
	for range 20000 {
		avas = append(avas, "member=uid=a,dc=org")
	}
	out, changed, err := testGuard.entry(nil, entryBody(aliceDN, append(avas, "appPassword=x")...))
	if err != nil || !changed || !bytes.Equal(out, entryBody(aliceDN, avas...)) {
		t.Errorf("%d octets, %v %v", len(out), changed, err)
	}
}

func TestGuardEntryMalformed(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{
		"no entry":             {1},
		"garbage behind":       append(entryBody(aliceDN, "uid=a"), 1),
		"attributes":           append(text(aliceDN), sequence([]byte{1, 1, 1})...),
		"attribute behind one": append(text(aliceDN), sequence(attributeList("appPassword=x"), []byte{1, 1, 1})...),
	} {
		if out, changed, err := testGuard.entry([]byte("x"), body); err == nil || changed || string(out) != "x" {
			t.Errorf("%s: %q %v %v", name, out, changed, err)
		}
	}
	// Values that cannot be read, of an attribute that must be looked into: they go.
	log := append(append([]byte{}, text("reqMod")...), 0x31, 3, 1, 1, 1)
	body := append(text(aliceDN), sequence(sequence(log), attributeList("uid=a"))...)
	if out, changed, err := testGuard.entry(nil, body); err != nil || !changed || !bytes.Equal(out, entryBody(aliceDN, "uid=a")) {
		t.Errorf("values: %q %v %v", out, changed, err)
	}
}

func TestGuardEntryDoesNotAllocate(t *testing.T) {
	for name, g := range map[string]*guard{"own": testGuard, "shared": sharedGuard} {
		body := entryBody(aliceDN, "objectClass=top", "uid=alice", "cn=Alice", "sn=x", "mail=a", "mail=b", "userPassword={SSHA}x",
			"reqMod=sn:= b", "reqFilter=(uid=a)", "changes=sn: b\n", "createTimestamp=x", "1.2.3.4=x")
		dst := make([]byte, 0, 1024)
		if n := testing.AllocsPerRun(100, func() { g.entry(dst, body) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkGuardEntry(b *testing.B) {
	body := entryBody(aliceDN, "objectClass=top", "objectClass=inetOrgPerson", "uid=alice", "cn=Alice", "sn=x", "mail=a", "mail=b", "givenName=x",
		"displayName=y", "homeDirectory=/", "uidNumber=1", "gidNumber=1")
	b.ReportAllocs()
	for b.Loop() {
		testGuard.entry(nil, body)
	}
}

func FuzzGuardEntry(f *testing.F) {
	for _, avas := range [][]string{{}, {"uid=a", "appPassword=x", "sn"}, {"reqMod=appPassword:+ x", "reqMod=b"}, {"changes=a: b\nappPassword: x\n"},
		{"reqControls={1.3.6.1.1.13.1}"}, {"userPassword=$app$x", "userPassword=b"}, {"reqFilter=(mailSecret=*)"}} {
		f.Add(entryBody(aliceDN, avas...))
	}
	f.Add([]byte{4, 0, 0x30, 0x84, 0, 0, 0, 6, 0x30, 4, 4, 0, 0x31, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, g := range []*guard{testGuard, sharedGuard} {
			out, changed, err := g.entry([]byte("x"), body)
			if err != nil || !changed {
				if changed || string(out) != "x" {
					t.Fatalf("%q %v %v", out, changed, err)
				}
				continue
			}
			in, err := wire.DecodeEntry(body)
			if err != nil {
				t.Fatal(err)
			}
			e, err := wire.DecodeEntry(out[1:])
			if err != nil || !bytes.Equal(e.DN, in.DN) || len(e.Attributes) > len(in.Attributes)+8 {
				t.Fatalf("%q: %+v %v", out, e, err)
			}
			err = wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
				if g.schema.Secrets(a.Type) && !g.shared {
					t.Fatalf("%q is there", a.Type)
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if again, changed, err := g.entry(nil, out[1:]); changed || err != nil {
				t.Fatalf("cleaned again: %q %v", again, err)
			}
		}
	})
}
