package portal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"appbind/backend"
	"appbind/wire"
)

// Tags of filters (RFC 4511 4.5.1.7).
const (
	filterOr       = 0xa1
	filterEquality = 0xa3
	filterPresent  = 0x87
)

// anything is the filter (objectClass=*).
var anything = wire.AppendElement(nil, filterPresent, []byte("objectClass"))

// equals is the filter (attribute=value), whatever characters the value has.
func equals(attribute, value string) []byte {
	b := wire.AppendElement(nil, wire.TagOctetString, []byte(attribute))
	return wire.CloseElement(wire.AppendElement(b, wire.TagOctetString, []byte(value)), 0, filterEquality)
}

// read reads attributes of one entry, by their names in lower case; found says whether the entry exists and matches filter.
func (p *Portal) read(ctx context.Context, dn string, filter []byte, names ...string) (values map[string][]string, found bool, err error) {
	values = map[string][]string{}
	s := &wire.SearchRequest{Base: []byte(dn), Scope: wire.ScopeBase, Filter: filter, Attributes: wire.AppendStrings(nil, names...)}
	r, err := p.Upstream.ServiceSearch(ctx, s, nil, func(e wire.SearchEntry, _ []byte) error {
		found = true
		var bad error
		err := wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
			name := strings.ToLower(string(a.Type))
			bad = wire.EachString(a.Values, func(v []byte) bool { values[name] = append(values[name], string(v)); return true })
			return bad == nil
		})
		return errors.Join(err, bad)
	})
	switch {
	case err != nil:
		return nil, false, err
	case r.Code == wire.ResultSuccess || r.Code == wire.ResultNoSuchObject:
		return values, found, nil
	}
	return nil, false, fmt.Errorf("%w: the entry could not be read (result %d)", backend.ErrUnavailable, r.Code)
}

// about reads what pages show of a user. Errors: errOut where portal.filter does not match.
func (p *Portal) about(ctx context.Context, dn string) (person, error) {
	filter := anything
	if p.filter != nil {
		filter = p.filter
	}
	values, found, err := p.read(ctx, dn, filter, "displayName", "cn", "uid", "mail", p.Config.Mail.Attribute, p.cfg.LoginAttribute)
	if err != nil {
		return person{}, err
	}
	if !found {
		return person{}, errOut
	}
	first := func(names ...string) string {
		for _, name := range names {
			if list := values[strings.ToLower(name)]; len(list) > 0 && list[0] != "" {
				return list[0]
			}
		}
		return ""
	}
	a := person{name: first("displayName", "cn", "uid"), login: first(p.cfg.LoginAttribute, "mail", "uid"), mail: first(p.Config.Mail.Attribute)}
	if a.name == "" {
		a.name = dn
	}
	return a, nil
}

// address is where a user gets mail, "" for none, and the user's language: the entry's preferredLanguage (RFC 2798), else mail.language.
func (p *Portal) address(ctx context.Context, dn string) (to string, l *locale, err error) {
	const preferred = "preferredLanguage"
	name := p.Config.Mail.Attribute
	values, _, err := p.read(ctx, dn, anything, name, preferred)
	if list := values[strings.ToLower(name)]; len(list) > 0 {
		to = list[0]
	}
	l = p.matching(strings.Join(values[strings.ToLower(preferred)], ","))
	if l == nil {
		l = p.matching(p.Config.Mail.Language)
	}
	if l == nil {
		l = p.locales[fallbackLanguage]
	}
	return to, l, err
}

// isAdmin reports whether an entry, or a group that it is a member of, is among portal.admins. Every request asks anew: who is
// taken out of the group is no admin any more.
func (p *Portal) isAdmin(ctx context.Context, dn string) (bool, error) {
	if len(p.cfg.Admins) == 0 {
		return false, nil
	}
	own, err := wire.ParseDN(dn)
	if err != nil {
		return false, nil
	}
	member := wire.CloseElement(append(equals("member", dn), equals("uniqueMember", dn)...), 0, filterOr)
	for _, text := range p.cfg.Admins {
		if admin, err := wire.ParseDN(text); err == nil && admin.Key() == own.Key() {
			return true, nil
		}
		_, found, err := p.read(ctx, text, member, "1.1")
		if err != nil {
			return false, err
		}
		if found {
			return true, nil
		}
	}
	return false, nil
}
