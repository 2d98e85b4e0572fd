package embedded

import (
	"slices"
	"strings"

	"appbind/wire"
)

// attributeType is what the directory knows about an attribute: its names, how
// its values are compared, and who may change it. An attribute that is not in
// the table is taken as a user attribute with values compared without case.
type attributeType struct {
	oid         string
	names       []string
	rule        string // EQUALITY, as published
	syntax      string
	exact       bool // values are compared octet by octet
	dn          bool // values are names
	secret      bool // see access.go
	single      bool
	operational bool
	fixed       bool // maintained by the directory; clients may not change it
}

const (
	syntaxString  = "1.3.6.1.4.1.1466.115.121.1.15"
	syntaxIA5     = "1.3.6.1.4.1.1466.115.121.1.26"
	syntaxDN      = "1.3.6.1.4.1.1466.115.121.1.12"
	syntaxOctets  = "1.3.6.1.4.1.1466.115.121.1.40"
	syntaxTime    = "1.3.6.1.4.1.1466.115.121.1.24"
	syntaxOID     = "1.3.6.1.4.1.1466.115.121.1.38"
	syntaxInteger = "1.3.6.1.4.1.1466.115.121.1.27"
	syntaxBoolean = "1.3.6.1.4.1.1466.115.121.1.7"
	syntaxUUID    = "1.3.6.1.1.16.1"
	syntaxCSN     = "1.3.6.1.4.1.4203.666.11.2.1"
	syntaxAttr    = "1.3.6.1.4.1.1466.115.121.1.3"
	syntaxClass   = "1.3.6.1.4.1.1466.115.121.1.37"
)

// Canonical keys of attributes that the code names.
const (
	keyObjectClass  = "objectclass"
	keyUserPassword = "userpassword"
	keyAppPassword  = "apppassword"
	keyPwdChanged   = "pwdchangedtime"
	keyUUID         = "entryuuid"
	keyCSN          = "entrycsn"
	keyCreated      = "createtimestamp"
	keyModified     = "modifytimestamp"
	keyCreator      = "creatorsname"
	keyModifier     = "modifiersname"
	keyEntryDN      = "entrydn"
	keySubschema    = "subschemasubentry"
	keyChildren     = "hassubordinates"
)

// userType is an ordinary attribute with values compared without case.
func userType(oid string, names ...string) attributeType {
	return attributeType{oid: oid, names: names, rule: "caseIgnoreMatch", syntax: syntaxString}
}

func ia5Type(oid string, names ...string) attributeType {
	return attributeType{oid: oid, names: names, rule: "caseIgnoreIA5Match", syntax: syntaxIA5}
}

func dnType(oid string, names ...string) attributeType {
	return attributeType{oid: oid, names: names, rule: "distinguishedNameMatch", syntax: syntaxDN, dn: true}
}

// kept is an operational attribute with one value that the directory maintains.
func kept(oid, name, rule, syntax string) attributeType {
	return attributeType{oid: oid, names: []string{name}, rule: rule, syntax: syntax,
		dn: syntax == syntaxDN, single: true, operational: true, fixed: true}
}

// published is an operational attribute of the root DSE or the subschema.
func published(oid, name, rule, syntax string) attributeType {
	return attributeType{oid: oid, names: []string{name}, rule: rule, syntax: syntax, operational: true, fixed: true}
}

