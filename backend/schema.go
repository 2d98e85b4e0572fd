package backend

import (
	"context"
	"strings"

	"appbind/wire"
)

// Schema knows the secrets attribute by all its names. It is never changed once made.
type Schema struct {
	read    bool
	secrets []string        // names and OID of the secrets attribute, in lower case
	supers  []string        // names and OIDs of its supertypes
	found   bool            // the server has the attribute
	known   map[string]bool // those of wantedTypes that the server has
	types   []attributeType // all that the server has; nil: not read
}

// wantedTypes are the attributes whose presence decides something.
var wantedTypes = [...]string{"nsaccountlock", "pwdaccountlockedtime", "pwdfailuretime", "ipauniqueid"}

// The attribute of our own schema, contrib/schema.
const (
	ownName = "apppassword"
	ownOID  = "2.25.302488783916863150299710732887557678725.1.1"
)

// attributeType is one AttributeTypeDescription (RFC 4512 4.1.2), all in lower case.
type attributeType struct {
	oid      string
	names    []string
	super    string
	equality string // its EQUALITY rule; "" where it is that of super, or there is none
	substr   string // its SUBSTR rule, likewise
	computed bool   // operational, or not for users to change: it can change without a change of the entry
}

// is reports whether name is one of the type's names or its OID.
func (t *attributeType) is(name string) bool {
	if t.oid == name {
		return true
	}
	for _, n := range t.names {
		if n == name {
			return true
		}
	}
	return false
}

// newSchema makes what is to be hidden: the attribute by the name that the
// configuration gives it, by the OID of our own schema, and by everything that
// the subschema calls it; nil types: none was read.
func newSchema(attribute string, types []attributeType) *Schema {
	s := &Schema{read: types != nil, known: map[string]bool{}, types: types}
	name := strings.ToLower(attribute)
	s.secrets = append(s.secrets, name)
	if name == ownName {
		s.secrets = append(s.secrets, ownOID)
	}
	for i := range types {
		for _, w := range wantedTypes {
			s.known[w] = s.known[w] || types[i].is(w)
		}
	}
	super := ""
	if t := findType(types, name); t != nil {
		s.found = true
		s.secrets = append(append(s.secrets, t.oid), t.names...)
		super = t.super
	}
	// A chain of supertypes cannot be longer than there are types; a loop in it ends so.
	for range types {
		t := findType(types, super)
		if super == "" || t == nil {
			break
		}
		s.supers = append(append(s.supers, t.oid), t.names...)
		super = t.super
	}
	return s
}

func findType(types []attributeType, name string) *attributeType {
	for i := range types {
		if types[i].is(name) {
			return &types[i]
		}
	}
	return nil
}

// Secrets reports whether an attribute description (name or OID, any case, any option) is the secrets attribute.
func (s *Schema) Secrets(description []byte) bool { return among(s.secrets, description) }

// SecretsInFilter is Secrets, and true also for a supertype of it: a filter on
// that matches the values of its subtypes (RFC 4512 2.5.1).
func (s *Schema) SecretsInFilter(description []byte) bool {
	return among(s.secrets, description) || among(s.supers, description)
}

// Names are the names and OIDs of the secrets attribute, in lower case.
func (s *Schema) Names() []string {
	var list []string
	for i, n := range s.secrets {
		if !among(s.secrets[:i], []byte(n)) {
			list = append(list, n)
		}
	}
	return list
}

// has reports whether the server knows one of wantedTypes.
func (s *Schema) has(name string) bool { return s.known[strings.ToLower(name)] }

// among reports whether a description without its options is one of names. It
// allocates nothing. White space around, "OID." before an OID, and a NUL with whatever follows it
// (Samba takes names for strings of C), which some servers let pass, make no difference.
func among(names []string, description []byte) bool {
	for i, c := range description {
		if c == ';' || c == 0 {
			description = description[:i]
			break
		}
	}
	for len(description) > 0 && description[0] <= ' ' {
		description = description[1:]
	}
	for n := len(description); n > 0 && description[n-1] <= ' '; n = len(description) {
		description = description[:n-1]
	}
	if len(description) > 4 && equalFold("oid.", description[:4]) {
		description = description[4:]
	}
	for _, n := range names {
		if equalFold(n, description) {
			return true
		}
	}
	return false
}

