package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
)

// sized is a message of exactly size octets, at least 10.
func sized(t testing.TB, size int) []byte {
	t.Helper()
	for body := max(0, size-20); body < size; body++ {
		if m := message(7, OpDelRequest, make([]byte, body), nil); len(m) == size {
			return m
		}
	}
	t.Fatalf("no message of %d octets", size)
	return nil
}

func TestReaderLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{100, MaxBeforeBind, MaxAfterBind} {
		for _, over := range []int{0, 1} {
			r := NewReader(bytes.NewReader(sized(t, limit+over)), limit)
			m, err := r.Next()
			switch {
			case over == 0 && (err != nil || len(m.Raw) != limit):
				t.Errorf("limit %d: %d octets, %v", limit, len(m.Raw), err)
			case over == 1 && !errors.Is(err, ErrTooLarge):
				t.Errorf("limit %d, one over: %v", limit, err)
			}
		}
	}
}

func TestReaderSetLimit(t *testing.T) {
	t.Parallel()
	r := NewReader(bytes.NewReader(append(sized(t, 50), sized(t, 80)...)), 50)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.SetLimit(80)
	if m, err := r.Next(); err != nil || len(m.Raw) != 80 {
		t.Errorf("%d octets, %v", len(m.Raw), err)
	}
}

func TestReaderErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", io.EOF},
		{"tag only", "30", io.ErrUnexpectedEOF},
		{"length cut", "30 82 01", io.ErrUnexpectedEOF},
		{"content cut", "30 05 02 01", io.ErrUnexpectedEOF},
		{"HTTP", "47 45 54", ErrMalformed},
		{"TLS", "16 03 01", ErrMalformed},
		{"indefinite", "30 80", ErrMalformed},
		{"length of 5 octets, before they are there", "30 85", ErrMalformed},
		{"2^31", "30 84 80 00 00 00", ErrTooLarge},
		{"2^32-1", "30 84 ff ff ff ff", ErrTooLarge},
		{"no message inside", "30 02 05 00", ErrMalformed},
	} {
		for _, chunk := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
			r := NewReader(chunk(bytes.NewReader(unhex(t, test.in))), MaxBeforeBind)
			if _, err := r.Next(); !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", test.name, err, test.want)
			}
		}
	}
}

// A message is refused by its header, before its contents are there.
func TestReaderRefusesEarly(t *testing.T) {
	t.Parallel()
	header := unhex(t, "30 83 04 00 00")
	r := NewReader(io.MultiReader(bytes.NewReader(header), iotest.ErrReader(errors.New("was read on"))), MaxBeforeBind)
	if _, err := r.Next(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderNoProgress(t *testing.T) {
	t.Parallel()
	if _, err := NewReader(emptyReader{}, 100).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v", err)
	}
}

// counter is a stream of n zero octets behind a head, in reads of at most step.
type counter struct {
	head []byte
	n    int
	step int
}

func (c *counter) Read(p []byte) (int, error) {
	p = p[:min(len(p), c.step)]
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n := min(len(p), c.n)
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	c.n -= n
	return n, nil
}

// The buffer is never more than twice what has arrived, whatever length the
// header declares.
func TestReaderMemoryFollowsBytes(t *testing.T) {
	t.Parallel()
	for _, received := range []int{0, 1, 5000, 70000, 3 << 20} {
		r := NewReader(&counter{head: unhex(t, "30 84 03 ff ff 00"), n: received, step: 1000}, MaxFromUpstream)
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		if most := max(minBuffer, 2*(received+6)); len(r.buf) > most {
			t.Errorf("%d octets received: buffer of %d", received, len(r.buf))
		}
	}
}

// Run empty after an ordinary message, a buffer goes back to the smallest.
func TestReaderShrinks(t *testing.T) {
	t.Parallel()
	big, small := sized(t, 200000), sized(t, 100)
	var at []int
	r := NewReader(bytes.NewReader(bytes.Join([][]byte{big, small, small}, nil)), MaxAfterBind)
	r.src = oneMessageReader{r.src, []int{len(big), len(small), len(small)}, new(int)}
	r.BeforeRead = func(partial bool) error {
		if !partial {
			at = append(at, len(r.buf))
		}
		return nil
	}
	for range 3 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if want := fmt.Sprint([]int{minBuffer, minBuffer, minBuffer, minBuffer}); fmt.Sprint(at) != want {
		t.Errorf("buffers of an idle connection: %v, want %v", at, want)
	}
}

// oneMessageReader never returns more than what is left of one message.
type oneMessageReader struct {
	r     io.Reader
	sizes []int
	at    *int
}

func (o oneMessageReader) Read(p []byte) (int, error) {
	if *o.at == len(o.sizes) {
		return 0, io.EOF
	}
	n, err := o.r.Read(p[:min(len(p), o.sizes[*o.at])])
	if o.sizes[*o.at] -= n; o.sizes[*o.at] == 0 {
		*o.at++
	}
	return n, err
}

// A busy stream is read in fewer, larger pieces than an idle one.
func TestReaderGrowsWhileBusy(t *testing.T) {
	t.Parallel()
	stream := bytes.Repeat(sized(t, 300), 10000) // 3 MB
	reads := 0
	r := NewReader(bytes.NewReader(stream), MaxAfterBind)
	r.BeforeRead = func(bool) error { reads++; return nil }
	for range 10000 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.buf) > maxKept || reads > 80 {
		t.Errorf("%d reads, buffer of %d", reads, len(r.buf))
	}
}

func TestReaderBeforeRead(t *testing.T) {
	t.Parallel()
	m := sized(t, 100)
	var seen []bool
	r := NewReader(iotest.HalfReader(bytes.NewReader(append(bytes.Clone(m), m[:10]...))), 1000)
	r.BeforeRead = func(partial bool) error { seen = append(seen, partial); return nil }
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if fmt.Sprint(seen) != "[false true]" {
		t.Errorf("partial: %v", seen)
	}
	stop := errors.New("deadline")
	r = NewReader(bytes.NewReader(m), 1000)
	r.BeforeRead = func(bool) error { return stop }
	if _, err := r.Next(); err != stop {
		t.Errorf("%v", err)
	}
}

func TestReaderReadyAndBuffered(t *testing.T) {
	t.Parallel()
	m := sized(t, 100)
	stream := bytes.Join([][]byte{m, m, m[:40]}, nil)
	r := NewReader(bytes.NewReader(stream), 1000)
	if r.Ready() || r.Buffered() != 0 {
		t.Error("ready before anything was read")
	}
	for i, want := range []struct {
		ready    bool
		buffered int
	}{{true, 140}, {false, 40}} {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if r.Ready() != want.ready || r.Buffered() != want.buffered {
			t.Errorf("after %d: ready %v, buffered %d", i+1, r.Ready(), r.Buffered())
		}
	}
	r = NewReader(bytes.NewReader(append(m, 'G')), 1000)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if !r.Ready() {
		t.Error("bytes that are no message are at hand, but Next is said to wait")
	}
}
