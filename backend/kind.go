package backend

import (
	"context"
	"slices"
	"strings"

	"appbind/wire"
)

// Kind is a kind of directory server, as far as its ways matter to us.
type Kind int

// The kinds.
const (
	KindUnknown Kind = iota // not read yet
	KindOpenLDAP
	Kind389
	KindFreeIPA
	KindActiveDirectory
	KindSamba
	KindLLDAP
	KindOther
)

// String is the kind's name.
func (k Kind) String() string {
	return [...]string{"unknown", "OpenLDAP", "389 Directory Server", "FreeIPA", "Active Directory", "Samba", "lldap", "other"}[k]
}

// capabilityActiveDirectory is LDAP_CAP_ACTIVE_DIRECTORY_OID of MS-ADTS 3.1.1.3.4.3.
const capabilityActiveDirectory = "1.2.840.113556.1.4.800"

// rootDSE is what we read of it (RFC 4512 5.1).
type rootDSE struct {
	vendor          string // vendorName and vendorVersion
	subschema       string // subschemaSubentry
	namingContexts  []string
	defaultContext  string
	openLDAP        bool
	activeDirectory bool
	ipa             bool
	controls        []string // OIDs of supportedControl
}

// readRoot reads the root DSE. A server that shows none is of an unknown make, not in trouble.
func (u *Upstream) readRoot(ctx context.Context, sv *survey) error {
	s := &wire.SearchRequest{Scope: wire.ScopeBase, Filter: presentObjectClass, Attributes: wire.AppendStrings(nil,
		"objectClass", "vendorName", "vendorVersion", "subschemaSubentry", "namingContexts",
		"defaultNamingContext", "supportedCapabilities", "ipaDomainLevel", "ipaTopologyPluginVersion", "supportedControl")}
	r, err := u.ServiceSearch(ctx, s, nil, func(e wire.SearchEntry, _ []byte) error {
		return wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
			_ = wire.EachString(a.Values, func(v []byte) bool { // checked by ValidateResponse
				sv.root.take(strings.ToLower(string(a.Type)), string(v))
				return true
			})
			return true
		})
	})
	if err != nil {
		return err
	}
	if r.Code != wire.ResultSuccess {
		sv.note("the root DSE cannot be read (result %d)", r.Code)
	}
	sv.kind = sv.root.kind()
	return nil
}

// take notes one value.
func (d *rootDSE) take(name, value string) {
	switch name {
	case "objectclass":
		d.openLDAP = d.openLDAP || strings.EqualFold(value, "OpenLDAProotDSE")
	case "vendorname", "vendorversion":
		d.vendor = strings.TrimSpace(d.vendor + " " + value)
	case "subschemasubentry":
		d.subschema = value
	case "namingcontexts":
		d.namingContexts = append(d.namingContexts, value)
	case "defaultnamingcontext":
		d.defaultContext = value
	case "supportedcapabilities":
		d.activeDirectory = d.activeDirectory || value == capabilityActiveDirectory
	case "supportedcontrol":
		d.controls = append(d.controls, value)
	case "ipadomainlevel", "ipatopologypluginversion":
		d.ipa = true
	}
}

// kind judges by what each server says of itself.
func (d *rootDSE) kind() Kind {
	vendor := strings.ToLower(d.vendor)
	switch {
	case strings.Contains(vendor, "samba"):
		return KindSamba
	case d.activeDirectory:
		return KindActiveDirectory
	case d.ipa:
		return KindFreeIPA
	case strings.Contains(vendor, "389 project"):
		return Kind389
	case d.openLDAP || strings.Contains(vendor, "openldap"):
		return KindOpenLDAP
	case strings.Contains(vendor, "lldap"):
		return KindLLDAP
	}
	return KindOther
}

// offers reports whether the server says that it takes a control.
func (d *rootDSE) offers(control string) bool { return slices.Contains(d.controls, control) }
