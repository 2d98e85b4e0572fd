package embedded

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxFile bounds the LDIF file, in bytes: each change writes the whole file, so a
// larger directory wants a directory server.
const maxFile = 16 << 20

// maxMistakes is how many mistakes of a file are reported at once.
const maxMistakes = 20

// record is one entry as it stands in the file.
type record struct {
	line     int // of dn:
	dn       string
	comments []string
	values   []recordValue
}

// recordValue is one NAME: VALUE line of a record.
type recordValue struct {
	line        int
	name, value string
}

// ldifReader reads content records of LDIF (RFC 2849), strictly: change
// records, values by URL and anything that it would have to guess are mistakes.
// Its messages never show a value.
type ldifReader struct {
	file     string
	records  []record
	comments []string // not yet given to a record; in the end the trailer
	version  bool
	open     bool // the last record may take more lines
	skipping bool // the record that is being read has no usable dn
	mistakes []error
}

// readLDIF reads the records of a file.
func readLDIF(file string, data []byte) (*ldifReader, error) {
	r := &ldifReader{file: file}
	lines := strings.Split(string(data), "\n")
	for i := 0; i < len(lines); {
		first := i + 1
		line := strings.TrimSuffix(lines[i], "\r")
		i++
		if strings.HasPrefix(line, " ") {
			r.mistake(first, "a line that begins with a space continues the line before, and there is none")
			continue
		}
		if line != "" {
			for i < len(lines) && strings.HasPrefix(lines[i], " ") {
				line += strings.TrimSuffix(lines[i][1:], "\r")
				i++
			}
		}
		r.logical(first, line)
	}
	r.endRecord()
	return r, errors.Join(r.mistakes...)
}

// mistake notes file:line: reason.
func (r *ldifReader) mistake(line int, format string, args ...any) {
	if len(r.mistakes) < maxMistakes {
		r.mistakes = append(r.mistakes, fmt.Errorf("%s:%d: %s", r.file, line, fmt.Sprintf(format, args...)))
	}
}

// logical takes one line with its continuations.
func (r *ldifReader) logical(number int, line string) {
	switch {
	case line == "":
		r.endRecord()
		return
	case line[0] == '#':
		r.comments = append(r.comments, line)
		return
	}
	name, value, err := splitLine(line)
	switch {
	case err != nil:
		r.mistake(number, "%s", err)
		if !r.open {
			r.skipping = true
		}
	case r.skipping:
	case strings.EqualFold(name, "version") && !r.open && !r.version && len(r.records) == 0:
		r.version = true
		if value != "1" {
			r.mistake(number, "version: only version 1 of LDIF is read")
		}
	case strings.EqualFold(name, "dn"):
		r.begin(number, value)
	case !r.open:
		r.mistake(number, "an entry begins with dn:")
		r.skipping = true
	default:
		r.attribute(number, name, value)
	}
}

// begin starts a record.
func (r *ldifReader) begin(number int, dn string) {
	if r.open {
		r.mistake(number, "dn: within an entry: leave an empty line before it")
	}
	r.endRecord()
	r.open = true
	r.records = append(r.records, record{line: number, dn: dn})
}

// attribute adds a value to the open record.
func (r *ldifReader) attribute(number int, name, value string) {
	e := &r.records[len(r.records)-1]
	switch key := strings.ToLower(name); {
	case len(e.values) == 0 && (key == "changetype" || key == "control"):
		r.mistake(number, "change records are not read: write entries without changetype")
		r.open, r.skipping = false, true
		r.records = r.records[:len(r.records)-1]
	case value == "":
		r.mistake(number, "%s: empty value", name)
	default:
		e.values = append(e.values, recordValue{number, name, value})
	}
}

// endRecord ends the record that is being read; it takes the comments that stand before and in it.
func (r *ldifReader) endRecord() {
	if r.open {
		r.records[len(r.records)-1].comments = r.comments
		r.comments = nil
	}
	r.open, r.skipping = false, false
}

