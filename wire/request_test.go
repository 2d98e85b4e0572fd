package wire

import (
	"bytes"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
)

func TestDecodeBind(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in string
		want     BindRequest
	}{
		{"simple", "02 01 03 04 02 63 6e 80 01 70", BindRequest{Version: 3, Name: []byte("cn"), Password: []byte("p")}},
		{"version 2", "02 01 02 04 00 80 00", BindRequest{Version: 2}},
		{"SASL", "02 01 03 04 00 a3 06 04 01 58 04 01 63", BindRequest{Version: 3, SASL: true, Mechanism: []byte("X"), Credentials: []byte("c")}},
		{"SASL, empty mechanism", "02 01 03 04 00 a3 02 04 00", BindRequest{Version: 3, SASL: true}},
		// Nothing of another choice may be taken for a password, not even an empty one.
		{"Kerberos of version 2", "02 01 02 04 01 63 81 01 78", BindRequest{Version: 2, Name: []byte("c"), SASL: true}},
		{"Sicily", "02 01 03 04 00 8a 01 78", BindRequest{Version: 3, SASL: true}},
		{"constructed simple", "02 01 03 04 00 a0 03 04 01 78", BindRequest{Version: 3, SASL: true}},
	} {
		b, err := DecodeBind(unhex(t, test.in))
		w := test.want
		if err != nil || b.Version != w.Version || b.SASL != w.SASL || !bytes.Equal(b.Name, w.Name) ||
			!bytes.Equal(b.Password, w.Password) || !bytes.Equal(b.Mechanism, w.Mechanism) || !bytes.Equal(b.Credentials, w.Credentials) {
			t.Errorf("%s: version %d, name %q, SASL %v %q, %v", test.name, b.Version, b.Name, b.SASL, b.Mechanism, err)
		}
	}
	b, err := DecodeBind(AppendSimpleBind(nil, "cn=a", []byte("secret")))
	if err != nil || b.Version != 3 || string(b.Name) != "cn=a" || b.SASL || string(b.Password) != "secret" {
		t.Errorf("AppendSimpleBind comes back as another bind: %v", err)
	}
}

func TestSearchRoundTrip(t *testing.T) {
	t.Parallel()
	for _, s := range []SearchRequest{
		{Filter: nested(1)},
		{
			Base: []byte("dc=x"), Scope: ScopeWhole, Deref: 3, SizeLimit: 1<<31 - 1, TimeLimit: 60, TypesOnly: true,
			Filter: nested(3), Attributes: AppendStrings(nil, "cn", "*", "1.1"),
		},
	} {
		body := s.Append(nil)
		got, err := DecodeSearch(body)
		if err != nil || got.Scope != s.Scope || got.Deref != s.Deref || got.SizeLimit != s.SizeLimit || got.TimeLimit != s.TimeLimit ||
			got.TypesOnly != s.TypesOnly || !bytes.Equal(got.Base, s.Base) || !bytes.Equal(got.Filter, s.Filter) || !bytes.Equal(got.Attributes, s.Attributes) {
			t.Errorf("%+v comes back as %+v, %v", s, got, err)
		}
		if p, err := ber.DecodePacketErr(message(1, OpSearchRequest, body, nil)); err != nil || len(p.Children[1].Children) != 8 {
			t.Errorf("another decoder reads it differently: %v", err)
		}
	}
}

func TestCompareRoundTrip(t *testing.T) {
	t.Parallel()
	c := CompareRequest{DN: []byte("dc=x"), Attribute: []byte("cn"), Value: bytes.Repeat([]byte("v"), 200)}
	got, err := DecodeCompare(c.Append(nil))
	if err != nil || !bytes.Equal(got.DN, c.DN) || !bytes.Equal(got.Attribute, c.Attribute) || !bytes.Equal(got.Value, c.Value) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestModifyDNRoundTrip(t *testing.T) {
	t.Parallel()
	for _, m := range []ModifyDNRequest{
		{DN: []byte("cn=a,dc=x"), NewRDN: []byte("cn=b")},
		{DN: []byte("cn=a,dc=x"), NewRDN: []byte("cn=b"), DeleteOldRDN: true, NewSuperior: []byte{}},
		{DN: []byte("cn=a,dc=x"), NewRDN: []byte("cn=b"), NewSuperior: []byte("dc=y")},
	} {
		got, err := DecodeModifyDN(m.Append(nil))
		if err != nil || !bytes.Equal(got.DN, m.DN) || !bytes.Equal(got.NewRDN, m.NewRDN) || got.DeleteOldRDN != m.DeleteOldRDN ||
			!bytes.Equal(got.NewSuperior, m.NewSuperior) || (got.NewSuperior == nil) != (m.NewSuperior == nil) {
			t.Errorf("%+v comes back as %+v, %v", m, got, err)
		}
	}
}

func TestTargetRoundTrip(t *testing.T) {
	t.Parallel()
	dn, rest, err := DecodeTarget(AppendTarget(nil, []byte("dc=x"), []byte{TagSequence, 0}))
	if err != nil || string(dn) != "dc=x" || !bytes.Equal(rest, []byte{TagSequence, 0}) {
		t.Errorf("%q %x, %v", dn, rest, err)
	}
}

func TestAbandonRoundTrip(t *testing.T) {
	t.Parallel()
	for _, id := range []int32{0, 1, 127, 128, 1 << 23, 1<<31 - 1} {
		if got, err := DecodeAbandon(AppendAbandon(nil, id)); err != nil || got != id {
			t.Errorf("%d comes back as %d, %v", id, got, err)
		}
	}
}

func TestExtendedRoundTrip(t *testing.T) {
	t.Parallel()
	for _, value := range [][]byte{nil, {}, []byte("v")} {
		x, err := DecodeExtended(AppendExtended(nil, "1.2.3", value))
		if err != nil || string(x.Name) != "1.2.3" || !bytes.Equal(x.Value, value) || (x.Value == nil) != (value == nil) {
			t.Errorf("%q comes back as %+v, %v", value, x, err)
		}
	}
}

func TestEachString(t *testing.T) {
	t.Parallel()
	var got []string
	err := EachString(AppendStrings(nil, "a", "", "b", "c"), func(s []byte) bool {
		got = append(got, string(s))
		return string(s) != "b"
	})
	if err != nil || len(got) != 3 || got[1] != "" {
		t.Errorf("%q, %v", got, err)
	}
	if err := EachString([]byte{TagOctetString, 0, 0x05, 0}, anyString); err == nil {
		t.Error("a NULL passes for a string")
	}
}
