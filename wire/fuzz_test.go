package wire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// seeds are messages of every operation, as clients and servers write them.
func seeds(t testing.TB) [][]byte {
	search := SearchRequest{
		Base: []byte("dc=x"), Scope: ScopeWhole, SizeLimit: 10,
		Filter:     filter(t, "(&(uid=%s)(|(mail=a*b*c)(!(cn=*)))(sn>=a)(sn<=b)(l~=c)(o:dn:2.5.13.5:=d))"),
		Attributes: AppendStrings(nil, "cn", "*"),
	}
	compare := CompareRequest{DN: []byte("dc=x"), Attribute: []byte("cn"), Value: []byte("v")}
	rename := ModifyDNRequest{DN: []byte("cn=a,dc=x"), NewRDN: []byte("cn=b"), NewSuperior: []byte("dc=y")}
	attribute := AppendAttribute(nil, "cn", []byte("a"), []byte("b"))
	change := CloseElement(append([]byte{tagEnumerated, 1, 2}, attribute...), 0, TagSequence)
	entry := SearchEntry{DN: []byte("cn=a"), Attributes: attribute}
	controls := AppendControl(AppendControl(nil, "1.2.840.113556.1.4.319", true, []byte("v")), "1.2.3", false, nil)
	return [][]byte{
		message(1, OpBindRequest, AppendSimpleBind(nil, "cn=a", []byte("p")), nil),
		message(1, OpBindRequest, unhex(t, "02 01 03 04 00 a3 06 04 01 58 04 01 63"), controls),
		message(1, OpBindRequest, unhex(t, "02 01 03 04 00 b4 01 30"), nil), // an unknown choice, not to be read
		message(1, OpUnbindRequest, nil, nil),
		message(200, OpSearchRequest, search.Append(nil), controls),
		message(2, OpModifyRequest, AppendTarget(nil, []byte("cn=a"), AppendElement(nil, TagSequence, change)), nil),
		message(2, OpAddRequest, AppendTarget(nil, []byte("cn=a"), AppendElement(nil, TagSequence, attribute)), nil),
		message(2, OpDelRequest, []byte("cn=a"), []byte{}),
		message(2, OpModifyDNRequest, rename.Append(nil), nil),
		message(2, OpCompareRequest, compare.Append(nil), nil),
		message(2, OpAbandonRequest, AppendAbandon(nil, 1), nil),
		message(1<<31-1, OpExtendedRequest, AppendExtended(nil, "1.3.6.1.4.1.4203.1.11.3", nil), nil),
		message(2, OpSearchResultEntry, entry.Append(nil), nil),
		message(2, OpSearchResultReference, AppendStrings(nil, "ldap://x"), nil),
		AppendResult(nil, 2, OpSearchResultDone, 0, ""),
		AppendNotice(nil, ResultUnavailable, "down"),
		unhex(t, "30 84 00 00 00 0d 02 84 00 00 00 01 03 42 84 00 00 00 00"),
	}
}

// readAll returns all messages of a stream, and how it ended.
func readAll(r io.Reader) (list [][]byte, end error) {
	reader := NewReader(r, 4000)
	for {
		m, err := reader.Next()
		if err != nil {
			return list, err
		}
		list = append(list, bytes.Clone(m.Raw))
	}
}

// However a stream is cut into reads, the same messages come out.
func FuzzFrame(f *testing.F) {
	var all []byte
	for _, s := range seeds(f) {
		f.Add(s)
		all = append(all, s...)
	}
	f.Add(all)
	f.Add(bytes.Repeat(all, 10))
	f.Add(append(all, 'G'))
	f.Fuzz(func(t *testing.T, stream []byte) {
		want, wantErr := readAll(bytes.NewReader(stream))
		for name, chunk := range map[string]io.Reader{
			"one byte": iotest.OneByteReader(bytes.NewReader(stream)),
			"half":     iotest.HalfReader(bytes.NewReader(stream)),
			"data+err": iotest.DataErrReader(bytes.NewReader(stream)),
		} {
			got, err := readAll(chunk)
			if !errors.Is(err, wantErr) || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %d messages, %v; in one piece %d, %v", name, len(got), err, len(want), wantErr)
			}
		}
		if n := len(bytes.Join(want, nil)); wantErr == io.EOF && n != len(stream) {
			t.Errorf("%d of %d octets came out", n, len(stream))
		}
	})
}

