package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// report is everything that is printed.
type report struct {
	machine machine
	rounds  int
	each    time.Duration
	works   []work
	results *results
	idle    []idleResult
	start   []startup // nil: not asked for
}

// write prints the report as Markdown.
func (r *report) write(w io.Writer) {
	r.machine.write(w)
	fmt.Fprintf(w, "- %d rounds, interleaved, of %v for each work and server; medians\n\n", r.rounds, r.each)
	fmt.Fprintf(w, "| work | server | op/s | p50 | p99 | CPU us/op | to %s | to %s | to %s |%s\n", direct, backLDAP, haproxy, r.lloadd(" to lloadd |"))
	fmt.Fprintf(w, "|---|---|---:|---:|---:|---:|---|---|---|%s\n", r.lloadd("---|"))
	for i := range r.works {
		for _, server := range []string{direct, backLDAP, haproxy, lloadd, other, ours} {
			r.row(w, &r.works[i], server)
		}
	}
	r.writeIdle(w)
	if len(r.start) > 0 {
		r.writeStart(w)
	}
}

// lloadd is text for the column of lloadd, where it took part.
func (r *report) lloadd(text string) string {
	for c := range r.results.samples {
		if c.server == lloadd {
			return text
		}
	}
	return ""
}

// row prints one cell's line, if there is one.
func (r *report) row(w io.Writer, k *work, server string) {
	c := cell{k.name, server}
	if err := r.results.refused[c]; err != nil {
		fmt.Fprintf(w, "| %s | %s | %s | | | | | | |%s\n", k.name, server, err, r.lloadd(" |"))
		return
	}
	samples := r.results.samples[c]
	if len(samples) == 0 {
		return
	}
	m := median(samples)
	fmt.Fprintf(w, "| %s | %s | %.0f | %s | %s | %.1f |", k.name, server, m.Rate, short(m.P50), short(m.P99), m.CPU)
	peers := []string{direct, backLDAP, haproxy}
	if r.lloadd("x") != "" {
		peers = append(peers, lloadd)
	}
	for _, peer := range peers {
		fmt.Fprintf(w, " %s |", r.ratio(m, cell{k.baseline(), peer}, server))
	}
	fmt.Fprintln(w)
}

// ratio compares a cell of appbind with a peer's: of the rate and of the CPU time.
func (r *report) ratio(m sample, peer cell, server string) string {
	samples := r.results.samples[peer]
	if server != ours && server != other || len(samples) == 0 {
		return ""
	}
	p := median(samples)
	if p.CPU == 0 {
		return fmt.Sprintf("%.2fx", m.Rate/p.Rate)
	}
	return fmt.Sprintf("%.2fx, CPU %.2fx", m.Rate/p.Rate, m.CPU/p.CPU)
}

// short prints a latency in microseconds or milliseconds.
func short(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%d us", d.Microseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// writeIdle prints what idle connections cost.
func (r *report) writeIdle(w io.Writer) {
	if len(r.idle) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| %d idle connections | resident memory of each |\n|---|---:|\n", idleConns)
	for _, i := range r.idle {
		if i.Err != nil {
			fmt.Fprintf(w, "| %s | %s |\n", i.Name, oneLine(i.Err))
			continue
		}
		fmt.Fprintf(w, "| %s | %.1f KiB |\n", i.Name, float64(i.Bytes)/1024)
	}
}

// writeStart prints what the start of a replica costs.
func (r *report) writeStart(w io.Writer) {
	fmt.Fprintf(w, "\n| start of the process, replica, %d users with %d app passwords | first bind with an app password | /readyz says 200 | every user is held | resident memory for each user |\n"+
		"|---|---:|---:|---:|---:|\n", largeSite, largeSecrets)
	seconds := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	for _, s := range r.start {
		if s.Err != nil {
			fmt.Fprintf(w, "| %s | %s | | | |\n", s.Name, oneLine(s.Err))
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %d bytes |\n", s.Name, seconds(s.Bind), seconds(s.Ready), seconds(s.Held), s.Bytes)
	}
}

// oneLine is an error as it fits into a table.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), "\n", " "), "|", " ")
}

// failed is the first failure among the results that are not in the table's cells.
func (r *report) failed() error {
	for _, i := range r.idle {
		if i.Err != nil && !errors.Is(i.Err, errNotAvailable) {
			return fmt.Errorf("%s: %w", i.Name, i.Err)
		}
	}
	for _, s := range r.start {
		if s.Err != nil && !errors.Is(s.Err, errNotAvailable) {
			return fmt.Errorf("start of a replica %s: %w", s.Name, s.Err)
		}
	}
	return nil
}

// The lines of a document between which the figures stand.
const (
	beginMark = "<!-- figures: written by make bench, not by hand -->\n"
	endMark   = "<!-- end of the figures -->\n"
)

// store puts the figures into a document, between its marks.
func store(path string, figures []byte) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := replaceFigures(text, figures)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, out, 0o644)
}

// replaceFigures is text with other figures between the marks.
func replaceFigures(text, figures []byte) ([]byte, error) {
	head, rest, found := bytes.Cut(text, []byte(beginMark))
	_, tail, ended := bytes.Cut(rest, []byte(endMark))
	if !found || !ended {
		return nil, errors.New("the lines between which the figures stand are missing")
	}
	return bytes.Join([][]byte{head, []byte(beginMark), []byte("\n"), figures, []byte("\n"), []byte(endMark), tail}, nil), nil
}
