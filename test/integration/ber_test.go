package integration

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// saslBind sends a SASL bind without credentials and then Who am I, on one
// connection; it returns the bind's result code and the identity.
func saslBind(t testing.TB, uri, mechanism string) (int, string) {
	t.Helper()
	scheme, address, _ := strings.Cut(uri, "://")
	network := "tcp"
	if scheme == "ldapi" {
		network = "unix"
		var err error
		if address, err = url.PathUnescape(address); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	bind := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 0, nil, "")
	bind.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 3, ""))
	bind.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
	sasl := ber.Encode(ber.ClassContext, ber.TypeConstructed, 3, nil, "")
	sasl.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, mechanism, ""))
	bind.AppendChild(sasl)
	answer := exchange(t, c, 1, bind)
	who := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 23, nil, "")
	who.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, "1.3.6.1.4.1.4203.1.11.3", ""))
	identity := ""
	for _, part := range exchange(t, c, 2, who).Children {
		if part.ClassType == ber.ClassContext && part.Tag == 11 {
			identity = part.Data.String()
		}
	}
	result, ok := answer.Children[0].Value.(int64)
	if !ok {
		t.Fatalf("bind response without a result code")
	}
	return int(result), identity
}

// exchange sends one operation and returns the operation of the answer.
func exchange(t testing.TB, c net.Conn, id int, op *ber.Packet) *ber.Packet {
	t.Helper()
	m := ber.NewSequence("")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	m.AppendChild(op)
	if _, err := c.Write(m.Bytes()); err != nil {
		t.Fatal(err)
	}
	answer, err := ber.ReadPacket(c)
	if err != nil || len(answer.Children) < 2 {
		t.Fatalf("answer: %v", err)
	}
	return answer.Children[1]
}

// attributeOID is the OID of appPassword in the server's schema.
func attributeOID(t testing.TB, c *ldap.Conn) string {
	t.Helper()
	r, err := c.Search(ldap.NewSearchRequest("cn=Subschema", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=subschema)", []string{"attributeTypes"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Entries[0].GetAttributeValues("attributeTypes") {
		if oid, ok := oidOf(v, "appPassword"); ok {
			return oid
		}
	}
	t.Fatal("the schema does not know appPassword")
	return ""
}

// presentFilter is (attribute=*) in BER.
func presentFilter(attribute string) string {
	p := ber.NewString(ber.ClassContext, ber.TypePrimitive, 7, attribute, "")
	return string(p.Bytes())
}

// sequence wraps encoded elements.
func sequence(elements ...string) string {
	p := ber.NewSequence("")
	for _, e := range elements {
		p.AppendChild(ber.DecodePacket([]byte(e)))
	}
	return string(p.Bytes())
}

// attributeList is a sequence of strings.
func attributeList(names ...string) string {
	p := ber.NewSequence("")
	for _, n := range names {
		p.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, n, ""))
	}
	return string(p.Bytes())
}

// derefValue is the value of the dereference control for one attribute.
func derefValue(attribute string, names ...string) string {
	spec := ber.NewSequence("")
	spec.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, attribute, ""))
	spec.AppendChild(ber.DecodePacket([]byte(attributeList(names...))))
	list := ber.NewSequence("")
	list.AppendChild(spec)
	return string(list.Bytes())
}

// oidOf is the OID of an attribute type description that has the name.
func oidOf(description, name string) (string, bool) {
	fields := strings.Fields(description)
	for i, f := range fields {
		if strings.EqualFold(strings.Trim(f, "'"), name) && i > 1 {
			return fields[1], true
		}
		if f == "SYNTAX" || f == "EQUALITY" {
			break
		}
	}
	return "", false
}
