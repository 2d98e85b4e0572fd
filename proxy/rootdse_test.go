package proxy

import (
	"bytes"
	"testing"

	"appbind/wire"
)

func TestRewriteRootDSE(t *testing.T) {
	t.Parallel()
	const (
		cancel   = "supportedExtension=1.3.6.1.1.8"
		startTLS = "supportedExtension=1.3.6.1.4.1.1466.20037"
		whoAmI   = "supportedExtension=1.3.6.1.4.1.4203.1.11.3"
		control  = "supportedControl=1.2.840.113556.1.4.319"
		external = "supportedSASLMechanisms=EXTERNAL"
	)
	type avas = []string
	for _, c := range []struct {
		name               string
		external, startTLS bool
		ask                []string
		typesOnly          bool
		in, want           avas
	}{
		{"as it is", true, true, avas{"+"}, false, avas{"objectClass=top", whoAmI, cancel, startTLS, external, control}, avas{"objectClass=top", whoAmI, cancel, startTLS, external, control}},
		{"mechanisms replaced", true, true, avas{"+"}, false, avas{"supportedSASLMechanisms=GSSAPI", "supportedSASLMechanisms=EXTERNAL", whoAmI, startTLS, control}, avas{external, whoAmI, startTLS, control}},
		{"mechanisms removed", false, true, avas{"+"}, false, avas{whoAmI, startTLS, "supportedSASLMechanisms=PLAIN", control}, avas{whoAmI, startTLS, control}},
		{"mechanisms by OID, another case", true, false, nil, false, avas{"1.3.6.1.4.1.1466.101.120.14=PLAIN", "SUPPORTEDSASLMECHANISMS=X"}, avas{"1.3.6.1.4.1.1466.101.120.14=EXTERNAL"}},
		{"mechanisms asked for", true, true, avas{"supportedsaslmechanisms"}, false, avas{}, avas{external}},
		{"mechanisms asked for, none", false, true, avas{"supportedSASLMechanisms"}, false, avas{}, avas{}},
		{"mechanisms not asked for", true, true, avas{"namingContexts", "*"}, false, avas{"namingContexts=x"}, avas{"namingContexts=x"}},
		{"empty selection", true, true, nil, false, avas{"objectClass=top"}, avas{"objectClass=top"}},
		{"StartTLS lost", false, false, avas{"+"}, false, avas{cancel, startTLS, whoAmI}, avas{cancel, whoAmI}},
		{"StartTLS gained", false, true, avas{"+"}, false, avas{cancel, whoAmI}, avas{cancel, whoAmI, startTLS}},
		{"Who am I gained", false, false, avas{"+"}, false, avas{cancel, control}, avas{cancel, whoAmI, control}},
		{"twice", false, true, avas{"+"}, false, avas{startTLS, whoAmI, startTLS, whoAmI}, avas{startTLS, whoAmI}},
		{"extensions asked for", false, true, avas{"1.3.6.1.4.1.1466.101.120.7"}, false, avas{}, avas{whoAmI, startTLS}},
		{"both by +", true, false, avas{"+"}, false, avas{control}, avas{control, external, whoAmI}},
		{"types only", true, true, avas{"+"}, true, avas{"supportedExtension", "supportedControl"}, avas{"supportedExtension", "supportedControl", "supportedSASLMechanisms"}},
	} {
		s := &wire.SearchRequest{Attributes: selected(c.ask...), TypesOnly: c.typesOnly}
		out, err := rewriteRootDSE([]byte("x"), entryBody("", c.in...), c.external, c.startTLS, s)
		if want := append([]byte("x"), entryBody("", c.want...)...); err != nil || !bytes.Equal(out, want) {
			t.Errorf("%s: %v\n got %q\nwant %q", c.name, err, out, want)
		}
	}
}

func TestRewriteRootDSEMalformed(t *testing.T) {
	t.Parallel()
	bad := append(append([]byte{}, text("supportedExtension")...), 0x31, 3, 1, 1, 1)
	for _, body := range [][]byte{nil, {1}, append(text(""), sequence([]byte{1, 1, 1})...), append(text(""), sequence(sequence(bad))...)} {
		if out, err := rewriteRootDSE([]byte("x"), body, true, true, &wire.SearchRequest{}); err == nil || string(out) != "x" {
			t.Errorf("%x: %q %v", body, out, err)
		}
	}
}
