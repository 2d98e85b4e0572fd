package manage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"appbind/auth"
	"appbind/backend"
	"appbind/wire"
)

// Guarded is a modify of a client that touches the secrets attribute.
type Guarded struct {
	DN       string
	Mods     []Mod  // of the secrets attribute, in order
	Sees     bool   // the client can see the values
	Controls []byte // the client's
	// Build makes the body of the modify with these modifications in the place of Mods.
	Build func(mods []Mod) []byte
}

// MayWrite asks the directory whether the client may write the attribute in an
// entry: by deleting a value that does not exist. nil: it may. Else the
// directory's refusal, which is the one that the client would have got. Whoever
// may not write so learns nothing of the values, and costs no hash.
func (o *Operator) MayWrite(ctx context.Context, dn string, controls []byte) (*backend.Reply, error) {
	d, done := o.m.via(o.link)
	defer done()
	none := "$app$" + rand.Text() // of another form than any value
	r, err := d.modify(ctx, modifyBody(dn, modification{modDelete, o.m.attribute, []string{none}}), withoutAssertion(controls))
	switch {
	case err != nil:
		return nil, err
	case r.Result.Code == wire.ResultSuccess, r.Result.Code == wire.ResultNoSuchAttribute:
		return nil, nil
	}
	return r, nil
}

// withoutAssertion is a client's controls but for an assertion, which directories
// look at before the rights: one that fails would pass for the right to write.
func withoutAssertion(controls []byte) []byte {
	var kept []byte
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated by the caller
		if string(c.OID) != controlAssertion {
			kept = append(kept, c.Raw...)
		}
		return true
	})
	return kept
}

// Modify carries out a client's modify over its link, with its values judged and
// replaced as Rules.Modify says, and returns the directory's answer. Errors
// besides: ErrNoSuchPassword, ErrSeveral.
func (o *Operator) Modify(ctx context.Context, g *Guarded) (*backend.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, o.m.timeout)
	defer cancel()
	reply, made, err := o.modify(ctx, g)
	o.ended(ctx, g, reply, made, err)
	return reply, err
}

// modify is Modify, and what was changed where it was.
func (o *Operator) modify(ctx context.Context, g *Guarded) (*backend.Reply, *done, error) {
	if r, err := o.MayWrite(ctx, g.DN, g.Controls); r != nil || err != nil {
		return r, nil, err
	}
	d, release := o.m.via(o.link)
	defer release()
	w := &guardedWriter{writer: writer{m: o.m, door: d, asserts: o.m.up.Supports(controlAssertion) && mayAssert(g.Controls)}, g: g}
	for try := range maxTries {
		r, err := w.attempt(ctx)
		if r != nil || err != nil {
			return r, w.made, err
		}
		if err := o.m.pause(ctx, try); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrContention, err)
		}
	}
	return nil, nil, ErrContention
}

// AddEntry carries out a client's add of an entry that holds values of the attribute, over its link, with the values judged
// and replaced as Rules.Modify says, and returns the directory's answer. The client's controls go as they are.
func (o *Operator) AddEntry(ctx context.Context, g *Guarded) (*backend.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, o.m.timeout)
	defer cancel()
	none := &Set{}
	after, mods, err := o.m.Judge(ctx, none, g.Mods, true)
	if err != nil {
		o.ended(ctx, g, nil, nil, err)
		return nil, err
	}
	reply, err := o.link.Exchange(ctx, wire.OpAddRequest, g.Build(mods), g.Controls)
	if err != nil && !errors.Is(err, backend.ErrNotSent) {
		err = fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	o.ended(ctx, g, reply, &done{none, difference(none, after)}, err)
	return reply, err
}

// ended tells the journal how a client's request ended.
func (o *Operator) ended(ctx context.Context, g *Guarded, reply *backend.Reply, made *done, err error) {
	s := subject{dn: g.DN}
	switch {
	case err != nil:
		o.failed(s, err)
	case reply.Result.Code != wire.ResultSuccess:
		o.Denied(g.DN, Ref{}, DeniedBy(reply.Result.Code))
	default:
		o.tell(ctx, s, made)
	}
}

// mayAssert reports whether an assertion of ours can go beside a client's controls.
func mayAssert(controls []byte) bool {
	n, own := 0, false
	err := wire.EachControl(controls, func(c wire.Control) bool {
		n++
		own = own || string(c.OID) == controlAssertion
		return true
	})
	return err == nil && !own && n < wire.MaxControls
}

// guardedWriter is a client's modify on its way into the directory.
type guardedWriter struct {
	writer
	g    *Guarded
	made *done // what the modify that succeeded has changed
}

// attempt judges and sends the modify. Neither an answer nor an error: judge it again.
func (w *guardedWriter) attempt(ctx context.Context) (*backend.Reply, error) {
	snap, err := w.door.read(ctx, w.g.DN)
	if errors.Is(err, auth.ErrNotFound) {
		snap, err = &Snapshot{DN: w.g.DN, Set: &Set{}}, nil // the directory tells the client
	}
	if err != nil {
		return nil, err
	}
	after, mods, err := w.m.Judge(ctx, snap.Set, w.g.Mods, w.g.Sees)
	if err != nil {
		return nil, err
	}
	controls, asserted := w.g.Controls, false
	if w.asserts && snap.csn != "" {
		if w.asserts = snap.csn != w.failed; w.asserts {
			controls, asserted = append(append([]byte(nil), controls...), assertion(snap.csn)...), true
		}
	}
	r, err := w.door.modify(ctx, w.g.Build(mods), controls)
	switch {
	case errors.Is(err, backend.ErrNotSent):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	case r.Result.Code == resultAssertionFailed && asserted:
		w.failed = snap.csn
		return nil, nil
	case r.Result.Code == wire.ResultNoSuchAttribute && w.moved(ctx, snap):
		return nil, nil
	case r.Result.Code != wire.ResultSuccess:
		return r, nil
	}
	w.made = &done{snap.Set, difference(snap.Set, after)}
	if asserted {
		return r, nil
	}
	return w.confirmed(ctx, r, difference(snap.Set, after))
}

// moved reports whether the values are other ones than those that were judged.
func (w *guardedWriter) moved(ctx context.Context, snap *Snapshot) bool {
	now, err := w.door.read(ctx, snap.DN)
	if err != nil {
		return false
	}
	c := difference(snap.Set, now.Set)
	return len(c.Add)+len(c.Delete) > 0
}

// confirmed reads again after a modify that was made without an assertion. On a
// conflict its values are taken back; what else it changed stays.
func (w *guardedWriter) confirmed(ctx context.Context, r *backend.Reply, c Change) (*backend.Reply, error) {
	if len(c.Add) == 0 {
		return r, nil
	}
	made, err := w.confirm(ctx, &Snapshot{DN: w.g.DN}, c)
	switch {
	case err != nil:
		return nil, err
	case !made:
		return nil, fmt.Errorf("%w; these values were taken back", ErrContention)
	}
	return r, nil
}

// difference is the change from one set to another.
func difference(from, to *Set) Change {
	var c Change
	for _, v := range from.Values {
		if !to.has(v.Raw) {
			c.Delete = append(c.Delete, v.Raw)
		}
	}
	for _, v := range to.Values {
		if !from.has(v.Raw) {
			c.Add = append(c.Add, v.Raw)
		}
	}
	return c
}
