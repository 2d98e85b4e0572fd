package backend

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"appbind/wire"
)

// rule is how the values of an attribute compare (RFC 4517 4.2), as far as memory can tell.
type rule byte

const (
	ruleUnknown rule = iota // equal octets are equal; of others nothing is known
	ruleFold                // caseIgnoreMatch, caseIgnoreIA5Match
	ruleExact               // caseExactMatch, caseExactIA5Match
	ruleInteger             // integerMatch
	ruleBoolean             // booleanMatch
	ruleOID                 // objectIdentifierMatch: of two names only the server knows whether they mean one thing
	ruleDN                  // distinguishedNameMatch
	rules
)

// ruleNames are the rules by name, in lower case, and by OID.
var ruleNames = map[string]rule{
	"caseignorematch": ruleFold, "2.5.13.2": ruleFold,
	"caseignoreia5match": ruleFold, "1.3.6.1.4.1.1466.109.114.2": ruleFold,
	"caseexactmatch": ruleExact, "2.5.13.5": ruleExact,
	"caseexactia5match": ruleExact, "1.3.6.1.4.1.1466.109.114.1": ruleExact,
	"integermatch": ruleInteger, "2.5.13.14": ruleInteger,
	"booleanmatch": ruleBoolean, "2.5.13.13": ruleBoolean,
	"objectidentifiermatch": ruleOID, "2.5.13.0": ruleOID,
	"distinguishednamematch": ruleDN, "2.5.13.1": ruleDN,
}

// knownRules are those of attributes whose schema does not say, as Active Directory's never does.
var knownRules = map[string]rule{
	"objectclass": ruleOID,
	"uid":         ruleFold, "cn": ruleFold, "sn": ruleFold, "givenname": ruleFold, "displayname": ruleFold, "mail": ruleFold,
	"samaccountname": ruleFold, "userprincipalname": ruleFold, "proxyaddresses": ruleFold,
	"uidnumber": ruleInteger, "gidnumber": ruleInteger,
}

// canonical is a value in a form in which equal values of the rule are equal
// text; false: memory does not know its equal ones.
func (r rule) canonical(value []byte) (string, bool) {
	switch r {
	case ruleFold, ruleExact:
		return prepared(value, r == ruleFold)
	case ruleInteger:
		return integer(value)
	case ruleBoolean:
		text := strings.ToUpper(string(value))
		return text, text == "TRUE" || text == "FALSE"
	case ruleOID:
		return strings.ToLower(string(value)), len(value) > 0
	case ruleDN:
		dn, err := wire.ParseDN(string(value))
		return dn.Key(), err == nil
	}
	return string(value), true
}

// decides reports whether two values whose canonical forms differ are known to differ.
func (r rule) decides() bool {
	return r == ruleFold || r == ruleExact || r == ruleInteger || r == ruleBoolean
}

// prepared is a string as RFC 4518 section 2 prepares it for comparison: NFKC,
// without case where the rule says so, runs of spaces as one, none at the ends. A
// value with characters that the section maps to nothing or to spaces is not decided.
func prepared(value []byte, fold bool) (string, bool) {
	ascii, plain := true, true
	for i, c := range value {
		switch {
		case c >= utf8.RuneSelf:
			ascii = false
		case c < ' ' || c == 0x7f:
			return "", false
		case c == ' ':
			plain = plain && i > 0 && i+1 < len(value) && value[i-1] != ' '
		}
	}
	text := string(value)
	switch {
	case !ascii:
		if !utf8.ValidString(text) || strings.ContainsFunc(text, special) {
			return "", false
		}
		if text = norm.NFKC.String(text); fold {
			text = norm.NFKC.String(strings.Map(foldRune, text))
		}
		plain = false
	case fold:
		text = strings.ToLower(text)
	}
	if !plain {
		text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }), " ")
	}
	return text, true
}

// special are the characters that RFC 4518 2.2 treats in a way of their own, those outside every
// script among them, and those whose folding takes more than one character.
func special(r rune) bool {
	return r >= utf8.RuneSelf && (unicode.In(r, unicode.Cc, unicode.Cf, unicode.Z, unicode.Co, unicode.Cs, unicode.Variation_Selector) ||
		strings.ContainsRune("ßẞİŉǰΐΰևẖẗẘẙẚ", r) || r >= 0x1f50 && r <= 0x1fff || r >= 0xfb00 && r <= 0xfb17 || r == 0x34f || r == 0xfffc)
}

// foldRune is one character for all that differ in case only.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if least == r && unicode.SimpleFold(r) == r {
		return r
	}
	return unicode.ToLower(least)
}

// integer is an INTEGER (RFC 4517 3.3.16) without what does not count.
func integer(value []byte) (string, bool) {
	digits, negative := bytes.CutPrefix(value, []byte("-"))
	if len(digits) == 0 || len(digits) > 20 {
		return "", false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	if digits = bytes.TrimLeft(digits, "0"); len(digits) == 0 {
		return "0", true
	}
	if negative {
		return "-" + string(digits), true
	}
	return string(digits), true
}
