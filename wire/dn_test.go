package wire

import (
	"strings"
	"testing"
)

func TestParseDN(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, out, key string }{
		// RFC 4514 section 4.
		{"UID=jsmith,DC=example,DC=net", "UID=jsmith,DC=example,DC=net", "uid=jsmith,dc=example,dc=net"},
		{"OU=Sales+CN=J.  Smith,DC=example,DC=net", "OU=Sales+CN=J.  Smith,DC=example,DC=net", "cn=j. smith+ou=sales,dc=example,dc=net"},
		{`CN=James \"Jim\" Smith\, III,DC=example`, `CN=James \"Jim\" Smith\, III,DC=example`, `cn=james \"jim\" smith\, iii,dc=example`},
		{`CN=Before\0dAfter,DC=example`, `CN=Before\0dAfter,DC=example`, `cn=before\0dafter,dc=example`},
		{`1.3.6.1.4.1.1466.0=#04024869`, `1.3.6.1.4.1.1466.0=#04024869`, `1.3.6.1.4.1.1466.0=hi`},
		{`CN=Lu\C4\8Di\C4\87`, "CN=Lučić", "cn=lučić"},
		// Ten spellings of one name, taken by OpenLDAP for the same entry but where it refuses them.
		{"uid=alice,ou=people,dc=x", "uid=alice,ou=people,dc=x", "uid=alice,ou=people,dc=x"},
		{"UserID=ALICE, organizationalUnitName=People; domainComponent=X", "UserID=ALICE,organizationalUnitName=People,domainComponent=X", "uid=alice,ou=people,dc=x"},
		{"0.9.2342.19200300.100.1.1=alice,2.5.4.11=people,0.9.2342.19200300.100.1.25=x", "0.9.2342.19200300.100.1.1=alice,2.5.4.11=people,0.9.2342.19200300.100.1.25=x", "uid=alice,ou=people,dc=x"},
		{`uid=\61lice,ou=peopl\65,dc=x`, "uid=alice,ou=people,dc=x", "uid=alice,ou=people,dc=x"},
		{`uid="alice" ; ou = "people" , dc="x"`, "uid=alice,ou=people,dc=x", "uid=alice,ou=people,dc=x"},
		{"uid=alice\t,\r\n ou=\npeople , dc=x ", "uid=alice,ou=people,dc=x", "uid=alice,ou=people,dc=x"},
		{"uid=#0405616c696365,ou=#0C0670656f706c65,dc=#160178", "uid=#0405616c696365,ou=#0c0670656f706c65,dc=#160178", "uid=alice,ou=people,dc=x"},
		{`uid=\20alice\ ,ou=people,dc=x`, `uid=\ alice\ ,ou=people,dc=x`, "uid=alice,ou=people,dc=x"},
		{"OID.0.9.2342.19200300.100.1.1=alice,oid.2.5.4.11=people,dc=x", "0.9.2342.19200300.100.1.1=alice,2.5.4.11=people,dc=x", "uid=alice,ou=people,dc=x"},
		{"uid=alice,ou=\u017f,dc=\u212a", "uid=alice,ou=\u017f,dc=\u212a", "uid=alice,ou=s,dc=k"}, // long s, Kelvin
		// Empty values.
		{"svc=,rip=,cn=appbind", "svc=,rip=,cn=appbind", "svc=,rip=,cn=appbind"},
		{`svc="",rip= ,cn=appbind`, "svc=,rip=,cn=appbind", "svc=,rip=,cn=appbind"},
		{"cn=", "cn=", "cn="},
		{"", "", ""},
		// Escapes.
		{`cn=\ a\ `, `cn=\ a\ `, "cn=a"},
		{`cn= a\  `, `cn=a\ `, "cn=a"},
		{`cn=\ `, `cn=\ `, "cn="},
		{`cn=\#a#`, `cn=\#a#`, `cn=\#a#`},
		{`cn=a\=b=c`, `cn=a=b=c`, `cn=a=b=c`},
		{`cn=a\\,dc=x`, `cn=a\\,dc=x`, `cn=a\\,dc=x`},
		{`cn=a\\ ,dc=x`, `cn=a\\,dc=x`, `cn=a\\,dc=x`},
		{`cn=\2C\2c\3B\2b`, `cn=\,\,\;\+`, `cn=\,\,\;\+`},
		{`cn="a,b;c+d<e>f=g#\"\\",dc=x`, `cn=a\,b\;c\+d\<e\>f=g#\"\\,dc=x`, `cn=a\,b\;c\+d\<e\>f=g#\"\\,dc=x`},
		{`cn=" a "`, `cn=\ a\ `, `cn=a`},
		{`cn=\00`, `cn=\00`, `cn=\00`},
		{"cn=a\tb\x7f", `cn=a\09b\7f`, `cn=a\09b\7f`},
		{`cn=\09a\0a`, `cn=\09a\0a`, `cn=\09a\0a`},
		// An RDN is a set; equal pairs stay, a name with both is no name of a server.
		{"cn=b+cn=a", "cn=b+cn=a", "cn=a+cn=b"},
		{"cn=a + cn=A", "cn=a+cn=A", "cn=a+cn=a"},
		// Hexadecimal that holds no text, or no UTF-8, stays hexadecimal.
		{"cn=#0201FF,dc=x", "cn=#0201ff,dc=x", "cn=#0201ff,dc=x"},
		{"cn=#0401ff", "cn=#0401ff", "cn=#0401ff"},
		{"cn=#04840000000141", "cn=#04840000000141", "cn=a"},
		{"cn=#0400", "cn=#0400", "cn="},
	} {
		dn, err := ParseDN(test.in)
		if err != nil {
			t.Errorf("%q: %v", test.in, err)
			continue
		}
		if got := dn.String(); got != test.out {
			t.Errorf("%q is written %q, want %q", test.in, got, test.out)
		}
		if got := dn.Key(); got != test.key {
			t.Errorf("%q has the key %q, want %q", test.in, got, test.key)
		}
	}
}

func TestParseDNRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		" ", ",", "a", "=", "=a", "cn", "cn=a,", ",cn=a", "cn=a,,dc=x", "cn=a;", "cn=a+", "+cn=a", "cn=a+,dc=x",
		"alice", "alice@example.org", `EXAMPLE\alice`, // bind names that are no DNs
		`cn=a\`, `cn=\a`, `cn=\4`, `cn=\4g`, `cn=\é`, // escapes
		`cn=a"b`, `cn=a<b`, `cn=a>b`, "cn=a\x00b", "cn=\"a\x00b\"", // raw specials
		`cn="a`, `cn="a"b`, `cn="a" b`, `cn="a\"`, `cn="a\20b"`, `cn="a\61"`, // quotes
		"cn=\xff", `cn=\ff`, `cn=\C3`, "cn=\"\xff\"", "cn=\\C3\xb6", "cn=\xc3\\B6", // not UTF-8
		"cn=#", "cn=#4", "cn=#04", "cn=#0401", "cn=#040141a", "cn=#04014141", "cn=#0401zz", "cn=#0401 41", "cn=#2480040141 0000", // hexadecimal
		"1=a", "1.=a", ".1=a", "1..2=a", "01.2=a", "1.02=a", "1.2a=a", "a.b=c", "OID.=a", "OID.cn=a", "OID.1=a", // types
		"cn;lang-en=a", "c_n=a", "-n=a", "2n=a", "cñ=a", `c\6e=a`, `"cn"=a`, "c n=a",
		"/dc=x/cn=a", "<GUID=0123>", "\x00",
	} {
		if dn, err := ParseDN(in); err == nil {
			t.Errorf("%q is taken for %q", in, dn)
		}
	}
}

func TestDNLimits(t *testing.T) {
	t.Parallel()
	fits := "cn=" + strings.Repeat("a", MaxDN-3)
	if _, err := ParseDN(fits); err != nil {
		t.Errorf("%d octets: %v", len(fits), err)
	}
	if _, err := ParseDN(fits + "a"); err == nil {
		t.Errorf("%d octets pass", len(fits)+1)
	}
	fits = strings.Repeat("cn=a,", MaxRDNs-1) + "cn=a"
	if dn, err := ParseDN(fits); err != nil || len(dn) != MaxRDNs {
		t.Errorf("%d RDNs: %v", MaxRDNs, err)
	}
	if _, err := ParseDN(fits + ",cn=a"); err == nil {
		t.Errorf("%d RDNs pass", MaxRDNs+1)
	}
}

func TestHasSuffix(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		dn, base string
		want     bool
	}{
		{"uid=a,ou=people,dc=x", "ou=people,dc=x", true},
		{"uid=a,OU=People, DC=X", "2.5.4.11=people,dc=x", true},
		{"ou=people,dc=x", "ou=people,dc=x", true},
		{"uid=a,ou=people,dc=x", "", true},
		{"", "", true},
		{"dc=x", "ou=people,dc=x", false},
		{"uid=a,ou=people2,dc=x", "ou=people,dc=x", false},
		{"uid=a,xou=people,dc=x", "ou=people,dc=x", false},
		{`uid=a\,ou=people,dc=x`, "ou=people,dc=x", false},
		{"uid=a,ou=people+l=b,dc=x", "ou=people,dc=x", false},
		{"uid=a,ou=people+l=b,dc=x", "l=B+ou=people,dc=x", true},
		{"uid=a,ou=people,dc=x", "ou=people", false},
	} {
		dn, err := ParseDN(test.dn)
		base, err2 := ParseDN(test.base)
		if err != nil || err2 != nil {
			t.Fatal(test, err, err2)
		}
		if got := dn.HasSuffix(base); got != test.want {
			t.Errorf("%q below %q: %v", test.dn, test.base, got)
		}
	}
}

func TestCutDN(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in         string
		n          int
		head, tail string
	}{
		{"uid=a,dc=x,cn=appbind", 1, "uid=a,dc=x", "cn=appbind"},
		{"uid=a , dc=X ;\tcn=\\61 ", 2, "uid=a ", "dc=X ;\tcn=\\61 "},
		{`uid=a\ ,dc=x`, 1, `uid=a\ `, "dc=x"},
		{`uid="a,b" ,dc=x`, 1, `uid="a,b" `, "dc=x"},
		{`uid=a\,,dc=x`, 1, `uid=a\,`, "dc=x"},
		{"uid=a+cn=b,dc=x", 1, "uid=a+cn=b", "dc=x"},
		{" uid=a,dc=x", 0, " uid=a,dc=x", ""},
		{"uid=a,dc=x", -1, "uid=a,dc=x", ""},
		{" uid=a,dc=x", 2, "", " uid=a,dc=x"},
		{"uid=a,dc=x", 3, "", "uid=a,dc=x"},
		{"", 1, "", ""},
	} {
		head, tail, err := CutDN(test.in, test.n)
		if err != nil || head != test.head || tail != test.tail {
			t.Errorf("%q, %d: %q and %q, %v", test.in, test.n, head, tail, err)
		}
	}
	if _, _, err := CutDN("uid=a,", 1); err == nil {
		t.Error("not a DN, and cut")
	}
}
