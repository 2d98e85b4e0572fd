// Command manual writes doc/man/appbind.yaml.5. The list of keys comes from the
// code: each key's text is the comment of its field in package config, its
// default that of config.Default. Everything else of the page stands in
// test/manual/appbind.yaml.5.in, where a line @KEYS@ marks the place of the list.
//
//	go run ./test/manual        writes the page
//
// A test compares the page with what this program would write.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The page, and what it is made of, below the top of the repository.
const (
	page     = "doc/man/appbind.yaml.5"
	template = "test/manual/appbind.yaml.5.in"
	source   = "config"
	mark     = "@KEYS@\n"
)

func main() {
	text, err := manual(".")
	if err == nil {
		err = os.WriteFile(page, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

// manual is the page for the repository at top.
func manual(top string) ([]byte, error) {
	frame, err := os.ReadFile(filepath.Join(top, template))
	if err != nil {
		return nil, err
	}
	before, after, found := strings.Cut(string(frame), mark)
	if !found {
		return nil, fmt.Errorf("%s has no line %s", template, strings.TrimSpace(mark))
	}
	comments, err := readComments(filepath.Join(top, source))
	if err != nil {
		return nil, err
	}
	list, err := keys(comments)
	if err != nil {
		return nil, err
	}
	return []byte(before + list + after), nil
}