// A message keeps its meaning under another ID; a request that passes is read
// by another decoder too, and its body by ours.
func FuzzMessage(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, int32(5))
	}
	f.Fuzz(func(t *testing.T, raw []byte, id int32) {
		m, err := Parse(raw)
		if err != nil {
			return
		}
		id &= 1<<31 - 1
		again, err := Parse(m.AppendTo(nil, id))
		if err != nil || again.ID != id || again.Op != m.Op || !bytes.Equal(again.Body, m.Body) ||
			!bytes.Equal(again.Controls, m.Controls) || (again.Controls == nil) != (m.Controls == nil) {
			t.Fatalf("%x under ID %d: %+v, %v", raw, id, again, err)
		}
		if built := AppendMessage(nil, id, m.Op, m.Body, m.Controls); id > 0 && (m.ValidateRequest() == nil) {
			if n, err := Parse(built); err != nil || n.ID != id || n.ValidateRequest() != nil {
				t.Fatalf("%x built anew: %+v, %v", raw, n, err)
			}
		}
		_ = m.ValidateResponse()
		if m.ValidateRequest() != nil || isUnknownChoice(m) {
			return
		}
		p, err := ber.DecodePacketErr(raw)
		if err != nil {
			t.Fatalf("%x passes, but not with asn1-ber: %v", raw, err)
		}
		if got, ok := p.Children[0].Value.(int64); !ok || got != int64(m.ID) {
			t.Fatalf("%x: ID %d, asn1-ber says %d", raw, m.ID, got)
		}
		checkBody(t, m, p.Children[1])
	})
}

// isUnknownChoice tells a bind whose authentication choice is none of RFC 4511.
// The choice is extensible (4.2), so such a bind is well-formed and gets a
// result; what stands in it is read by nobody here and never forwarded, while
// asn1-ber would look for elements in it.
func isUnknownChoice(m Message) bool {
	if m.Op != OpBindRequest {
		return false
	}
	b, err := DecodeBind(m.Body)
	return err == nil && b.SASL && b.Mechanism == nil
}

// checkBody compares what our decoders and asn1-ber read in a valid request.
func checkBody(t *testing.T, m Message, p *ber.Packet) {
	switch m.Op {
	case OpSearchRequest:
		s, err := DecodeSearch(m.Body)
		if err != nil || len(p.Children) != 8 || p.Children[0].Data.String() != string(s.Base) || !bytes.Equal(s.Append(nil), reencodeSearch(s)) {
			t.Fatalf("search %+v, %v", s, err)
		}
		checkFilter(t, s.Filter, p.Children[6])
		items := 0
		if err := EachString(s.Attributes, func([]byte) bool { items++; return true }); err != nil || items != len(p.Children[7].Children) {
			t.Fatalf("%d attributes, %v", items, err)
		}
	case OpBindRequest:
		b, err := DecodeBind(m.Body)
		if err != nil || p.Children[1].Data.String() != string(b.Name) || !b.SASL && p.Children[2].Data.String() != string(b.Password) {
			t.Fatalf("bind: %v", err)
		}
	case OpModifyRequest, OpAddRequest:
		dn, rest, err := DecodeTarget(m.Body)
		if err != nil || len(p.Children) != 2 || p.Children[0].Data.String() != string(dn) || !bytes.Equal(AppendTarget(nil, dn, rest)[elementSize(len(dn)):], rest) {
			t.Fatalf("target %q, %v", dn, err)
		}
	case OpAbandonRequest:
		id, err := DecodeAbandon(m.Body)
		if theirs, err2 := ber.ParseInt64(m.Body); err != nil || err2 != nil || theirs != int64(id) {
			t.Fatalf("abandon %d, %v, asn1-ber says %d, %v", id, err, theirs, err2)
		}
	}
}

// checkFilter holds a filter that passes against go-ldap, but for extensible
// matches: go-ldap does not read the dnAttributes that it writes.
func checkFilter(t *testing.T, filter []byte, p *ber.Packet) {
	extensible := false
	if err := EachFilterItem(filter, func(i FilterItem) bool { extensible = i.Tag == filterExtensible; return !extensible }); err != nil {
		t.Fatal(err)
	}
	if _, err := ldap.DecompileFilter(p); err != nil && !extensible {
		t.Fatalf("filter %x passes, but go-ldap says %v", filter, err)
	}
}

// reencodeSearch decodes and appends once more.
func reencodeSearch(s SearchRequest) []byte {
	again, err := DecodeSearch(s.Append(nil))
	if err != nil {
		return nil
	}
	return again.Append(nil)
}

