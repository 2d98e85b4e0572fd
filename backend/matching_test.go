package backend

import "testing"

// TestCanonical: equal values of a rule have one form, others have none or another.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule rule
		a, b string
		same bool
		ok   bool // both have a form
	}{
		{ruleFold, "Alice", "aLICE", true, true},
		{ruleFold, " a  b ", "A B", true, true},
		{ruleFold, "ab", "a b", false, true},
		{ruleFold, "JÖRG", "jörg", true, true},
		{ruleFold, "jo\u0308rg", "jörg", true, true},
		{ruleFold, "ａlice", "alice", true, true}, // full width
		{ruleFold, "ﬁ", "fi", true, false},
		{ruleFold, "ſ", "s", true, true},
		{ruleFold, "Σ", "ς", true, true},
		{ruleFold, "jörg", "jorg", false, true},
		{ruleFold, "straße", "strasse", false, false},
		{ruleFold, "a\u00adb", "ab", false, false},   // soft hyphen: mapped to nothing
		{ruleFold, "a\u00a0b", "a b", false, false},  // no-break space
		{ruleFold, "a\u200bb", "ab", false, false},   // zero width space
		{ruleFold, "a\tb", "a b", false, false},      // mapped to a space
		{ruleFold, "a\xffb", "a\xffb", false, false}, // no UTF-8
		{ruleExact, "Alice", "alice", false, true},
		{ruleExact, " Alice", "Alice", true, true},
		{ruleInteger, "007", "7", true, true},
		{ruleInteger, "-0", "0", true, true},
		{ruleInteger, "-7", "7", false, true},
		{ruleInteger, "7a", "7", false, false},
		{ruleInteger, "", "0", false, false},
		{ruleBoolean, "true", "TRUE", true, true},
		{ruleBoolean, "yes", "TRUE", false, false},
		{ruleDN, "UID=alice,dc=x", "uid=Alice, dc=x", true, true},
		{ruleDN, "alice", "alice", false, false},
		{ruleUnknown, "a", "a", true, true},
	} {
		a, okA := c.rule.canonical([]byte(c.a))
		b, okB := c.rule.canonical([]byte(c.b))
		if ok := okA && okB; ok != c.ok || ok && (a == b) != c.same {
			t.Errorf("rule %d: %q is %q %v, %q is %q %v", c.rule, c.a, a, okA, c.b, b, okB)
		}
	}
}

// TestRulesOfSchema: rules come from the type or its supertypes; what the copy could not hold exactly is left out.
func TestRulesOfSchema(t *testing.T) {
	t.Parallel()
	var types []attributeType
	for _, text := range []string{
		"( 2.5.4.41 NAME 'name' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15{32768} )",
		"( 2.5.4.3 NAME ( 'cn' 'commonName' ) DESC 'EQUALITY caseExactMatch' SUP name )",
		"( 1.1 NAME 'homeDirectory' EQUALITY caseExactIA5Match SYNTAX 1.2 SINGLE-VALUE )",
		"( 1.2 NAME 'member2' EQUALITY distinguishedNameMatch USAGE dSAOperation )",
		"( 1.3 NAME 'fixed' EQUALITY caseIgnoreMatch NO-USER-MODIFICATION )",
		"( 1.4 NAME 'appPassword' EQUALITY caseExactMatch )",
		"( 1.5 NAME 'memberOf' EQUALITY distinguishedNameMatch )",
		"( 1.6 NAME ( 'x' 'userPassword' ) EQUALITY octetStringMatch )",
		"( 1.7 NAME 'loop' SUP loop )",
	} {
		types = append(types, parseAttributeType(text))
	}
	c := newCopied([]string{"name", "commonname", "homedirectory", "member2", "fixed", "apppassword", "memberof", "x", "loop", "unknown", "mail"},
		newSchema("appPassword", types))
	for name, want := range map[string]rule{"cn": ruleFold, "commonName": ruleFold, "2.5.4.3": ruleFold, "homeDirectory": ruleExact} {
		if a := c.find([]byte(name)); a == nil || a.rule != want {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if !c.find([]byte("cn")).substr || c.find([]byte("homeDirectory")).substr {
		t.Error("rules for substrings")
	}
	for _, name := range []string{"name", "member2", "fixed", "apppassword", "memberof", "x", "userpassword", "loop", "unknown", "mail", "cn;lang-de"} {
		if c.find([]byte(name)) != nil {
			t.Errorf("%s is held", name)
		}
	}
	unread := newCopied([]string{"mail", "uid", "other"}, newSchema("appPassword", nil))
	if unread.find([]byte("mail")).rule != ruleFold || unread.find([]byte("other")).rule != ruleUnknown {
		t.Error("without a schema")
	}
}

// TestWanted: what an outage needs of the configuration, and never a password.
func TestWanted(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Users.Filter, cfg.Users.NameFilter = "(&(objectClass=person)(accountStatus=active))", "(|(uid=%s)(mail;x=%s))"
	cfg.OwnEntryAttributes = []string{"cn", "CN", "appPassword", "userPassword", "sambaNTPassword", "unicodePwd"}
	l, err := newLookup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := wantedAttributes(cfg, l)
	if want := []string{"objectclass", "cn", "accountstatus", "uid", "mail"}; len(got) != len(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
