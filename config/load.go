package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile bounds the configuration: a thousand times what a long one takes, so
// that a wrong file name (a log, a disk image) ends in a clear line.
const maxFile = 1 << 20

// Load reads the configuration from file. Every error is a Mistakes with all
// that is wrong with it. Relative file names in it become relative to file's
// directory; the passwords in bind_password_file, manage_password_file and
// external[].password_file are read into BindPassword, ManagePassword and
// External.Password, and where manage_dn is empty, ManageDN and ManagePassword
// are bind_dn's.
func Load(file string) (*Config, error) {
	data, mode, err := readFile(file, maxFile)
	if err != nil {
		return nil, Mistakes{{File: file, Reason: err.Error()}}
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, Mistakes{{File: file, Reason: "cannot tell its directory: " + err.Error()}}
	}
	d := newDecoder(file, dir)
	cfg := d.parse(data)
	if cfg != nil {
		d.private(cfg, mode)
		d.files(cfg)
		d.webhookKey(&cfg.Webhook)
		manageDefaults(cfg)
	}
	if len(d.mistakes) > 0 {
		return nil, d.mistakes.sorted()
	}
	return cfg, nil
}

// manageDefaults makes bind_dn the identity for writes where there is none of its own.
func manageDefaults(cfg *Config) {
	if cfg.Upstream.ManageDN == "" {
		cfg.Upstream.ManageDN, cfg.Upstream.ManagePassword = cfg.Upstream.BindDN, cfg.Upstream.BindPassword
	}
}

// parse decodes the text and holds its keys against each other. It opens no
// file. The result is nil when the text is no YAML mapping at all; otherwise it
// is as complete as the mistakes allow.
func (d *decoder) parse(data []byte) *Config {
	root := d.document(data)
	if root == nil {
		return nil
	}
	cfg := Default()
	cfg.File = d.file
	d.value("", root, reflect.ValueOf(cfg).Elem(), "")
	d.contradictions(cfg)
	return cfg
}

// document is the one YAML document in data; nil, with a mistake noted, if there is none, or more.
func (d *decoder) document(data []byte) *yaml.Node {
	if line, reason := unfit(data); reason != "" {
		d.mistake(line, "", reason)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0])) {
		d.mistake(1, "", "the file is empty; config.example.yaml shows what it needs")
		return nil
	}
	if err != nil {
		d.syntax(data, err)
		return nil
	}
	switch err := decoder.Decode(&next); {
	case err == nil:
		d.mistake(next.Line, "", "a second YAML document begins here; a configuration is one")
		return nil
	case !errors.Is(err, io.EOF):
		d.syntax(data, err)
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		d.mistake(root.Line, "", "must be keys with values (listeners: ...), one a line")
		return nil
	}
	return root
}

// unfit tells what makes data no text for YAML, and on which line. The reader
// of yaml.v3 tells neither the line nor, for UTF-16, the problem.
func unfit(data []byte) (line int, reason string) {
	line = 1
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, "is not UTF-8 text"
		case r == '\n':
			line++
		case r < ' ' && r != '\t' && r != '\r' || r == 0x7f:
			return line, "holds a control character"
		}
		rest = rest[size:]
	}
	return 0, ""
}

var (
	syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	tabIndent  = regexp.MustCompile(`(?m)^ *\t`)
)

// syntax notes an error of the YAML parser, whose line is that of the
// construct that it was in, which may stand above the fault.
func (d *decoder) syntax(data []byte, err error) {
	line, text := 1, "cannot be understood"
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
		text = m[2]
	}
	switch {
	case strings.Contains(text, "unknown anchor"):
		// The parser's text repeats what follows the *: perhaps a password.
		text = "a value that begins with * needs quotes"
	case strings.Contains(text, "cannot start any token") || strings.Contains(text, " tab "):
		if at := tabIndent.FindIndex(data); at != nil {
			d.mistake(1+bytes.Count(data[:at[0]], []byte("\n")), "", "a tab in the indentation; YAML takes spaces only")
			return
		}
		text = "a value that begins with @, % or ` needs quotes"
	}
	d.mistake(line, "", "is not YAML here or a little below: "+text)
}

// mistake notes one mistake.
func (d *decoder) mistake(line int, key, reason string) {
	d.mistakes = append(d.mistakes, Mistake{File: d.file, Line: line, Key: key, Reason: reason})
	d.wrong[key] = true
}

// mistakef notes a mistake at the line of a key.
func (d *decoder) mistakef(key, format string, args ...any) {
	d.mistake(d.line(key), key, fmt.Sprintf(format, args...))
}
