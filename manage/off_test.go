package manage

import (
	"testing"

	"appbind/secrets"
)

// TestOff: switched off, nothing is made or renewed by any means; what takes away or limits goes on, and so do second factors.
func TestOff(t *testing.T) {
	t.Parallel()
	r, phone := testRules(), "$app$phone;id=7f3k;exp=20260601000000Z$"+aHash
	r.Off, r.UserChosen = true, true
	s, ref := set(phone, aTOTP), Ref{ID: "7f3k"}
	refused := func(what string, err error) {
		t.Helper()
		if !isViolation(t, err, "app_passwords.enabled") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := r.Issue(s, Request{Label: "new"}, noon)
	refused("issue", err)
	_, _, err = r.Issue(s, Request{Label: "new", Password: []byte(canary)}, noon)
	refused("issue a chosen one", err)
	_, err = r.Renew(s, ref, noon.Add(30*day), false, noon)
	refused("renew", err)
	_, err = r.Edit(s, ref, noon, func(p *secrets.Params) error { p.Expires = noon.Add(200 * day); return nil })
	refused("edit the expiry", err)
	_, err = r.Admit(s, []byte("$app$new;exp=20260601000000Z$"+aHash), noon)
	refused("a hash", err)
	_, err = r.Admit(s, []byte("$app$new$"+canary), noon)
	refused("in clear", err)
	_, _, err = r.Modify(s, []Mod{{Operation: ModDelete, Values: [][]byte{[]byte(phone)}}, {Operation: ModAdd, Values: [][]byte{[]byte("$app$phone;id=7f3k;exp=20270101000000Z$" + aHash)}}}, true, noon)
	refused("renew by a modify", err)
	for what, err := range map[string]error{
		"relabel": errorOf(r.Relabel(s, ref, "old phone", noon)), "limit": errorOf(r.Rescope(s, ref, []string{"imap"}, nil, noon)),
		"revoke": errorOf(r.Revoke(s, ref)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := r.Modify(s, []Mod{{Operation: ModDelete, Values: [][]byte{[]byte("$app$;id=7f3k")}}, {Operation: ModAdd, Values: [][]byte{[]byte(aTOTP + "&issuer=x")}}}, true, noon); err != nil {
		t.Errorf("revoke and enrol: %v", err)
	}
}

func errorOf(_ Change, err error) error { return err }
