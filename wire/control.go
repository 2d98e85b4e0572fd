package wire

// Control is one control (RFC 4511 4.1.11).
type Control struct {
	// Raw is the whole element, for copying.
	Raw      []byte
	OID      []byte
	Critical bool
	// Value is nil when it is absent.
	Value []byte
}

// MaxControls bounds the controls of one message.
const MaxControls = 16

// EachControl calls f for each control in controls, until f returns false.
// Any octet but 0 is TRUE: some clients write 0x01.
func EachControl(controls []byte, f func(c Control) bool) error {
	for n := 0; len(controls) > 0; n++ {
		if n == MaxControls {
			return ErrMalformed
		}
		content, rest, err := Expect(controls, TagSequence)
		if err != nil {
			return err
		}
		end := len(controls) - len(rest)
		c := Control{Raw: controls[:end:end]}
		if c.OID, content, err = Expect(content, TagOctetString); err != nil || len(c.OID) == 0 {
			return ErrMalformed
		}
		if len(content) > 0 && content[0] == TagBoolean {
			var critical []byte
			if critical, content, err = Expect(content, TagBoolean); err != nil || len(critical) != 1 {
				return ErrMalformed
			}
			c.Critical = critical[0] != 0
		}
		if len(content) > 0 {
			if c.Value, content, err = Expect(content, TagOctetString); err != nil || len(content) != 0 {
				return ErrMalformed
			}
		}
		if !f(c) {
			return nil
		}
		controls = rest
	}
	return nil
}

// AppendControl appends one control; criticality TRUE is written as 0xff,
// since Samba reads 0x01 as FALSE. A nil value is left out.
func AppendControl(dst []byte, oid string, critical bool, value []byte) []byte {
	start := len(dst)
	dst = appendString(dst, TagOctetString, oid)
	if critical {
		dst = appendBoolean(dst, TagBoolean, true)
	}
	if value != nil {
		dst = AppendElement(dst, TagOctetString, value)
	}
	return CloseElement(dst, start, TagSequence)
}
