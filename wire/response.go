package wire

// Result codes of RFC 4511 appendix A and RFC 3909, those that we set or look at.
const (
	ResultSuccess                      = 0
	ResultOperationsError              = 1
	ResultProtocolError                = 2
	ResultTimeLimitExceeded            = 3
	ResultSizeLimitExceeded            = 4
	ResultCompareFalse                 = 5
	ResultCompareTrue                  = 6
	ResultAuthMethodNotSupported       = 7
	ResultStrongerAuthRequired         = 8
	ResultReferral                     = 10
	ResultAdminLimitExceeded           = 11
	ResultUnavailableCriticalExtension = 12
	ResultConfidentialityRequired      = 13
	ResultSASLBindInProgress           = 14
	ResultNoSuchAttribute              = 16
	ResultUndefinedAttributeType       = 17
	ResultConstraintViolation          = 19
	ResultAttributeOrValueExists       = 20
	ResultInvalidAttributeSyntax       = 21
	ResultNoSuchObject                 = 32
	ResultInvalidDNSyntax              = 34
	ResultInappropriateAuthentication  = 48
	ResultInvalidCredentials           = 49
	ResultInsufficientAccessRights     = 50
	ResultBusy                         = 51
	ResultUnavailable                  = 52
	ResultUnwillingToPerform           = 53
	ResultNotAllowedOnRDN              = 67
	ResultObjectClassModsProhibited    = 69
	ResultOther                        = 80
	ResultCanceled                     = 118
	ResultNoSuchOperation              = 119
	ResultTooLate                      = 120
	ResultCannotCancel                 = 121
)

const (
	tagReferral      = 0xa3 // LDAPResult referral [3]
	tagServerSASL    = 0x87 // BindResponse serverSaslCreds [7]
	tagResponseName  = 0x8a // ExtendedResponse responseName [10]
	tagResponseValue = 0x8b // ExtendedResponse responseValue [11]
)

// Result is an LDAPResult (RFC 4511 4.1.9).
type Result struct {
	Code       int32
	MatchedDN  []byte
	Diagnostic []byte
	// Referral is the contents of the referral, a list of OCTET STRINGs; nil when absent.
	Referral []byte
	// Tail is what follows the LDAPResult in a bind or extended response, unread.
	Tail []byte
}

// DecodeResult reads the LDAPResult at the beginning of a response's body.
func DecodeResult(body []byte) (Result, error) {
	var r Result
	code, rest, err := Expect(body, tagEnumerated)
	if err != nil {
		return r, err
	}
	if r.Code, err = boundedInteger(code); err != nil {
		return r, err
	}
	if r.MatchedDN, rest, err = Expect(rest, TagOctetString); err != nil {
		return r, err
	}
	if r.Diagnostic, rest, err = Expect(rest, TagOctetString); err != nil {
		return r, err
	}
	if len(rest) > 0 && rest[0] == tagReferral {
		if r.Referral, rest, err = Expect(rest, tagReferral); err != nil {
			return r, err
		}
	}
	r.Tail = rest
	return r, nil
}

// Append appends the LDAPResult and its tail, as the body of a response.
func (r *Result) Append(dst []byte) []byte {
	dst = appendInteger(dst, tagEnumerated, r.Code)
	dst = AppendElement(dst, TagOctetString, r.MatchedDN)
	dst = AppendElement(dst, TagOctetString, r.Diagnostic)
	if r.Referral != nil {
		dst = AppendElement(dst, tagReferral, r.Referral)
	}
	return append(dst, r.Tail...)
}

// AppendResult appends a whole response message that carries nothing but a code and a diagnostic.
func AppendResult(dst []byte, id int32, op Op, code int32, diagnostic string) []byte {
	body := 2 + integerSize(code) + elementSize(0) + elementSize(len(diagnostic))
	dst = appendHeader(dst, TagSequence, 2+integerSize(id)+elementSize(body))
	dst = appendInteger(dst, TagInteger, id)
	dst = appendHeader(dst, byte(op), body)
	dst = appendInteger(dst, tagEnumerated, code)
	dst = append(dst, TagOctetString, 0)
	return appendString(dst, TagOctetString, diagnostic)
}

// noticeOfDisconnection is the responseName of RFC 4511 4.4.1.
const noticeOfDisconnection = "1.3.6.1.4.1.1466.20036"