// A filter that passes is one to go-ldap too, and keeps its shape whatever name it is expanded with.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		"(uid=%s)", "(&)", "(|(a=%s*)(b=*%s*))", "(!(&(a>=%s)(b<=c)(d~=e)))", "(a:dn:2.5.13.5:=%s)", "(:2.5.13.5:=x)", "(cn=*)",
	} {
		if p, err := ldap.CompileFilter(s); err == nil {
			f.Add(p.Bytes(), "*)(uid=\x00")
		}
	}
	f.Add(nested(MaxNesting), "%s")
	f.Add([]byte{filterAnd, 0}, "")
	f.Fuzz(func(t *testing.T, in []byte, name string) {
		var before, after []string
		if err := EachFilterItem(in, func(i FilterItem) bool { before = append(before, shape(i)); return true }); err != nil {
			if _, err := AppendExpandedFilter(nil, in, name); err == nil {
				t.Fatalf("%x is expanded though it is malformed", in)
			}
			return
		}
		p, err := ber.DecodePacketErr(in)
		if err != nil {
			t.Fatalf("%x passes, but not with asn1-ber: %v", in, err)
		}
		checkFilter(t, in, p)
		out, err := AppendExpandedFilter(nil, in, name)
		if err == nil {
			err = EachFilterItem(out, func(i FilterItem) bool { after = append(after, shape(i)); return true })
		}
		if err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%x with %q: %x, %v", in, name, out, err)
		}
		if !bytes.Contains(out, []byte(placeholder)) && !strings.Contains(name, "%") {
			if again, err := AppendExpandedFilter(nil, out, "other"); err != nil || !bytes.Equal(again, out) {
				t.Fatalf("%x is not stable: %x, %v", out, again, err)
			}
		}
	})
}

// shape is an item without its values.
func shape(i FilterItem) string {
	i.Value = nil
	return shown(i)
}

// A DN keeps its meaning when it is written and read again, and means the same to go-ldap where both take it.
func FuzzDN(f *testing.F) {
	for _, s := range []string{
		"uid=alice,ou=people,dc=x", "UserID=ALICE, OU=b; dc=x", `uid=\61lice+cn="a,b\"",dc=#040178`, `cn=\ a\ ,OID.2.5.4.3=`,
		`cn=Lu\C4\8Di\C4\87`, "svc=,rip=,cn=appbind", "", `cn=\#\=\00`, "cn=a  b+cn=a", "cn=#0201ff", "A=#20060001001F0100", "cn=\u0130\u017f\u212a\u01c5",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		dn, err := ParseDN(s)
		if err != nil {
			return
		}
		key := dn.Key()
		if len(dn.String()) <= MaxDN {
			again, err := ParseDN(dn.String())
			if err != nil || again.Key() != key || again.String() != dn.String() || !again.HasSuffix(dn) || !dn.HasSuffix(again) {
				t.Fatalf("%q is written %q, and read as %q, %v", s, dn, again, err)
			}
		}
		if len(key) <= MaxDN {
			if k, err := ParseDN(key); err != nil || k.Key() != key {
				t.Fatalf("%q has the key %q, and that %q, %v", s, key, k.Key(), err)
			}
		}
		checkCut(t, s, dn)
		if theirs, err := ldap.ParseDN(s); err == nil && !strings.ContainsAny(s, "\t\r\n") {
			compareDN(t, s, dn, theirs)
		}
	})
}

func checkCut(t *testing.T, s string, dn DN) {
	head, tail, err := CutDN(s, len(dn)/2)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseDN(head)
	l, err2 := ParseDN(tail)
	if err != nil || err2 != nil || append(h, l...).Key() != dn.Key() {
		t.Fatalf("%q cut into %q and %q", s, head, tail)
	}
}

func compareDN(t *testing.T, s string, dn DN, theirs *ldap.DN) {
	if len(dn) != len(theirs.RDNs) {
		t.Fatalf("%q: %d RDNs, go-ldap says %d", s, len(dn), len(theirs.RDNs))
	}
	for i, rdn := range dn {
		if len(rdn) != len(theirs.RDNs[i].Attributes) {
			t.Fatalf("%q: RDN %d differs", s, i)
		}
		for j, a := range rdn {
			their := theirs.RDNs[i].Attributes[j]
			value := a.Value
			if a.Hex {
				tag, content, _, _ := Element([]byte(a.Value))
				if tag&0x20 != 0 || strings.HasPrefix(their.Value, "#") || their.Value == "" {
					continue // go-ldap takes " #..." for text, and loses or writes anew what constructed values hold
				}
				value = string(content)
			}
			if value != their.Value || !strings.HasSuffix(their.Type, a.Type) {
				t.Fatalf("%q: %s=%q, go-ldap says %s=%q", s, a.Type, value, their.Type, their.Value)
			}
		}
	}
}
