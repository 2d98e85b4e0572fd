package wire

// Op is the tag of a protocolOp, as it stands on the wire (RFC 4511 4.2 to 4.14).
type Op byte

// The operations of RFC 4511.
const (
	OpBindRequest           Op = 0x60
	OpBindResponse          Op = 0x61
	OpUnbindRequest         Op = 0x42
	OpSearchRequest         Op = 0x63
	OpSearchResultEntry     Op = 0x64
	OpSearchResultDone      Op = 0x65
	OpModifyRequest         Op = 0x66
	OpModifyResponse        Op = 0x67
	OpAddRequest            Op = 0x68
	OpAddResponse           Op = 0x69
	OpDelRequest            Op = 0x4a
	OpDelResponse           Op = 0x6b
	OpModifyDNRequest       Op = 0x6c
	OpModifyDNResponse      Op = 0x6d
	OpCompareRequest        Op = 0x6e
	OpCompareResponse       Op = 0x6f
	OpAbandonRequest        Op = 0x50
	OpSearchResultReference Op = 0x73
	OpExtendedRequest       Op = 0x77
	OpExtendedResponse      Op = 0x78
	OpIntermediateResponse  Op = 0x79
)

// ResponseTo is the operation that ends the request op; 0 where there is none (unbind, abandon, unknown).
func ResponseTo(op Op) Op {
	switch op {
	case OpBindRequest, OpModifyRequest, OpAddRequest, OpModifyDNRequest, OpCompareRequest, OpExtendedRequest:
		return op + 1
	case OpSearchRequest:
		return OpSearchResultDone
	case OpDelRequest:
		return OpDelResponse
	}
	return 0
}

// tagControls is the [0] of LDAPMessage.
const tagControls = 0xa0

// Message is one LDAPMessage. The slices are parts of Raw, which belongs to
// the reader that it came from and is valid until that reader's next call.
type Message struct {
	// Raw is the whole message.
	Raw []byte
	// ID is the message ID; 0 stands for an unsolicited notification.
	ID int32
	// Op is the tag of the operation.
	Op Op
	// Body is the contents of the operation.
	Body []byte
	// Controls is the contents of the controls; nil when there are none.
	Controls []byte

	opStart int // where the operation's element starts in Raw
}

// Parse takes one whole message apart: the envelope, the message ID in
// 0..2^31-1, the tag of the operation and the controls. The operation itself
// and the controls are not looked into; see Message.ValidateRequest.
func Parse(raw []byte) (Message, error) {
	m := Message{Raw: raw}
	content, rest, err := Expect(raw, TagSequence)
	if err != nil || len(rest) != 0 {
		return m, ErrMalformed
	}
	id, rest, err := Expect(content, TagInteger)
	if err != nil {
		return m, err
	}
	if m.ID, err = boundedInteger(id); err != nil {
		return m, err
	}
	m.opStart = len(raw) - len(rest)
	tag, body, rest, err := Element(rest)
	if err != nil {
		return m, err
	}
	m.Op, m.Body = Op(tag), body
	if len(rest) == 0 {
		return m, nil
	}
	m.Controls, rest, err = Expect(rest, tagControls)
	if err != nil || len(rest) != 0 {
		return m, ErrMalformed
	}
	return m, nil
}

// AppendTo appends the message with another message ID. Operation and controls are copied as they are.
func (m Message) AppendTo(dst []byte, id int32) []byte {
	tail := m.Raw[m.opStart:]
	dst = appendHeader(dst, TagSequence, 2+integerSize(id)+len(tail))
	dst = appendInteger(dst, TagInteger, id)
	return append(dst, tail...)
}

// AppendMessage appends a message made of an operation and the contents of its
// controls; nil controls are left out.
func AppendMessage(dst []byte, id int32, op Op, body, controls []byte) []byte {
	n := 2 + integerSize(id) + elementSize(len(body))
	if controls != nil {
		n += elementSize(len(controls))
	}
	dst = appendHeader(dst, TagSequence, n)
	dst = appendInteger(dst, TagInteger, id)
	dst = AppendElement(dst, byte(op), body)
	if controls != nil {
		dst = AppendElement(dst, tagControls, controls)
	}
	return dst
}
