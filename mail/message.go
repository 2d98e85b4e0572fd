package mail

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"time"
)

// compose makes the message of RFC 5322, with CRLF line ends.
func compose(from *mail.Address, m *Message, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	_, domain, _ := strings.Cut(from.Address, "@")
	header("From", from.String())
	header("To", (&mail.Address{Address: m.To}).String())
	header("Subject", mime.QEncoding.Encode("utf-8", Clean(m.Content.Subject)))
	header("Date", now.Format(time.RFC1123Z))
	header("Message-ID", "<"+m.ID+"@"+domain+">")
	// Answering machines leave it alone (RFC 3834).
	header("Auto-Submitted", "auto-generated")
	header("Content-Language", m.Content.Language)
	header("MIME-Version", "1.0")
	if m.Content.HTML == "" {
		for _, h := range []string{"Content-Type", "Content-Transfer-Encoding"} {
			header(h, part("text/plain").Get(h))
		}
		b.WriteString("\r\n")
		err := quoted(&b, m.Content.Text)
		return b.Bytes(), err
	}
	parts := multipart.NewWriter(&b)
	header("Content-Type", "multipart/alternative; boundary="+parts.Boundary())
	b.WriteString("\r\n")
	// The best form stands last (RFC 2046, section 5.1.4).
	for _, p := range []struct{ kind, text string }{{"text/plain", m.Content.Text}, {"text/html", m.Content.HTML}} {
		w, err := parts.CreatePart(part(p.kind))
		if err != nil {
			return nil, err
		}
		if err := quoted(w, p.text); err != nil {
			return nil, err
		}
	}
	if err := parts.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// part is the header of one form of the text.
func part(kind string) textproto.MIMEHeader {
	return textproto.MIMEHeader{
		"Content-Type":              {kind + "; charset=utf-8"},
		"Content-Transfer-Encoding": {"quoted-printable"},
	}
}

// quoted writes a text as quoted-printable, which keeps lines short and all of it ASCII.
func quoted(to io.Writer, text string) error {
	w := quotedprintable.NewWriter(to)
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return w.Close()
}
