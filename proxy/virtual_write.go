package proxy

import (
	"errors"
	"fmt"
	"time"

	"appbind/manage"
	"appbind/secrets"
	"appbind/virtual"
	"appbind/wire"
)

// What is said of requests on virtual entries that cannot be.
var (
	refuseVirtualAdd      = &refusal{wire.ResultUnwillingToPerform, "app passwords are made with ldappasswd on appPasswordLabel=LABEL,DN-OF-THE-USER, or with appbind passwords create"}
	refuseVirtualPassword = &refusal{wire.ResultUnwillingToPerform, "an app password is not changed: make another one on appPasswordLabel=LABEL,DN-OF-THE-USER, and delete this one"}
	refuseVirtualRename   = &refusal{wire.ResultUnwillingToPerform, "appPasswordId cannot be changed; replace appPasswordLabel instead"}
)

// virtualTarget is the DN that a request is on; nil: of an operation that has none.
func virtualTarget(op wire.Op, body []byte) []byte {
	switch op {
	case wire.OpDelRequest:
		return body
	case wire.OpModifyRequest, wire.OpAddRequest, wire.OpCompareRequest, wire.OpModifyDNRequest:
		dn, _, err := wire.DecodeTarget(body)
		if err == nil {
			return dn
		}
	}
	return nil
}

// virtualRequest answers a request on a virtual entry, if the client may see it;
// handled is false for every other, which goes to the directory. body is the
// request without a context.
func (c *conn) virtualRequest(m wire.Message, body []byte) (handled bool, r *refusal, err error) {
	target := virtualTarget(m.Op, body)
	if !virtual.IsEntry(target) {
		return false, nil, nil
	}
	at := time.Now()
	handle, userDN, err := virtual.Split(string(target))
	if err != nil {
		return false, nil, nil // the directory says so
	}
	st := c.srv.state.Load()
	ctx, cancel := c.opContext(st)
	defer cancel()
	u, err := c.virtualUser(ctx, st, userDN)
	switch {
	case err != nil:
		return true, c.manageFailed(st, target, err), nil
	case u == nil:
		return false, nil, nil
	case batched(m.Controls):
		return true, refuseInBatch, nil
	case !virtualAllows(m.Controls):
		return true, refuseControl, nil
	case m.Op == wire.OpAddRequest:
		return true, refuseVirtualAdd, nil
	}
	for _, e := range virtual.List(u.DN, u.Set) {
		if e.Is(handle) {
			r, err = c.virtualChange(m, body, st, u, e)
			if err != nil || r.refuses() {
				return true, r, err
			}
			return true, nil, c.answerHere(m.Op, at, func(dst []byte) []byte {
				return wire.AppendResult(dst, m.ID, wire.ResponseTo(m.Op), r.code, r.diagnostic)
			})
		}
	}
	return true, &refusal{code: wire.ResultNoSuchObject}, nil
}

// refuses reports whether a result says that something was not done.
func (r *refusal) refuses() bool {
	return r.code != wire.ResultSuccess && r.code != wire.ResultCompareTrue && r.code != wire.ResultCompareFalse
}

// conditional are the controls by which a request is another's, or is done only
// if, or not at all. They cannot be kept here, and must not be overlooked, critical or not.
var conditional = map[string]bool{
	oidProxiedAuthorization:    true,
	oidProxiedAuthorization1:   true,
	"1.3.6.1.1.12":             true, // assertion, RFC 4528
	"1.3.6.1.4.1.4203.1.10.2":  true, // no-op, of the draft
	"1.3.6.1.4.1.4203.666.5.2": true, // no-op, of OpenLDAP
}

// virtualAllows reports whether a request with these controls can be answered
// here: none of them is critical but for those that mean nothing here, and none is conditional.
func virtualAllows(controls []byte) bool {
	ok := true
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
		oid := string(c.OID)
		ok = !conditional[oid] && (!c.Critical || oid == oidManageDsaIT || oid == oidSessionTracking)
		return ok
	})
	return ok
}

