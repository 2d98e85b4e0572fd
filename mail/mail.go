// Package mail writes mails to users and hands them to an SMTP server.
//
// # Order of steps
//
//	LoadTexts  the texts, built in and of mail.templates; each has a plain and mostly an HTML form (texts.go)
//	Render     one of them in the user's language, filled in
//	compose    a message of RFC 5322, multipart/alternative, all of it ASCII (message.go)
//	Send       hands it over, on a connection of its own (smtp.go)
//
// # Security
//
// STARTTLS is demanded where it is asked for, and the server's certificate is
// verified: there is no fall back to clear. The login goes over TLS, or to this
// machine. What stands in a mail comes from people (labels, names) and is cleaned
// of what moves text around; in HTML it is escaped. Nobody's input gets into a
// header but the address, which must be one. No mail has a password, a hash or a
// one-time secret in it: the data that texts are filled in with has no room for it.
//
// # Limits
//
// One recipient for a mail; one mail for a connection. When the connection breaks
// after the whole mail was sent and before the server said that it has it, nobody
// knows whether it does: [ErrUncertain].
package mail

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Message is one mail to one user.
type Message struct {
	To string // the address, as it stands in the directory
	// ID tells this mail from all others, and is the same when it is sent again, so that mail servers which
	// look for duplicates find it: letters, digits and dots.
	ID      string
	Content Content
}

// Content is what a mail says.
type Content struct {
	Language string // of the texts, as in Content-Language
	Subject  string
	Text     string
	HTML     string // "": the mail is plain text alone
}

// Errors of Send, beside *Refused.
var (
	// ErrServer says that the server cannot be reached, or takes no mail from us at all: others will fare alike.
	ErrServer = errors.New("the mail server does not take mail")
	// ErrUncertain says that the mail was sent whole and the server's answer did not come.
	ErrUncertain = errors.New("the mail server did not say whether it has the mail")
)

// Refused says that the server does not take this one mail.
type Refused struct {
	Code      int    // of SMTP; 0: it was not even asked
	Text      string // the server's
	Permanent bool   // it will not take it later either
}

// Error is the server's answer.
func (r *Refused) Error() string {
	if r.Code == 0 {
		return r.Text
	}
	return fmt.Sprintf("the mail server refuses the mail: %d %s", r.Code, Clean(r.Text))
}

// maxClean bounds a text of people's in a mail, in characters.
const maxClean = 200

// Clean makes a text of people's fit to stand in a mail or a log: one line, of bounded length, without
// characters that are not seen or that turn the direction of what follows.
func Clean(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxClean {
			b.WriteString("...")
			break
		}
		switch {
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}

// Address is the address in a text, which must be one and nothing else.
func Address(text string) (string, bool) {
	a, err := mail.ParseAddress(text)
	if err != nil || a.Name != "" || a.Address != text || strings.ContainsFunc(text, unicode.IsControl) {
		return "", false
	}
	return a.Address, true
}
