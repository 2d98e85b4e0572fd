package manage

import (
	"context"
	"errors"
	"fmt"

	"appbind/auth"
	"appbind/backend"
	"appbind/wire"
)

// Controls and attributes of a modify of ours.
const (
	controlAssertion = "1.3.6.1.1.12" // RFC 4528
	accountClass     = "appPasswordAccount"
	attrCSN          = "entryCSN"
)

// resultAssertionFailed is the code of RFC 4528, section 4.
const resultAssertionFailed = 122

// Refused is the directory's refusal of a change.
type Refused struct {
	Code       int32
	Diagnostic string // the directory's
}

// Error names the code, and what to do about the usual ones.
func (r *Refused) Error() string {
	text := fmt.Sprintf("the directory refused the change with result %d", r.Code)
	if r.Diagnostic != "" {
		text += fmt.Sprintf(" (%s)", r.Diagnostic)
	}
	switch r.Code {
	case wire.ResultInsufficientAccessRights:
		text += "; the identity that writes needs the rights of contrib/schema"
	case wire.ResultReferral:
		text += "; the server is a read-only copy: name the one that is written to first in upstream.urls"
	case resultObjectClass:
		text += "; the schema of contrib/schema is not loaded, or the class may not be added"
	case resultUndefinedAttribute:
		text += "; the directory does not know the attribute: load the schema of contrib/schema"
	}
	return text
}

const (
	resultUndefinedAttribute = 17
	resultAttributeExists    = 20
	resultObjectClass        = 65
)

// Snapshot is what an entry held when it was read.
type Snapshot struct {
	DN  string // as the directory spells it
	Set *Set
	csn string // entryCSN; "" where it is not readable
}

// door is where the values of entries are read and written for one operation.
type door interface {
	// read reads an entry. Errors: auth.ErrNotFound.
	read(ctx context.Context, dn string) (*Snapshot, error)
	// modify sends one modify. Errors are those of Link.Exchange.
	modify(ctx context.Context, body, controls []byte) (*backend.Reply, error)
}

// readOver reads an entry by a base search with run.
func (m *Manager) readOver(ctx context.Context, dn string,
	run func(context.Context, *wire.SearchRequest, func(wire.SearchEntry, []byte) error) (wire.Result, error)) (*Snapshot, error) {
	s := &wire.SearchRequest{Base: []byte(dn), Scope: wire.ScopeBase, Filter: presentObjectClass,
		Attributes: wire.AppendStrings(nil, m.attribute, attrCSN)}
	snap := &Snapshot{DN: dn, Set: &Set{}}
	found := 0
	schema := m.up.Schema()
	r, err := run(ctx, s, func(e wire.SearchEntry, _ []byte) error {
		found++
		snap.DN = string(e.DN)
		var bad error
		err := wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
			switch {
			case schema.Secrets(a.Type):
				bad = wire.EachString(a.Values, func(v []byte) bool { snap.Set.add(v); return true })
			case string(a.Type) == attrCSN:
				bad = wire.EachString(a.Values, func(v []byte) bool { snap.csn = string(v); return true })
			}
			return bad == nil
		})
		return errors.Join(err, bad)
	})
	switch {
	case err != nil:
		return nil, err
	case r.Code == wire.ResultNoSuchObject, r.Code == wire.ResultSuccess && found == 0:
		return nil, auth.ErrNotFound
	case r.Code != wire.ResultSuccess:
		return nil, fmt.Errorf("%w: the entry could not be read (result %d)", backend.ErrUnavailable, r.Code)
	case found > 1:
		return nil, fmt.Errorf("%d entries in answer to a base search", found)
	}
	return snap, nil
}

// presentObjectClass is the filter (objectClass=*).
var presentObjectClass = append([]byte{0x87, byte(len("objectClass"))}, "objectClass"...)

// assertion is the control that demands that the entry is as it was read.
func assertion(csn string) []byte {
	filter := wire.AppendElement(nil, wire.TagOctetString, []byte(attrCSN))
	filter = wire.AppendElement(filter, wire.TagOctetString, []byte(csn))
	return wire.AppendControl(nil, controlAssertion, true, wire.CloseElement(filter, 0, filterEquality))
}

const (
	filterEquality = 0xa3 // equalityMatch [3] (RFC 4511 4.5.1.7)
	tagEnumerated  = 0x0a
	modAdd         = 0
	modDelete      = 1
)

