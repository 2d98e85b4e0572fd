package proxy

import (
	"bytes"
	"strings"

	"appbind/wire"
)

// secretsSchema is what the guard needs of *backend.Schema.
type secretsSchema interface {
	// Secrets reports whether an attribute description, by any name, case and option, is the secrets attribute.
	Secrets(description []byte) bool
	// SecretsInFilter is Secrets, and true also for a supertype of it.
	SecretsInFilter(description []byte) bool
}

// guard keeps the secrets attribute from clients that may not see it. It looks
// at requests that could ask about its values (request) and at everything that
// carries entries (entry, responseControls). Writing the attribute is left to
// the upstream's access rules.
//
// What it looks at, and why:
//
//   - filters, compares, sort keys and the filters inside of controls are
//     oracles: their outcome tells a value bit by bit. A filter item without an
//     attribute type (RFC 4511 4.5.1.7.7) asks about all attributes;
//   - ModifyDN can make a value a part of the name of the entry;
//   - a log in the directory (cn=accesslog of OpenLDAP, cn=changelog of 389 DS)
//     holds old and new values as text, under attributes of its own;
//   - controls and extended operations can carry attribute names, filters,
//     entries or whole requests.
//
// Attribute selections need no check: what comes back is cleaned.
//
// Looked at and found to tell nothing of it: Password Modify (RFC 3062), Cancel,
// Who am I, StartTLS, Turn (RFC 4531: no server that we know turns), dynamic
// refresh (RFC 2589), transactions (RFC 5805: each request inside passes here,
// so the entries that the end of one can carry were never asked for), the bulk
// update operations of replication, which only write (RFC 4373, 389 DS). Content
// synchronization (RFC 4533), persistent search, DirSync and notifications
// return ordinary entries. The effective rights control tells rights, not values.
//
// Its limits: an entry whose own name holds a secret keeps it; a server that
// copies the attribute under another name (OpenLDAP's rwm and dynlist, when
// configured so) shows that copy; who may write dynamic groups or roles upstream
// can put a filter into them that the guard does not see.
type guard struct {
	schema secretsSchema
	// shared says that the attribute is not ours alone (see sharedAttribute):
	// then only $app$ and otpauth:// values are removed from entries. Requests
	// are refused alike.
	shared bool
}

// refusal is a result instead of forwarding; nil = go on.
type refusal struct {
	code       int32
	diagnostic string
}

// The guard's refusals. Their texts say nothing of the entry that was asked about.
var (
	refuseSecrets      = &refusal{wire.ResultInsufficientAccessRights, "the app password attribute is not accessible here"}
	refuseDescription  = &refusal{wire.ResultProtocolError, "malformed attribute description"}
	refuseUntyped      = &refusal{wire.ResultInsufficientAccessRights, "a filter without an attribute type is not allowed here"}
	refuseWide         = &refusal{wire.ResultInsufficientAccessRights, "name the attributes to be read: all of them is not allowed in this control"}
	refuseCarrier      = &refusal{wire.ResultInsufficientAccessRights, "this control is not allowed here"}
	refuseBatch        = &refusal{wire.ResultInsufficientAccessRights, "send the operations one by one: batches are not allowed here"}
	refuseRequest      = &refusal{wire.ResultProtocolError, "malformed request"}
	refuseControlValue = &refusal{wire.ResultProtocolError, "malformed control"}
	refuseIdentity     = &refusal{wire.ResultUnavailableCriticalExtension, "proxied authorization is not allowed here"}
	refuseCritical     = &refusal{wire.ResultUnavailableCriticalExtension, "no critical control is served to a session of an app password"}
	refuseBaseOfOwn    = &refusal{wire.ResultInvalidDNSyntax, "malformed search base"}
)

// SharedAttribute reports whether a configured attribute holds passwords of the directory's own too.
func SharedAttribute(name string) bool { return sharedAttribute(name) }

// sharedAttribute reports whether a configured attribute is one of those that
// directories use for passwords of their own.
func sharedAttribute(name string) bool {
	for _, n := range [...]string{
		"userPassword", "2.5.4.35",
		"authPassword", "1.3.6.1.4.1.4203.1.3.4",
		"unixUserPassword", "1.2.840.113556.1.6.18.1.227",
		"description", "2.5.4.13",
		"carLicense", "2.16.840.1.113730.3.1.1",
		"employeeNumber", "2.16.840.1.113730.3.1.3",
		"info", "1.2.840.113556.1.2.81",
	} {
		if strings.EqualFold(name, n) {
			return true
		}
	}
	return strings.HasPrefix(strings.ToLower(name), "extensionattribute")
}

