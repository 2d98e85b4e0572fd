package events

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
)

// maxLine bounds a line of an audit log in bytes; Emit's are far shorter.
const maxLine = 1 << 20

// Read reads an audit log, compressed by gzip or not, and hands over each event with its line as it stands there,
// without the line end; both are f's for the time of the call. It ends with the first error of r or f. odd is how many
// lines are no events: one that a kill has torn, or what else was written to a standard output.
func Read(r io.Reader, f func(l *Line, raw []byte) error) (odd int, err error) {
	in := bufio.NewReader(r)
	if begin, _ := in.Peek(2); bytes.Equal(begin, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return 0, err
		}
		in = bufio.NewReader(z)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		raw := lines.Bytes()
		if len(bytes.TrimSpace(raw)) == 0 {
			continue
		}
		var l Line
		if err := json.Unmarshal(raw, &l); err != nil || l.EventID == "" || l.Event == "" || l.Time.IsZero() {
			odd++
			continue
		}
		if err := f(&l, raw); err != nil {
			return odd, err
		}
	}
	if err := lines.Err(); err != nil {
		return odd, fmt.Errorf("no audit log: %w", err)
	}
	return odd, nil
}
