package proxy

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/wire"
)

// oidPasswordPolicy is the request control of draft-behera-ldap-password-policy.
// It asks for a response control where there is something to say, so a bind
// that is decided here honours it by saying nothing.
const oidPasswordPolicy = "1.3.6.1.4.1.42.2.27.8.5.1"

// bind decides a bind. The connection is not read meanwhile, so that requests
// behind the bind wait for its end, and the client is anonymous until it succeeds
// (RFC 4511 4.2.1).
func (c *conn) bind(m wire.Message) (*refusal, error) {
	b, err := wire.DecodeBind(m.Body)
	if err != nil {
		return nil, malformed(err)
	}
	c.dropLink()
	c.sess.failed = true // until it has succeeded
	st, p := c.srv.state.Load(), c.policy()
	c.r.SetLimit(st.Config.Limits.MessageBeforeBind)
	if b.Version != 2 && b.Version != 3 {
		return refuseVersion, nil
	}
	begun := time.Now()
	controls, refused := bindControls(m.Controls)
	ctx, cancel := st.Upstream.Within(c.srv.base, begun, time.Duration(st.Config.Upstream.BindTimeout))
	defer cancel()
	up := &upstreamBinder{st: st, upstream: st.Upstream, controls: controls}
	request, err := c.authBind(st, p, &b, m.Controls)
	var d auth.Decision
	if !refused {
		d = st.Verifier.Verify(ctx, request, up)
	}
	if d.Err == nil && d.Kind == auth.InvalidCredentials {
		d.Err = err
	}
	// The buffer is read into again sooner or later; the password has no business in it until then.
	clear(b.Password)
	unsupported := refused || d.Answer == nil && criticalBindControl(m.Controls)
	ended := time.Now()
	took := ended.Sub(begun)
	outcome, reason, _ := bindEnd(&d, unsupported)
	c.srv.counts.bind(c.lis.counts, outcome, reason, request.Client.Service, took)
	c.logBind(&request, &d, up, unsupported, ended, took)
	if st.History != nil && !unsupported {
		c.noteBind(st.History, &request, &d, ended)
	}
	if unsupported {
		// Decided here, where the control is not known (RFC 4511 4.1.11).
		up.release()
		return refuseControl, nil
	}
	if p.disconnects() && (d.Kind == auth.Busy || d.Kind == auth.Unavailable) {
		up.release()
		return nil, errUndecided
	}
	c.enterSession(st, &d, up, b.Version == 2, ended)
	var answered []byte
	if m.Controls != nil && b.Version == 3 && d.Kind == auth.Accepted && d.Answer != nil {
		answered, _ = bindControls(d.Answer.Controls)
	}
	return nil, c.answerBind(m.ID, &d, answered)
}

// authBind is the bind as the decision sees it. The error says why a context or
// an external identity is not believed; for the log.
func (c *conn) authBind(st *state, p *policy, b *wire.BindRequest, controls []byte) (request auth.Bind, err error) {
	request = auth.Bind{
		Password: auth.Password(b.Password),
		Secure:   c.secure(p),
		Listener: p.bind,
		Client:   auth.Client{Service: strings.ToLower(p.Service), Peer: c.peer},
	}
	if p.Clients == "direct" && !c.unannounced {
		request.Client.Addr = c.peer
	}
	name, _, uc, found, err := splitContext(b.Name)
	switch {
	case err != nil:
		request.ContextInvalid = true
		name = b.Name
	case found && !c.trustsContext():
		request.ContextInvalid = true
		name, err = b.Name, errUntrusted
	case found:
		takeContext(&request.Client, &uc)
	}
	if c.trustsContext() {
		takeTracking(&request.Client, controls)
	}
	request.Name = string(name)
	if b.SASL {
		request.SASL = string(b.Mechanism)
		if strings.EqualFold(request.SASL, mechanismExternal) {
			request.External = st.externalFor(c, b.Credentials)
			err = c.externalName()
		}
	}
	return request, err
}

// trustsContext reports whether a context is believed: on a listener that is
// told to, from a peer that is vouched for, by the unix socket's mode, by being
// on this machine, or by a verified certificate. Anybody else could name any
// address and service.
func (c *conn) trustsContext() bool {
	p := c.policy()
	if p.Context != "trusted" {
		return false
	}
	return c.certified || c.local(p)
}

// local reports whether the client is on this machine. Both ends of a way
// through a proxy must be: the announced one and the socket's.
func (c *conn) local(p *policy) bool {
	return p.URL.Network() == "unix" || c.peer.IsLoopback() && c.hop.IsLoopback()
}

// secure reports whether a password may come over this connection.
func (c *conn) secure(p *policy) bool {
	switch {
	case c.tls != nil, p.URL.Network() == "unix", p.Cleartext == "allow":
		return true
	case p.Cleartext == "refuse":
		return false
	}
	return c.local(p)
}