// request checks one client request (already validated) and its controls
// before it goes upstream on the client's own link.
func (g *guard) request(m wire.Message) *refusal {
	if r := g.operation(m.Op, m.Body); r != nil {
		return r
	}
	return g.controls(m.Controls)
}

// operation checks the request itself.
func (g *guard) operation(op wire.Op, body []byte) *refusal {
	switch op {
	case wire.OpSearchRequest:
		s, err := wire.DecodeSearch(body)
		if err != nil {
			return refuseRequest
		}
		if g.namedIn(s.Base) {
			return refuseSecrets
		}
		return g.filter(s.Filter, refuseRequest)
	case wire.OpCompareRequest:
		c, err := wire.DecodeCompare(body)
		if err != nil {
			return refuseRequest
		}
		if g.namedIn(c.DN) {
			return refuseSecrets
		}
		return g.asks(c.Attribute)
	case wire.OpModifyDNRequest:
		d, err := wire.DecodeModifyDN(body)
		if err != nil {
			return refuseRequest
		}
		return refuseIf(g.namedIn(d.DN) || g.namedIn(d.NewRDN) || g.namedIn(d.NewSuperior))
	case wire.OpModifyRequest, wire.OpAddRequest:
		dn, _, err := wire.DecodeTarget(body)
		if err != nil {
			return refuseRequest
		}
		return refuseIf(g.namedIn(dn))
	case wire.OpDelRequest:
		return refuseIf(g.namedIn(body))
	case wire.OpExtendedRequest:
		x, err := wire.DecodeExtended(body)
		if err != nil {
			return refuseRequest
		}
		if string(x.Name) == batchRequest {
			return refuseBatch
		}
	}
	return nil
}

// batchRequest is Active Directory's LDAP_SERVER_BATCH_REQUEST_OID: whole
// requests, searches among them, in one extended operation, and their entries in
// its response.
const batchRequest = "1.2.840.113556.1.4.2212"

func refuseIf(named bool) *refusal {
	if named {
		return refuseSecrets
	}
	return nil
}

// filter checks a filter; malformed is the answer if it is no filter.
func (g *guard) filter(filter []byte, malformed *refusal) *refusal {
	var r *refusal
	err := wire.EachFilterItem(filter, func(i wire.FilterItem) bool {
		if r = refuseUntyped; len(i.Attribute) > 0 {
			r = g.asks(i.Attribute)
		}
		return r == nil
	})
	if err != nil {
		return malformed
	}
	return r
}

// asks refuses a question about an attribute of which nothing may be asked, and one about what is no attribute
// description: Samba (4.17 seen) ends a name at a NUL, so that "appPassword\x00x" is the attribute, and makes a filter in
// text of a compare, so that an attribute "|(cn=x)(appPassword" asks about it too.
func (g *guard) asks(description []byte) *refusal {
	switch {
	case g.hidden(description):
		return refuseSecrets
	case !isDescription(description):
		return refuseDescription
	}
	return nil
}

// isDescription reports whether b can be an attribute description (RFC 4512 2.5), with the spaces around it, the OID
// prefix of RFC 1779 and the underscores that some servers take.
func isDescription(b []byte) bool {
	b = typeName(b)
	for i, c := range b {
		// A leading zero is another spelling of an OID for who reads its numbers.
		padded := c == '0' && i+1 < len(b) && '0' <= b[i+1] && b[i+1] <= '9' && (i == 0 || b[i-1] == '.')
		if !isNameByte(c) || padded {
			return false
		}
	}
	return len(b) > 0
}

// hidden reports whether nothing may be asked about an attribute: the secrets
// attribute, a supertype of it, and those of a log that hold values as text.
func (g *guard) hidden(description []byte) bool {
	return g.schema.SecretsInFilter(description) || logCare(description) != careNone
}

// namedIn reports whether an RDN of a DN has the secrets attribute. It does not
// parse the DN, since a server may take more spellings than a strict parser (a
// semicolon, quotes): every word between a separator, escaped or not, and the
// next equals sign is taken for a type. Types have no escapes.
func (g *guard) namedIn(dn []byte) bool {
	start := 0
	for i, c := range dn {
		switch c {
		case ',', ';', '+':
			start = i + 1
		case '=':
			if g.schema.Secrets(typeName(dn[start:i])) {
				return true
			}
		}
	}
	return false
}

// typeName trims what may stand around an attribute type in a DN: white space,
// and the OID prefix of RFC 1779.
func typeName(t []byte) []byte {
	t = bytes.TrimSpace(t)
	if len(t) > 4 && (t[0]|0x20) == 'o' && (t[1]|0x20) == 'i' && (t[2]|0x20) == 'd' && t[3] == '.' {
		t = t[4:]
	}
	return t
}