// AppendNotice appends a Notice of Disconnection (RFC 4511 4.4.1).
func AppendNotice(dst []byte, code int32, diagnostic string) []byte {
	r := Result{Code: code, Diagnostic: []byte(diagnostic)}
	r.Tail = appendString(nil, tagResponseName, noticeOfDisconnection)
	return AppendMessage(dst, 0, OpExtendedResponse, r.Append(nil), nil)
}

// ExtendedTail reads the tail of an ExtendedResponse's result: name and value, nil when absent.
func ExtendedTail(tail []byte) (name, value []byte, err error) {
	return optionalPair(tail, tagResponseName, tagResponseValue)
}

// AppendExtendedResponse appends a whole ExtendedResponse; an empty name and a nil value are left out.
func AppendExtendedResponse(dst []byte, id int32, code int32, diagnostic, name string, value []byte) []byte {
	r := Result{Code: code, Diagnostic: []byte(diagnostic)}
	if name != "" {
		r.Tail = appendString(r.Tail, tagResponseName, name)
	}
	if value != nil {
		r.Tail = AppendElement(r.Tail, tagResponseValue, value)
	}
	return AppendMessage(dst, id, OpExtendedResponse, r.Append(nil), nil)
}

// SearchEntry is a SearchResultEntry (RFC 4511 4.5.2).
type SearchEntry struct {
	DN []byte
	// Attributes is the contents of the PartialAttributeList, see EachAttribute.
	Attributes []byte
}

// DecodeEntry reads the body of a SearchResultEntry. The attributes are not looked into.
func DecodeEntry(body []byte) (SearchEntry, error) {
	var e SearchEntry
	dn, rest, err := Expect(body, TagOctetString)
	if err != nil {
		return e, err
	}
	e.DN = dn
	if e.Attributes, rest, err = Expect(rest, TagSequence); err != nil || len(rest) != 0 {
		return e, ErrMalformed
	}
	return e, nil
}

// Append appends the body of the entry.
func (e *SearchEntry) Append(dst []byte) []byte {
	dst = AppendElement(dst, TagOctetString, e.DN)
	return AppendElement(dst, TagSequence, e.Attributes)
}

// Attribute is one PartialAttribute.
type Attribute struct {
	// Raw is the whole element, for copying.
	Raw []byte
	// Type is the attribute description, options included.
	Type []byte
	// Values is the contents of the set, see EachString.
	Values []byte
}

// EachAttribute calls f for each attribute in list, until f returns false.
func EachAttribute(list []byte, f func(a Attribute) bool) error {
	for len(list) > 0 {
		content, rest, err := Expect(list, TagSequence)
		if err != nil {
			return err
		}
		end := len(list) - len(rest)
		a := Attribute{Raw: list[:end:end]}
		if a.Type, content, err = Expect(content, TagOctetString); err != nil {
			return err
		}
		if a.Values, content, err = Expect(content, tagSet); err != nil || len(content) != 0 {
			return ErrMalformed
		}
		if !f(a) {
			return nil
		}
		list = rest
	}
	return nil
}

// AppendAttribute appends one PartialAttribute.
func AppendAttribute(dst []byte, name string, values ...[]byte) []byte {
	start := len(dst)
	dst = appendString(dst, TagOctetString, name)
	set := len(dst)
	for _, v := range values {
		dst = AppendElement(dst, TagOctetString, v)
	}
	dst = CloseElement(dst, set, tagSet)
	return CloseElement(dst, start, TagSequence)
}

const (
	tagIntermediateName  = 0x80 // IntermediateResponse responseName [0]
	tagIntermediateValue = 0x81 // IntermediateResponse responseValue [1]
)

// IntermediateBody reads the body of an IntermediateResponse (RFC 4511 4.13):
// name and value, nil when absent.
func IntermediateBody(body []byte) (name, value []byte, err error) {
	return optionalPair(body, tagIntermediateName, tagIntermediateValue)
}

// optionalPair reads two elements, each of which may be absent, and nothing else.
func optionalPair(b []byte, firstTag, secondTag byte) (first, second []byte, err error) {
	if len(b) > 0 && b[0] == firstTag {
		if first, b, err = Expect(b, firstTag); err != nil {
			return nil, nil, err
		}
	}
	if len(b) > 0 {
		if second, b, err = Expect(b, secondTag); err != nil || len(b) != 0 {
			return nil, nil, ErrMalformed
		}
	}
	return first, second, nil
}
