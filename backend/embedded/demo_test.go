package embedded

import (
	"strings"
	"testing"
	"time"

	"appbind/secrets"
)

// checkDemoApps verifies the app passwords of the demo against the constants.
func checkDemoApps(t *testing.T) {
	t.Helper()
	r, err := readLDIF("demo.ldif", DemoLDIF)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := r.tree()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		dn, label, password string
		expired             bool
		services            string
	}{
		{aliceDN, "phone", DemoPhone, false, ""},
		{aliceDN, "old tablet", DemoExpired, true, ""},
		{aliceDN, "printer", DemoSMTP, false, "smtp"},
		{bobDN, "laptop", DemoBob, false, ""},
	} {
		e, err := tr.existing(want.dn)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, raw := range e.get(keyAppPassword) {
			v := secrets.Parse([]byte(raw))
			if v.Err != nil {
				t.Errorf("%s: %v", want.dn, v.Err)
			}
			if v.Label != want.label {
				continue
			}
			found = true
			if !v.Verify([]byte(want.password)) {
				t.Errorf("%s %s: the password does not fit", want.dn, want.label)
			}
			if v.Expires.Before(time.Now()) != want.expired {
				t.Errorf("%s %s: expires %v", want.dn, want.label, v.Expires)
			}
			if strings.Join(v.Services, ",") != want.services {
				t.Errorf("%s %s: services %v", want.dn, want.label, v.Services)
			}
		}
		if !found {
			t.Errorf("%s has no %q", want.dn, want.label)
		}
		if !strings.Contains(string(DemoLDIF), want.password) {
			t.Errorf("the comments of the demo do not tell %q", want.label)
		}
	}
}
