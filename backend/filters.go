package backend

import (
	"fmt"

	"github.com/go-ldap/ldap/v3"
)

// presentObjectClass is (objectClass=*), which every entry matches.
var presentObjectClass = append([]byte{0x87, 11}, "objectClass"...)

// compileFilter encodes a filter of the configuration. Only text that the
// operator wrote comes here: what clients send is never made into filter text.
func compileFilter(key, text string) ([]byte, error) {
	p, err := ldap.CompileFilter(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is no filter: %w", key, text, err)
	}
	return p.Bytes(), nil
}
