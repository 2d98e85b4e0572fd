package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"appbind/auth"
	"appbind/backend"
	"appbind/mail"
	"appbind/manage"
	"appbind/secrets"
	"appbind/wire"
)

// person is what a mail needs to know of a user.
type person struct {
	Address  string // ""; there is none
	Name     string // for the salutation; "": not known
	Language string // preferredLanguage (RFC 2798); "": not known
}

// site is the directory of a configuration.
type site struct {
	m    *manage.Manager
	up   *backend.Upstream
	mail string // the attribute that holds the address
}

// Each is Manager.Each.
func (s *site) Each(ctx context.Context, f func(u *manage.User) error) error { return s.m.Each(ctx, f) }

// Remove writes as upstream.manage_dn.
func (s *site) Remove(ctx context.Context, dn string, which func(v *secrets.Value) bool) ([]*secrets.Value, error) {
	return s.m.Managing().RevokeAll(ctx, dn, which)
}

const (
	attrLanguage    = "preferredLanguage"
	attrDisplayName = "displayName"
	attrName        = "cn"
)

// presentObjectClass is the filter (objectClass=*).
var presentObjectClass = append([]byte{0x87, byte(len("objectClass"))}, "objectClass"...)

// Person reads the user's entry as upstream.bind_dn. The first address counts. Errors: auth.ErrNotFound, backend.ErrUnavailable.
func (s *site) Person(ctx context.Context, dn string) (person, error) {
	search := &wire.SearchRequest{Base: []byte(dn), Scope: wire.ScopeBase, Filter: presentObjectClass,
		Attributes: wire.AppendStrings(nil, s.mail, attrLanguage, attrDisplayName, attrName)}
	first := map[string]string{}
	found := false
	r, err := s.up.ServiceSearch(ctx, search, nil, func(e wire.SearchEntry, _ []byte) error {
		found = true
		var bad error
		err := wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
			name := strings.ToLower(string(a.Type))
			bad = wire.EachString(a.Values, func(v []byte) bool {
				first[name] = string(v)
				return false
			})
			return bad == nil
		})
		return errors.Join(err, bad)
	})
	switch {
	case err != nil:
		return person{}, err
	case r.Code == wire.ResultNoSuchObject, r.Code == wire.ResultSuccess && !found:
		return person{}, auth.ErrNotFound
	case r.Code != wire.ResultSuccess:
		return person{}, fmt.Errorf("%w: the entry could not be read (result %d)", backend.ErrUnavailable, r.Code)
	}
	p := person{Address: first[strings.ToLower(s.mail)], Language: first[strings.ToLower(attrLanguage)], Name: first[strings.ToLower(attrDisplayName)]}
	if p.Name == "" {
		p.Name = first[attrName]
	}
	p.Name = mail.Clean(p.Name)
	return p, nil
}
