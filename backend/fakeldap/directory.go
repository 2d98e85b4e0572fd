package fakeldap

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	ber "github.com/go-asn1-ber/asn1-ber"

	"appbind/wire"
)

// whoAmI is the requestName of RFC 4532.
const whoAmI = "1.3.6.1.4.1.4203.1.11.3"

// Directory is a Handler that behaves like a small, friendly directory server:
// simple binds are verified, searches answered with scope and filter (and, or,
// not, equality, presence, substrings, and >= where the longer value is the greater; all without case), in pages
// where the client asks for them (RFC 2696), Who am I told. Any
// other request is answered with success and has no effect. There is no access
// control. DNs are compared by wire.DN's Key.
type Directory struct {
	mu      sync.Mutex // guards the fields below; an entry is never changed, only replaced
	entries []*entry
	writes  int // modifies carried out
	limit   int // see SetLimit
}

// SetLimit has searches for more than n entries end in sizeLimitExceeded, unless in pages of at most n.
func (d *Directory) SetLimit(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = n
}

type entry struct {
	dn         string
	parsed     wire.DN
	password   string
	attributes []string // name, value, name, value
}

// NewDirectory makes an empty directory with a root DSE.
func NewDirectory() *Directory {
	d := &Directory{}
	d.Add("", "", "objectClass", "top", "supportedLDAPVersion", "3")
	return d
}

// Add adds or replaces an entry; with an empty password nobody can bind as it.
// attributes are names and values in turn.
func (d *Directory) Add(dn, password string, attributes ...string) {
	e := &entry{dn: dn, password: password, attributes: attributes}
	e.parsed, _ = wire.ParseDN(dn)
	d.Remove(dn)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, e)
}

// Remove removes an entry.
func (d *Directory) Remove(dn string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, e := range d.entries {
		if e.dn == dn {
			d.entries = append(d.entries[:i:i], d.entries[i+1:]...)
			return
		}
	}
}

// Handle answers one message; it is a Handler.
func (d *Directory) Handle(c *Conn, m wire.Message) {
	switch m.Op {
	case wire.OpBindRequest:
		d.bind(c, m)
	case wire.OpSearchRequest:
		d.search(c, m)
	case wire.OpUnbindRequest:
		c.Close()
	case wire.OpExtendedRequest:
		d.extended(c, m)
	default:
		c.Answer(m, wire.ResultSuccess)
	}
}

func (d *Directory) bind(c *Conn, m wire.Message) {
	c.setBound("")
	b, err := wire.DecodeBind(m.Body)
	if err != nil || b.SASL {
		c.Answer(m, wire.ResultAuthMethodNotSupported)
		return
	}
	if len(b.Name) == 0 && len(b.Password) == 0 {
		c.Answer(m, wire.ResultSuccess)
		return
	}
	e := d.find(string(b.Name))
	if e == nil || e.password == "" || e.password != string(b.Password) {
		c.Answer(m, wire.ResultInvalidCredentials)
		return
	}
	c.setBound(e.dn)
	c.Answer(m, wire.ResultSuccess)
}

func (c *Conn) setBound(dn string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = dn
}

// Bound is the DN of the last bind that a Directory accepted on this connection.
func (c *Conn) Bound() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bound
}

func (d *Directory) extended(c *Conn, m wire.Message) {
	x, err := wire.DecodeExtended(m.Body)
	if err != nil || string(x.Name) != whoAmI {
		c.Answer(m, wire.ResultProtocolError)
		return
	}
	id := ""
	if dn := c.Bound(); dn != "" {
		id = "dn:" + dn
	}
	c.Write(wire.AppendExtendedResponse(nil, m.ID, wire.ResultSuccess, "", "", []byte(id)))
}

func (d *Directory) find(dn string) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.findLocked(dn)
}

// findLocked is find for who holds d.mu.
func (d *Directory) findLocked(dn string) *entry {
	want, err := wire.ParseDN(dn)
	for _, e := range d.entries {
		if e.dn == dn || err == nil && e.parsed.Key() == want.Key() {
			return e
		}
	}
	return nil
}

func (d *Directory) search(c *Conn, m wire.Message) {
	s, err := wire.DecodeSearch(m.Body)
	if err != nil {
		c.Answer(m, wire.ResultProtocolError)
		return
	}
	base := d.find(string(s.Base))
	if base == nil {
		c.Answer(m, wire.ResultNoSuchObject)
		return
	}
	filter, err := ber.DecodePacketErr(s.Filter)
	if err != nil {
		c.Answer(m, wire.ResultProtocolError)
		return
	}
	var found []*entry
	for _, e := range d.within(base, s.Scope) {
		if e.matches(filter) {
			found = append(found, e)
		}
	}
	d.mu.Lock()
	limit := d.limit
	d.mu.Unlock()
	if s.SizeLimit > 0 && (limit == 0 || int(s.SizeLimit) < limit) {
		limit = int(s.SizeLimit)
	}
	found, controls := page(found, m.Controls)
	code := int32(wire.ResultSuccess)
	if limit > 0 && len(found) > limit {
		found, code, controls = found[:limit], wire.ResultSizeLimitExceeded, nil
	}
	var out []byte
	for _, e := range found {
		out = append(out, EntryMessage(m.ID, e.dn, e.selected(s)...)...)
	}
	done := wire.Result{Code: code}
	c.Write(wire.AppendMessage(out, m.ID, wire.OpSearchResultDone, done.Append(nil), controls))
}

