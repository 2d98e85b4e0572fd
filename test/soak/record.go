package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// lost stands for the result code of a request whose connection ended.
const lost = -1

// answer is one bind as it went, a line of the record.
type answer struct {
	User, Form int
	Name       string
	Password   string
	Began      time.Duration // since the run began
	Ended      time.Duration
	Code       int
	// Who is who the client is afterwards, by Who am I ("" is anonymous); after a refusal it is not always asked.
	Asked   bool
	WhoCode int
	Who     string
	// Found is what a search of the user's own entry gave, DN and number, where one was made.
	Searched   bool
	SearchCode int
	Found      string
	Share      string
}

// event is something done to the directory, or a fault, in the time from Began to Ended.
type event struct {
	What  string // a change, or a fault
	User  int    // of a change
	Began time.Duration
	Ended time.Duration
}

// recorder writes the answers of one connection.
type recorder struct {
	file *os.File
	w    *bufio.Writer
	line []byte
}

// recordName is the file of one connection.
func recordName(dir string, conn int) string {
	return filepath.Join(dir, fmt.Sprintf("record-%03d", conn))
}

func newRecorder(dir string, conn int) (*recorder, error) {
	f, err := os.OpenFile(recordName(dir, conn), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &recorder{file: f, w: bufio.NewWriterSize(f, 1<<16)}, nil
}

// add writes one answer: fields separated by tabs, texts quoted.
func (r *recorder) add(a *answer) error {
	b := r.line[:0]
	for _, n := range []int64{int64(a.User), int64(a.Form), int64(a.Began), int64(a.Ended), int64(a.Code), int64(a.WhoCode), int64(a.SearchCode)} {
		b = append(strconv.AppendInt(b, n, 10), '\t')
	}
	b = append(strconv.AppendBool(b, a.Asked), '\t')
	b = append(strconv.AppendBool(b, a.Searched), '\t')
	for _, text := range []string{a.Name, a.Password, a.Who, a.Found, a.Share} {
		b = append(strconv.AppendQuote(b, text), '\t')
	}
	b[len(b)-1] = '\n'
	r.line = b
	_, err := r.w.Write(b)
	return err
}

func (r *recorder) close() error {
	if err := r.w.Flush(); err != nil {
		return err
	}
	return r.file.Close()
}

// reader reads the answers of one connection.
type reader struct {
	file *os.File
	s    *bufio.Scanner
	next answer
}

func openRecord(name string) (*reader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, s: bufio.NewScanner(f)}
	r.s.Buffer(make([]byte, 1<<16), 1<<20)
	return r, nil
}

// read reads the next line into r.next; io.EOF after the last.
func (r *reader) read() error {
	if !r.s.Scan() {
		if err := r.s.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	fields := strings.Split(r.s.Text(), "\t")
	if len(fields) != 14 {
		return fmt.Errorf("a line of the record has %d fields", len(fields))
	}
	var numbers [7]int64
	var texts [5]string
	var err error
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return err
		}
	}
	for i := range texts {
		if texts[i], err = strconv.Unquote(fields[9+i]); err != nil {
			return fmt.Errorf("field %d: %w", 9+i, err)
		}
	}
	r.next = answer{User: int(numbers[0]), Form: int(numbers[1]), Began: time.Duration(numbers[2]), Ended: time.Duration(numbers[3]),
		Code: int(numbers[4]), WhoCode: int(numbers[5]), SearchCode: int(numbers[6]), Asked: fields[7] == "true", Searched: fields[8] == "true",
		Name: texts[0], Password: texts[1], Who: texts[2], Found: texts[3], Share: texts[4]}
	return nil
}

// ran is what of a run is no answer, kept beside the record.
type ran struct {
	Plan    *plan
	Lookup  string
	Conns   int
	Start   time.Time
	Took    time.Duration
	Changes []event // in order of their beginning
	Faults  []event
}

// store writes the plan and the events; load reads them.
func (r *ran) store(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "run.json"), b, 0o600)
}

func load(dir string) (*ran, error) {
	b, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err != nil {
		return nil, err
	}
	r := &ran{}
	return r, json.Unmarshal(b, r)
}
