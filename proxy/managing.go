package proxy

import (
	"context"
	"errors"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/events"
	"appbind/manage"
	"appbind/wire"
)

// writeSecrets carries out a Modify or Add that writes the secrets attribute,
// judged by the rules of package manage, over the client's own link. The client
// is not read meanwhile, as during a bind.
func (c *conn) writeSecrets(m wire.Message, st *state, w *secretWrite) (*refusal, error) {
	if batched(m.Controls) {
		return refuseInBatch, nil
	}
	if w.op == wire.OpModifyRequest && w.sweeps && !c.seesSecrets(st) && !c.holdsOurs(st, w.target) {
		// A main password is replaced, and there is nothing beside it to be lost.
		return c.send(m, c.newRequest(m), w.body(w.mods), m.Controls)
	}
	link, r, err := c.ownLink()
	if r != nil || err != nil {
		return r, err
	}
	q := c.newRequest(m)
	g := &manage.Guarded{DN: string(w.target), Mods: w.mods, Sees: c.seesSecrets(st), Controls: m.Controls, Build: w.body}
	carryOut := c.operator(st, link).Modify
	if w.op == wire.OpAddRequest {
		carryOut = c.operator(st, link).AddEntry
	}
	reply, err := carryOut(c.srv.base, g)
	switch {
	case err != nil && isLost(link):
		return nil, disconnected(resultLinkLost, err)
	case err != nil:
		return c.manageFailed(st, w.target, err), nil
	}
	if reply.Result.Code == wire.ResultSuccess {
		c.srv.log.Info("app passwords changed", "by", c.sess.dn, "user", string(w.target), "peer", c.peerName())
	}
	return nil, c.deliver(q, reply)
}

// operator writes over the client's own link, in its name.
func (c *conn) operator(st *state, link *backend.Link) *manage.Operator {
	return st.manager.Through(link).As(c.actor())
}

// actor is the client for the journal. The directory has verified who it is.
func (c *conn) actor() events.Actor {
	return events.Actor{Name: c.sess.dn, Via: "ldap", Addr: c.peer}
}

// holdsOurs reports whether an entry holds app passwords, or may hold some.
func (c *conn) holdsOurs(st *state, target []byte) bool {
	ctx, cancel := c.opContext(st)
	defer cancel()
	snap, err := st.manager.Read(ctx, string(target))
	return err != nil && !errors.Is(err, auth.ErrNotFound) || err == nil && snap.Set.Ours()
}

// deliver writes the directory's answer to a request that was exchanged, not forwarded.
func (c *conn) deliver(q *request, reply *backend.Reply) error {
	m, err := wire.Parse(wire.AppendMessage(nil, q.id, reply.Op, reply.Body, reply.Controls))
	if err != nil {
		return err // unreachable: it was decoded before
	}
	body, controls, _, err := q.translate(m, true)
	if err != nil {
		return c.answer(wire.Message{ID: q.id, Op: q.op}, refuseGarbled)
	}
	c.srv.counts.answered(q.op, time.Since(q.at))
	return c.w.Write(func(dst []byte) []byte {
		return wire.AppendMessage(dst, q.id, wire.ResponseTo(q.op), body, controls)
	})
}

// manageFailed is the result of an error of package manage, which it logs.
func (c *conn) manageFailed(st *state, target []byte, err error) *refusal {
	r := manageRefusal(err)
	c.srv.log.Info("app password change refused", "by", c.sess.dn, "user", string(target), "peer", c.peerName(), "code", r.code, "err", err)
	return r
}

// manageRefusal is the one map from errors of package manage to results.
func manageRefusal(err error) *refusal {
	var violation *manage.Violation
	var refused *manage.Refused
	switch {
	case errors.As(err, &violation):
		return &refusal{wire.ResultConstraintViolation, violation.Reason}
	case errors.As(err, &refused):
		return &refusal{refused.Code, refused.Diagnostic}
	case errors.Is(err, manage.ErrNoSuchPassword):
		return &refusal{wire.ResultNoSuchAttribute, manage.ErrNoSuchPassword.Error()}
	case errors.Is(err, manage.ErrSeveral):
		return &refusal{wire.ResultConstraintViolation, manage.ErrSeveral.Error()}
	case errors.Is(err, manage.ErrContention):
		return &refusal{wire.ResultBusy, manage.ErrContention.Error()}
	case errors.Is(err, manage.ErrUnconfirmed):
		return &refusal{wire.ResultUnavailable, manage.ErrUnconfirmed.Error()}
	case errors.Is(err, auth.ErrNotFound):
		return &refusal{wire.ResultNoSuchObject, ""}
	case errors.Is(err, auth.ErrAmbiguous), errors.Is(err, manage.ErrNotUser):
		return &refusal{wire.ResultUnwillingToPerform, "app passwords are for users: " + manage.ErrNotUser.Error()}
	case errors.Is(err, manage.ErrNotEligible):
		return &refusal{wire.ResultUnwillingToPerform, manage.ErrNotEligible.Error()}
	}
	return refuseUnavailable
}

// opContext bounds one operation of the client's own goroutine.
func (c *conn) opContext(st *state) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.srv.base, time.Duration(st.Config.Upstream.OperationTimeout))
}