// pagedResults is the control of RFC 2696.
const pagedResults = "1.2.840.113556.1.4.319"

// page is the page that the control asks for, with the control that answers it. The cookie is the number of entries before.
func page(found []*entry, controls []byte) ([]*entry, []byte) {
	var answer []byte
	_ = wire.EachControl(controls, func(c wire.Control) bool {
		value, err := ber.DecodePacketErr(c.Value)
		if string(c.OID) != pagedResults || err != nil || len(value.Children) != 2 {
			return true
		}
		size, _ := value.Children[0].Value.(int64)
		before, _ := strconv.Atoi(value.Children[1].Data.String())
		found = found[min(before, len(found)):]
		cookie := ""
		if len(found) > int(size) {
			found, cookie = found[:size], strconv.Itoa(before+int(size))
		}
		content := wire.AppendElement([]byte{wire.TagInteger, 1, 0}, wire.TagOctetString, []byte(cookie))
		answer = wire.AppendControl(nil, pagedResults, false, wire.AppendElement(nil, wire.TagSequence, content))
		return false
	})
	return found, answer
}

// within lists the entries in a scope.
func (d *Directory) within(base *entry, scope int) []*entry {
	if scope == wire.ScopeBase {
		return []*entry{base}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*entry
	for _, e := range d.entries {
		deeper := len(e.parsed) - len(base.parsed)
		if !e.parsed.HasSuffix(base.parsed) || scope == wire.ScopeOne && deeper != 1 || scope == wire.ScopeChildren && deeper == 0 {
			continue
		}
		list = append(list, e)
	}
	return list
}

// selected is the attributes of an entry that a search asks for; every attribute counts as a user attribute.
func (e *entry) selected(s wire.SearchRequest) []string {
	wanted := map[string]bool{}
	all := len(s.Attributes) == 0
	_ = wire.EachString(s.Attributes, func(a []byte) bool {
		all = all || string(a) == "*" || string(a) == "+"
		wanted[strings.ToLower(string(a))] = true
		return true
	})
	var list []string
	for i := 0; i+1 < len(e.attributes); i += 2 {
		if all || wanted[strings.ToLower(e.attributes[i])] {
			list = append(list, e.attributes[i], e.attributes[i+1])
		}
	}
	return list
}

// matches evaluates a filter (RFC 4511 4.5.1.7); choices that it does not know are false.
func (e *entry) matches(f *ber.Packet) bool {
	switch f.Tag {
	case 0:
		for _, child := range f.Children {
			if !e.matches(child) {
				return false
			}
		}
		return true
	case 1:
		for _, child := range f.Children {
			if e.matches(child) {
				return true
			}
		}
		return false
	case 2:
		return len(f.Children) == 1 && !e.matches(f.Children[0])
	case 7:
		return len(e.values(f.Data.String())) > 0
	case 3, 4, 5:
		return len(f.Children) == 2 && e.matchesValue(f)
	}
	return false
}

// matchesValue evaluates equality, substrings and >=.
func (e *entry) matchesValue(f *ber.Packet) bool {
	for _, v := range e.values(f.Children[0].Data.String()) {
		if least := f.Children[1].Data.String(); f.Tag == 5 && (len(v) > len(least) || len(v) == len(least) && v >= least) {
			return true
		}
		if f.Tag == 3 && strings.EqualFold(v, f.Children[1].Data.String()) {
			return true
		}
		if f.Tag == 4 && substrings([]byte(strings.ToLower(v)), f.Children[1].Children) {
			return true
		}
	}
	return false
}

func substrings(v []byte, parts []*ber.Packet) bool {
	for _, p := range parts {
		part := bytes.ToLower(p.Data.Bytes())
		at := bytes.Index(v, part)
		switch {
		case p.Tag == 0 && at != 0, p.Tag == 2 && !bytes.HasSuffix(v, part), at < 0:
			return false
		}
		v = v[at+len(part):]
	}
	return true
}

func (e *entry) values(name string) []string {
	var list []string
	for i := 0; i+1 < len(e.attributes); i += 2 {
		if strings.EqualFold(e.attributes[i], name) {
			list = append(list, e.attributes[i+1])
		}
	}
	return list
}
