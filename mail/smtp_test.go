package mail

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"appbind/config"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// client is ours, as a configuration makes it.
func client(t *testing.T, s *server, change func(c *config.Mail)) *Server {
	t.Helper()
	cfg := config.Default().Mail
	cfg.Server, cfg.From, cfg.Timeout = s.ln.Addr().String(), "Example Mail <appbind@example.org>", config.Duration(20*time.Second)
	if change != nil {
		change(&cfg)
	}
	c, err := New(&cfg, func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func message() *Message {
	return &Message{To: "alice@example.org", ID: "n1.abc", Content: Content{Language: "de", Subject: "App-Passwort läuft ab",
		Text: "Grüße\n.\nein Punkt\n", HTML: "<p>Grüße</p>"}}
}

// TestSend: what arrives is what was written, in both forms, with the headers that mail programs and answering machines look at.
func TestSend(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	if err := client(t, s, nil).Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	got := s.got()
	if len(got) != 1 {
		t.Fatalf("%d mails", len(got))
	}
	if i := strings.IndexFunc(got[0], func(r rune) bool { return r > '~' }); i >= 0 {
		t.Errorf("not ASCII: %q", got[0][i:])
	}
	m, err := mail.ReadMessage(strings.NewReader(got[0]))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "App-Passwort läuft ab" {
		t.Errorf("subject %q, %v", subject, err)
	}
	for header, want := range map[string]string{"From": `"Example Mail" <appbind@example.org>`, "To": "<alice@example.org>", "Message-ID": "<n1.abc@example.org>",
		"Date": "Sun, 01 Mar 2026 12:00:00 +0000", "Auto-Submitted": "auto-generated", "Content-Language": "de", "MIME-Version": "1.0"} {
		if got := m.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%s, %v", kind, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []struct{ kind, text string }{{"text/plain; charset=utf-8", "Grüße\n.\nein Punkt\n"}, {"text/html; charset=utf-8", "<p>Grüße</p>"}} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p) // the reader decodes quoted-printable
		if err != nil || p.Header.Get("Content-Type") != want.kind || strings.ReplaceAll(string(text), "\r\n", "\n") != want.text {
			t.Errorf("%q %q, %v", p.Header, text, err)
		}
	}
	if _, err := parts.NextPart(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if said := s.said(); !strings.Contains(said, "MAIL FROM:<appbind@example.org>") || !strings.Contains(said, "RCPT TO:<alice@example.org>") {
		t.Errorf("said:\n%s", said)
	}
}

// TestPlainAlone: without HTML the mail is one text.
func TestPlainAlone(t *testing.T) {
	t.Parallel()
	s, m := serve(t, &server{}), message()
	m.Content.HTML = ""
	if err := client(t, s, nil).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got, err := mail.ReadMessage(strings.NewReader(s.got()[0]))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(got.Body))
	if err != nil || got.Header.Get("Content-Type") != "text/plain; charset=utf-8" || strings.ReplaceAll(string(text), "\r\n", "\n") != m.Content.Text {
		t.Errorf("%q %q %v", got.Header, text, err)
	}
}

// TestLogin: the login goes over TLS where it is demanded, by the mechanism that the server offers; and the
// password is nowhere else.
func TestLogin(t *testing.T) {
	t.Parallel()
	const password = "canary-of-the-login"
	with := func(tls string) func(*server) func(*config.Mail) {
		return func(s *server) func(*config.Mail) {
			return func(c *config.Mail) {
				c.TLS, c.Username, c.Password = tls, "appbind", password
				if tls != "none" {
					c.CA = s.ca
				}
			}
		}
	}
	plainLine := "AUTH PLAIN " + coded("\x00appbind\x00"+password)
	for name, c := range map[string]struct {
		server *server
		client func(*server) func(*config.Mail)
		said   string // what must be among what was said
		err    string // "": it is sent
	}{
		"starttls":           {&server{clear: []string{"STARTTLS"}, secure: []string{"AUTH PLAIN LOGIN"}}, with("starttls"), plainLine, ""},
		"implicit":           {&server{implicit: true, secure: []string{"AUTH PLAIN"}}, with("implicit"), plainLine, ""},
		"login":              {&server{clear: []string{"STARTTLS"}, secure: []string{"AUTH LOGIN"}}, with("starttls"), "AUTH LOGIN\n" + coded("appbind") + "\n" + coded(password), ""},
		"in clear, loopback": {&server{clear: []string{"AUTH PLAIN"}}, with("auto"), plainLine, ""},
		"stripped STARTTLS":  {&server{clear: []string{"AUTH PLAIN"}}, with("starttls"), "EHLO", "it offers no STARTTLS"},
		"no mechanism":       {&server{clear: []string{"STARTTLS", "AUTH PLAIN"}, secure: []string{"AUTH GSSAPI"}}, with("starttls"), "EHLO", "offers none of AUTH PLAIN"},
		"wrong password": {&server{clear: []string{"AUTH PLAIN"}, say: func(line string) string {
			if strings.HasPrefix(line, "AUTH") {
				return "535 5.7.8 no: " + line
			}
			return ""
		}}, with("none"), "AUTH", "it refuses the login of mail.username with 535"},
		"another authority": {&server{clear: []string{"STARTTLS"}, secure: []string{"AUTH PLAIN"}}, func(*server) func(*config.Mail) {
			return func(c *config.Mail) { c.TLS, c.Username, c.Password = "starttls", "appbind", password }
		}, "STARTTLS", "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.server)
			us := client(t, s, c.client(s))
			err := us.Send(t.Context(), message())
			if c.err == "" && err != nil || c.err != "" && (!errors.Is(err, ErrServer) || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if (us.Try(t.Context()) == nil) != (c.err == "") {
				t.Error("Try says otherwise")
			}
			said := s.said()
			if !strings.Contains(said, c.said) {
				t.Errorf("said:\n%s", said)
			}
			if c.err != "" && c.server.say == nil && strings.Contains(said, coded("\x00appbind\x00"+password)) || len(s.got()) > 0 && c.err != "" {
				t.Errorf("the password, or the mail, was sent:\n%s", said)
			}
			if err != nil && strings.Contains(err.Error(), password) || err != nil && strings.Contains(err.Error(), coded("\x00appbind\x00"+password)) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// TestFaults: what each answer of a server means.
func TestFaults(t *testing.T) {
	t.Parallel()
	on := func(prefix, answer string) func(string) string {
		return func(line string) string {
			if strings.HasPrefix(line, prefix) {
				return answer
			}
			return ""
		}
	}
	const all, temporary, permanent, uncertain = "all mails", "temporary", "permanent", "uncertain"
	for name, c := range map[string]struct {
		say  func(string) string
		want string
	}{
		"greets with 421":             {on("greeting", "421 too busy"), all},
		"greets with 554":             {on("greeting", "554 no"), all},
		"closes at once":              {on("greeting", "close"), all},
		"sender refused":              {on("MAIL", "550 5.7.1 not you"), all},
		"recipient unknown":           {on("RCPT", "550 5.1.1 no such user"), permanent},
		"greylisted":                  {on("RCPT", "451 4.7.1 later"), temporary},
		"shutting down":               {on("RCPT", "421 4.3.2 later"), all},
		"closes at RCPT":              {on("RCPT", "close"), all},
		"DATA refused":                {on("DATA", "554 no valid recipients"), permanent},
		"content refused":             {on(".", "554 5.7.1 spam"), permanent},
		"quota":                       {on(".", "452 4.2.2 full"), temporary},
		"closes after the whole mail": {on(".", "close"), uncertain},
		"silent after the whole mail": {on(".", "hang"), uncertain},
		"silent at RCPT":              {on("RCPT", "hang"), all},
		"closes at QUIT":              {on("QUIT", "close"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{say: c.say})
			us := client(t, s, func(m *config.Mail) {
				if strings.HasPrefix(name, "silent") {
					m.Timeout = config.Duration(time.Second)
				}
			})
			err := us.Send(t.Context(), message())
			refused, is := errors.AsType[*Refused](err)
			got := ""
			switch {
			case is && refused.Permanent:
				got = permanent
			case is:
				got = temporary
			case errors.Is(err, ErrUncertain):
				got = uncertain
			case errors.Is(err, ErrServer):
				got = all
			case err != nil:
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%q, want %q: %v", got, c.want, err)
			}
		})
	}
}

// TestNobodyThere: no server, and one that is given up.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{say: func(string) string { return "hang" }})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := client(t, s, nil).Send(ctx, message()); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
	s.ln.Close()
	if err := client(t, s, nil).Send(t.Context(), message()); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
}

// TestHostileTexts: nothing that people write gets into a header or a command.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	us := client(t, s, nil)
	for _, to := range []string{"", "alice", "alice@example.org\r\nRCPT TO:<eve@example.net>", "a@b, c@d", "<alice@example.org>", "Alice <alice@example.org>",
		"alice@example.org\nBcc: eve@example.net", "alice@example.org>", "älice@example.org"} {
		m := message()
		m.To = to
		if r, is := errors.AsType[*Refused](us.Send(t.Context(), m)); !is || !r.Permanent {
			t.Errorf("%q was sent", to)
		}
	}
	m := message()
	m.Content.Subject = "a\r\nBcc: eve@example.net\u202e\x00"
	if err := us.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got, err := mail.ReadMessage(strings.NewReader(s.got()[0]))
	if err != nil || got.Header.Get("Bcc") != "" || got.Header.Get("Subject") != "a  Bcc: eve@example.net" {
		t.Errorf("%q, %v", got.Header, err)
	}
	if strings.Contains(s.said(), "eve") {
		t.Errorf("said:\n%s", s.said())
	}
}

// TestNone: without a server there is none.
func TestNone(t *testing.T) {
	t.Parallel()
	cfg := config.Default().Mail
	if s, err := New(&cfg, time.Now); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
	cfg.Server, cfg.From, cfg.CA = "127.0.0.1:1", "a@b", "smtp_test.go"
	if _, err := New(&cfg, time.Now); err == nil {
		t.Error("a CA without a certificate")
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\r\nb\u202e")
	f.Add(strings.Repeat("ä", 300))
	f.Fuzz(func(t *testing.T, text string) {
		got := Clean(text)
		if strings.ContainsAny(got, "\r\n\x00\u2028\u202e") || len([]rune(got)) > maxClean+3 {
			t.Errorf("%q", got)
		}
	})
}