// attributeTypes is the table: RFC 4512, 4519, 4524, 2798, 2307, 4530, 5020 and
// the password policy draft, as far as mail servers and their tools ask.
var attributeTypes = []attributeType{
	{oid: "2.5.4.0", names: []string{"objectClass"}, rule: "objectIdentifierMatch", syntax: syntaxOID},
	userType("2.5.4.3", "cn", "commonName"),
	userType("2.5.4.4", "sn", "surname"),
	userType("2.5.4.7", "l", "localityName"),
	userType("2.5.4.8", "st", "stateOrProvinceName"),
	userType("2.5.4.9", "street", "streetAddress"),
	userType("2.5.4.10", "o", "organizationName"),
	userType("2.5.4.11", "ou", "organizationalUnitName"),
	userType("2.5.4.12", "title"),
	userType("2.5.4.13", "description"),
	userType("2.5.4.42", "givenName", "gn"),
	{oid: "2.5.4.6", names: []string{"c", "countryName"}, rule: "caseIgnoreMatch", syntax: syntaxString, single: true},
	userType("2.5.4.20", "telephoneNumber"),
	dnType("2.5.4.31", "member"),
	dnType("2.5.4.50", "uniqueMember"),
	dnType("2.5.4.34", "seeAlso"),
	{oid: "2.5.4.35", names: []string{"userPassword"}, rule: "octetStringMatch", syntax: syntaxOctets, exact: true, secret: true},
	{oid: appPasswordOID, names: []string{"appPassword"}, rule: "octetStringMatch", syntax: syntaxOctets, exact: true, secret: true},
	userType("0.9.2342.19200300.100.1.1", "uid", "userid"),
	ia5Type("0.9.2342.19200300.100.1.3", "mail", "rfc822Mailbox"),
	ia5Type("0.9.2342.19200300.100.1.25", "dc", "domainComponent"),
	{oid: "2.16.840.1.113730.3.1.241", names: []string{"displayName"}, rule: "caseIgnoreMatch", syntax: syntaxString, single: true},
	dnType("1.2.840.113556.1.2.102", "memberOf"),
	{oid: "1.3.6.1.1.1.1.0", names: []string{"uidNumber"}, rule: "integerMatch", syntax: syntaxInteger, single: true},
	{oid: "1.3.6.1.1.1.1.1", names: []string{"gidNumber"}, rule: "integerMatch", syntax: syntaxInteger, single: true},
	{oid: "1.3.6.1.1.1.1.3", names: []string{"homeDirectory"}, rule: "caseExactIA5Match", syntax: syntaxIA5, exact: true, single: true},
	{oid: "1.3.6.1.1.1.1.4", names: []string{"loginShell"}, rule: "caseExactIA5Match", syntax: syntaxIA5, exact: true, single: true},

	kept("1.3.6.1.1.16.4", "entryUUID", "UUIDMatch", syntaxUUID),
	kept("1.3.6.1.4.1.4203.666.1.7", "entryCSN", "CSNMatch", syntaxCSN),
	kept("2.5.18.1", "createTimestamp", "generalizedTimeMatch", syntaxTime),
	kept("2.5.18.2", "modifyTimestamp", "generalizedTimeMatch", syntaxTime),
	kept("2.5.18.3", "creatorsName", "distinguishedNameMatch", syntaxDN),
	kept("2.5.18.4", "modifiersName", "distinguishedNameMatch", syntaxDN),
	kept("2.5.18.9", "hasSubordinates", "booleanMatch", syntaxBoolean),
	kept("2.5.18.10", "subschemaSubentry", "distinguishedNameMatch", syntaxDN),
	kept("1.3.6.1.1.20", "entryDN", "distinguishedNameMatch", syntaxDN),
	kept("1.3.6.1.4.1.42.2.27.8.1.16", "pwdChangedTime", "generalizedTimeMatch", syntaxTime),
	{oid: "1.3.6.1.4.1.42.2.27.8.1.17", names: []string{"pwdAccountLockedTime"}, rule: "generalizedTimeMatch",
		syntax: syntaxTime, single: true, operational: true},

	published("2.5.21.5", "attributeTypes", "objectIdentifierFirstComponentMatch", syntaxAttr),
	published("2.5.21.6", "objectClasses", "objectIdentifierFirstComponentMatch", syntaxClass),
	published("1.3.6.1.4.1.1466.101.120.5", "namingContexts", "distinguishedNameMatch", syntaxDN),
	published("1.3.6.1.4.1.1466.101.120.7", "supportedExtension", "objectIdentifierMatch", syntaxOID),
	published("1.3.6.1.4.1.1466.101.120.13", "supportedControl", "objectIdentifierMatch", syntaxOID),
	published("1.3.6.1.4.1.1466.101.120.15", "supportedLDAPVersion", "integerMatch", syntaxInteger),
	published("1.3.6.1.4.1.4203.1.3.5", "supportedFeatures", "objectIdentifierMatch", syntaxOID),
	published("1.3.6.1.1.4", "vendorName", "caseExactMatch", syntaxString),
	published("1.3.6.1.1.5", "vendorVersion", "caseExactMatch", syntaxString),
}

// objectClasses are published for clients; entries are not checked against them.
var objectClasses = []string{
	"( 2.5.6.0 NAME 'top' ABSTRACT MUST objectClass )",
	"( 2.5.6.4 NAME 'organization' SUP top STRUCTURAL MUST o MAY ( userPassword $ description ) )",
	"( 2.5.6.5 NAME 'organizationalUnit' SUP top STRUCTURAL MUST ou MAY ( userPassword $ description ) )",
	"( 2.5.6.6 NAME 'person' SUP top STRUCTURAL MUST ( sn $ cn ) MAY ( userPassword $ telephoneNumber $ seeAlso $ description ) )",
	"( 2.5.6.7 NAME 'organizationalPerson' SUP person STRUCTURAL MAY ( title $ street $ st $ l $ ou $ telephoneNumber ) )",
	"( 2.5.6.8 NAME 'organizationalRole' SUP top STRUCTURAL MUST cn MAY ( seeAlso $ ou $ description ) )",
	"( 2.5.6.9 NAME 'groupOfNames' SUP top STRUCTURAL MUST ( member $ cn ) MAY ( seeAlso $ o $ ou $ description ) )",
	"( 2.16.840.1.113730.3.2.2 NAME 'inetOrgPerson' SUP organizationalPerson STRUCTURAL MAY ( displayName $ givenName $ mail $ uid $ o ) )",
	"( 0.9.2342.19200300.100.4.5 NAME 'account' SUP top STRUCTURAL MUST uid MAY ( description $ seeAlso $ l $ o $ ou ) )",
	"( 0.9.2342.19200300.100.4.13 NAME 'domain' SUP top STRUCTURAL MUST dc MAY ( userPassword $ o $ description ) )",
	"( 0.9.2342.19200300.100.4.19 NAME 'simpleSecurityObject' SUP top AUXILIARY MUST userPassword )",
	"( 1.3.6.1.4.1.1466.344 NAME 'dcObject' SUP top AUXILIARY MUST dc )",
	"( 1.3.6.1.1.1.2.0 NAME 'posixAccount' SUP top AUXILIARY MUST ( cn $ uid $ uidNumber $ gidNumber $ homeDirectory ) MAY ( userPassword $ loginShell $ description ) )",
	"( " + appPasswordClassOID + " NAME 'appPasswordAccount' SUP top AUXILIARY MAY appPassword )",
}

