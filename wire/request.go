package wire

// Scopes of a search (RFC 4511 4.5.1.2), and that of draft-sermersheim-ldap-subordinate-scope, which
// OpenLDAP has: all below the base, without it.
const (
	ScopeBase     = 0
	ScopeOne      = 1
	ScopeWhole    = 2
	ScopeChildren = 3
)

// BindRequest is RFC 4511 4.2.
type BindRequest struct {
	// Version is 1..127; we serve 2 and 3.
	Version int
	// Name is the bind name, a DN or what else the client sends.
	Name []byte
	// SASL tells a SASL bind from a simple one. It is set, with an empty
	// Mechanism, for any other authentication choice too (Kerberos in version 2,
	// Sicily): all of them are to be answered authMethodNotSupported, and none may
	// pass for a simple bind without a password.
	SASL bool
	// Password is the password of a simple bind.
	Password []byte
	// Mechanism and Credentials are those of a SASL bind.
	Mechanism, Credentials []byte
}

const (
	tagSimple = 0x80 // AuthenticationChoice simple [0]
	tagSASL   = 0xa3 // AuthenticationChoice sasl [3]

	classBits    = 0xc0
	classContext = 0x80 // what an extension of a CHOICE has (RFC 4511 4.2)
)

// DecodeBind reads the body of a BindRequest.
func DecodeBind(body []byte) (BindRequest, error) {
	var b BindRequest
	version, rest, err := Expect(body, TagInteger)
	if err != nil {
		return b, err
	}
	v, err := boundedInteger(version)
	if err != nil || v < 1 || v > 127 {
		return b, ErrMalformed
	}
	b.Version = int(v)
	if b.Name, rest, err = Expect(rest, TagOctetString); err != nil {
		return b, err
	}
	tag, content, rest, err := Element(rest)
	if err != nil || len(rest) != 0 {
		return b, ErrMalformed
	}
	if tag == tagSimple {
		b.Password = content
		return b, nil
	}
	b.SASL = true
	switch {
	case tag == tagSASL:
		if b.Mechanism, rest, err = Expect(content, TagOctetString); err != nil {
			return b, err
		}
		if len(rest) > 0 {
			if b.Credentials, rest, err = Expect(rest, TagOctetString); err != nil || len(rest) != 0 {
				return b, ErrMalformed
			}
		}
		return b, nil
	case tag&classBits == classContext:
		return b, nil
	}
	return b, ErrMalformed
}

// AppendSimpleBind appends the body of a version 3 simple bind.
func AppendSimpleBind(dst []byte, name string, password []byte) []byte {
	dst = appendInteger(dst, TagInteger, 3)
	dst = appendString(dst, TagOctetString, name)
	return AppendElement(dst, tagSimple, password)
}

// appendString is appendElement for a string.
func appendString(dst []byte, tag byte, s string) []byte {
	return append(appendHeader(dst, tag, len(s)), s...)
}

// SearchRequest is RFC 4511 4.5.1.
type SearchRequest struct {
	Base      []byte
	Scope     int
	Deref     int
	SizeLimit int32
	TimeLimit int32 // seconds
	TypesOnly bool
	// Filter is the filter's whole element.
	Filter []byte
	// Attributes is the contents of the attribute selection, see EachString; empty: all user attributes.
	Attributes []byte
}

// DecodeSearch reads the body of a SearchRequest. The filter is not looked into.
func DecodeSearch(body []byte) (SearchRequest, error) {
	var s SearchRequest
	base, rest, err := Expect(body, TagOctetString)
	if err != nil {
		return s, err
	}
	s.Base = base
	scope, rest, err := enumerated(rest, ScopeChildren)
	if err != nil {
		return s, err
	}
	deref, rest, err := enumerated(rest, 3)
	if err != nil {
		return s, err
	}
	s.Scope, s.Deref = scope, deref
	if s.SizeLimit, rest, err = limitInteger(rest); err != nil {
		return s, err
	}
	if s.TimeLimit, rest, err = limitInteger(rest); err != nil {
		return s, err
	}
	types, rest, err := Expect(rest, TagBoolean)
	if err != nil || len(types) != 1 {
		return s, ErrMalformed
	}
	s.TypesOnly = types[0] != 0
	filter := rest
	if _, _, rest, err = Element(rest); err != nil {
		return s, err
	}
	end := len(filter) - len(rest)
	s.Filter = filter[:end:end]
	if s.Attributes, rest, err = Expect(rest, TagSequence); err != nil || len(rest) != 0 {
		return s, ErrMalformed
	}
	return s, nil
}

// Append appends the body of the search.
func (s *SearchRequest) Append(dst []byte) []byte {
	dst = AppendElement(dst, TagOctetString, s.Base)
	dst = appendInteger(dst, tagEnumerated, int32(s.Scope))
	dst = appendInteger(dst, tagEnumerated, int32(s.Deref))
	dst = appendInteger(dst, TagInteger, s.SizeLimit)
	dst = appendInteger(dst, TagInteger, s.TimeLimit)
	dst = appendBoolean(dst, TagBoolean, s.TypesOnly)
	dst = append(dst, s.Filter...)
	return AppendElement(dst, TagSequence, s.Attributes)
}

func appendBoolean(dst []byte, tag byte, v bool) []byte {
	if v {
		return append(dst, tag, 1, 0xff)
	}
	return append(dst, tag, 1, 0)
}

