package portal

import "testing"

// TestPasswordChanged: a new main password ends the sessions that were begun with the old one, at whatever stage, and those only.
func TestPasswordChanged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	since := func(at string) {
		entry := []string{"objectClass", "inetOrgPerson", "uid", "alice", "entryUUID", "00000000-0000-0000-0000-00000000000a", "entryCSN", at, "appPassword", aTOTP}
		if at != "" {
			entry = append(entry, "pwdChangedTime", at)
		}
		r.dir.Add(aliceDN, mainWord+"-alice", entry...)
	}
	since("20260101000000Z")
	full, half := r.browser().enter("alice"), r.browser()
	half.password("alice")
	since("20260101000000Z")
	full.get("/passwords").expect(t, "written again, and no other", 200, "", "")
	since("20260301120000Z")
	later := r.browser().enter("alice")
	full.get("/passwords").expect(t, "changed", 303, "/sign-in", "")
	full.post("/passwords", "label", "x").expect(t, "changed: create", 401, "", "/sign-in")
	half.get("/second-factor").expect(t, "changed, half way", 303, "/sign-in", "")
	half.post("/second-factor", "code", r.code()).expect(t, "changed, the other half", 401, "", "/sign-in")
	later.get("/passwords").expect(t, "begun since", 200, "", "")
	since("20260101000000Z")
	full.get("/passwords").expect(t, "the old one again: it is over for good", 303, "/sign-in", "")
	since("")
	later.get("/passwords").expect(t, "not shown any more", 303, "/sign-in", "")

	unknown := r.browser().enter("alice")
	unknown.post("/passwords", "label", "phone").expect(t, "create", 201, "", "")
	unknown.get("/passwords").expect(t, "where nothing shows it, a change of the entry is none of the password", 200, "", "phone")
}
