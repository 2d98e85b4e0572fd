package proxy

import (
	"testing"

	"appbind/wire"
)

// TestListing: what a DN is listed as does not depend on its spelling, nor on what was asked before.
func TestListing(t *testing.T) {
	t.Parallel()
	st := &state{unlisted: new(wire.Names), spelled: map[string]bool{"cn=Mail,dc=example": true},
		listed: map[string]bool{"cn=mail,dc=example": true, "cn=admin,dc=example": false}}
	for range 3 {
		for dn, want := range map[string]string{
			"cn=Mail,dc=example": "service", "CN=mail, dc=EXAMPLE": "service", "cn=Admin,dc=example": "passthrough",
			"uid=alice,dc=example": "none", "uid=alice ,dc=example": "none", "no DN": "none", "": "none",
		} {
			got := "none"
			switch service, listed := st.listing(dn); {
			case service && listed:
				got = "service"
			case listed:
				got = "passthrough"
			case service:
				t.Errorf("%q: a service account that is not listed", dn)
			}
			if got != want {
				t.Errorf("%q: %s, want %s", dn, got, want)
			}
		}
	}
}

func BenchmarkListing(b *testing.B) {
	st := &state{unlisted: new(wire.Names), listed: map[string]bool{"cn=mail,dc=example": true}}
	b.ReportAllocs()
	for b.Loop() {
		st.listing("uid=alice,ou=people,dc=example,dc=org")
	}
}