// equalFold compares ASCII without case; lower is in lower case.
func equalFold(lower string, b []byte) bool {
	if len(lower) != len(b) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// readSchema reads the subschema (RFC 4512 4.2).
func (u *Upstream) readSchema(ctx context.Context, sv *survey) error {
	if sv.root.subschema == "" {
		sv.note("the server names no subschema; the secrets attribute is hidden by its configured name only")
		return nil
	}
	types := []attributeType{}
	s := &wire.SearchRequest{Base: []byte(sv.root.subschema), Scope: wire.ScopeBase,
		Filter: presentObjectClass, Attributes: wire.AppendStrings(nil, "attributeTypes")}
	r, err := u.ServiceSearch(ctx, s, nil, func(e wire.SearchEntry, _ []byte) error {
		return wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
			_ = wire.EachString(a.Values, func(v []byte) bool { // checked by ValidateResponse
				types = append(types, parseAttributeType(string(v)))
				return true
			})
			return true
		})
	})
	switch {
	case err != nil:
		return err
	case r.Code != wire.ResultSuccess || len(types) == 0:
		sv.note("the subschema %q cannot be read (result %d); the secrets attribute is hidden by its configured name only",
			sv.root.subschema, r.Code)
		return nil
	}
	sv.schema = newSchema(u.cfg.AppPasswords.Attribute, types)
	if len(sv.schema.secrets) == 1 || findType(types, strings.ToLower(u.cfg.AppPasswords.Attribute)) == nil {
		sv.note("the schema has no attribute %q", u.cfg.AppPasswords.Attribute)
	}
	if sv.kind == Kind389 && sv.schema.has("ipaUniqueID") {
		sv.kind = KindFreeIPA
	}
	return nil
}

// parseAttributeType reads OID, NAME, SUP, the rules and the use of an AttributeTypeDescription, as
// liberally as servers write it; what it cannot make out stays empty.
func parseAttributeType(text string) attributeType {
	var t attributeType
	tokens := schemaTokens(strings.ToLower(text))
	for i := 0; i < len(tokens); i++ {
		switch {
		case tokens[i] == "(" && t.oid == "" && i+1 < len(tokens):
			t.oid = tokens[i+1]
			i++
		case tokens[i] == "name":
			for i++; i < len(tokens); i++ {
				if strings.HasPrefix(tokens[i], "'") {
					t.names = append(t.names, strings.Trim(tokens[i], "'"))
				}
				if len(t.names) > 0 && (tokens[i] == ")" || tokens[i-1] == "name") {
					break
				}
			}
		case tokens[i] == "desc":
			i++ // free text, which may say NAME or SUP
		case tokens[i] == "sup" && i+1 < len(tokens):
			t.super = strings.Trim(tokens[i+1], "'")
			i++
		case tokens[i] == "equality" && i+1 < len(tokens):
			t.equality = strings.Trim(tokens[i+1], "'")
			i++
		case tokens[i] == "substr" && i+1 < len(tokens):
			t.substr = strings.Trim(tokens[i+1], "'")
			i++
		case tokens[i] == "usage" && i+1 < len(tokens):
			t.computed = t.computed || tokens[i+1] != "userapplications"
			i++
		case tokens[i] == "no-user-modification":
			t.computed = true
		}
	}
	return t
}

// schemaTokens cuts a description into words, parentheses and quoted strings, which keep their quotes.
func schemaTokens(s string) []string {
	var tokens []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		n := 1
		switch {
		case s[0] == '\'':
			if n = strings.IndexByte(s[1:], '\'') + 2; n == 1 {
				n = len(s)
			}
		case s[0] != '(' && s[0] != ')':
			if n = strings.IndexAny(s, " \t\r\n()'"); n < 0 {
				n = len(s)
			}
		}
		tokens = append(tokens, s[:n])
		s = s[n:]
	}
	return tokens
}
