package wire

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// appendKey appends an RDN's part of DN.Key.
func (r RDN) appendKey(dst []byte) []byte {
	if len(r) == 1 {
		return r[0].appendKey(dst)
	}
	keys := make([]string, len(r))
	for i, a := range r {
		keys[i] = string(a.appendKey(nil))
	}
	slices.Sort(keys) // an RDN is a set
	return append(dst, strings.Join(keys, "+")...)
}

func (a AVA) appendKey(dst []byte) []byte {
	dst = append(append(dst, shortType(a.Type)...), '=')
	value := a.Value
	if a.Hex {
		var ok bool
		if value, ok = berString(a.Value); !ok {
			return appendHex(append(dst, '#'), a.Value)
		}
	}
	return appendEscaped(dst, foldValue(value))
}

// shortType is the one name of an attribute type that keys use.
func shortType(t string) string {
	t = strings.ToLower(t)
	if short, ok := shortTypes[t]; ok {
		return short
	}
	return t
}

// shortTypes maps names, aliases and OIDs, in lower case, to the name in keys:
// RFC 4519 section 2, with mail of RFC 4524 2.16 and email of RFC 2985 5.2.1.
var shortTypes = map[string]string{
	"2.5.4.15": "businesscategory",
	"2.5.4.6":  "c", "countryname": "c",
	"2.5.4.3": "cn", "commonname": "cn",
	"0.9.2342.19200300.100.1.25": "dc", "domaincomponent": "dc",
	"2.5.4.13": "description",
	"2.5.4.27": "destinationindicator",
	"2.5.4.49": "distinguishedname",
	"2.5.4.46": "dnqualifier",
	"2.5.4.47": "enhancedsearchguide",
	"2.5.4.23": "facsimiletelephonenumber", "fax": "facsimiletelephonenumber",
	"2.5.4.44": "generationqualifier",
	"2.5.4.42": "givenname", "gn": "givenname",
	"2.5.4.51": "houseidentifier",
	"2.5.4.43": "initials",
	"2.5.4.25": "internationalisdnnumber",
	"2.5.4.7":  "l", "localityname": "l",
	"2.5.4.31": "member",
	"2.5.4.41": "name",
	"2.5.4.10": "o", "organizationname": "o",
	"2.5.4.11": "ou", "organizationalunitname": "ou",
	"2.5.4.32": "owner",
	"2.5.4.19": "physicaldeliveryofficename",
	"2.5.4.16": "postaladdress",
	"2.5.4.17": "postalcode",
	"2.5.4.18": "postofficebox",
	"2.5.4.28": "preferreddeliverymethod",
	"2.5.4.26": "registeredaddress",
	"2.5.4.33": "roleoccupant",
	"2.5.4.14": "searchguide",
	"2.5.4.34": "seealso",
	"2.5.4.5":  "serialnumber",
	"2.5.4.4":  "sn", "surname": "sn",
	"2.5.4.8": "st", "stateorprovincename": "st",
	"2.5.4.9": "street", "streetaddress": "street",
	"2.5.4.20":                  "telephonenumber",
	"2.5.4.22":                  "teletexterminalidentifier",
	"2.5.4.21":                  "telexnumber",
	"2.5.4.12":                  "title",
	"0.9.2342.19200300.100.1.1": "uid", "userid": "uid",
	"2.5.4.50": "uniquemember",
	"2.5.4.35": "userpassword",
	"2.5.4.24": "x121address",
	"2.5.4.45": "x500uniqueidentifier",

	"0.9.2342.19200300.100.1.3": "mail", "rfc822mailbox": "mail",
	"1.2.840.113549.1.9.1": "email", "emailaddress": "email", "pkcs9email": "email",
}

// berString is the text in the BER element of a hexadecimal value: an OCTET
// STRING, or one of the string types whose octets are ASCII or UTF-8.
func berString(v string) (string, bool) {
	tag, content, rest, err := Element([]byte(v))
	if err != nil || len(rest) != 0 {
		return "", false
	}
	switch tag {
	case TagOctetString, 0x0c, 0x12, 0x13, 0x14, 0x16, 0x1a: // UTF8, Numeric, Printable, Teletex, IA5, Visible
		return string(content), utf8.Valid(content)
	}
	return "", false
}

// foldValue writes a value without case, with runs of spaces as one and none at the ends.
func foldValue(v string) string {
	var b strings.Builder
	b.Grow(len(v))
	space := false // one is due before the next character
	for _, r := range v {
		if r == ' ' {
			space = true
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(foldRune(r))
	}
	return b.String()
}

// foldRune is one character for all that differ in case only, by simple case
// folding: the lower case of the smallest. What has no other case stays as it is,
// even if it has a lower case (U+0130).
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
