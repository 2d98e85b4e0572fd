package proxy

import (
	"bytes"

	"appbind/wire"
)

// Extended operations that are answered here, or must be looked into.
const (
	oidStartTLS       = "1.3.6.1.4.1.1466.20037"  // RFC 4511 4.14
	oidWhoAmI         = "1.3.6.1.4.1.4203.1.11.3" // RFC 4532
	oidCancel         = "1.3.6.1.1.8"             // RFC 3909
	oidPasswordModify = "1.3.6.1.4.1.4203.1.11.1" // RFC 3062
)

// refusedExtended are operations that are never forwarded, whoever asks.
var refusedExtended = map[string]bool{
	// It changes for good what a bind on the link means, and links are used again.
	"1.2.840.113556.1.4.1781": true, // fast bind, of Active Directory
	// It turns the roles of client and server round on the link.
	"1.3.6.1.1.19": true, // LDAP Turn, RFC 4531
	// It tries passwords, past the decision table.
	"1.3.6.1.4.1.4203.666.6.5": true, // Verify Credentials, of OpenLDAP
}

// extended answers or forwards an extended request.
func (c *conn) extended(m wire.Message) (*refusal, error) {
	x, err := wire.DecodeExtended(m.Body)
	if err != nil {
		return nil, malformed(err)
	}
	switch string(x.Name) {
	case oidStartTLS:
		return c.startTLS(m)
	case oidWhoAmI:
		if m.Controls == nil || c.sess.kind != passed {
			return c.answerWhoAmI(m)
		}
		// A control may ask it for another identity (RFC 4370); only the upstream knows.
	}
	switch {
	case c.mustAuthenticate() != nil:
		return c.mustAuthenticate(), nil
	case c.sess.kind == appPassword:
		return refuseAppPassword, nil
	case refusedExtended[string(x.Name)]:
		return refuseOperation, nil
	}
	if r := c.guarded(m); r != nil {
		return r, nil
	}
	switch string(x.Name) {
	case oidCancel:
		return c.cancel(m, x)
	case oidPasswordModify:
		// Its userIdentity may be a DN with a context, which must not go upstream.
		if bytes.Contains(bytes.ToLower(x.Value), []byte("cn=appbind")) {
			return refuseContext, nil
		}
		if handled, r, err := c.makesAppPassword(m, x); handled || err != nil {
			return r, err
		}
	}
	return c.send(m, c.newRequest(m), nil, m.Controls)
}

// answerWhoAmI tells the client's identity, without context. Stalwart asks
// before each reuse of a connection.
func (c *conn) answerWhoAmI(m wire.Message) (*refusal, error) {
	if hasCritical(m.Controls) {
		return refuseControl, nil
	}
	return nil, c.w.Write(func(dst []byte) []byte {
		return wire.AppendExtendedResponse(dst, m.ID, wire.ResultSuccess, "", "", c.sess.whoAmI())
	})
}

// hasCritical reports whether a control is critical.
func hasCritical(controls []byte) bool {
	critical := false
	if len(controls) > 0 {
		_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
			critical = c.Critical
			return !critical
		})
	}
	return critical
}

// offersStartTLS reports whether the client could use StartTLS now.
func (c *conn) offersStartTLS(st *state) bool { return st.certs != nil && c.tls == nil }

// startTLS takes the connection to TLS (RFC 4511 4.14). The client is anonymous
// afterwards, whoever it was in clear.
func (c *conn) startTLS(m wire.Message) (*refusal, error) {
	if c.tls != nil {
		return refuseTLSActive, nil
	}
	if c.srv.state.Load().certs == nil {
		return refuseNoTLS, nil
	}
	// Bytes behind the request came in clear. They could be anybody's, and were
	// they read as if they had come through TLS, they would act for the client.
	if c.outstanding() || c.r.Buffered() > 0 {
		if err := c.answer(m, refuseTLSPipelined); err != nil {
			return nil, err
		}
		return nil, errPipelinedTLS
	}
	c.dropLink()
	err := c.w.Write(func(dst []byte) []byte {
		return wire.AppendExtendedResponse(dst, m.ID, wire.ResultSuccess, "", oidStartTLS, nil)
	})
	if err != nil {
		return nil, err
	}
	return nil, c.handshake()
}
