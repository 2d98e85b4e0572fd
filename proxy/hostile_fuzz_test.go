package proxy

import (
	"bytes"
	"strings"
	"testing"

	"appbind/wire"
)

// FuzzOwnEntry: whatever a session of an app password searches for, what goes upstream is a base search of its own entry,
// and asks about and for allowed attributes alone.
func FuzzOwnEntry(f *testing.F) {
	for _, filter := range []string{"(uid=a)", "(&(objectClass=*)(!(userPassword=x)))", "(|(uid=a)(appPassword=*))", "(!(|(&)(uid=b)))", "(uid:dn:=x)", "(:dn:2.5.13.2:=x)"} {
		f.Add(searchBody(f, "uid=alice,dc=org", filter, "uid", "*", "userPassword"))
	}
	own := newOwnEntry([]string{"objectClass", "uid", "mail", "userPassword"}, "appPassword")
	const dn = "uid=alice,dc=org"
	f.Fuzz(func(t *testing.T, body []byte) {
		m := ask(wire.OpSearchRequest, body, nil)
		if m.ValidateRequest() != nil {
			return
		}
		s, err := wire.DecodeSearch(body)
		if err != nil {
			return
		}
		out, send, r := own.search(s, nil, dn)
		if r != nil || !send {
			return
		}
		sent := ask(wire.OpSearchRequest, out.Append(nil), nil)
		if err := sent.ValidateRequest(); err != nil {
			t.Fatalf("invalid: %v: %x", err, out.Filter)
		}
		if string(out.Base) != dn || out.Scope != wire.ScopeBase {
			t.Errorf("%q, scope %d", out.Base, out.Scope)
		}
		if err := wire.EachFilterItem(out.Filter, func(i wire.FilterItem) bool {
			if !own.allowed[baseType(i.Attribute)] {
				t.Errorf("asks about %q", i.Attribute)
			}
			return true
		}); err != nil {
			t.Error(err)
		}
		n := 0
		_ = wire.EachString(out.Attributes, func(a []byte) bool {
			n++
			if string(a) != "1.1" && !own.allowed[baseType(a)] {
				t.Errorf("asks for %q", a)
			}
			return true
		})
		if n == 0 {
			t.Error("asks for everything")
		}
	})
}

// FuzzGuard: a request that passes names the attribute in no question.
func FuzzGuard(f *testing.F) {
	for _, m := range passing(f) {
		f.Add(byte(m.Op), m.Body, m.Controls)
	}
	f.Add(byte(wire.OpCompareRequest), compareBody(aliceDN, "appPassword\x00x", "$app$"), []byte(nil))
	f.Fuzz(func(t *testing.T, op byte, body, controls []byte) {
		raw := wire.AppendMessage(nil, 1, wire.Op(op), body, controls)
		m, err := wire.Parse(raw)
		if err != nil || m.ValidateRequest() != nil {
			return
		}
		if testGuard.request(m) != nil {
			return
		}
		asked := func(name []byte) {
			if name = bytes.ToLower(name); strings.HasPrefix(string(bytes.TrimSpace(name)), "apppassword") && !isNameByte(append(bytes.TrimSpace(name), 0)[len("apppassword")]) || len(name) == 0 {
				t.Errorf("%q passes", name)
			}
		}
		switch m.Op {
		case wire.OpSearchRequest:
			s, _ := wire.DecodeSearch(m.Body)
			_ = wire.EachFilterItem(s.Filter, func(i wire.FilterItem) bool { asked(i.Attribute); return true })
		case wire.OpCompareRequest:
			x, _ := wire.DecodeCompare(m.Body)
			asked(x.Attribute)
		}
	})
}

// FuzzLabelDN: the identity of a Password Modify is taken apart without a panic, and into a user below the label.
func FuzzLabelDN(f *testing.F) {
	for _, s := range []string{"appPasswordLabel=phone,uid=alice,dc=org", "dn: apppasswordlabel = a\\,b , uid=x", "appPasswordLabel=#0401,uid=a", "appPasswordLabel=a+uid=b,dc=org", "u:alice", "dn: appPasswordLabel=,uid=a\\ ", "dn:appPasswordLabel=,uid=a "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, identity string) {
		_, user, is, r := labelDN([]byte(identity))
		if !is || r != nil {
			return
		}
		if _, err := wire.ParseDN(user); err != nil || user == "" || !strings.HasSuffix(identity, user) {
			t.Errorf("%q: user %q, %v", identity, user, err)
		}
	})
}
