package wire

import (
	"bytes"
	"testing"
)

// message is a whole message of an operation and the contents of its controls.
func message(id int32, op Op, body, controls []byte) []byte {
	return AppendMessage(nil, id, op, body, controls)
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in string
		id       int32
		op       Op
		controls bool
		bad      bool
	}{
		{name: "unbind", in: "30 05 02 01 03 42 00", id: 3, op: OpUnbindRequest},
		{name: "padded lengths", in: "30 84 00 00 00 0d 02 84 00 00 00 01 03 42 84 00 00 00 00", id: 3, op: OpUnbindRequest},
		{name: "padded lengths, one short", in: "30 84 00 00 00 0c 02 84 00 00 00 01 03 42 84 00 00 00 00", bad: true},
		{name: "padded ID", in: "30 08 02 04 00 00 00 03 42 00", id: 3, op: OpUnbindRequest},
		{name: "ID of 5 octets", in: "30 09 02 05 00 00 00 00 03 42 00", bad: true},
		{name: "ID 2^31-1", in: "30 08 02 04 7f ff ff ff 42 00", id: 1<<31 - 1, op: OpUnbindRequest},
		{name: "ID 2^31", in: "30 09 02 05 00 80 00 00 00 42 00", bad: true},
		{name: "ID negative", in: "30 05 02 01 ff 42 00", bad: true},
		{name: "ID 0", in: "30 05 02 01 00 78 00", id: 0, op: OpExtendedResponse},
		{name: "ID empty", in: "30 04 02 00 42 00", bad: true},
		{name: "ID of another tag", in: "30 05 0a 01 03 42 00", bad: true},
		{name: "no operation", in: "30 03 02 01 03", bad: true},
		{name: "empty", in: "30 00", bad: true},
		{name: "a SET", in: "31 05 02 01 03 42 00", bad: true},
		{name: "empty controls", in: "30 07 02 01 03 42 00 a0 00", id: 3, op: OpUnbindRequest, controls: true},
		{name: "behind the controls", in: "30 09 02 01 03 42 00 a0 00 05 00", bad: true},
		{name: "not controls", in: "30 07 02 01 03 42 00 a1 00", bad: true},
		{name: "behind the message", in: "30 05 02 01 03 42 00 00", bad: true},
	} {
		m, err := Parse(unhex(t, test.in))
		if (err != nil) != test.bad {
			t.Errorf("%s: error %v", test.name, err)
			continue
		}
		if !test.bad && (m.ID != test.id || m.Op != test.op || (m.Controls != nil) != test.controls) {
			t.Errorf("%s: %+v", test.name, m)
		}
	}
}

func TestAppendTo(t *testing.T) {
	t.Parallel()
	control := AppendControl(nil, "1.2.3", true, []byte("v"))
	for _, controls := range [][]byte{nil, {}, control} {
		for _, size := range []int{0, 100, 118, 119, 120, 130, 250, 300, 70000} {
			body := bytes.Repeat([]byte{'b'}, size)
			for _, id := range []int32{1, 127, 128, 1 << 15, 1 << 23, 1<<31 - 1} {
				m, err := Parse(message(1, OpDelRequest, body, controls))
				if err != nil {
					t.Fatal(err)
				}
				got := m.AppendTo([]byte("x"), id)
				if want := message(id, OpDelRequest, body, controls); !bytes.Equal(got[1:], want) {
					t.Errorf("size %d, ID %d: %.30x, want %.30x", size, id, got[1:], want)
				}
			}
		}
	}
}

// A padded message is forwarded with its operation as it came, and what is
// around it new.
func TestAppendToKeepsTheOperation(t *testing.T) {
	t.Parallel()
	m, err := Parse(unhex(t, "30 84 00 00 00 10 02 01 03 4a 84 00 00 00 01 61 a0 84 00 00 00 00"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.AppendTo(nil, 300), unhex(t, "30 11 02 02 01 2c 4a 84 00 00 00 01 61 a0 84 00 00 00 00"); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// What is appended to a part of a message must not reach its neighbour: the
// parts of a message lie behind each other in one buffer.
func TestPartsDoNotOverlap(t *testing.T) {
	t.Parallel()
	var s SearchRequest
	s.Filter = AppendElement(nil, filterPresent, []byte("objectClass"))
	s.Attributes = AppendStrings(nil, "a", "b")
	controls := AppendControl(AppendControl(nil, "1.2.3", false, nil), "1.2.4", true, []byte("v"))
	stream := append(message(1, OpSearchRequest, s.Append(nil), controls), message(2, OpUnbindRequest, nil, nil)...)
	before := bytes.Clone(stream)
	r := NewReader(bytes.NewReader(stream), MaxBeforeBind)
	m, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	s, err = DecodeSearch(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	parts := [][]byte{m.Raw, m.Body, m.Controls, s.Base, s.Filter, s.Attributes}
	_ = EachControl(m.Controls, func(c Control) bool { parts = append(parts, c.Raw, c.OID, c.Value); return true })
	list := AppendAttribute(AppendAttribute(nil, "cn", []byte("x")), "sn", []byte("y"))
	_ = EachAttribute(list, func(a Attribute) bool { parts = append(parts, a.Raw, a.Type, a.Values); return true })
	for i, p := range parts {
		if len(p) != cap(p) {
			t.Errorf("part %d can grow into its neighbour", i)
		}
		_ = append(p, 0xee)
	}
	if !bytes.Equal(m.Raw, before[:len(m.Raw)]) {
		t.Error("appending to a part changed the message")
	}
	if next, err := r.Next(); err != nil || next.Op != OpUnbindRequest {
		t.Errorf("next message: %+v, %v", next, err)
	}
}

func TestResponseTo(t *testing.T) {
	t.Parallel()
	for op, want := range map[Op]Op{
		OpBindRequest: OpBindResponse, OpSearchRequest: OpSearchResultDone, OpModifyRequest: OpModifyResponse,
		OpAddRequest: OpAddResponse, OpDelRequest: OpDelResponse, OpModifyDNRequest: OpModifyDNResponse,
		OpCompareRequest: OpCompareResponse, OpExtendedRequest: OpExtendedResponse,
		OpUnbindRequest: 0, OpAbandonRequest: 0, OpSearchResultEntry: 0, Op(0x30): 0,
	} {
		if got := ResponseTo(op); got != want {
			t.Errorf("%#x: %#x, want %#x", op, got, want)
		}
	}
}