// enumerated reads an ENUMERATED in 0..most.
func enumerated(b []byte, most int32) (int, []byte, error) {
	content, rest, err := Expect(b, tagEnumerated)
	if err != nil {
		return 0, nil, err
	}
	v, err := boundedInteger(content)
	if err != nil || v > most {
		return 0, nil, ErrMalformed
	}
	return int(v), rest, nil
}

// limitInteger reads an INTEGER in 0..2^31-1.
func limitInteger(b []byte) (int32, []byte, error) {
	content, rest, err := Expect(b, TagInteger)
	if err != nil {
		return 0, nil, err
	}
	v, err := boundedInteger(content)
	return v, rest, err
}

// EachString calls f for each OCTET STRING in list, until f returns false.
func EachString(list []byte, f func(s []byte) bool) error {
	for len(list) > 0 {
		s, rest, err := Expect(list, TagOctetString)
		if err != nil {
			return err
		}
		if !f(s) {
			return nil
		}
		list = rest
	}
	return nil
}

// AppendStrings appends OCTET STRINGs, such as an attribute selection.
func AppendStrings(dst []byte, list ...string) []byte {
	for _, s := range list {
		dst = appendString(dst, TagOctetString, s)
	}
	return dst
}

// CompareRequest is RFC 4511 4.10.
type CompareRequest struct{ DN, Attribute, Value []byte }

// DecodeCompare reads the body of a CompareRequest.
func DecodeCompare(body []byte) (CompareRequest, error) {
	var c CompareRequest
	dn, rest, err := Expect(body, TagOctetString)
	if err != nil {
		return c, err
	}
	ava, rest, err := Expect(rest, TagSequence)
	if err != nil || len(rest) != 0 {
		return c, ErrMalformed
	}
	c.DN = dn
	c.Attribute, c.Value, err = assertion(ava)
	return c, err
}

// Append appends the body of the compare.
func (c *CompareRequest) Append(dst []byte) []byte {
	dst = AppendElement(dst, TagOctetString, c.DN)
	start := len(dst)
	dst = AppendElement(dst, TagOctetString, c.Attribute)
	dst = AppendElement(dst, TagOctetString, c.Value)
	return CloseElement(dst, start, TagSequence)
}

// ModifyDNRequest is RFC 4511 4.9.
type ModifyDNRequest struct {
	DN, NewRDN   []byte
	DeleteOldRDN bool
	// NewSuperior is nil when it is absent.
	NewSuperior []byte
}

// tagNewSuperior is newSuperior [0] of ModifyDNRequest.
const tagNewSuperior = 0x80

// DecodeModifyDN reads the body of a ModifyDNRequest.
func DecodeModifyDN(body []byte) (ModifyDNRequest, error) {
	var m ModifyDNRequest
	dn, rest, err := Expect(body, TagOctetString)
	if err != nil {
		return m, err
	}
	m.DN = dn
	if m.NewRDN, rest, err = Expect(rest, TagOctetString); err != nil {
		return m, err
	}
	del, rest, err := Expect(rest, TagBoolean)
	if err != nil || len(del) != 1 {
		return m, ErrMalformed
	}
	m.DeleteOldRDN = del[0] != 0
	if len(rest) > 0 {
		if m.NewSuperior, rest, err = Expect(rest, tagNewSuperior); err != nil || len(rest) != 0 {
			return m, ErrMalformed
		}
	}
	return m, nil
}

// Append appends the body of the request.
func (m *ModifyDNRequest) Append(dst []byte) []byte {
	dst = AppendElement(dst, TagOctetString, m.DN)
	dst = AppendElement(dst, TagOctetString, m.NewRDN)
	dst = appendBoolean(dst, TagBoolean, m.DeleteOldRDN)
	if m.NewSuperior != nil {
		dst = AppendElement(dst, tagNewSuperior, m.NewSuperior)
	}
	return dst
}

// DecodeTarget reads the DN that a Modify or an Add begins with, and returns
// what follows it, unread. The body of a Delete is its DN as it stands.
func DecodeTarget(body []byte) (dn, rest []byte, err error) { return Expect(body, TagOctetString) }

// AppendTarget is the reverse of DecodeTarget.
func AppendTarget(dst, dn, rest []byte) []byte {
	return append(AppendElement(dst, TagOctetString, dn), rest...)
}

// DecodeAbandon reads the body of an AbandonRequest: the message ID of the operation to give up.
func DecodeAbandon(body []byte) (int32, error) { return boundedInteger(body) }

// AppendAbandon appends the body of an AbandonRequest.
func AppendAbandon(dst []byte, id int32) []byte {
	return appendIntegerContent(dst, id)
}

// ExtendedRequest is RFC 4511 4.12.
type ExtendedRequest struct {
	Name []byte
	// Value is nil when it is absent.
	Value []byte
}

const (
	tagRequestName  = 0x80 // requestName [0]
	tagRequestValue = 0x81 // requestValue [1]
)

// DecodeExtended reads the body of an ExtendedRequest.
func DecodeExtended(body []byte) (ExtendedRequest, error) {
	var x ExtendedRequest
	name, rest, err := Expect(body, tagRequestName)
	if err != nil || len(name) == 0 {
		return x, ErrMalformed
	}
	x.Name = name
	if len(rest) > 0 {
		if x.Value, rest, err = Expect(rest, tagRequestValue); err != nil || len(rest) != 0 {
			return x, ErrMalformed
		}
	}
	return x, nil
}

// AppendExtended appends the body of an ExtendedRequest; a nil value is left out.
func AppendExtended(dst []byte, name string, value []byte) []byte {
	dst = appendString(dst, tagRequestName, name)
	if value != nil {
		dst = AppendElement(dst, tagRequestValue, value)
	}
	return dst
}
