package proxy

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"appbind/manage"
	"appbind/secrets"
	"appbind/wire"
)

// hashed is a stored hash, and inClear what no request may ever hold when it goes upstream.
const (
	hashed  = "{SSHA256}D5tBbpqxCTr4fDNGBLCANSjxjvWbMVCCYTVCRKbQMRsxMjM0NTY3OA=="
	inClear = "secret-in-clear"
)

var writeRules = &manage.Rules{MaxPerUser: 5, MaxLifetime: 1000 * time.Hour, DefaultLifetime: 100 * time.Hour, RequireExpiry: true,
	Algorithm: secrets.SHA256, ChosenAlgorithm: secrets.Argon2id}

// mod is one change of a Modify.
func mod(operation byte, attribute string, values ...string) []byte {
	return sequence(wire.AppendElement(nil, tagEnumerated, []byte{operation}), partial(attribute, values...))
}

// partial is one attribute with values.
func partial(attribute string, values ...string) []byte {
	list := make([][]byte, len(values))
	for i, v := range values {
		list[i] = []byte(v)
	}
	return wire.AppendAttribute(nil, attribute, list...)
}

// modify is the body of a Modify of alice.
func modify(changes ...[]byte) []byte {
	return wire.AppendTarget(nil, []byte(aliceUser), sequence(changes...))
}

// padded is a change whose lengths are written long, as Windows writes them.
func padded(operation byte, attribute string) []byte {
	name := append([]byte{0x04, 0x84, 0, 0, 0, byte(len(attribute))}, attribute...)
	content := slices.Concat([]byte{0x0a, 0x84, 0, 0, 0, 1, operation}, sequence(name, []byte{0x31, 0x81, 0}))
	return append([]byte{0x30, 0x84, 0, 0, 0, byte(len(content))}, content...)
}

