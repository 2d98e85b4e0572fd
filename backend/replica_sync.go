package backend

import (
	"errors"
	"strings"

	"appbind/wire"
)

// The OIDs of RFC 4533.
const (
	oidSyncRequest = "1.3.6.1.4.1.4203.1.9.1.1"
	oidSyncState   = "1.3.6.1.4.1.4203.1.9.1.2"
	oidSyncInfo    = "1.3.6.1.4.1.4203.1.9.1.4"
)

// syncRequest is the control that asks for refreshAndPersist without a cookie
// (RFC 4533 2.2): SEQUENCE { mode ENUMERATED 3 }. Resuming with a cookie is
// never asked for: slapd sends no delete then for what was removed meanwhile.
func syncRequest() []byte {
	return wire.AppendControl(nil, oidSyncRequest, true, []byte{wire.TagSequence, 3, 0x0a, 1, 3})
}

// The states of an entry (RFC 4533 2.3).
const (
	statePresent = iota
	stateAdd
	stateModify
	stateDelete
)

// uuidSize is the octets of a syncUUID (RFC 4533 2.1).
const uuidSize = 16

// errSync refuses what is not the protocol of RFC 4533, or a turn of it that
// was not asked for. A new refresh puts it right.
var errSync = errors.New("unexpected message of the content synchronization")

// syncState is a Sync State control (RFC 4533 2.3).
type syncState struct {
	state  byte
	id     string
	cookie []byte
}

// syncStateOf finds the Sync State control of an entry.
func syncStateOf(controls []byte) (syncState, error) {
	var value []byte
	err := wire.EachControl(controls, func(c wire.Control) bool {
		if string(c.OID) == oidSyncState {
			value = c.Value
		}
		return value == nil
	})
	var st syncState
	if err != nil || value == nil {
		return st, errSync
	}
	content, rest, err := wire.Expect(value, wire.TagSequence)
	if err != nil || len(rest) != 0 {
		return st, errSync
	}
	state, content, err := wire.Expect(content, 0x0a)
	if err != nil || len(state) != 1 || state[0] > stateDelete {
		return st, errSync
	}
	id, content, err := wire.Expect(content, wire.TagOctetString)
	if err != nil || len(id) != uuidSize {
		return st, errSync
	}
	st.state, st.id = state[0], string(id)
	if len(content) > 0 {
		if st.cookie, _, err = wire.Expect(content, wire.TagOctetString); err != nil {
			return st, errSync
		}
	}
	return st, nil
}

// The choices of a Sync Info message (RFC 4533 2.5).
const (
	infoNewCookie      = 0x80
	infoRefreshDelete  = 0xa1
	infoRefreshPresent = 0xa2
	infoIDSet          = 0xa3
)

// syncInfo is a Sync Info message.
type syncInfo struct {
	choice byte
	cookie []byte
	// flag is refreshDone, which is true when absent, or refreshDeletes, which is false when absent.
	flag bool
	ids  []string
}

func decodeSyncInfo(value []byte) (syncInfo, error) {
	tag, content, rest, err := wire.Element(value)
	in := syncInfo{choice: tag, flag: tag != infoIDSet}
	if err != nil || len(rest) != 0 || tag != infoNewCookie && (tag < infoRefreshDelete || tag > infoIDSet) {
		return in, errSync
	}
	if tag == infoNewCookie {
		in.cookie = content
		return in, nil
	}
	if len(content) > 0 && content[0] == wire.TagOctetString {
		if in.cookie, content, err = wire.Expect(content, wire.TagOctetString); err != nil {
			return in, errSync
		}
	}
	if len(content) > 0 && content[0] == wire.TagBoolean {
		var flag []byte
		if flag, content, err = wire.Expect(content, wire.TagBoolean); err != nil || len(flag) != 1 {
			return in, errSync
		}
		in.flag = flag[0] != 0
	}
	if tag != infoIDSet {
		return in, nil
	}
	set, rest, err := wire.Expect(content, 0x31)
	if err != nil || len(rest) != 0 {
		return in, errSync
	}
	for len(set) > 0 {
		var id []byte
		if id, set, err = wire.Expect(set, wire.TagOctetString); err != nil || len(id) != uuidSize {
			return in, errSync
		}
		in.ids = append(in.ids, string(id))
	}
	return in, nil
}

// csns are change sequence numbers, the latest by the server that gave it (the
// third part: time#count#server#mod). They compare as text.
type csns map[string]string

// take notes a number if it is later.
func (c csns) take(csn string) {
	if parts := strings.Split(csn, "#"); len(parts) == 4 && csn > c[parts[2]] {
		c[parts[2]] = csn
	}
}

// takeCookie notes the numbers of OpenLDAP's cookie: rid=000,sid=001,csn=A;B,delcsn=C.
func (c csns) takeCookie(cookie []byte) {
	for part := range strings.SplitSeq(string(cookie), ",") {
		if list, found := strings.CutPrefix(part, "csn="); found {
			for csn := range strings.SplitSeq(list, ";") {
				c.take(csn)
			}
		}
	}
}

// covers reports whether c is nowhere behind other.
func (c csns) covers(other csns) bool {
	for server, csn := range other {
		if c[server] < csn {
			return false
		}
	}
	return len(other) > 0
}
