package wire

import "errors"

// Errors of this package. Which one it was decides only the log line: a client
// that sends any of them is answered with a Notice of Disconnection.
var (
	// ErrMalformed says that bytes are not the BER or the LDAPMessage that RFC 4511 allows.
	ErrMalformed = errors.New("malformed message")
	// ErrTooLarge says that a message is over the limit of its connection.
	ErrTooLarge = errors.New("message too large")
)

// Universal tags that LDAP uses (X.690 8.1.2; RFC 4511 5.1).
const (
	TagBoolean     = 0x01
	TagInteger     = 0x02
	TagOctetString = 0x04
	tagEnumerated  = 0x0a
	TagSequence    = 0x30
	tagSet         = 0x31
)

// maxLengthOctets bounds the long form of a length: 4 octets reach past every
// limit that we have, and Windows pads to exactly 4 (84 00 00 00 nn).
const maxLengthOctets = 4

// Element splits b into its first element and what follows. Both length forms
// are read, padded or not; the indefinite form (RFC 4511 5.1) and tags of more
// than one octet, which LDAP does not have, are refused. content ends in its
// capacity too: appending to it copies.
func Element(b []byte) (tag byte, content, rest []byte, err error) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, ErrMalformed
	}
	n, octets := uint64(b[1]), 1
	if n >= 0x80 {
		if n, octets, err = longLength(b[1:]); err != nil || octets == 0 {
			return 0, nil, nil, ErrMalformed
		}
	}
	head := 1 + octets
	if n > uint64(len(b)-head) {
		return 0, nil, nil, ErrMalformed
	}
	end := head + int(n)
	return b[0], b[head:end:end], b[end:], nil
}

// longLength reads the long form of a length: its value and how many octets it
// takes, 0 when b is too short to tell. The value is unsigned and wide, so that
// no length is negative where an int has 32 bits.
func longLength(b []byte) (n uint64, octets int, err error) {
	octets = 1 + int(b[0]&0x7f)
	if octets == 1 || octets > 1+maxLengthOctets {
		return 0, 0, ErrMalformed
	}
	if len(b) < octets {
		return 0, 0, nil
	}
	for _, c := range b[1:octets] {
		n = n<<8 | uint64(c)
	}
	return n, octets, nil
}

// Expect is Element with a demanded tag.
func Expect(b []byte, want byte) (content, rest []byte, err error) {
	tag, content, rest, err := Element(b)
	if err == nil && tag != want {
		err = ErrMalformed
	}
	return content, rest, err
}

// maxIntegerOctets bounds the contents of an INTEGER or ENUMERATED: every one in
// LDAP is at most 2^31-1 (RFC 4511 4.1.1). Padding up to here is read, as
// OpenLDAP reads it; what is longer OpenLDAP takes for the end of the session,
// and it must not end a link.
const maxIntegerOctets = 4

// boundedInteger reads an INTEGER or ENUMERATED in 0..2^31-1.
func boundedInteger(content []byte) (int32, error) {
	if len(content) == 0 || len(content) > maxIntegerOctets || content[0] >= 0x80 {
		return 0, ErrMalformed
	}
	v := int32(0)
	for _, c := range content {
		v = v<<8 | int32(c)
	}
	return v, nil
}

// lengthOctets is how many octets appendLength writes for n.
func lengthOctets(n int) int {
	switch {
	case n < 0x80:
		return 1
	case n <= 0xff:
		return 2
	case n <= 0xffff:
		return 3
	case n <= 0xffffff:
		return 4
	}
	return 5
}

// appendHeader appends a tag and the shortest form of a length.
func appendHeader(dst []byte, tag byte, n int) []byte {
	dst = append(dst, tag)
	switch lengthOctets(n) {
	case 1:
		return append(dst, byte(n))
	case 2:
		return append(dst, 0x81, byte(n))
	case 3:
		return append(dst, 0x82, byte(n>>8), byte(n))
	case 4:
		return append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// AppendElement appends a whole element.
func AppendElement(dst []byte, tag byte, content []byte) []byte {
	return append(appendHeader(dst, tag, len(content)), content...)
}

// elementSize is the size of an element with n octets of content.
func elementSize(n int) int { return 1 + lengthOctets(n) + n }

// integerSize is the number of content octets of v >= 0.
func integerSize(v int32) int {
	n := 1
	for v > 0x7f {
		v >>= 8
		n++
	}
	return n
}

// appendInteger appends an INTEGER or ENUMERATED, v >= 0, in its shortest form.
func appendInteger(dst []byte, tag byte, v int32) []byte {
	return appendIntegerContent(append(dst, tag, byte(integerSize(v))), v)
}

func appendIntegerContent(dst []byte, v int32) []byte {
	for i := integerSize(v) - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

// CloseElement turns what was appended since start into the contents of one
// Element with this tag. Nested elements are so built from the outside in.
func CloseElement(dst []byte, start int, tag byte) []byte {
	n := len(dst) - start
	head := 1 + lengthOctets(n)
	dst = append(dst, make([]byte, head)...)
	copy(dst[start+head:], dst[start:start+n])
	appendHeader(dst[:start], tag, n)
	return dst
}
