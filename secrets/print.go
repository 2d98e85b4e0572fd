package secrets

import (
	"fmt"
	"io"
)

// String is the kind, and for an app password its label: enough to find the value, nothing to log in with.
func (v Value) String() string {
	switch v.Kind {
	case App:
		return fmt.Sprintf("app password %q", v.Label)
	case TOTP:
		return "TOTP secret"
	default:
		return "foreign value"
	}
}

// Format prints String for every verb: %+v, %#v and %x would show the stored value otherwise.
func (v Value) Format(s fmt.State, _ rune) { io.WriteString(s, v.String()) }

// MarshalText is String, for encoders and structured logs.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// String names the selector, which is public; the password is in its field only.
func (g Generated) String() string { return "generated password " + g.ID }

// Format prints String for every verb.
func (g Generated) Format(s fmt.State, _ rune) { io.WriteString(s, g.String()) }

// MarshalText is String, for encoders and structured logs.
func (g Generated) MarshalText() ([]byte, error) { return []byte(g.String()), nil }