func (g *guard) takeApart(t testing.TB, op wire.Op, body []byte) *secretWrite {
	t.Helper()
	target, rest, err := wire.DecodeTarget(body)
	if err != nil {
		t.Fatal(err)
	}
	w, err := g.writes(op, target, rest)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWritesOfOthersPass(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{
		modify(),
		modify(mod(0, "mail", "a@b"), mod(1, "appPasswords"), mod(2, "xappPassword", "$app$x$y"), mod(3, "uidNumber", "1")),
		modify(padded(1, "description"), mod(2, "userPassword", "new")),
		modify(mod(0, "description", "appPassword", "$app$x$y")),
	} {
		if w := testGuard.takeApart(t, wire.OpModifyRequest, body); w != nil {
			t.Errorf("%q is looked into", body)
		}
	}
	if w := testGuard.takeApart(t, wire.OpAddRequest, modify(partial("cn", "x"), partial("userPassword", "y"))); w != nil {
		t.Error("an add without app passwords is looked into")
	}
	for _, c := range []struct {
		mod    []byte
		looked bool
	}{
		{mod(0, "userPassword", "new"), false},
		{mod(1, "userPassword", "old"), false},
		{mod(1, "userPassword"), true},
		{mod(2, "userPassword", "new"), true},
		{mod(0, "userPassword", "new", "$app$x$y"), true},
		{mod(0, "2.5.4.35", "otpauth://totp/x"), true},
		{mod(2, "mail", "x"), false},
	} {
		if w := sharedGuard.takeApart(t, wire.OpModifyRequest, modify(c.mod)); (w != nil) != c.looked {
			t.Errorf("shared attribute, %q: looked into %t", c.mod, w != nil)
		}
	}
}

// TestRewriting: only the values change that must, by every name of the attribute; what stands around stays byte for byte.
func TestRewriting(t *testing.T) {
	t.Parallel()
	before, after := padded(1, "description"), mod(2, "mail", "$app$not ours", "b")
	for _, name := range []string{"appPassword", "APPPASSWORD", "mailsecret", "2.25.987654321"} {
		good := "$app$tablet;exp=20260102000000Z$" + hashed
		body := modify(before, mod(0, name, "$app$phone$"+inClear, good), after)
		w := testGuard.takeApart(t, wire.OpModifyRequest, body)
		if w == nil {
			t.Fatalf("%s: not looked into", name)
		}
		_, mods, err := writeRules.Modify(&manage.Set{}, w.mods, false, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out := w.body(mods)
		m := ask(wire.OpModifyRequest, out, nil)
		if err := m.ValidateRequest(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(out, []byte(inClear)) || !bytes.Contains(out, before) || !bytes.HasSuffix(out, after) ||
			!bytes.Contains(out, []byte(name)) || !bytes.Contains(out, []byte(good)) || !bytes.HasPrefix(out, wire.AppendTarget(nil, []byte(aliceUser), nil)) {
			t.Errorf("%s: %q", name, out)
		}
		if same := w.body(w.mods); !bytes.Equal(same, body) {
			t.Errorf("%s: rebuilt with the same values\n%x\n%x", name, same, body)
		}
	}
}

func TestLabelDN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		identity, label, user string
		is, refused           bool
	}{
		{"appPasswordLabel=phone,uid=alice,dc=org", "phone", "uid=alice,dc=org", true, false},
		{"dn: APPPASSWORDLABEL = my\\, phone , uid=alice;dc=org", "my, phone", "uid=alice;dc=org", true, false},
		{`appPasswordLabel="a;b",uid=alice,dc=org`, "a;b", "uid=alice,dc=org", true, false},
		{`dn:appPasswordLabel=phone,uid=alice\ `, "phone", `uid=alice\ `, true, false}, // the space is part of the name
		{"appPasswordLabel=phone", "", "", true, true},
		{"appPasswordLabel=,uid=alice,dc=org", "", "uid=alice,dc=org", true, false}, // the rules refuse it
		{"appPasswordLabel=a+uid=b,uid=alice,dc=org", "", "", true, true},
		{"appPasswordLabel=#040161,uid=alice,dc=org", "", "", true, true},
		{"appPasswordLabel=a,alice", "", "", true, true},
		{"uid=alice,dc=org", "", "", false, false},
		{"uid=alice,appPasswordLabel=x,dc=org", "", "", false, false},
		{"appPasswordLabels=x,uid=alice", "", "", false, false},
		{"alice", "", "", false, false},
		{"", "", "", false, false},
	} {
		label, user, is, r := labelDN([]byte(c.identity))
		if label != c.label || user != c.user || is != c.is || (r != nil) != c.refused {
			t.Errorf("%q: %q %q %t %v", c.identity, label, user, is, r)
		}
	}
}

func TestPasswordModifyDecoder(t *testing.T) {
	t.Parallel()
	field := func(tag byte, v string) []byte { return wire.AppendElement(nil, tag, []byte(v)) }
	p, err := decodePasswordModify(sequence(field(0x80, "a"), field(0x81, "b"), field(0x82, "")))
	if err != nil || string(p.identity) != "a" || string(p.old) != "b" || p.new == nil || len(p.new) != 0 {
		t.Errorf("%+v %v", p, err)
	}
	for _, bad := range [][]byte{{}, {0x30}, sequence(field(0x81, "b"), field(0x80, "a")), sequence(field(0x83, "x")), append(sequence(), 0), field(0x04, "x")} {
		if _, err := decodePasswordModify(bad); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	if p, err := decodePasswordModify(nil); err != nil || p.identity != nil {
		t.Errorf("no value: %+v %v", p, err)
	}
}

// FuzzSecretWrite: whatever a client writes, what goes upstream is a valid
// request in which every value of the secrets attribute is a usable hash or a
// second factor, and every other change is what came.
func FuzzSecretWrite(f *testing.F) {
	f.Add(modify(mod(0, "appPassword", "$app$x$"+inClear), mod(2, "mail", "x")), false, false)
	f.Add(modify(mod(1, "appPassword", "$app$phone"), mod(0, "2.25.987654321", "$app$phone;exp=20260102000000Z$"+hashed)), false, false)
	f.Add(modify(mod(2, "appPassword", "$app$x${CLEAR}{", "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")), false, true)
	f.Add(modify(partial("appPassword", "$app$x$"+inClear), partial("cn", "x")), true, false)
	f.Add(modify(padded(1, "appPassword"), padded(3, "appPassword;x")), false, true)
	f.Fuzz(func(t *testing.T, body []byte, add, sees bool) {
		op := wire.OpModifyRequest
		if add {
			op = wire.OpAddRequest
		}
		m, err := wire.Parse(wire.AppendMessage(nil, 1, op, body, nil))
		if err != nil || m.ValidateRequest() != nil {
			return
		}
		w := testGuard.takeApart(t, op, body)
		if w == nil {
			return
		}
		held := manage.NewSet([][]byte{[]byte("$app$phone;id=7f3k$" + hashed), []byte("$app$tablet$" + hashed)})
		_, mods, err := writeRules.Modify(held, w.mods, sees, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			return
		}
		out := w.body(mods)
		m = ask(op, out, nil)
		if err := m.ValidateRequest(); err != nil {
			t.Fatalf("%x became %x: %v", body, out, err)
		}
		again := testGuard.takeApart(t, op, out)
		for _, part := range again.mods {
			for _, v := range part.Values {
				if s := secrets.Parse(v); part.Operation != manage.ModDelete && (s.Kind == secrets.Foreign || s.Err != nil) {
					t.Fatalf("%q goes upstream", v)
				}
			}
		}
		if !slices.EqualFunc(w.parts, again.parts, func(a, b writePart) bool { return a.secret == b.secret && (a.secret || bytes.Equal(a.raw, b.raw)) }) {
			t.Fatalf("%x became %x", body, out)
		}
	})
}
