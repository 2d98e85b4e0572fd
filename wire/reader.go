package wire

import (
	"io"
)

// Limits of one message.
const (
	// MaxBeforeBind is the default limit for a client that has not bound (OpenLDAP's sockbuf_max_incoming).
	MaxBeforeBind = 256 << 10
	// MaxAfterBind is the default limit for a client after a successful bind.
	MaxAfterBind = 4 << 20
	// MaxFromUpstream is the limit for a message from the upstream: a group of a million members fits.
	MaxFromUpstream = 64 << 20
)

// minBuffer is the buffer of an idle connection. It takes a bind or a search
// of ordinary size whole; ten thousand idle connections cost 20 MB.
const minBuffer = 2 << 10

// maxKept is the largest buffer that is kept when it has run empty.
const maxKept = 64 << 10

// Reader cuts a stream into messages. Its buffer grows with the bytes that
// have arrived, never with a length that was only declared. Not safe for
// concurrent use.
type Reader struct {
	// BeforeRead, if set, is called before each read from the stream, with
	// partial telling whether the first bytes of a message are already there.
	// Deadlines are set here.
	BeforeRead func(partial bool) error

	src        io.Reader
	limit      int
	buf        []byte
	start, end int // the unread bytes are buf[start:end]
}

// NewReader reads messages of at most limit bytes from src.
func NewReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, limit: limit}
}

// SetLimit changes the limit from the next message on.
func (r *Reader) SetLimit(limit int) { r.limit = limit }

// Next returns the next message; it is valid until the next call. Errors are
// those of the stream (io.EOF only between two messages, io.ErrUnexpectedEOF
// within one), ErrMalformed and ErrTooLarge. After an error of this package
// the stream is out of step and of no further use.
func (r *Reader) Next() (Message, error) {
	for {
		n, err := frameSize(r.buf[r.start:r.end], r.limit)
		if err != nil {
			return Message{}, err
		}
		if n > 0 && r.end-r.start >= n {
			raw := r.buf[r.start : r.start+n : r.start+n]
			r.start += n
			return Parse(raw)
		}
		if err := r.fill(n); err != nil {
			return Message{}, err
		}
	}
}

// Ready reports whether a whole message, or the proof that the stream is
// malformed, is in memory, so that Next does not wait.
func (r *Reader) Ready() bool {
	n, err := frameSize(r.buf[r.start:r.end], r.limit)
	return err != nil || n > 0 && r.end-r.start >= n
}

// Buffered is the number of bytes that were received and not yet returned.
// It must be 0 when TLS takes over a connection (RFC 4511 4.14.1).
func (r *Reader) Buffered() int { return r.end - r.start }

// fill reads once. size is the size of the message that has begun, 0 while it is unknown.
func (r *Reader) fill(size int) error {
	r.makeRoom(size)
	if r.BeforeRead != nil {
		if err := r.BeforeRead(r.end > r.start); err != nil {
			return err
		}
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == io.EOF && r.end > r.start {
		return io.ErrUnexpectedEOF
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// makeRoom leaves at least one free byte behind r.end. The buffer doubles
// only when it is full of received bytes.
func (r *Reader) makeRoom(size int) {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > maxKept {
			r.buf = nil
		}
	}
	if len(r.buf) == 0 {
		r.buf = make([]byte, minBuffer)
	}
	if r.end < len(r.buf) && (r.start == 0 || r.start+size <= len(r.buf)) {
		return
	}
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		bigger := make([]byte, min(2*len(r.buf), max(size, 2*minBuffer)))
		if len(bigger) <= r.end {
			bigger = make([]byte, 2*r.end)
		}
		copy(bigger, r.buf[:r.end])
		r.buf = bigger
	}
}

// frameSize is the size of the message that begins in b, 0 when b is too short
// to tell. A message must be a SEQUENCE of definite length within the limit.
func frameSize(b []byte, limit int) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if b[0] != tagSequence {
		return 0, ErrMalformed
	}
	if len(b) < 2 {
		return 0, nil
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		octets := n & 0x7f
		if octets == 0 || octets > maxLengthOctets {
			return 0, ErrMalformed
		}
		if len(b) < 2+octets {
			return 0, nil
		}
		n = 0
		for _, c := range b[2 : 2+octets] {
			n = n<<8 | int(c)
		}
		head += octets
	}
	if n > limit-head {
		return 0, ErrTooLarge
	}
	return head + n, nil
}