// enterSession makes the client who its bind says. It was anonymous before.
func (c *conn) enterSession(st *state, d *auth.Decision, up *upstreamBinder, v2 bool, now time.Time) {
	c.sess = session{v2: v2, failed: d.Kind != auth.Accepted && d.Kind != auth.Anonymous}
	c.checked = now
	switch {
	case d.Kind == auth.Accepted && d.App != nil:
		up.release()
		c.sess.kind, c.sess.dn, c.sess.login = appPassword, d.DN, d.Login()
	case d.Kind == auth.Accepted && (up.link != nil || up.share != nil):
		c.sess.kind, c.sess.dn = passed, d.DN
		if d.Entry != nil {
			c.sess.entry = d.Entry.Key
		}
		c.sess.visible = st.seesSecrets(d.DN)
		c.sess.link, c.sess.share, c.sess.home = up.link, up.share, st.Upstream
	case d.Kind == auth.Accepted && !d.Until.IsZero():
		c.sess.kind, c.sess.dn = recalled, d.DN
		c.sess.home, c.sess.until = st.Upstream, d.Until
	case d.Kind == auth.Accepted:
		panic("appbind: internal error: bind accepted without an app password or an upstream bind")
	default:
		up.release()
		return
	}
	c.r.SetLimit(st.Config.Limits.Message)
}

// passedBindControls are the controls that go upstream with a bind, and come back with
// its answer. A link is used again, so that a control which changes what a bind does to
// a connection (PingDirectory's "retain identity" leaves it to whoever was bound before)
// must not get there, nor may an answer carry entries.
var passedBindControls = map[string]bool{
	oidPasswordPolicy:          true,
	"2.16.840.1.113730.3.4.16": true, // authorization identity request, RFC 3829
	"2.16.840.1.113730.3.4.15": true, // and its response
	"2.16.840.1.113730.3.4.4":  true, // password expired (Netscape)
	"2.16.840.1.113730.3.4.5":  true, // password expires soon (Netscape)
	oidSessionTracking:         true,
}

// bindControls is those of controls that pass, nil for none; refused: one that does not is critical.
func bindControls(controls []byte) (out []byte, refused bool) {
	if len(controls) == 0 {
		return nil, false
	}
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
		if passedBindControls[string(c.OID)] {
			out = append(out, c.Raw...)
		} else {
			refused = refused || c.Critical
		}
		return true
	})
	return out, refused
}

// criticalBindControl reports whether a bind has a critical control that a
// decision of our own cannot honour.
func criticalBindControl(controls []byte) bool {
	unknown := false
	if len(controls) > 0 {
		_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
			unknown = c.Critical && string(c.OID) != oidPasswordPolicy
			return !unknown
		})
	}
	return unknown
}

// upstreamBinder is the auth.Binder of one bind. It keeps the link on which the
// bind succeeded, for the client, or for the clients that share links. The client's controls go with it: on a bind they ask
// for no more than words on the password.
type upstreamBinder struct {
	st       *state
	upstream *backend.Upstream
	controls []byte
	link     *backend.Link
	share    *backend.Group // in the place of link
	server   string
}

var _ auth.Binder = (*upstreamBinder)(nil)

// Bind sends one bind.
func (u *upstreamBinder) Bind(ctx context.Context, dn string, password auth.Password) (*auth.Answer, error) {
	a, link, err := u.upstream.Bind(ctx, dn, password, u.controls)
	if err != nil {
		return nil, err
	}
	u.server = link.Server()
	service, listed := u.st.listing(dn)
	if a.Code != wire.ResultSuccess {
		u.upstream.Release(link)
		if service {
			u.upstream.Distrust(dn, a.Code)
		}
		return a, nil
	}
	if service && onlyControls(u.controls, shareableBindControls) {
		u.share = u.upstream.Share(dn, password, link)
	}
	if u.share != nil {
		return a, nil
	}
	if !listed {
		if err := u.upstream.Keep(link, dn); err != nil {
			u.upstream.Release(link)
			return nil, err
		}
	}
	u.link = link
	return a, nil
}

// release gives the link back where the decision has no use for it.
func (u *upstreamBinder) release() {
	if u.share != nil {
		u.share.Leave()
		u.share = nil
	}
	if u.link != nil {
		u.upstream.Release(u.link)
		u.link = nil
	}
}

// takeContext puts what the context says over what the listener says.
func takeContext(cl *auth.Client, uc *userContext) {
	if uc.Service != "" {
		cl.Service = strings.ToLower(uc.Service)
	}
	if uc.Addr != (netip.Addr{}) {
		cl.Addr = uc.Addr
	}
	cl.Session = uc.Session
}