// oidProxiedAuthorization1 is the control of the draft before RFC 4370.
const oidProxiedAuthorization1 = "2.16.840.1.113730.3.4.12"

// virtualChange answers a request on an entry that exists.
func (c *conn) virtualChange(m wire.Message, body []byte, st *state, u *manage.User, e *virtual.Entry) (*refusal, error) {
	switch m.Op {
	case wire.OpModifyDNRequest:
		return refuseVirtualRename, nil
	case wire.OpCompareRequest:
		x, err := wire.DecodeCompare(body)
		if err != nil {
			return nil, malformed(err)
		}
		return &refusal{code: e.Compare(x.Attribute, x.Value)}, nil
	}
	// By its own right, where users may manage their own; else by the directory's, over the client's link.
	op := st.manager.Managing().As(c.actor())
	if !c.isSelf(u) || st.Config.AppPasswords.SelfServiceLDAP != "allow" {
		link, r, err := c.ownLink()
		if r != nil || err != nil {
			return r, err
		}
		op = c.operator(st, link)
	}
	did, err := c.virtualWrite(m, body, st, op, u, e)
	var no *virtual.Refusal
	switch {
	case errors.As(err, &no):
		// Its reason may repeat what was written.
		op.Denied(u.DN, manage.Ref{ID: e.Handle}, fmt.Sprintf("a change that a virtual entry does not take (result %d)", no.Code))
		return &refusal{no.Code, no.Reason}, nil
	case errors.Is(err, wire.ErrMalformed):
		return nil, malformed(err)
	case err != nil && c.sess.link != nil && isLost(c.sess.link):
		return nil, disconnected(resultLinkLost, err)
	case errors.Is(err, manage.ErrNoSuchPassword):
		return &refusal{code: wire.ResultNoSuchObject}, nil
	case err != nil:
		return c.manageFailed(st, []byte(u.DN), err), nil
	}
	c.srv.log.Info(did, "by", c.sess.dn, "user", u.DN, "id", e.Handle, "peer", c.peerName())
	return &refusal{}, nil // success
}

// virtualWrite carries out a delete or a modify; did is what to log.
func (c *conn) virtualWrite(m wire.Message, body []byte, st *state, op *manage.Operator, u *manage.User, e *virtual.Entry) (did string, err error) {
	ctx, cancel := c.opContext(st)
	defer cancel()
	if m.Op == wire.OpDelRequest {
		gone, err := op.RevokeAll(ctx, u.DN, func(v *secrets.Value) bool { return virtual.Holds(e.Handle, v) })
		if err == nil && len(gone) == 0 {
			err = manage.ErrNoSuchPassword // somebody was faster
		}
		return "app password revoked", err
	}
	_, rest, err := wire.DecodeTarget(body)
	if err != nil {
		return "", wire.ErrMalformed
	}
	changes, err := virtual.DecodeChanges(rest)
	if err != nil {
		return "", err
	}
	return "app password changed", op.Edit(ctx, u.DN, manage.Ref{ID: e.Handle}, changes.Apply)
}

// modifiesVirtual refuses a Password Modify of a virtual entry, if the client may
// see it: there is nothing to be changed. handled is false for every other identity.
func (c *conn) modifiesVirtual(identity []byte) (handled bool, r *refusal, err error) {
	if !virtual.IsEntry(identity) {
		return false, nil, nil
	}
	_, userDN, err := virtual.Split(string(identity))
	if err != nil {
		return false, nil, nil // the directory says so
	}
	st := c.srv.state.Load()
	ctx, cancel := c.opContext(st)
	defer cancel()
	switch u, err := c.virtualUser(ctx, st, userDN); {
	case err != nil:
		return true, c.manageFailed(st, identity, err), nil
	case u == nil:
		return false, nil, nil
	}
	return true, refuseVirtualPassword, nil
}
