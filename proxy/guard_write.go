package proxy

import (
	"appbind/manage"
	"appbind/wire"
)

// What the guard says of writes to the secrets attribute that it does not look into further.
var (
	refuseSecretRDN = &refusal{wire.ResultConstraintViolation, "the app password attribute cannot be a part of a name"}
	refuseInBatch   = &refusal{wire.ResultUnwillingToPerform, "app passwords cannot be changed within a transaction: send this modify by itself"}
)

// Controls with which a modify is not carried out when it is answered, so that what came of it cannot be looked after.
const (
	controlTransaction      = "1.3.6.1.1.21.2"           // RFC 5805
	controlTransactionLocal = "1.3.6.1.4.1.30221.2.5.26" // PingDirectory: batched transaction
)

// secretWrite is a Modify or Add that writes the secrets attribute.
type secretWrite struct {
	op     wire.Op
	target []byte       // the DN
	parts  []writePart  // the request, change by change
	mods   []manage.Mod // of the parts that have one
	// sweeps says, of a shared attribute, that no value of ours is named, but values are removed unseen.
	sweeps bool
}

// writePart is one change of a Modify, or one attribute of an Add.
type writePart struct {
	raw    []byte // as it came
	secret bool   // it is of the secrets attribute: the next of mods stands in its place
	name   []byte // the attribute's description, of a secret part
}

// writes takes a Modify or Add apart that writes the secrets attribute; nil: it
// does not, and goes on as it is. A shared attribute is none of our business
// where no value of ours is written and nothing unseen is removed.
func (g *guard) writes(op wire.Op, target, rest []byte) (*secretWrite, error) {
	list, err := berWhole(rest, wire.TagSequence)
	if err != nil || !g.named(op, list) {
		return nil, err
	}
	w := &secretWrite{op: op, target: target, sweeps: g.shared}
	care := false
	err = eachWrite(op, list, func(raw []byte, operation byte, a wire.Attribute) bool {
		part := writePart{raw: raw}
		if g.schema.Secrets(a.Type) {
			part.secret, part.name = true, a.Type
			m := manage.Mod{Operation: operation, Options: hasOptions(a.Type)}
			err = wire.EachString(a.Values, func(v []byte) bool { m.Values = append(m.Values, v); return true })
			care = care || !g.shared || m.NamesOurs() || m.Sweeps()
			w.sweeps = w.sweeps && !m.NamesOurs()
			w.mods = append(w.mods, m)
		}
		w.parts = append(w.parts, part)
		return err == nil
	})
	if err != nil || !care {
		return nil, err
	}
	return w, nil
}

// named reports whether an attribute of the request is the secrets attribute.
// This is what every other modify costs.
func (g *guard) named(op wire.Op, list []byte) bool {
	found := false
	_ = eachWrite(op, list, func(_ []byte, _ byte, a wire.Attribute) bool { // validated before
		found = g.schema.Secrets(a.Type)
		return !found
	})
	return found
}

// eachWrite calls f for each change of a Modify (RFC 4511 4.6) or attribute of an Add (4.7), until f returns false.
func eachWrite(op wire.Op, list []byte, f func(raw []byte, operation byte, a wire.Attribute) bool) error {
	if op == wire.OpAddRequest {
		return wire.EachAttribute(list, func(a wire.Attribute) bool { return f(a.Raw, manage.ModAdd, a) })
	}
	for len(list) > 0 {
		change, rest, err := wire.Expect(list, wire.TagSequence)
		if err != nil {
			return err
		}
		raw := list[:len(list)-len(rest)]
		list = rest
		operation, attribute, err := wire.Expect(change, tagEnumerated)
		if err != nil || len(operation) == 0 {
			return wire.ErrMalformed
		}
		more := true
		err = wire.EachAttribute(attribute, func(a wire.Attribute) bool {
			more = f(raw, operation[len(operation)-1], a)
			return false
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// tagEnumerated is the universal tag of a change's operation.
const tagEnumerated = 0x0a

// hasOptions reports whether an attribute description has options (RFC 4512 2.5).
func hasOptions(description []byte) bool {
	for _, c := range description {
		if c == ';' {
			return true
		}
	}
	return false
}

// body is the request with mods in the place of its own; everything else is
// what came, byte for byte.
func (w *secretWrite) body(mods []manage.Mod) []byte {
	dst := wire.AppendTarget(nil, w.target, nil)
	start := len(dst)
	n := 0
	for _, p := range w.parts {
		if !p.secret {
			dst = append(dst, p.raw...)
			continue
		}
		m := mods[n]
		n++
		if w.op == wire.OpAddRequest {
			dst = wire.AppendAttribute(dst, string(p.name), m.Values...)
			continue
		}
		change := len(dst)
		dst = append(dst, tagEnumerated, 1, m.Operation)
		dst = wire.AppendAttribute(dst, string(p.name), m.Values...)
		dst = wire.CloseElement(dst, change, wire.TagSequence)
	}
	return wire.CloseElement(dst, start, wire.TagSequence)
}

// batched reports whether a control puts the request into a transaction.
func batched(controls []byte) bool {
	found := false
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
		found = string(c.OID) == controlTransaction || string(c.OID) == controlTransactionLocal
		return !found
	})
	return found
}
