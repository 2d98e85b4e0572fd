package proxy

import (
	"net/netip"

	"appbind/auth"
	"appbind/wire"
)

// oidSessionTracking is the control of draft-wahl-ldap-session: who is behind a
// request, as seen by the server that passes it on. OpenLDAP's proxies send it.
const oidSessionTracking = "1.3.6.1.4.1.21008.108.63.1"

// takeTracking takes the user's address and session from a session tracking
// control, where a context in the name has not said them. Only from a peer
// whose contexts are believed; a malformed control says nothing.
func takeTracking(cl *auth.Client, controls []byte) {
	if len(controls) == 0 {
		return
	}
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated before
		if string(c.OID) != oidSessionTracking {
			return true
		}
		addr, session, ok := decodeTracking(c.Value)
		if ok && !cl.Addr.IsValid() {
			cl.Addr = addr
		}
		if ok && cl.Session == "" {
			cl.Session = session
		}
		return false
	})
}

// decodeTracking reads SEQUENCE { sessionSourceIp, sessionSourceName, formatOID,
// sessionTrackingIdentifier }, four OCTET STRINGs.
func decodeTracking(value []byte) (addr netip.Addr, session string, ok bool) {
	content, err := berWhole(value, wire.TagSequence)
	if err != nil {
		return addr, "", false
	}
	var fields [][]byte
	err = wire.EachString(content, func(s []byte) bool {
		fields = append(fields, s)
		return len(fields) <= 4
	})
	if err != nil || len(fields) != 4 {
		return addr, "", false
	}
	addr, err = netip.ParseAddr(string(fields[0]))
	if err != nil || addr.Zone() != "" || !isSession(string(fields[3])) {
		return netip.Addr{}, "", false
	}
	return addr.Unmap(), string(fields[3]), true
}
