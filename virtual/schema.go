package virtual

import (
	"fmt"
	"strings"
)

// Class is the object class of the entries.
const Class = "appPasswordEntry"

// The arc of the UUID e391387e-65d3-4960-8b1c-cbfa3f9c2685; doc/ and contrib/schema/ name its use.
const (
	arc      = "2.25.302488783916863150299710732887557678725"
	classOID = arc + ".2.2"
)

// The attributes, by which values are indexed.
const (
	objectClass = iota
	id
	label
	created
	expires
	service
	network
	lastUsed
	lastFrom
	structuralClass
	hasSubordinates
	attributes
)

// rule is how values of an attribute compare.
type rule int

const (
	text    rule = iota // caseIgnoreMatch
	ascii               // caseIgnoreIA5Match
	times               // generalizedTimeMatch
	objects             // objectIdentifierMatch
	boolean             // booleanMatch
)

// rules are the equality rules and their OIDs (RFC 4517 4.2), and the syntax (3.3).
var rules = [...]struct{ name, oid, syntax, more string }{
	text: {"caseIgnoreMatch", "2.5.13.2", "1.3.6.1.4.1.1466.115.121.1.15", "SUBSTR caseIgnoreSubstringsMatch"},
	ascii: {"caseIgnoreIA5Match", "1.3.6.1.4.1.1466.109.114.2", "1.3.6.1.4.1.1466.115.121.1.26",
		"SUBSTR caseIgnoreIA5SubstringsMatch"},
	times:   {"generalizedTimeMatch", "2.5.13.27", "1.3.6.1.4.1.1466.115.121.1.24", "ORDERING generalizedTimeOrderingMatch"},
	objects: {name: "objectIdentifierMatch", oid: "2.5.13.0"},
	boolean: {name: "booleanMatch", oid: "2.5.13.13"},
}

// spec is what is known of an attribute.
type spec struct {
	name, oid   string
	rule        rule
	single      bool
	fixed       bool // NO-USER-MODIFICATION, or a part of what the entry is
	operational bool
	description string // of our own ones
}

var specs = [attributes]spec{
	objectClass:     {name: "objectClass", oid: "2.5.4.0", rule: objects, fixed: true},
	id:              {name: "appPasswordId", oid: arc + ".1.2", single: true, fixed: true, description: "The public id of an app password"},
	label:           {name: "appPasswordLabel", oid: arc + ".1.3", single: true, description: "What an app password is called"},
	created:         {name: "appPasswordCreated", oid: arc + ".1.4", rule: times, single: true, fixed: true, description: "When an app password was made"},
	expires:         {name: "appPasswordExpires", oid: arc + ".1.5", rule: times, single: true, description: "When an app password ends; none: never"},
	service:         {name: "appPasswordService", oid: arc + ".1.6", description: "A service that an app password is for; none: any"},
	network:         {name: "appPasswordNetwork", oid: arc + ".1.7", rule: ascii, description: "A network that an app password may be used from; none: any"},
	lastUsed:        {name: "appPasswordLastUsed", oid: arc + ".1.8", rule: times, single: true, fixed: true, description: "When an app password was last used, where that is known"},
	lastFrom:        {name: "appPasswordLastAddress", oid: arc + ".1.9", rule: ascii, single: true, fixed: true, description: "The address from which an app password was last used, where that is known"},
	structuralClass: {name: "structuralObjectClass", oid: "2.5.21.9", rule: objects, single: true, fixed: true, operational: true},
	hasSubordinates: {name: "hasSubordinates", oid: "2.5.18.9", rule: boolean, single: true, fixed: true, operational: true},
}

// is reports whether a description, which has no options, is the attribute.
func (s *spec) is(description []byte) bool {
	return equalFold(s.name, description) || string(description) == s.oid
}

// find is the attribute of a description; -1: none of ours.
func find(description []byte) int {
	for i := range specs {
		if specs[i].is(description) {
			return i
		}
	}
	return -1
}

// equalFold compares ASCII without case.
func equalFold(name string, b []byte) bool {
	if len(name) != len(b) {
		return false
	}
	for i, c := range b {
		if d := name[i]; c != d && (c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// Definition is one value of attributeTypes or objectClasses (RFC 4512 4.1).
type Definition struct {
	OID  string
	Text string
}

// Definitions are the definitions of what the entries are made of.
func Definitions() (types []Definition, class Definition) {
	var may []string
	for i := range specs {
		s := &specs[i]
		if s.description == "" {
			continue
		}
		r := &rules[s.rule]
		d := fmt.Sprintf("( %s NAME '%s' DESC '%s' EQUALITY %s %s SYNTAX %s", s.oid, s.name, s.description, r.name, r.more, r.syntax)
		if s.single {
			d += " SINGLE-VALUE"
		}
		types = append(types, Definition{s.oid, d + " )"})
		if i != id {
			may = append(may, s.name)
		}
	}
	return types, Definition{classOID, fmt.Sprintf("( %s NAME '%s' DESC 'An app password of the entry above it' SUP top STRUCTURAL MUST %s MAY ( %s ) )",
		classOID, Class, specs[id].name, strings.Join(may, " $ "))}
}
