package wire

// Limits that a valid request keeps.
const (
	// MaxNesting bounds how many filters may stand in each other, the innermost
	// counted. Everything else in LDAP has a fixed depth.
	MaxNesting = 64
	// MaxFilterNodes bounds the parts of one filter: and, or, not, items, and
	// the single parts of substrings.
	MaxFilterNodes = 1000
	// MaxPassword bounds the octets of a password. A longer one is well-formed:
	// the limit is kept where passwords are judged, so that it gets a result.
	MaxPassword = 1024
)

// maxModifyOperation is the last operation of a change: add, delete and replace
// of RFC 4511 4.6 and increment of RFC 4525.
const maxModifyOperation = 3

// ValidateRequest checks a client's message completely: message ID in
// 1..2^31-1, a known request, every tag, length and nesting of the operation
// and of the controls. What passes is a valid LDAPMessage of RFC 4511 as far as
// its ASN.1 says; DNs and values are not looked into. It does not allocate.
// Errors: ErrMalformed.
func (m Message) ValidateRequest() error {
	if m.ID == 0 {
		return ErrMalformed // 0 is for unsolicited notifications (RFC 4511 4.1.1.1)
	}
	if err := m.validateRequestBody(); err != nil {
		return err
	}
	named := true
	err := EachControl(m.Controls, func(c Control) bool {
		named = isName(c.OID)
		return named
	})
	if err == nil && !named {
		err = ErrMalformed
	}
	return err
}

// isName reports whether the name of a control or an extended operation can be an OID (RFC 4511 4.1.2). Samba takes such
// names for strings of C: "1.2.3" with a NUL and anything behind it is another one to us, and the same to it.
func isName(name []byte) bool {
	for _, c := range name {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return true
}

func anyControl(Control) bool { return true }
func anyString([]byte) bool   { return true }

func (m Message) validateRequestBody() error {
	var err error
	switch m.Op {
	case OpBindRequest:
		_, err = DecodeBind(m.Body)
	case OpUnbindRequest:
		if len(m.Body) != 0 { // NULL
			err = ErrMalformed
		}
	case OpSearchRequest:
		err = validateSearch(m.Body)
	case OpModifyRequest:
		err = validateModify(m.Body)
	case OpAddRequest:
		err = validateAdd(m.Body)
	case OpDelRequest: // the body is the DN
	case OpModifyDNRequest:
		_, err = DecodeModifyDN(m.Body)
	case OpCompareRequest:
		_, err = DecodeCompare(m.Body)
	case OpAbandonRequest:
		_, err = DecodeAbandon(m.Body)
	case OpExtendedRequest:
		var x ExtendedRequest
		if x, err = DecodeExtended(m.Body); err == nil && !isName(x.Name) {
			err = ErrMalformed
		}
	default:
		err = ErrMalformed
	}
	return err
}

func validateSearch(body []byte) error {
	s, err := DecodeSearch(body)
	if err != nil {
		return err
	}
	if err := walkFilter(s.Filter, nil); err != nil {
		return err
	}
	return EachString(s.Attributes, anyString)
}

func validateModify(body []byte) error {
	_, rest, err := DecodeTarget(body)
	if err != nil {
		return err
	}
	changes, rest, err := Expect(rest, TagSequence)
	if err != nil || len(rest) != 0 {
		return ErrMalformed
	}
	for len(changes) > 0 {
		var change []byte
		if change, changes, err = Expect(changes, TagSequence); err != nil {
			return err
		}
		if _, change, err = enumerated(change, maxModifyOperation); err != nil {
			return err
		}
		// A delete names no values when all are meant (4.6), so a set may be empty here.
		if change, err = validateAttribute(change, 0); err != nil || len(change) != 0 {
			return ErrMalformed
		}
	}
	return nil
}

func validateAdd(body []byte) error {
	_, rest, err := DecodeTarget(body)
	if err != nil {
		return err
	}
	list, rest, err := Expect(rest, TagSequence)
	if err != nil || len(rest) != 0 {
		return ErrMalformed
	}
	for len(list) > 0 {
		if list, err = validateAttribute(list, 1); err != nil {
			return err
		}
	}
	return nil
}

// validateAttribute checks one Attribute or PartialAttribute (RFC 4511 4.1.7)
// with at least so many values, and returns what follows it.
func validateAttribute(b []byte, values int) (rest []byte, err error) {
	content, rest, err := Expect(b, TagSequence)
	if err != nil {
		return nil, err
	}
	name, content, err := Expect(content, TagOctetString)
	if err != nil || len(name) == 0 {
		return nil, ErrMalformed
	}
	set, content, err := Expect(content, tagSet)
	if err != nil || len(content) != 0 || values > 0 && len(set) == 0 {
		return nil, ErrMalformed
	}
	return rest, EachString(set, anyString)
}

// ValidateResponse checks an upstream's message as far as we rely on it: a
// known response, every tag and length of its result, reference or controls,
// and of an entry the DN and the list of attributes. The values in the list are
// not looked into: it may hold a million of them, and they are the client's. It
// does not allocate. Errors: ErrMalformed.
func (m Message) ValidateResponse() error {
	if m.ID == 0 && m.Op != OpExtendedResponse {
		return ErrMalformed // only a notification has no request (RFC 4511 4.4)
	}
	if err := m.validateResponseBody(); err != nil {
		return err
	}
	return EachControl(m.Controls, anyControl)
}

func (m Message) validateResponseBody() error {
	switch m.Op {
	case OpSearchResultEntry:
		e, err := DecodeEntry(m.Body)
		if err != nil {
			return err
		}
		return EachAttribute(e.Attributes, func(Attribute) bool { return true })
	case OpSearchResultReference:
		if len(m.Body) == 0 { // SIZE (1..MAX)
			return ErrMalformed
		}
		return EachString(m.Body, anyString)
	case OpIntermediateResponse:
		_, _, err := IntermediateBody(m.Body)
		return err
	case OpBindResponse, OpSearchResultDone, OpModifyResponse, OpAddResponse, OpDelResponse,
		OpModifyDNResponse, OpCompareResponse, OpExtendedResponse:
		return m.validateResult()
	}
	return ErrMalformed
}

// validateResult checks a response that is an LDAPResult and what may follow it.
func (m Message) validateResult() error {
	r, err := DecodeResult(m.Body)
	if err != nil {
		return err
	}
	if r.Referral != nil {
		if len(r.Referral) == 0 { // SIZE (1..MAX)
			return ErrMalformed
		}
		if err := EachString(r.Referral, anyString); err != nil {
			return err
		}
	}
	switch {
	case m.Op == OpExtendedResponse:
		_, _, err = ExtendedTail(r.Tail)
	case m.Op == OpBindResponse && len(r.Tail) > 0:
		if _, r.Tail, err = Expect(r.Tail, tagServerSASL); err == nil && len(r.Tail) != 0 {
			err = ErrMalformed
		}
	case len(r.Tail) != 0:
		err = ErrMalformed
	}
	return err
}
