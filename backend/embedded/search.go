package embedded

import (
	"slices"
	"strconv"

	"github.com/jimlambrt/gldap"

	"appbind/wire"
)

// subschemaDN names the subschema entry.
const subschemaDN = "cn=Subschema"

// scopeChildren is the scope of the entries below the base without the base (subordinateSubtree).
const scopeChildren gldap.Scope = 3

// query is one search request, checked.
type query struct {
	role    role
	filter  *filter
	wanted  selection
	types   bool
	limit   int    // entries at most; 0: no limit
	page    int    // entries of one page; 0: no paging
	after   uint64 // the page begins behind this entry
	special *entry // the root DSE or the subschema entry
	base    *entry
	scope   gldap.Scope
}

// newQuery checks a search request against the rules of access.
func newQuery(t *tree, m *gldap.SearchMessage, r role) (*query, error) {
	f, err := parseFilter(m.Filter)
	if err != nil {
		return nil, err
	}
	if m.Scope < gldap.BaseObject || m.Scope > scopeChildren {
		return nil, fail(resultProtocolError, "unknown scope")
	}
	q := &query{role: r, filter: f, wanted: newSelection(m.Attributes), types: m.TypesOnly, limit: int(m.SizeLimit), scope: m.Scope}
	base, name, err := t.find(m.BaseDN)
	if err != nil {
		return nil, err
	}
	// The root DSE and the subschema are read before a bind (RFC 4512 4.4, 5.1).
	if m.Scope == gldap.BaseObject {
		switch name.Key() {
		case "":
			q.special = rootDSE(t)
			return q, nil
		case subschemaKey:
			q.special = subschema()
			return q, nil
		}
	}
	switch {
	case !rights[r].search:
		return nil, fail(resultInsufficientAccess, "bind first")
	case base == nil:
		return nil, &failure{code: resultNoSuchObject, matched: t.matched(name)}
	}
	q.base = base
	return q, q.control(m.Controls)
}

// control takes the request controls: paged results (RFC 2696) is known.
func (q *query) control(controls []gldap.Control) error {
	for _, c := range controls {
		p, ok := c.(*gldap.ControlPaging)
		if !ok {
			continue
		}
		if p.PagingSize == 0 {
			return fail(resultUnwilling, "a page has at least one entry")
		}
		q.page = int(p.PagingSize)
		if len(p.Cookie) == 0 {
			continue
		}
		after, err := strconv.ParseUint(string(p.Cookie), 10, 64)
		if err != nil {
			return fail(resultUnwilling, "the cookie of the paged search is not ours")
		}
		q.after = after
	}
	return nil
}

// run calls each for every match. cookie is where the next page begins, nil after the last one.
func (q *query) run(t *tree, each func(*entry) error) (cookie []byte, err error) {
	if q.special != nil {
		if q.filter.matches(t, q.special, manager) == yes {
			return nil, each(q.special)
		}
		return nil, nil
	}
	sent, last := 0, q.after
	for _, e := range t.entries {
		if e.seq <= q.after || !q.inScope(e) || q.filter.matches(t, e, q.role) != yes {
			continue
		}
		if q.limit > 0 && sent == q.limit {
			return nil, fail(resultSizeLimit, "")
		}
		if q.page > 0 && sent == q.page {
			return strconv.AppendUint(nil, last, 10), nil
		}
		if err := each(e); err != nil {
			return nil, err
		}
		sent++
		last = e.seq
	}
	return nil, nil
}

func (q *query) inScope(e *entry) bool {
	depth := len(e.name) - len(q.base.name)
	switch q.scope {
	case gldap.BaseObject:
		return e == q.base
	case gldap.SingleLevel:
		return depth == 1 && e.parent() == q.base.key
	case scopeChildren:
		return depth > 0 && e.name[depth:].Key() == q.base.key
	}
	return depth >= 0 && e.name[depth:].Key() == q.base.key
}

// selection is the list of attributes that a client asks for (RFC 4511 4.5.1.8).
type selection struct {
	users, operational bool
	keys, names        []string
}

func newSelection(asked []string) selection {
	s := selection{users: len(asked) == 0}
	for _, a := range asked {
		switch a {
		case "*":
			s.users = true
		case "+": // RFC 3673
			s.operational = true
		case "1.1":
		default:
			s.keys = append(s.keys, canonical(a))
			s.names = append(s.names, a)
		}
	}
	return s
}

func (s *selection) has(key string) bool {
	if typeOf(key).operational && s.operational || !typeOf(key).operational && s.users {
		return true
	}
	return slices.ContainsFunc(s.keys, func(k string) bool { return covers(k, key) })
}

// computed are the attributes that no entry stores.
var computed = []struct{ name, key string }{
	{"entryDN", keyEntryDN}, {"subschemaSubentry", keySubschema}, {"hasSubordinates", keyChildren},
}

// visible is what a client gets of an entry.
func (q *query) visible(t *tree, e *entry) []attribute {
	var out []attribute
	show := func(name, key string, values []string) {
		if !q.wanted.has(key) || !q.role.sees(key) || len(values) == 0 {
			return
		}
		if q.types {
			values = nil
		}
		out = append(out, attribute{name: name, key: key, values: values})
	}
	for _, a := range e.attrs {
		show(a.name, a.key, a.values)
	}
	if q.special == nil {
		for _, c := range computed {
			show(c.name, c.key, t.values(e, c.key))
		}
	}
	return out
}

// rootDSE describes the directory (RFC 4512 5.1).
func rootDSE(t *tree) *entry {
	e := &entry{}
	e.set("objectClass", "top")
	e.set("namingContexts", t.suffix().dn)
	e.set("subschemaSubentry", subschemaDN)
	e.set("supportedLDAPVersion", "3")
	e.set("supportedControl", gldap.ControlTypePaging, controlPermissiveModify)
	e.set("supportedFeatures", "1.3.6.1.4.1.4203.1.5.1") // "+", RFC 3673
	e.set("vendorName", "appbind")
	return e
}

// subschemaKey is the key of subschemaDN.
var subschemaKey = func() string {
	name, err := wire.ParseDN(subschemaDN)
	if err != nil {
		panic("appbind: internal error: " + err.Error())
	}
	return name.Key()
}()

// subschema publishes the tables of schema.go (RFC 4512 4.2).
func subschema() *entry {
	e := &entry{dn: subschemaDN}
	e.set("objectClass", "top", "subentry", "subschema")
	e.set("cn", "Subschema")
	var types []string
	for i := range attributeTypes {
		types = append(types, attributeTypes[i].definition())
	}
	e.set("attributeTypes", types...)
	e.set("objectClasses", objectClasses...)
	return e
}
