package proxy

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// mechanismExternal is the one SASL mechanism that is answered (RFC 4422 appendix A).
const mechanismExternal = "EXTERNAL"

// externalRule maps one peer to a service account: by its user ID on a unix
// socket, or by the subject of its verified certificate.
type externalRule struct {
	uid     *int
	subject wire.DN
	login   *auth.ServiceLogin
}

// newExternalRules reads the rules; config.Load has read their password files.
func newExternalRules(list []config.External) ([]externalRule, error) {
	var rules []externalRule
	for _, e := range list {
		rule := externalRule{uid: e.UID, login: &auth.ServiceLogin{DN: e.DN, Password: auth.Password(e.Password)}}
		if e.Subject != "" {
			var err error
			if rule.subject, err = wire.ParseDN(e.Subject); err != nil {
				return nil, fmt.Errorf("external: subject %q is not a DN", e.Subject)
			}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// maps reports whether SASL EXTERNAL could succeed for this client.
func (st *state) maps(c *conn) bool { return st.externalLogin(c) != nil }

// externalLogin is the service account that the peer is mapped to; nil: none.
func (st *state) externalLogin(c *conn) *auth.ServiceLogin {
	if len(st.external) == 0 {
		return nil
	}
	uid, onSocket := peerUID(c.raw)
	subject, certified := c.subject()
	for _, r := range st.external {
		if onSocket && r.uid != nil && *r.uid == uid {
			return r.login
		}
		if certified && r.subject != nil && sameName(r.subject, subject) {
			return r.login
		}
	}
	return nil
}

// externalName says who a peer is that external does not map, for the log of a
// refused bind: an administrator must write just that into the configuration.
func (c *conn) externalName() error {
	if uid, onSocket := peerUID(c.raw); onSocket {
		return fmt.Errorf("uid %d", uid)
	}
	if subject, certified := c.subject(); certified {
		return fmt.Errorf("subject %s", subject)
	}
	return errors.New("neither a unix socket nor a client certificate")
}

// externalFor is externalLogin for a bind: a client that asks for an
// authorization identity in its credentials gets none but its own (RFC 4422
// appendix A.1).
func (st *state) externalFor(c *conn, credentials []byte) *auth.ServiceLogin {
	login := st.externalLogin(c)
	if login != nil && len(credentials) > 0 && string(credentials) != "dn:"+login.DN {
		return nil
	}
	return login
}

// peerUID is the user ID of the process at the other end of a unix socket.
func peerUID(nc net.Conn) (uid int, ok bool) {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return 0, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return 0, false
	}
	return int(cred.Uid), true
}

// subject is the subject of the client's certificate, if it has shown one that
// was verified.
func (c *conn) subject() (wire.DN, bool) {
	if c.tls == nil {
		return nil, false
	}
	state := c.tls.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return nil, false
	}
	// From the raw form: pkix.Name would put the RDNs in an order of its own.
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(state.PeerCertificates[0].RawSubject, &name); err != nil || len(rest) != 0 {
		return nil, false
	}
	dn, err := wire.ParseDN(name.String())
	return dn, err == nil && len(dn) > 0
}

// sameName compares DNs exactly, but for the case of the types: authorities
// differ in what else they take for the same.
func sameName(a, b wire.DN) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if len(a[i]) != len(b[i]) {
			return false
		}
		for j := range a[i] {
			x, y := a[i][j], b[i][j]
			if !strings.EqualFold(x.Type, y.Type) || x.Value != y.Value || x.Hex != y.Hex {
				return false
			}
		}
	}
	return true
}
