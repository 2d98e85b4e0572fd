package auth

import (
	"fmt"
	"io"
	"log/slog"
)

const hidden = "(hidden)"

// Format prints "(hidden)", whatever the verb.
func (Password) Format(s fmt.State, _ rune) { io.WriteString(s, hidden) }

// String hides the password.
func (Password) String() string { return hidden }

// LogValue hides the password.
func (Password) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the password.
func (Password) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Format prints the DN only: the values of an entry are hashes and TOTP secrets.
func (e Entry) Format(s fmt.State, _ rune) { io.WriteString(s, e.DN) }

// LogValue shows the DN only.
func (e Entry) LogValue() slog.Value { return slog.StringValue(e.DN) }

// MarshalText shows the DN only.
func (e Entry) MarshalText() ([]byte, error) { return []byte(e.DN), nil }

// Format prints the DN only: fmt looks through pointers for some verbs.
func (l ServiceLogin) Format(s fmt.State, _ rune) { io.WriteString(s, l.DN) }
