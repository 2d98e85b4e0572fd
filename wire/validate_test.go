package wire

import (
	"bytes"
	"strings"
	"testing"
)

// pdu is one operation, its body in hexadecimal.
type pdu struct {
	name string
	op   Op
	body string
	bad  bool
}

func checkPDUs(t *testing.T, list []pdu, validate func(Message) error) {
	t.Helper()
	for _, test := range list {
		body := unhex(t, test.body)
		m, err := Parse(message(1, test.op, body, nil))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if err := validate(m); (err != nil) != test.bad {
			t.Errorf("%s: %v", test.name, err)
		}
		switch {
		case test.bad, len(body) == 0, test.op == OpDelRequest, test.op == OpAbandonRequest: // the body is one value
			continue
		}
		// A valid body is not valid with anything behind it.
		m, err = Parse(message(1, test.op, append(body, 0x05, 0x00), nil))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if validate(m) == nil {
			t.Errorf("%s: passes with an element behind it", test.name)
		}
	}
}

func TestValidateRequest(t *testing.T) {
	t.Parallel()
	checkPDUs(t, []pdu{
		{name: "bind v3", op: OpBindRequest, body: "02 01 03 04 01 61 80 01 70"},
		{name: "bind v2", op: OpBindRequest, body: "02 01 02 04 01 61 80 01 70"},
		{name: "bind v3, padded", op: OpBindRequest, body: "02 84 00 00 00 01 03 04 84 00 00 00 00 80 84 00 00 00 00"},
		{name: "bind v127", op: OpBindRequest, body: "02 01 7f 04 00 80 00"},
		{name: "bind v128", op: OpBindRequest, body: "02 02 00 80 04 00 80 00", bad: true},
		{name: "bind v0", op: OpBindRequest, body: "02 01 00 04 00 80 00", bad: true},
		{name: "bind v-1", op: OpBindRequest, body: "02 01 ff 04 00 80 00", bad: true},
		{name: "bind, no choice", op: OpBindRequest, body: "02 01 03 04 00", bad: true},
		{name: "bind, no name", op: OpBindRequest, body: "02 01 03 80 00", bad: true},
		{name: "bind, password no choice", op: OpBindRequest, body: "02 01 03 04 00 04 01 70", bad: true},
		{name: "bind, SASL", op: OpBindRequest, body: "02 01 03 04 00 a3 07 04 05 50 4c 41 49 4e"},
		{name: "bind, SASL with credentials", op: OpBindRequest, body: "02 01 03 04 00 a3 06 04 01 58 04 01 63"},
		{name: "bind, SASL without mechanism", op: OpBindRequest, body: "02 01 03 04 00 a3 00", bad: true},
		{name: "bind, SASL and more", op: OpBindRequest, body: "02 01 03 04 00 a3 08 04 01 58 04 01 63 05 00", bad: true},
		{name: "bind, Kerberos of v2", op: OpBindRequest, body: "02 01 02 04 00 81 01 78"},
		{name: "bind, Sicily", op: OpBindRequest, body: "02 01 03 04 00 89 00"},

		{name: "unbind", op: OpUnbindRequest},
		{name: "unbind with something", op: OpUnbindRequest, body: "00", bad: true},

		{name: "search", op: OpSearchRequest, body: "04 00 0a 01 02 0a 01 03 02 01 00 02 04 7f ff ff ff 01 01 ff 87 01 61 30 03 04 01 61"},
		{name: "search, empty selector", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 00 02 01 00 02 01 00 01 01 00 87 01 61 30 02 04 00"},
		{name: "search, subordinates", op: OpSearchRequest, body: "04 00 0a 01 03 0a 01 00 02 01 00 02 01 00 01 01 00 87 01 61 30 00"},
		{name: "search, scope 4", op: OpSearchRequest, body: "04 00 0a 01 04 0a 01 00 02 01 00 02 01 00 01 01 00 87 01 61 30 00", bad: true},
		{name: "search, deref 4", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 04 02 01 00 02 01 00 01 01 00 87 01 61 30 00", bad: true},
		{name: "search, size -1", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 00 02 01 ff 02 01 00 01 01 00 87 01 61 30 00", bad: true},
		{name: "search, time 2^31", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 00 02 01 00 02 05 00 80 00 00 00 01 01 00 87 01 61 30 00", bad: true},
		{name: "search, long boolean", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 00 02 01 00 02 01 00 01 02 00 00 87 01 61 30 00", bad: true},
		{name: "search, bad filter", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 00 02 01 00 02 01 00 01 01 00 a2 00 30 00", bad: true},
		{name: "search, no selection", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 00 02 01 00 02 01 00 01 01 00 87 01 61", bad: true},
		{name: "search, selector no string", op: OpSearchRequest, body: "04 00 0a 01 00 0a 01 00 02 01 00 02 01 00 01 01 00 87 01 61 30 02 05 00", bad: true},

		{name: "modify, all kinds", op: OpModifyRequest, body: "04 00 30 34" +
			"30 0d 0a 01 00 30 08 04 01 61 31 03 04 01 62 30 0a 0a 01 01 30 05 04 01 61 31 00 30 0a 0a 01 02 30 05 04 01 61 31 00 30 0b 0a 01 03 30 06 04 02 61 62 31 00"},
		{name: "modify, no change", op: OpModifyRequest, body: "04 00 30 00"},
		{name: "modify, kind 4", op: OpModifyRequest, body: "04 00 30 0c 30 0a 0a 01 04 30 05 04 01 61 31 00", bad: true},
		{name: "modify, empty attribute", op: OpModifyRequest, body: "04 00 30 0b 30 09 0a 01 00 30 04 04 00 31 00", bad: true},
		{name: "modify, value no string", op: OpModifyRequest, body: "04 00 30 0e 30 0c 0a 01 00 30 07 04 01 61 31 02 05 00", bad: true},
		{name: "modify, SEQUENCE of values", op: OpModifyRequest, body: "04 00 30 0c 30 0a 0a 01 00 30 05 04 01 61 30 00", bad: true},
		{name: "modify, more in a change", op: OpModifyRequest, body: "04 00 30 0e 30 0c 0a 01 00 30 05 04 01 61 31 00 05 00", bad: true},
		{name: "modify, more in an attribute", op: OpModifyRequest, body: "04 00 30 0e 30 0c 0a 01 00 30 07 04 01 61 31 00 05 00", bad: true},
		{name: "modify, no list", op: OpModifyRequest, body: "04 00", bad: true},

		{name: "add", op: OpAddRequest, body: "04 01 64 30 0a 30 08 04 01 61 31 03 04 01 62"},
		{name: "add, empty value", op: OpAddRequest, body: "04 01 64 30 09 30 07 04 01 61 31 02 04 00"},
		{name: "add, no attribute", op: OpAddRequest, body: "04 01 64 30 00"},
		{name: "add, no value", op: OpAddRequest, body: "04 01 64 30 07 30 05 04 01 61 31 00", bad: true},
		{name: "add, empty attribute", op: OpAddRequest, body: "04 01 64 30 09 30 07 04 00 31 03 04 01 62", bad: true},
		{name: "add, no list", op: OpAddRequest, body: "04 01 64", bad: true},

		{name: "delete", op: OpDelRequest, body: "64 63 3d 78"},
		{name: "delete of the root", op: OpDelRequest},

		{name: "modifyDN", op: OpModifyDNRequest, body: "04 01 64 04 01 72 01 01 ff"},
		{name: "modifyDN, superior", op: OpModifyDNRequest, body: "04 01 64 04 01 72 01 01 00 80 01 73"},
		{name: "modifyDN, empty superior", op: OpModifyDNRequest, body: "04 01 64 04 01 72 01 01 00 80 00"},
		{name: "modifyDN, superior untagged", op: OpModifyDNRequest, body: "04 01 64 04 01 72 01 01 00 04 01 73", bad: true},
		{name: "modifyDN, no flag", op: OpModifyDNRequest, body: "04 01 64 04 01 72", bad: true},
		{name: "modifyDN, empty flag", op: OpModifyDNRequest, body: "04 01 64 04 01 72 01 00", bad: true},

		{name: "compare", op: OpCompareRequest, body: "04 01 64 30 06 04 01 61 04 01 62"},
		{name: "compare, empty value", op: OpCompareRequest, body: "04 01 64 30 05 04 01 61 04 00"},
		{name: "compare, empty attribute", op: OpCompareRequest, body: "04 01 64 30 05 04 00 04 01 62", bad: true},
		{name: "compare, no value", op: OpCompareRequest, body: "04 01 64 30 03 04 01 61", bad: true},

		{name: "abandon 0", op: OpAbandonRequest, body: "00"},
		{name: "abandon of nothing", op: OpAbandonRequest, body: "", bad: true},
		{name: "abandon -1", op: OpAbandonRequest, body: "ff", bad: true},

		{name: "extended", op: OpExtendedRequest, body: "80 03 31 2e 33"},
		{name: "extended with a value", op: OpExtendedRequest, body: "80 03 31 2e 33 81 00"},
		{name: "extended, NUL in the name", op: OpExtendedRequest, body: "80 04 31 2e 33 00", bad: true},
		{name: "extended, a word", op: OpExtendedRequest, body: "80 03 61 62 63", bad: true},
		{name: "extended, no name", op: OpExtendedRequest, body: "81 00", bad: true},
		{name: "extended, empty name", op: OpExtendedRequest, body: "80 00", bad: true},

		{name: "a response", op: OpBindResponse, body: "0a 01 00 04 00 04 00", bad: true},
		{name: "unknown", op: 0x7a, body: "", bad: true},
		{name: "constructed unbind", op: 0x62, body: "", bad: true},
		{name: "primitive bind", op: 0x40, body: "02 01 03 04 00 80 00", bad: true},
		{name: "a sequence", op: 0x30, body: "", bad: true},
	}, Message.ValidateRequest)
}

func TestValidateRequestID(t *testing.T) {
	t.Parallel()
	for id, bad := range map[int32]bool{0: true, 1: false, 1<<31 - 1: false} {
		m, err := Parse(message(id, OpUnbindRequest, nil, nil))
		if err != nil || (m.ValidateRequest() != nil) != bad {
			t.Errorf("ID %d: %v, %v", id, err, m.ValidateRequest())
		}
	}
}

// TestValidateControlNames: a name that is no OID is one to servers that stop at a NUL.
func TestValidateControlNames(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]bool{"1.2.3": false, "1.2.3\x00": true, "1.2.3\x00x": true, "1.2.3 ": true, "abc": true} {
		m, err := Parse(message(1, OpUnbindRequest, nil, AppendControl(AppendControl(nil, "1.2", false, nil), name, false, nil)))
		if err != nil || (m.ValidateRequest() != nil) != bad {
			t.Errorf("%q: %v, %v", name, err, m.ValidateRequest())
		}
	}
}

func TestValidateControls(t *testing.T) {
	t.Parallel()
	one := AppendControl(nil, "1.2.3", true, []byte("opaque \x00\xff"))
	for _, test := range []struct {
		name, in string
		bad      bool
	}{
		{name: "OID", in: "30 05 04 03 31 2e 32"},
		{name: "critical 0x01", in: "30 08 04 03 31 2e 32 01 01 01"},
		{name: "critical, value", in: "30 0a 04 03 31 2e 32 01 01 ff 04 00"},
		{name: "value", in: "30 07 04 03 31 2e 32 04 00"},
		{name: "no OID", in: "30 00", bad: true},
		{name: "empty OID", in: "30 02 04 00", bad: true},
		{name: "long boolean", in: "30 09 04 03 31 2e 32 01 02 00 ff", bad: true},
		{name: "value before criticality", in: "30 0a 04 03 31 2e 32 04 00 01 01 ff", bad: true},
		{name: "value no string", in: "30 07 04 03 31 2e 32 30 00", bad: true},
		{name: "more", in: "30 09 04 03 31 2e 32 04 00 05 00", bad: true},
		{name: "no sequence", in: "04 03 31 2e 32", bad: true},
		{name: "cut", in: "30 05 04 03 31 2e", bad: true},
		{name: "most", in: strings.Repeat("30 05 04 03 31 2e 32", MaxControls)},
		{name: "one more", in: strings.Repeat("30 05 04 03 31 2e 32", MaxControls+1), bad: true},
	} {
		for op, body := range map[Op][]byte{OpUnbindRequest: nil, OpSearchResultDone: unhex(t, "0a 01 00 04 00 04 00")} {
			m, err := Parse(message(1, op, body, unhex(t, test.in)))
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			if err = m.ValidateRequest(); op == OpSearchResultDone {
				err = m.ValidateResponse()
			}
			if (err != nil) != test.bad {
				t.Errorf("%s, %#x: %v", test.name, op, err)
			}
		}
	}
	n := 0
	err := EachControl(append(bytes.Clone(one), one...), func(c Control) bool {
		n++
		if string(c.OID) != "1.2.3" || !c.Critical || string(c.Value) != "opaque \x00\xff" || !bytes.Equal(c.Raw, one) {
			t.Errorf("%+v", c)
		}
		return false
	})
	if n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if want := unhex(t, "30 07 04 05 31 2e 32 2e 33"); !bytes.Equal(AppendControl(nil, "1.2.3", false, nil), want) {
		t.Error("criticality FALSE or an absent value was written")
	}
}

func TestValidateResponse(t *testing.T) {
	t.Parallel()
	checkPDUs(t, []pdu{
		{name: "done", op: OpSearchResultDone, body: "0a 01 00 04 00 04 00"},
		{name: "code of AD", op: OpModifyResponse, body: "0a 02 10 01 04 00 04 01 61"},
		{name: "code -1", op: OpModifyResponse, body: "0a 01 ff 04 00 04 00", bad: true},
		{name: "no code", op: OpModifyResponse, body: "04 00 04 00", bad: true},
		{name: "no diagnostic", op: OpAddResponse, body: "0a 01 00 04 00", bad: true},
		{name: "referral", op: OpDelResponse, body: "0a 01 0a 04 00 04 00 a3 03 04 01 75"},
		{name: "referral to nowhere", op: OpDelResponse, body: "0a 01 0a 04 00 04 00 a3 00", bad: true},
		{name: "referral no string", op: OpDelResponse, body: "0a 01 0a 04 00 04 00 a3 02 05 00", bad: true},
		{name: "compare", op: OpCompareResponse, body: "0a 01 06 04 00 04 00"},
		{name: "modifyDN", op: OpModifyDNResponse, body: "0a 01 00 04 00 04 00"},
		{name: "SASL credentials elsewhere", op: OpModifyDNResponse, body: "0a 01 00 04 00 04 00 87 01 61", bad: true},
		{name: "bind", op: OpBindResponse, body: "0a 01 00 04 00 04 00"},
		{name: "bind with credentials", op: OpBindResponse, body: "0a 01 0e 04 00 04 00 87 01 61"},
		{name: "bind with referral and credentials", op: OpBindResponse, body: "0a 01 0e 04 00 04 00 a3 03 04 01 75 87 01 61"},
		{name: "extended", op: OpExtendedResponse, body: "0a 01 00 04 00 04 00 8a 01 31 8b 01 78"},
		{name: "extended, value only", op: OpExtendedResponse, body: "0a 01 00 04 00 04 00 8b 01 78"},
		{name: "extended, wrong order", op: OpExtendedResponse, body: "0a 01 00 04 00 04 00 8b 01 78 8a 01 31", bad: true},
		{name: "intermediate", op: OpIntermediateResponse, body: "80 01 31 81 01 78"},
		{name: "intermediate, empty", op: OpIntermediateResponse, body: ""},
		{name: "intermediate, wrong order", op: OpIntermediateResponse, body: "81 01 78 80 01 31", bad: true},
		{name: "reference", op: OpSearchResultReference, body: "04 01 75 04 01 76"},
		{name: "reference to nowhere", op: OpSearchResultReference, body: "", bad: true},
		{name: "entry", op: OpSearchResultEntry, body: "04 01 64 30 11 30 08 04 01 61 31 03 04 01 62 30 05 04 01 62 31 00"},
		{name: "entry, nothing in it", op: OpSearchResultEntry, body: "04 00 30 00"},
		{name: "entry, no list", op: OpSearchResultEntry, body: "04 00", bad: true},
		{name: "entry, SEQUENCE of values", op: OpSearchResultEntry, body: "04 01 64 30 07 30 05 04 01 61 30 00", bad: true},
		{name: "entry, more in an attribute", op: OpSearchResultEntry, body: "04 01 64 30 09 30 07 04 01 61 31 00 05 00", bad: true},
		{name: "a request", op: OpBindRequest, body: "02 01 03 04 00 80 00", bad: true},
		{name: "unknown", op: 0x7a, body: "", bad: true},
	}, Message.ValidateResponse)
	for op, bad := range map[Op]bool{OpExtendedResponse: false, OpBindResponse: true, OpSearchResultDone: true} {
		m, err := Parse(message(0, op, unhex(t, "0a 01 34 04 00 04 00"), nil))
		if err != nil || (m.ValidateResponse() != nil) != bad {
			t.Errorf("%#x without a request: %v, %v", op, err, m.ValidateResponse())
		}
	}
}
