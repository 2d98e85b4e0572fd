package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"appbind/config"
)

// Server is the SMTP server that takes our mail. Safe for concurrent use.
type Server struct {
	address, host  string
	security       string // starttls, implicit or none
	tls            *tls.Config
	user, password string
	from           *mail.Address
	hello          string
	timeout        time.Duration
	now            func() time.Time
}

// New makes a server of a configuration that has one; nil where it has none.
func New(cfg *config.Mail, now func() time.Time) (*Server, error) {
	if cfg.Server == "" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("mail.server: %w", err)
	}
	from, err := mail.ParseAddress(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("mail.from: %w", err)
	}
	s := &Server{address: cfg.Server, host: host, security: cfg.Security(), user: cfg.Username, password: string(cfg.Password),
		from: from, hello: helloName(), timeout: time.Duration(cfg.Timeout), now: now,
		tls: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("mail.ca: %w", err)
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("mail.ca: no PEM certificate in the file")
		}
	}
	return s, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// helloName is the name by which we greet.
func helloName() string {
	if name, err := os.Hostname(); err == nil && hostName.MatchString(name) {
		return name
	}
	return "localhost"
}

// Send hands a mail over. Errors: *Refused, ErrServer, ErrUncertain. When ctx ends it does not wait any longer.
func (s *Server) Send(ctx context.Context, m *Message) error {
	to, ok := Address(m.To)
	if !ok {
		return &Refused{Text: "the mail attribute holds no mail address", Permanent: true}
	}
	body, err := compose(s.from, m, s.now())
	if err != nil {
		return fmt.Errorf("appbind: internal error: %w", err)
	}
	c, done, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	if ok, _ := c.Extension("SMTPUTF8"); !ok && strings.ContainsFunc(to, func(r rune) bool { return r > '~' }) {
		return &Refused{Text: "the mail server takes no addresses beyond ASCII (SMTPUTF8)", Permanent: true}
	}
	if err := c.Mail(s.from.Address); err != nil {
		return fmt.Errorf("%w: the sender %s: %w", ErrServer, s.from.Address, cleanly(err))
	}
	if err := c.Rcpt(to); err != nil {
		return refusal(err)
	}
	return deliver(c, body)
}

// deliver sends the text of the mail.
func deliver(c *smtp.Client, body []byte) error {
	w, err := c.Data()
	if err != nil {
		return refusal(err)
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("%w: %w", ErrServer, err) // without its end it is no mail
	}
	if err := w.Close(); err != nil {
		if _, answered := errors.AsType[*textproto.Error](err); answered {
			return refusal(err)
		}
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	_ = c.Quit() // the mail is handed over
	return nil
}

// refusal is what the server says of one mail. 421 is about the connection (RFC 5321, section 3.8).
func refusal(err error) error {
	e, ok := errors.AsType[*textproto.Error](err)
	if !ok || e.Code == 421 {
		return fmt.Errorf("%w: %w", ErrServer, cleanly(err))
	}
	return &Refused{Code: e.Code, Text: e.Msg, Permanent: e.Code >= 500}
}

// cleanly is an error whose text, the server's, fits on a line of the log.
func cleanly(err error) error { return errors.New(Clean(err.Error())) }

// Try connects and logs in, and sends nothing. Errors: ErrServer.
func (s *Server) Try(ctx context.Context) error {
	c, done, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	_ = c.Quit() // everything that it should show is shown
	return nil
}

// connect opens a connection on which mail can be sent, for the time of one mail. done closes it.
func (s *Server) connect(ctx context.Context) (c *smtp.Client, done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	// Real time, whatever clock the mail is dated by.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	done = func() {
		stop()
		conn.Close()
		cancel()
	}
	over := conn
	if s.security == "implicit" {
		over = tls.Client(conn, s.tls)
	}
	c, err = smtp.NewClient(over, s.host)
	if err == nil {
		err = s.begin(c)
	}
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	return c, done, nil
}

// begin greets, goes over to TLS and logs in.
func (s *Server) begin(c *smtp.Client) error {
	if err := c.Hello(s.hello); err != nil {
		return cleanly(err)
	}
	if s.security == "starttls" {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errors.New("it offers no STARTTLS; see mail.tls")
		}
		if err := c.StartTLS(s.tls); err != nil {
			return cleanly(err)
		}
	}
	if s.user == "" {
		return nil
	}
	_, offered := c.Extension("AUTH")
	login, err := s.login(strings.Fields(strings.ToUpper(offered)))
	if err != nil {
		return err
	}
	if err := c.Auth(login); err != nil {
		// Not the server's text, which could repeat what it was sent.
		if e, ok := errors.AsType[*textproto.Error](err); ok {
			return fmt.Errorf("it refuses the login of mail.username with %d", e.Code)
		}
		return errors.New("the login of mail.username failed")
	}
	return nil
}

// login chooses how to log in.
func (s *Server) login(offered []string) (smtp.Auth, error) {
	switch {
	case slices.Contains(offered, "PLAIN"):
		return &plain{s.user, s.password}, nil
	case slices.Contains(offered, "LOGIN"):
		return &login{s.user, s.password, 0}, nil
	case slices.Contains(offered, "CRAM-MD5"):
		return smtp.CRAMMD5Auth(s.user, s.password), nil
	}
	return nil, errors.New("it offers none of AUTH PLAIN, LOGIN, CRAM-MD5; is TLS missing?")
}

// plain is RFC 4616. The library's own goes by names to see what is this machine; config has judged that.
type plain struct{ user, password string }

func (a *plain) Start(*smtp.ServerInfo) (string, []byte, error) {
	return "PLAIN", []byte("\x00" + a.user + "\x00" + a.password), nil
}

func (a *plain) Next(_ []byte, more bool) ([]byte, error) {
	if more {
		return nil, errors.New("an unexpected question")
	}
	return nil, nil
}

// login is what older servers of Microsoft offer instead (draft-murchison-sasl-login).
type login struct {
	user, password string
	asked          int
}

func (a *login) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

func (a *login) Next(_ []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	a.asked++
	switch a.asked {
	case 1:
		return []byte(a.user), nil
	case 2:
		return []byte(a.password), nil
	}
	return nil, errors.New("an unexpected question")
}