// modification is one change of a modify (RFC 4511 4.6).
type modification struct {
	operation byte
	attribute string
	values    []string
}

// modifyBody is the body of a modify.
func modifyBody(dn string, list ...modification) []byte {
	b := wire.AppendTarget(nil, []byte(dn), nil)
	changes := len(b)
	for _, m := range list {
		if len(m.values) == 0 {
			continue // a delete without values would be one of all (RFC 4511 4.6)
		}
		change := len(b)
		b = append(b, tagEnumerated, 1, m.operation)
		values := make([][]byte, len(m.values))
		for i, v := range m.values {
			values[i] = []byte(v)
		}
		b = wire.AppendAttribute(b, m.attribute, values...)
		b = wire.CloseElement(b, change, wire.TagSequence)
	}
	return wire.CloseElement(b, changes, wire.TagSequence)
}

// body is the modify of a change, with the auxiliary class where it is asked for.
// Deletes stand first, so that a renewed value never counts twice.
func (m *Manager) body(dn string, c Change, class bool) []byte {
	list := []modification{{modDelete, m.attribute, c.Delete}, {modAdd, m.attribute, c.Add}}
	if class {
		list = append([]modification{{modAdd, "objectClass", []string{accountClass}}}, list...)
	}
	return modifyBody(dn, list...)
}

// managed is the door of upstream.manage_dn. It reads and writes over one link,
// so that what it has written is what it reads.
type managed struct {
	m    *Manager
	link *backend.Link // nil: to be connected
}

func (d *managed) read(ctx context.Context, dn string) (*Snapshot, error) {
	if err := d.connect(ctx); err != nil {
		return nil, err
	}
	snap, err := d.m.readOver(ctx, dn, func(ctx context.Context, s *wire.SearchRequest, each func(wire.SearchEntry, []byte) error) (wire.Result, error) {
		return d.link.Search(ctx, s, nil, each)
	})
	if err != nil && !errors.Is(err, auth.ErrNotFound) {
		d.drop()
	}
	return snap, err
}

func (d *managed) modify(ctx context.Context, body, controls []byte) (*backend.Reply, error) {
	if err := d.connect(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", backend.ErrNotSent, err)
	}
	r, err := d.link.Exchange(ctx, wire.OpModifyRequest, body, controls)
	if err != nil {
		d.drop()
	}
	return r, err
}

// connect binds a link as upstream.manage_dn.
func (d *managed) connect(ctx context.Context) error {
	if d.link != nil {
		return nil
	}
	dn, password := d.m.identity()
	if dn == "" {
		return errors.New("no identity for writes: set upstream.manage_dn and its password")
	}
	a, link, err := d.m.up.Bind(ctx, dn, password, nil)
	switch {
	case err != nil:
		return err
	case a.Code != wire.ResultSuccess:
		link.Close()
		return fmt.Errorf("%w: the directory refused the bind as %q with result %d; check upstream.manage_dn and its password",
			backend.ErrUnavailable, dn, a.Code)
	}
	d.link = link
	return nil
}

// drop closes a link that is in doubt.
func (d *managed) drop() {
	if d.link != nil {
		d.link.Close()
		d.link = nil
	}
}

// release gives the link back to the pool.
func (d *managed) release() {
	if d.link != nil {
		d.m.up.Release(d.link)
		d.link = nil
	}
}

// own is the door of a client: the entry is read as upstream.bind_dn, since few
// clients see the values, and written over the client's own link, where the
// directory's access rules judge it.
type own struct {
	m    *Manager
	link *backend.Link
}

func (d *own) read(ctx context.Context, dn string) (*Snapshot, error) { return d.m.Read(ctx, dn) }

func (d *own) modify(ctx context.Context, body, controls []byte) (*backend.Reply, error) {
	return d.link.Exchange(ctx, wire.OpModifyRequest, body, controls)
}

// Read reads the values that an entry holds now, as upstream.bind_dn. Errors:
// auth.ErrNotFound, backend.ErrUnavailable.
func (m *Manager) Read(ctx context.Context, dn string) (*Snapshot, error) {
	return m.readOver(ctx, dn, func(ctx context.Context, s *wire.SearchRequest, each func(wire.SearchEntry, []byte) error) (wire.Result, error) {
		return m.up.ServiceSearch(ctx, s, nil, each)
	})
}