// typesByName finds an attribute type by any of its names or its OID, in lower case.
var typesByName = func() map[string]*attributeType {
	m := make(map[string]*attributeType)
	for i := range attributeTypes {
		t := &attributeTypes[i]
		m[t.oid] = t
		for _, name := range t.names {
			m[strings.ToLower(name)] = t
		}
	}
	return m
}()

// ordinary stands for every attribute that the table lacks.
var ordinary = &attributeType{}

// typeOf is the type of a canonical key; options do not matter.
func typeOf(key string) *attributeType {
	base, _, _ := strings.Cut(key, ";")
	if t := typesByName[base]; t != nil {
		return t
	}
	return ordinary
}

// canonical is the key of an attribute description: its first name in lower
// case, whether it was given by alias, OID or another case, and its options sorted.
func canonical(description string) string {
	base, options, tagged := strings.Cut(strings.ToLower(description), ";")
	if t := typesByName[base]; t != nil {
		base = strings.ToLower(t.names[0])
	}
	if !tagged {
		return base
	}
	list := strings.Split(options, ";")
	slices.Sort(list)
	return base + ";" + strings.Join(slices.Compact(list), ";")
}

// covers reports whether an attribute with the key have is asked for by the
// key want: the same type, and at least the same options (RFC 4512 2.5.2).
func covers(want, have string) bool {
	if want == have {
		return true
	}
	wantBase, wantOptions, _ := strings.Cut(want, ";")
	haveBase, haveOptions, _ := strings.Cut(have, ";")
	if wantBase != haveBase {
		return false
	}
	if wantOptions == "" {
		return true
	}
	options := strings.Split(haveOptions, ";")
	for _, o := range strings.Split(wantOptions, ";") {
		if !slices.Contains(options, o) {
			return false
		}
	}
	return true
}

// validDescription checks the form of RFC 4512 2.5: a keystring or a numeric OID, and options.
func validDescription(s string) bool {
	base, options, tagged := strings.Cut(s, ";")
	if tagged {
		for _, o := range strings.Split(options, ";") {
			if !keychars(o) {
				return false
			}
		}
	}
	if base == "" {
		return false
	}
	if base[0] >= '0' && base[0] <= '9' {
		return strings.Trim(base, "0123456789.") == "" && !strings.HasSuffix(base, ".") && !strings.Contains(base, "..")
	}
	return base[0] != '-' && keychars(base)
}

func keychars(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if !(c >= 'a' && c <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '-') {
			return false
		}
	}
	return s != ""
}

// normal is the form in which two values of the type are compared.
func (t *attributeType) normal(value string) string {
	switch {
	case t.exact:
		return value
	case t.dn:
		if dn, err := wire.ParseDN(value); err == nil {
			return dn.Key()
		}
	}
	return strings.ToLower(strings.Join(strings.Fields(value), " "))
}

// definition is the type in the form of RFC 4512 4.1.2.
func (t *attributeType) definition() string {
	var b strings.Builder
	b.WriteString("( " + t.oid + " NAME ")
	if len(t.names) == 1 {
		b.WriteString("'" + t.names[0] + "'")
	} else {
		b.WriteString("( '" + strings.Join(t.names, "' '") + "' )")
	}
	b.WriteString(" EQUALITY " + t.rule)
	if t.rule == "caseIgnoreMatch" || t.rule == "caseIgnoreIA5Match" {
		b.WriteString(" SUBSTR " + strings.Replace(t.rule, "Match", "SubstringsMatch", 1))
	}
	b.WriteString(" SYNTAX " + t.syntax)
	if t.single {
		b.WriteString(" SINGLE-VALUE")
	}
	if t.fixed {
		b.WriteString(" NO-USER-MODIFICATION")
	}
	if t.operational {
		b.WriteString(" USAGE directoryOperation")
	}
	b.WriteString(" )")
	return b.String()
}

// The OIDs of contrib/schema, in the arc of a UUID (ITU-T X.667).
const (
	appPasswordOID      = "2.25.302488783916863150299710732887557678725.1.1"
	appPasswordClassOID = "2.25.302488783916863150299710732887557678725.2.1"
)
