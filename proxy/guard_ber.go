package proxy

import "appbind/wire"

// Tags of the ASN.1 that stands inside of control values and filters.
const (
	berBoolean     = 0x01
	berInteger     = 0x02
	berOctetString = 0x04
	berSequence    = 0x30
)

// maxBERLengthOctets is the longest long form of a length that is read, as in
// package wire: Windows pads to exactly 4 octets.
const maxBERLengthOctets = 4

// berElement splits b into its first element and what follows. Like the messages
// themselves, control values may have padded lengths; the indefinite form and
// tags of several octets are refused.
func berElement(b []byte) (tag byte, content, rest []byte, err error) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, wire.ErrMalformed
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		octets := n & 0x7f
		if octets == 0 || octets > maxBERLengthOctets || len(b) < 2+octets {
			return 0, nil, nil, wire.ErrMalformed
		}
		n = 0
		for _, c := range b[2 : 2+octets] {
			n = n<<8 | int(c)
		}
		head += octets
	}
	if n > len(b)-head {
		return 0, nil, nil, wire.ErrMalformed
	}
	return b[0], b[head : head+n : head+n], b[head+n:], nil
}

// berExpect is berElement with a demanded tag.
func berExpect(b []byte, want byte) (content, rest []byte, err error) {
	tag, content, rest, err := berElement(b)
	if err == nil && tag != want {
		err = wire.ErrMalformed
	}
	return content, rest, err
}

// berWhole is berExpect where nothing may follow.
func berWhole(b []byte, want byte) (content []byte, err error) {
	content, rest, err := berExpect(b, want)
	if err == nil && len(rest) != 0 {
		err = wire.ErrMalformed
	}
	return content, err
}

// appendBER appends a whole element.
func appendBER(dst []byte, tag byte, content []byte) []byte {
	return append(appendBERHeader(dst, tag, len(content)), content...)
}

// appendBERHeader appends a tag and the shortest form of a length below 2^32.
func appendBERHeader(dst []byte, tag byte, n int) []byte {
	dst = append(dst, tag)
	switch {
	case n < 0x80:
		return append(dst, byte(n))
	case n <= 0xff:
		return append(dst, 0x81, byte(n))
	case n <= 0xffff:
		return append(dst, 0x82, byte(n>>8), byte(n))
	case n <= 0xffffff:
		return append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// closeBER turns what was appended since start into the contents of one element.
func closeBER(dst []byte, start int, tag byte) []byte {
	n := len(dst) - start
	var header [6]byte
	head := len(appendBERHeader(header[:0], tag, n))
	dst = append(dst, header[:head]...)
	copy(dst[start+head:], dst[start:start+n])
	copy(dst[start:], header[:head])
	return dst
}