// splitLine takes a NAME: VALUE or NAME:: BASE64 line apart.
func splitLine(line string) (name, value string, err error) {
	name, value, found := strings.Cut(line, ":")
	if !found {
		return "", "", errors.New("expected NAME: VALUE")
	}
	if !validDescription(name) {
		return "", "", errors.New("invalid attribute name before the colon")
	}
	switch {
	case strings.HasPrefix(value, ":"):
		decoded, err := base64.StdEncoding.Strict().DecodeString(strings.Trim(value[1:], " "))
		if err != nil {
			return "", "", fmt.Errorf("%s: the value is not valid base64", name)
		}
		return name, string(decoded), nil
	case strings.HasPrefix(value, "<"):
		return "", "", fmt.Errorf("%s: values from a URL are not read", name)
	}
	value = strings.TrimLeft(value, " ")
	if !utf8.ValidString(value) || strings.ContainsAny(value, "\x00\r") {
		return "", "", fmt.Errorf("%s: the value must be written in base64 (%s:: ...)", name, name)
	}
	return name, value, nil
}

// tree builds the directory from the records. Missing operational attributes are not yet there.
func (r *ldifReader) tree() (*tree, error) {
	if len(r.records) == 0 {
		return nil, fmt.Errorf("%s: no entry in the file: the first one is the suffix (dn: dc=example,dc=org)", r.file)
	}
	lines := make(map[string]int)
	var entries []*entry
	for i := range r.records {
		rec := &r.records[i]
		e := r.entry(rec, lines, i == 0)
		if e == nil {
			continue
		}
		e.seq = uint64(i + 1)
		entries = append(entries, e)
		lines[e.key] = rec.line
	}
	if err := errors.Join(r.mistakes...); err != nil {
		return nil, err
	}
	return (&tree{version: r.version, trailer: r.comments}).with(entries), nil
}

// entry makes the entry of a record. seen has the entries above it, by key, with their lines.
func (r *ldifReader) entry(rec *record, seen map[string]int, first bool) *entry {
	e, err := newEntry(rec.dn)
	if err != nil || len(e.name) == 0 {
		r.mistake(rec.line, "dn: %q is not a DN", rec.dn)
		return nil
	}
	e.comments = rec.comments
	if line, twice := seen[e.key]; twice {
		r.mistake(rec.line, "dn: %q stands already in line %d", rec.dn, line)
		return nil
	}
	if _, known := seen[e.parent()]; !known && !first {
		r.mistake(rec.line, "dn: the entry above %q must stand before it", rec.dn)
	}
	for _, v := range rec.values {
		key := canonical(v.name)
		a := e.attr(key)
		switch {
		case a == nil:
			e.set(v.name, v.value)
		case typeOf(key).single:
			r.mistake(v.line, "%s: the attribute takes one value", v.name)
		case a.has(v.value):
			r.mistake(v.line, "%s: the same value twice", v.name)
		default:
			a.values = append(a.values, v.value)
		}
	}
	if e.get(keyObjectClass) == nil {
		r.mistake(rec.line, "dn: %q has no objectClass", rec.dn)
	}
	if lacked := e.lackedNaming(); lacked != "" {
		r.mistake(rec.line, "dn: %q lacks the value of %s that is in its name", rec.dn, lacked)
	}
	return e
}

// appendLDIF writes the tree. Reading it gives the same tree, and writing that the same bytes.
func (t *tree) appendLDIF(b []byte) []byte {
	if t.version {
		b = append(b, "version: 1\n\n"...)
	}
	for i, e := range t.entries {
		if i > 0 {
			b = append(b, '\n')
		}
		b = appendComments(b, e.comments)
		b = appendLine(b, "dn", e.dn)
		for _, a := range e.attrs {
			for _, v := range a.values {
				b = appendLine(b, a.name, v)
			}
		}
	}
	if len(t.trailer) > 0 {
		b = append(b, '\n')
		b = appendComments(b, t.trailer)
	}
	return b
}

func appendComments(b []byte, lines []string) []byte {
	for _, c := range lines {
		b = append(b, c...)
		b = append(b, '\n')
	}
	return b
}

// appendLine writes one value, in base64 where RFC 2849 wants it.
func appendLine(b []byte, name, value string) []byte {
	b = append(b, name...)
	if safeString(value) {
		b = append(b, ": "...)
		b = append(b, value...)
	} else {
		b = append(b, ":: "...)
		b = base64.StdEncoding.AppendEncode(b, []byte(value))
	}
	return append(b, '\n')
}

// safeString is SAFE-STRING of RFC 2849, without a space at the end.
func safeString(s string) bool {
	if s == "" || strings.ContainsRune(" :<", rune(s[0])) || s[len(s)-1] == ' ' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == 0 || c == '\n' || c == '\r' || c >= 0x80 {
			return false
		}
	}
	return true
}
