package wire

import (
	"bytes"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

func TestResultRoundTrip(t *testing.T) {
	t.Parallel()
	for _, r := range []Result{
		{},
		{Code: ResultReferral, MatchedDN: []byte("dc=x"), Diagnostic: bytes.Repeat([]byte("d"), 300), Referral: AppendStrings(nil, "ldap://a", "ldap://b")},
		{Code: 4097, Tail: appendString(nil, tagServerSASL, "c")},
	} {
		got, err := DecodeResult(r.Append(nil))
		if err != nil || got.Code != r.Code || !bytes.Equal(got.MatchedDN, r.MatchedDN) || !bytes.Equal(got.Diagnostic, r.Diagnostic) ||
			!bytes.Equal(got.Referral, r.Referral) || (got.Referral == nil) != (r.Referral == nil) || !bytes.Equal(got.Tail, r.Tail) {
			t.Errorf("%+v comes back as %+v, %v", r, got, err)
		}
	}
}

// go-ldap reads what AppendResult, AppendNotice and AppendExtendedResponse write.
func TestResultsReadByOthers(t *testing.T) {
	t.Parallel()
	for _, code := range []int32{ResultSuccess, ResultInvalidCredentials, ResultCannotCancel, 4097} {
		for _, diagnostic := range []string{"", "text", string(bytes.Repeat([]byte("d"), 127)), string(bytes.Repeat([]byte("d"), 70000))} {
			for name, raw := range map[string][]byte{
				"result":   AppendResult(nil, 300, OpBindResponse, code, diagnostic),
				"notice":   AppendNotice(nil, code, diagnostic),
				"extended": AppendExtendedResponse(nil, 300, code, diagnostic, "1.2.3", []byte("v")),
			} {
				checkResult(t, name, raw, code, diagnostic)
			}
		}
	}
}

func checkResult(t *testing.T, name string, raw []byte, code int32, diagnostic string) {
	t.Helper()
	p, err := ber.DecodePacketErr(raw)
	if err != nil || !bytes.Equal(p.Bytes(), raw) {
		t.Errorf("%s, %d: not the shortest form, or not BER: %v", name, code, err)
		return
	}
	err = ldap.GetLDAPError(p)
	if got, ok := err.(*ldap.Error); ok && (int32(got.ResultCode) != code || got.Err.Error() != diagnostic) || !ok && (code != 0 || err != nil) {
		t.Errorf("%s, %d: read as %.100v", name, code, err)
	}
	if m, err := Parse(raw); err != nil || m.ValidateResponse() != nil {
		t.Errorf("%s, %d: not valid to ourselves", name, code)
	}
}

func TestNotice(t *testing.T) {
	t.Parallel()
	m, err := Parse(AppendNotice(nil, ResultUnavailable, "down"))
	if err != nil || m.ID != 0 || m.Op != OpExtendedResponse {
		t.Fatalf("%+v, %v", m, err)
	}
	r, err := DecodeResult(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	if name, value, err := ExtendedTail(r.Tail); err != nil || string(name) != noticeOfDisconnection || value != nil {
		t.Errorf("%q %q, %v", name, value, err)
	}
}

func TestExtendedTail(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "1.2.3"} {
		for _, value := range [][]byte{nil, {}, []byte("v")} {
			m, err := Parse(AppendExtendedResponse(nil, 1, ResultSuccess, "", name, value))
			if err != nil {
				t.Fatal(err)
			}
			r, err := DecodeResult(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			gotName, gotValue, err := ExtendedTail(r.Tail)
			if err != nil || string(gotName) != name || !bytes.Equal(gotValue, value) || (gotValue == nil) != (value == nil) {
				t.Errorf("%q, %q: %q, %q, %v", name, value, gotName, gotValue, err)
			}
		}
	}
}

func TestIntermediateBody(t *testing.T) {
	t.Parallel()
	name, value, err := IntermediateBody(unhex(t, "80 01 31 81 01 78"))
	if err != nil || string(name) != "1" || string(value) != "x" {
		t.Errorf("%q %q, %v", name, value, err)
	}
	if name, value, err = IntermediateBody(nil); name != nil || value != nil || err != nil {
		t.Errorf("%q %q, %v", name, value, err)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	list := AppendAttribute(nil, "cn;lang-de", []byte("a"), []byte{}, bytes.Repeat([]byte("b"), 200))
	list = AppendAttribute(list, "sn")
	e := SearchEntry{DN: []byte("cn=a"), Attributes: list}
	got, err := DecodeEntry(e.Append(nil))
	if err != nil || !bytes.Equal(got.DN, e.DN) || !bytes.Equal(got.Attributes, list) {
		t.Fatalf("%+v, %v", got, err)
	}
	var copied []byte
	var names []string
	values := 0
	err = EachAttribute(got.Attributes, func(a Attribute) bool {
		copied = append(copied, a.Raw...)
		names = append(names, string(a.Type))
		if err := EachString(a.Values, func([]byte) bool { values++; return true }); err != nil {
			t.Error(err)
		}
		return true
	})
	if err != nil || !bytes.Equal(copied, list) || len(names) != 2 || names[0] != "cn;lang-de" || values != 3 {
		t.Errorf("%q, %d values, %v", names, values, err)
	}
	n := 0
	if err := EachAttribute(list, func(Attribute) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("stopped after %d, %v", n, err)
	}
}
