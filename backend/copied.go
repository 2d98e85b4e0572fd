package backend

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"appbind/config"
	"appbind/wire"
)

// copyKey stands for all of the configuration that a copy depends on: one that was made with another is another site's.
func copyKey(cfg *config.Config) string {
	h := sha256.New()
	for _, u := range cfg.Upstream.URLs {
		fmt.Fprintf(h, "%q %q\n", u.Scheme, u.Address)
	}
	fmt.Fprintf(h, "%q %q %q %q %q %q %q\n", cfg.Upstream.BindDN, cfg.Users.Bases, cfg.Users.Filter, cfg.Users.EnabledFilter,
		cfg.Users.NameFilter, cfg.AppPasswords.Attribute, cfg.OwnEntryAttributes)
	return string(h.Sum(nil))
}

// copiedAttribute is one attribute of users that the replica holds for searches in an outage.
type copiedAttribute struct {
	names  []string // in lower case, its OID among them
	rule   rule
	substr bool // it has a rule for substrings, of the same preparation
}

// copiedAttributes are all of them, by each of their names. Never changed once made.
type copiedAttributes struct {
	list   []*copiedAttribute
	byName map[string]*copiedAttribute
}

// wantedAttributes are the names, in lower case, that an outage needs: what a
// session with an app password may see, and what the filters of users ask about.
// Never a password, nor the secrets attribute.
func wantedAttributes(cfg *config.Config, l *lookup) []string {
	names := []string{"objectclass"}
	add := func(description string) {
		name, _, _ := strings.Cut(strings.ToLower(description), ";")
		if name != "" && name != strings.ToLower(cfg.AppPasswords.Attribute) && !PasswordLike(name) && !config.PasswordLike(name) {
			names = appendNew(names, name)
		}
	}
	for _, a := range cfg.OwnEntryAttributes {
		add(a)
	}
	for _, f := range [][]byte{l.filter, l.enabled, l.nameFilter} {
		if f != nil {
			_ = wire.EachFilterItem(f, func(i wire.FilterItem) bool { add(string(i.Attribute)); return true }) // compiled by us
		}
	}
	return names
}

// newCopied finds the wanted attributes in the schema. Left out are those that
// the copy could not hold exactly: what the server does not know, what it computes (a
// memberOf can change without the entry being told of), what has subtypes, and what the replica needs itself.
func newCopied(wanted []string, s *Schema) *copiedAttributes {
	c := &copiedAttributes{byName: map[string]*copiedAttribute{}}
	for _, name := range wanted {
		if s.SecretsInFilter([]byte(name)) || isState(name) || identity([]byte(name)) >= 0 || name == "memberof" || c.byName[name] != nil {
			continue
		}
		a := &copiedAttribute{names: []string{name}, rule: knownRules[name]}
		if s.types != nil {
			t := findType(s.types, name)
			if t == nil || t.computed || s.hasSubtype(t) || slices.ContainsFunc(t.names, PasswordLike) {
				continue
			}
			a.names = append(appendNew(slices.Clone(t.names), t.oid), name)
			a.learnRules(s, t)
		}
		c.add(a)
	}
	return c
}

func (c *copiedAttributes) add(a *copiedAttribute) {
	c.list = append(c.list, a)
	for _, n := range a.names {
		c.byName[n] = a
	}
}

// learnRules takes the rules of the schema, which a type may have from its supertypes.
func (a *copiedAttribute) learnRules(s *Schema, t *attributeType) {
	equality, substr := "", ""
	for range s.types { // a loop of supertypes ends so
		if equality == "" {
			equality = t.equality
		}
		if substr == "" {
			substr = t.substr
		}
		if t.super == "" {
			break
		}
		if t = findType(s.types, t.super); t == nil {
			break
		}
	}
	if equality != "" {
		a.rule = ruleNames[equality]
	}
	a.substr = substr != "" && (a.rule == ruleFold || a.rule == ruleExact)
}

// hasSubtype reports whether a search for a type would find values of others too.
func (s *Schema) hasSubtype(t *attributeType) bool {
	for i := range s.types {
		if s.types[i].super != "" && t.is(s.types[i].super) {
			return true
		}
	}
	return false
}

// selection is base with these attributes added, by the names by which they are wanted.
func (c *copiedAttributes) selection(base []byte) []byte {
	base = slices.Clip(base)
	for _, a := range c.list {
		base = wire.AppendStrings(base, a.names[len(a.names)-1])
	}
	return base
}

// asked reports whether an attribute that came was asked for under another name, and is none of those that names are made of.
func (r *replica) asked(t *table, name string) bool {
	a := t.copied.find([]byte(name))
	return a != nil && !slices.ContainsFunc(a.names, func(n string) bool { return r.names[n] })
}

// find is the attribute of a description; nil: the copy does not hold it, or it
// has options, which stand for a part of its values.
func (c *copiedAttributes) find(description []byte) *copiedAttribute {
	if a := c.byName[string(description)]; a != nil { // most are spelled so already, and this copies nothing
		return a
	}
	return c.byName[strings.ToLower(string(description))]
}

// take copies what is held of an entry's attributes, as the server spells them.
// A value under an option (cn;lang-de) is one of the attribute too (RFC 4512 2.5.2).
func (c *copiedAttributes) take(attributes []byte) []byte {
	var list []byte
	_ = wire.EachAttribute(attributes, func(a wire.Attribute) bool { // checked by ValidateResponse
		name, _, _ := strings.Cut(string(a.Type), ";")
		if c.find([]byte(name)) != nil {
			list = append(list, a.Raw...)
		}
		return true
	})
	return slices.Clip(list)
}
