package wire

import (
	"io"
	"sync"
	"syscall"
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

const (
	// minBuffer takes a bind or a search of ordinary size whole. An idle connection has none.
	minBuffer = 2 << 10
	// maxKept is the largest buffer that is kept once it has run empty, and what
	// a reader that is kept busy grows to.
	maxKept = 64 << 10
	// maxEmptyReads is how often in a row a stream may return nothing without an error.
	maxEmptyReads = 100
)

// readBuffers are those of minBuffer. Those in here are clear.
var readBuffers = sync.Pool{New: func() any { return new([minBuffer]byte) }}

// Reader cuts a stream into messages. Its buffer grows with the bytes that
// have arrived, never with a length that was only declared. While it waits for
// the first byte of a message on a socket, with TLS or without, it has no buffer at all. Not
// safe for concurrent use.
type Reader struct {
	// BeforeRead, if set, is called before each read from the stream, with
	// partial telling whether the first bytes of a message are already there.
	// Deadlines are set here.
	BeforeRead func(partial bool) error

	src        io.Reader
	limit      int
	buf        []byte
	start, end int // the unread bytes are buf[start:end]
	burst      int // bytes that came since the buffer last ran empty

	// Of a plain socket, or one that carries TLS; raw is nil for any other stream.
	raw     syscall.RawConn
	carrier *carrier              // of TLS
	tryRead func(fd uintptr) bool // readSocket, bound once
	got     int                   // what it has read
	failed  error
}

// NewReader reads messages of at most limit bytes from src.
func NewReader(src io.Reader, limit int) *Reader {
	r := &Reader{src: src, limit: limit, raw: rawSocket(src), carrier: carrierOf(src)}
	if r.carrier != nil {
		r.raw = r.carrier.out.raw
	}
	if r.raw != nil {
		r.tryRead = r.readSocket
	}
	return r
}

// SetLimit changes the limit from the next message on.
func (r *Reader) SetLimit(limit int) { r.limit = limit }

// Next returns the next message; it is valid until the next call. Errors are
// those of the stream (io.EOF only between two messages, io.ErrUnexpectedEOF
// within one), ErrMalformed and ErrTooLarge. After an error of this package
// the stream is out of step and of no further use.
func (r *Reader) Next() (Message, error) {
	if err := r.Await(); err != nil {
		return Message{}, err
	}
	n, err := frameSize(r.buf[r.start:r.end], r.limit)
	if err != nil {
		return Message{}, err
	}
	raw := r.buf[r.start : r.start+n : r.start+n]
	r.start += n
	return Parse(raw)
}

// Await waits until Next has an answer without waiting. Its errors are those of
// the stream. Most clients spend their life in here: what it needs of the stack
// is the memory that an idle one takes.
func (r *Reader) Await() error {
	for {
		n, err := frameSize(r.buf[r.start:r.end], r.limit)
		if err != nil || n > 0 && r.end-r.start >= n {
			return nil
		}
		if err := r.fill(n); err != nil {
			return err
		}
	}
}

// Ready reports whether Next has an answer without waiting: a whole message is in
// memory, or the proof that the stream is malformed.
func (r *Reader) Ready() bool {
	n, err := frameSize(r.buf[r.start:r.end], r.limit)
	return err != nil || n > 0 && r.end-r.start >= n
}

// Buffered is the number of bytes that were received and not yet returned.
// It must be 0 when TLS takes over a connection (RFC 4511 4.14.1).
func (r *Reader) Buffered() int { return r.end - r.start }

// fill reads until there is something. size is the size of the message that has
// begun, 0 while it is unknown.
func (r *Reader) fill(size int) error {
	for range maxEmptyReads {
		r.makeRoom(size)
		if r.BeforeRead != nil {
			if err := r.BeforeRead(r.end > r.start); err != nil {
				return err
			}
		}
		n, err := r.read()
		r.end += n
		switch {
		case n > 0: // an error comes again with the next read
			r.burst += n
			return nil
		case err == io.EOF && r.end > r.start:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// read reads once, behind r.end.
func (r *Reader) read() (int, error) {
	if r.raw == nil {
		return r.src.Read(r.buf[r.end:])
	}
	r.got, r.failed = 0, nil
	if err := r.raw.Read(r.tryRead); err != nil {
		return 0, err // the deadline, or closed
	}
	return r.got, r.failed
}

// readSocket is called until it reports true: at once, and when the socket has
// something. In between, a buffer with nothing in it serves others.
func (r *Reader) readSocket(fd uintptr) bool {
	if r.buf == nil {
		r.buf = readBuffers.Get().(*[minBuffer]byte)[:]
	}
	var again bool
	if r.carrier != nil {
		r.got, again, r.failed = r.carrier.readThrough(r.src, fd, r.buf[r.end:])
	} else {
		r.got, again, r.failed = readNow(fd, r.buf[r.end:])
	}
	if again && r.end == 0 && len(r.buf) == minBuffer {
		clear(r.buf)
		readBuffers.Put((*[minBuffer]byte)(r.buf))
		r.buf = nil
	}
	return !again
}

// makeRoom leaves at least one free byte behind r.end. The buffer grows only
// when it is full of received bytes: towards the size of a message that does not
// fit, or to fewer, larger reads while the stream is busy. Run empty after less
// than it is made for, it goes back to the smallest: most connections are idle.
func (r *Reader) makeRoom(size int) {
	full := r.end == len(r.buf)
	if r.start == r.end {
		if len(r.buf) > minBuffer && r.burst <= len(r.buf)/4 || len(r.buf) > maxKept {
			r.buf, full = nil, false
		}
		r.start, r.end, r.burst = 0, 0, 0
	}
	if len(r.buf) == 0 {
		r.buf = readBuffers.Get().(*[minBuffer]byte)[:]
		return
	}
	if !full && (r.start == 0 || r.start+size <= len(r.buf)) {
		return
	}
	to := r.buf
	switch held := r.end - r.start; {
	case held == len(r.buf):
		to = make([]byte, min(2*len(r.buf), size))
	case full && len(r.buf) < maxKept:
		to = make([]byte, 2*len(r.buf))
	}
	r.end = copy(to, r.buf[r.start:r.end])
	r.start, r.buf = 0, to
}

// frameSize is the size of the message that begins in b, 0 when b is too short
// to tell. A message must be a SEQUENCE of definite length within the limit.
func frameSize(b []byte, limit int) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if b[0] != TagSequence {
		return 0, ErrMalformed
	}
	if len(b) < 2 {
		return 0, nil
	}
	n, octets := uint64(b[1]), 1
	if n >= 0x80 {
		var err error
		if n, octets, err = longLength(b[1:]); err != nil || octets == 0 {
			return 0, err
		}
	}
	head := 1 + octets
	if limit < head || n > uint64(limit-head) {
		return 0, ErrTooLarge
	}
	return head + int(n), nil
}
