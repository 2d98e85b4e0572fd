package backend

import (
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/wire"
)

func TestSchemaSecrets(t *testing.T) {
	types := []attributeType{
		parseAttributeType("( 2.5.4.41 NAME 'name' SYNTAX 1.3 )"),
		parseAttributeType("( 1.1.1 NAME 'credential' SUP name )"),
		parseAttributeType("( 1.2.3.4 NAME ( 'mailSecret' 'appPassword' ) DESC 'NAME is (not) SUP cn' SUP credential EQUALITY octetStringMatch )"),
		parseAttributeType("( 2.5.4.3 NAME 'cn' SUP name )"),
	}
	s := newSchema("AppPassword", types)
	for _, c := range []struct {
		description     string
		secrets, filter bool
	}{
		{"appPassword", true, true},
		{"APPPASSWORD", true, true},
		{"apppassword;lang-en;x-1", true, true},
		{"mailSecret", true, true},
		{"1.2.3.4", true, true},
		{"1.2.3.4;binary", true, true},
		{"OID.1.2.3.4", true, true},
		{" appPassword ", true, true},
		{"appPassword\x00", true, true},
		{"appPassword\x00x", true, true},
		{"appPassword\x00;x", true, true},
		{"1.1.1\x00x", false, true},
		{"cn\x00appPassword", false, false},
		{ownOID, true, true},
		{"credential", false, true},
		{"1.1.1", false, true},
		{"name", false, true},
		{"2.5.4.41;x", false, true},
		{"cn", false, false},
		{"appPasswordX", false, false},
		{"appPasswor", false, false},
		{"", false, false},
		{";x", false, false},
		{"1.2.3.40", false, false},
	} {
		if got := s.Secrets([]byte(c.description)); got != c.secrets {
			t.Errorf("Secrets(%q) = %v", c.description, got)
		}
		if got := s.SecretsInFilter([]byte(c.description)); got != c.filter {
			t.Errorf("SecretsInFilter(%q) = %v", c.description, got)
		}
	}
	d := []byte("objectClass;x-option")
	if n := testing.AllocsPerRun(100, func() { s.Secrets(d); s.SecretsInFilter(d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSchemaUnread(t *testing.T) {
	s := newSchema("userPassword", nil)
	if !s.Secrets([]byte("USERPASSWORD;x")) || s.Secrets([]byte(ownOID)) || s.Secrets([]byte("cn")) {
		t.Error("the configured name alone must be hidden")
	}
	loop := newSchema("a", []attributeType{{oid: "1.1", names: []string{"a"}, super: "b"}, {oid: "1.2", names: []string{"b"}, super: "a"}})
	if !loop.SecretsInFilter([]byte("b")) {
		t.Error("a loop of supertypes")
	}
}

func TestParseAttributeType(t *testing.T) {
	for text, want := range map[string]attributeType{
		"( 1.2.3 NAME 'a' )":         {oid: "1.2.3", names: []string{"a"}},
		"(1.2.3 NAME('A' 'B')SUP C)": {oid: "1.2.3", names: []string{"a", "b"}, super: "c"},
		"( 1.2.3 DESC 'it''s NAME (' NAME 'a' SYNTAX 1.2{64} X-ORIGIN ( 'user' 'RFC' ) )": {oid: "1.2.3", names: []string{"a"}},
		"( 1.2.3 )":          {oid: "1.2.3"},
		"( x-oid NAME 'a":    {oid: "x-oid", names: []string{"a"}},
		"":                   {},
		"(":                  {},
		"( 1.2 NAME":         {oid: "1.2"},
		"( 1.2 NAME ( 'a'":   {oid: "1.2", names: []string{"a"}},
		"( 1.2 NAME 'a' SUP": {oid: "1.2", names: []string{"a"}},
	} {
		got := parseAttributeType(text)
		if got.oid != want.oid || got.super != want.super || !slices.Equal(got.names, want.names) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestKind(t *testing.T) {
	for want, d := range map[Kind]map[string]string{
		KindOpenLDAP:        {"objectClass": "OpenLDAProotDSE"},
		Kind389:             {"vendorName": "389 Project", "vendorVersion": "389-Directory/2.3.1"},
		KindFreeIPA:         {"vendorName": "389 Project", "ipaDomainLevel": "1"},
		KindActiveDirectory: {"supportedCapabilities": capabilityActiveDirectory},
		KindSamba:           {"supportedCapabilities": capabilityActiveDirectory, "vendorName": "Samba Team (https://www.samba.org)"},
		KindLLDAP:           {"vendorName": "LLDAP"},
		KindOther:           {"vendorName": "Acme"},
	} {
		var root rootDSE
		for k, v := range d {
			root.take(strings.ToLower(k), v)
		}
		if got := root.kind(); got != want {
			t.Errorf("%v: %v, want %v", d, got, want)
		}
	}
}

// What is assumed of each kind: the enabled filter, and whether entryCSN counts.
func TestDecide(t *testing.T) {
	with := func(names ...string) *Schema {
		types := []attributeType{{oid: "0.0", names: []string{"x"}}}
		for _, n := range names {
			types = append(types, attributeType{oid: "1." + n, names: []string{strings.ToLower(n)}})
		}
		return newSchema("appPassword", types)
	}
	for _, c := range []struct {
		kind   Kind
		schema *Schema
		filter string
		csn    bool
	}{
		{KindOpenLDAP, with(), "none", true},
		{KindOpenLDAP, with("pwdFailureTime", "pwdAccountLockedTime"), "(!(pwdAccountLockedTime=000001010000Z))", false},
		{KindOpenLDAP, newSchema("appPassword", nil), "none", false},
		{Kind389, with("nsAccountLock"), "(!(nsAccountLock=TRUE))", false},
		{KindFreeIPA, with("nsAccountLock"), "(!(nsAccountLock=TRUE))", false},
		{KindActiveDirectory, with(), "(!(userAccountControl:1.2.840.113556.1.4.803:=2))", false},
		{KindSamba, with(), "(!(userAccountControl:1.2.840.113556.1.4.803:=2))", false},
		{KindLLDAP, with(), "none", false},
		{KindOther, with(), "none", false},
		{KindOther, with("nsAccountLock"), "(!(nsAccountLock=TRUE))", false},
	} {
		if got := autoEnabled(c.kind, c.schema); got != c.filter {
			t.Errorf("%v: %s, want %s", c.kind, got, c.filter)
		}
		if got := decideCSN(c.kind, c.schema); got != c.csn {
			t.Errorf("%v: entryCSN %v, want %v", c.kind, got, c.csn)
		}
	}
}

func TestLockoutPolicies(t *testing.T) {
	entry := func(nv ...string) wire.SearchEntry {
		m, err := wire.Parse(fakeldap.EntryMessage(1, "cn=p", nv...))
		if err != nil {
			t.Fatal(err)
		}
		e, err := wire.DecodeEntry(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for name, c := range map[string]struct {
		keys  policyKeys
		entry wire.SearchEntry
		want  auth.Lockout
	}{
		"ppolicy":          {policyBehera, entry("pwdLockout", "TRUE", "pwdMaxFailure", "5", "pwdFailureCountInterval", "600"), auth.Lockout{MaxFailures: 5, Interval: 10 * time.Minute}},
		"ppolicy forever":  {policyBehera, entry("pwdLockout", "TRUE", "pwdMaxFailure", "5"), auth.Lockout{MaxFailures: 5}},
		"ppolicy off":      {policyBehera, entry("pwdLockout", "FALSE", "pwdMaxFailure", "5"), auth.Lockout{}},
		"ppolicy no lock":  {policyBehera, entry("pwdMaxFailure", "5"), auth.Lockout{}},
		"389":              {policy389, entry("passwordLockout", "on", "passwordMaxFailure", "3", "passwordResetFailureCount", "60"), auth.Lockout{MaxFailures: 3, Interval: time.Minute}},
		"389 off":          {policy389, entry("passwordLockout", "off", "passwordMaxFailure", "3"), auth.Lockout{}},
		"AD":               {policyAD, entry("lockoutThreshold", "10", "lockOutObservationWindow", "-18000000000"), auth.Lockout{MaxFailures: 10, Interval: 30 * time.Minute}},
		"AD never forgets": {policyAD, entry("lockoutThreshold", "10", "lockOutObservationWindow", "-9223372036854775808"), auth.Lockout{MaxFailures: 10}},
		"AD off":           {policyAD, entry("lockoutThreshold", "0"), auth.Lockout{}},
		"IPA":              {policyIPA, entry("krbPwdMaxFailure", "6", "krbPwdFailureCountInterval", "60"), auth.Lockout{MaxFailures: 6, Interval: time.Minute}},
		"nonsense":         {policyBehera, entry("pwdLockout", "TRUE", "pwdMaxFailure", "many"), auth.Lockout{}},
	} {
		if got, _ := c.keys.policy(c.entry); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	a, b := auth.Lockout{MaxFailures: 5, Interval: time.Minute}, auth.Lockout{MaxFailures: 3, Interval: time.Hour}
	if got := stricter(a, b); got != (auth.Lockout{MaxFailures: 3, Interval: time.Hour}) {
		t.Errorf("%+v", got)
	}
	if got := stricter(a, auth.Lockout{MaxFailures: 9}); got != (auth.Lockout{MaxFailures: 5}) {
		t.Errorf("never forgotten is longer than a minute: %+v", got)
	}
	if stricter(auth.Lockout{}, a) != a || stricter(a, auth.Lockout{}) != a {
		t.Error("no policy is not stricter than one")
	}
}

func TestStateValues(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	state := func(useCSN bool, nv ...string) auth.State {
		var list []byte
		for i := 0; i < len(nv); i += 2 {
			list = wire.AppendAttribute(list, nv[i], []byte(nv[i+1]))
		}
		var v stateValues
		if err := wire.EachAttribute(list, func(a wire.Attribute) bool { v.take(a); return true }); err != nil {
			t.Fatal(err)
		}
		return v.state(useCSN, time.Hour, now)
	}
	for name, c := range map[string]struct {
		nv       []string
		csn      bool
		readable bool
		locked   bool
	}{
		"nothing":              {},
		"password time":        {nv: []string{"PWDCHANGEDTIME", "20260101000000Z"}, readable: true},
		"lock alone":           {nv: []string{"nsAccountLock", "false"}},
		"nsAccountLock":        {nv: []string{"nsAccountLock", "true"}, locked: true},
		"entryCSN, ppolicy":    {nv: []string{"entryCSN", "2026#1"}},
		"entryCSN, no policy":  {nv: []string{"entryCSN", "2026#1"}, csn: true, readable: true},
		"ppolicy lock":         {nv: []string{"pwdChangedTime", "2026", "pwdAccountLockedTime", "000001010000Z"}, readable: true, locked: true},
		"AD normal":            {nv: []string{"pwdLastSet", "1", "userAccountControl", "512", "lockoutTime", "0"}, readable: true},
		"AD disabled":          {nv: []string{"pwdLastSet", "1", "userAccountControl", "514"}, readable: true, locked: true},
		"AD lockoutTime":       {nv: []string{"pwdLastSet", "1", "lockoutTime", "133"}, readable: true, locked: true},
		"AD lock over":         {nv: []string{"pwdLastSet", "1", "lockoutTime", "133", "msDS-User-Account-Control-Computed", "0"}, readable: true},
		"AD computed":          {nv: []string{"pwdLastSet", "1", "msDS-User-Account-Control-Computed", "16"}, readable: true, locked: true},
		"389 unlock later":     {nv: []string{"accountUnlockTime", "20260601000100Z"}, locked: true},
		"389 unlocked by time": {nv: []string{"accountUnlockTime", "20260531235900Z"}},
		"389 for ever":         {nv: []string{"accountUnlockTime", "19700101000000Z"}, locked: true},
		"ppolicy lock on":      {nv: []string{"pwdAccountLockedTime", "20260531233000Z"}, locked: true},
		"ppolicy lock over":    {nv: []string{"pwdAccountLockedTime", "20260531225959Z"}},
		"ppolicy lock, odd":    {nv: []string{"pwdAccountLockedTime", "soon"}, locked: true},
		"ppolicy delay on":     {nv: []string{"pwdAccountTmpLockoutEnd", "20260601000001.5Z"}, locked: true},
		"ppolicy delay over":   {nv: []string{"pwdAccountTmpLockoutEnd", "20260531235959Z"}},
		"not yet":              {nv: []string{"pwdStartTime", "20260601000001Z"}, locked: true},
		"no more":              {nv: []string{"pwdEndTime", "20260531235959Z"}, locked: true},
		"still":                {nv: []string{"pwdStartTime", "20260531235959Z", "pwdEndTime", "20260601000001Z"}},
		"FreeIPA":              {nv: []string{"krbLastPwdChange", "20260101000000Z"}, readable: true},
	} {
		got := state(c.csn, c.nv...)
		if (got.Fingerprint != "") != c.readable || got.Locked != c.locked {
			t.Errorf("%s: %+v, want readable %v, locked %v", name, got, c.readable, c.locked)
		}
	}
	if a, b := state(false, "pwdLastSet", "1"), state(false, "pwdLastSet", "2"); a.Fingerprint == b.Fingerprint {
		t.Error("a password change leaves the fingerprint")
	}
	if a, b := state(false, "pwdLastSet", "1", "lockoutTime", "0"), state(false, "pwdLastSet", "1", "lockoutTime", "5"); a.Fingerprint != b.Fingerprint || a.Lock == b.Lock {
		t.Error("a lock is no change of the password, but one of the lock")
	}
	if a, b := state(false, "pwdAccountTmpLockoutEnd", "1"), state(false, "pwdAccountTmpLockoutEnd", "2"); a.Lock != b.Lock {
		t.Error("what each failed bind changes counts as a change of the lock")
	}
	if a, b := state(false, "pwdLastSet", "1", "lockoutTime", "0"), state(false, "lockoutTime", "0", "pwdLastSet", "1"); a != b {
		t.Error("the order of the attributes matters")
	}
	if a, b := state(false, "pwdChangedTime", "1", "entryCSN", "1"), state(false, "pwdChangedTime", "1", "entryCSN", "2"); a != b {
		t.Error("a failed bind changes the fingerprint where ppolicy is active")
	}
}

func TestKeys(t *testing.T) {
	dn, err := wire.ParseDN("UID=Alice,OU=People")
	if err != nil {
		t.Fatal(err)
	}
	for want, ids := range map[string][len(identities)]string{
		"entryuuid:ab-1":      {"AB-1", "x", "y", "z"},
		"objectguid:0001ff0a": {"", "\x00\x01\xff\n", "y", ""},
		"nsuniqueid:y":        {"", "", "Y", "z"},
		"ipauniqueid:z":       {"", "", "", "Z"},
		"dn:" + dn.Key():      {},
	} {
		if got := key(ids, dn); got != want {
			t.Errorf("%q: key %q, want %q", ids, got, want)
		}
	}
}
