package proxy

import (
	"bytes"
	"context"
	"strings"

	"appbind/manage"
	"appbind/wire"
)

// The tags of RFC 3062, section 2.
const (
	tagUserIdentity = 0x80 // userIdentity [0]
	tagOldPasswd    = 0x81 // oldPasswd [1]
	tagNewPasswd    = 0x82 // newPasswd [2]
	tagGenPasswd    = 0x80 // genPasswd [0] of the response
)

// attrLabel is the attribute type of the DN under which an app password is made:
// appPasswordLabel=phone,uid=alice,... It names no entry.
const attrLabel = "appPasswordLabel"

// Results of a Password Modify that makes an app password.
var (
	refuseClearText   = &refusal{wire.ResultConfidentialityRequired, "use TLS: passwords are not accepted in clear here"}
	refuseOldPassword = &refusal{wire.ResultUnwillingToPerform, "an app password is made, not changed: leave the old password out"}
	refuseLabelDN     = &refusal{wire.ResultInvalidDNSyntax, "write appPasswordLabel=LABEL,DN-OF-THE-USER"}
)

// passwordModify is a request of RFC 3062.
type passwordModify struct {
	identity, old, new []byte // nil: absent
}

// decodePasswordModify reads a requestValue of RFC 3062; none stands for an empty one.
func decodePasswordModify(value []byte) (p passwordModify, err error) {
	if value == nil {
		return p, nil
	}
	rest, err := berWhole(value, wire.TagSequence)
	if err != nil {
		return p, err
	}
	for _, field := range []struct {
		tag byte
		to  *[]byte
	}{{tagUserIdentity, &p.identity}, {tagOldPasswd, &p.old}, {tagNewPasswd, &p.new}} {
		if len(rest) > 0 && rest[0] == field.tag {
			if *field.to, rest, err = wire.Expect(rest, field.tag); err != nil {
				return p, err
			}
		}
	}
	if len(rest) > 0 {
		return p, wire.ErrMalformed
	}
	return p, nil
}

// labelDN splits appPasswordLabel=LABEL,USER. is says that the identity is meant
// so, whether or not it is well formed.
func labelDN(identity []byte) (label, user string, is bool, r *refusal) {
	text := string(identity)
	if len(text) > 3 && strings.EqualFold(text[:3], "dn:") { // the form of an authzId (RFC 4513 5.2.1.8)
		text = text[3:]
	}
	first, _, _ := strings.Cut(text, "=")
	if !strings.EqualFold(strings.TrimSpace(first), attrLabel) {
		return "", "", false, nil
	}
	dn, err := wire.ParseDN(text)
	if err != nil || len(dn) < 2 || len(dn[0]) != 1 || dn[0][0].Hex {
		return "", "", true, refuseLabelDN
	}
	_, user, err = wire.CutDN(text, len(dn)-1)
	if err != nil {
		return "", "", true, refuseLabelDN
	}
	return dn[0][0].Value, user, true, nil
}

// makesAppPassword handles a Password Modify on a label's DN; handled is false
// for every other, which goes to the directory as it is.
func (c *conn) makesAppPassword(m wire.Message, x wire.ExtendedRequest) (handled bool, r *refusal, err error) {
	p, err := decodePasswordModify(x.Value)
	if err != nil {
		return false, nil, nil // the directory says what is wrong with it
	}
	label, user, is, r := labelDN(p.identity)
	switch {
	case !is:
		return c.modifiesVirtual(p.identity)
	case r != nil:
		return true, r, nil
	case c.sess.kind != passed:
		return true, refuseUnauthenticated, nil
	case !c.secure(c.policy()):
		return true, refuseClearText, nil
	case hasCritical(m.Controls):
		return true, refuseControl, nil
	case len(p.old) > 0:
		return true, refuseOldPassword, nil
	}
	r, err = c.makeAppPassword(m, label, user, p.new)
	clear(p.new)
	return true, r, err
}

// makeAppPassword makes one and answers with it.
func (c *conn) makeAppPassword(m wire.Message, label, user string, chosen []byte) (*refusal, error) {
	st := c.srv.state.Load()
	ctx, cancel := c.opContext(st)
	defer cancel()
	link, r, err := c.ownLink()
	if r != nil || err != nil {
		return r, err
	}
	made, err := c.issue(ctx, st, c.operator(st, link), user, manage.Request{Label: label, Password: bytes.Clone(chosen)})
	switch refused, ok := err.(*notAllowed); {
	case ok:
		return refused.refusal, nil
	case err != nil && isLost(link):
		return nil, disconnected(resultLinkLost, err)
	case err != nil:
		return c.manageFailed(st, []byte(user), err), nil
	}
	c.srv.log.Info("app password made", "by", c.sess.dn, "user", user, "label", label, "id", made.Value.ID, "peer", c.peerName())
	var value []byte
	if made.Password != "" {
		value = wire.AppendElement(nil, tagGenPasswd, []byte(made.Password))
		value = wire.CloseElement(value, 0, wire.TagSequence)
	}
	return nil, c.w.Write(func(dst []byte) []byte {
		return wire.AppendExtendedResponse(dst, m.ID, wire.ResultSuccess, "", "", value)
	})
}

// notAllowed is the directory's answer to whether the client may write.
type notAllowed struct{ refusal *refusal }

func (n *notAllowed) Error() string { return n.refusal.diagnostic }

// issue makes an app password: for the client itself as upstream.manage_dn, where
// self_service_ldap allows it; for anybody, over the client's own link, by the directory's
// access rules. Whether it may write is asked first, so that the answers tell
// nothing of users and app passwords to whom they are no business.
func (c *conn) issue(ctx context.Context, st *state, own *manage.Operator, user string, q manage.Request) (manage.Issued, error) {
	u, err := st.manager.Find(ctx, user)
	if err == nil && c.sess.entry != "" && c.sess.entry == u.Key && st.Config.AppPasswords.SelfServiceLDAP == "allow" {
		return st.manager.Managing().As(c.actor()).Create(ctx, u, q)
	}
	reply, e := own.MayWrite(ctx, user, nil)
	switch {
	case e != nil:
		return manage.Issued{}, e
	case reply != nil:
		own.Denied(user, manage.Ref{Label: q.Label}, manage.DeniedBy(reply.Result.Code))
		return manage.Issued{}, &notAllowed{&refusal{reply.Result.Code, string(reply.Result.Diagnostic)}}
	case err != nil:
		return manage.Issued{}, err
	}
	return own.Create(ctx, u, q)
}
