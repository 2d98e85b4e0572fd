package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a password in the configuration; it never prints itself. The
// password is string(s).
type Secret string

const hidden = "(hidden)"

// String hides the password.
func (Secret) String() string { return hidden }

// GoString hides the password.
func (Secret) GoString() string { return hidden }

// Format hides the password from every verb: fmt asks String for some of them only.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the password from JSON, YAML and XML.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides the password from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
