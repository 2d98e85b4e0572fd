package mail

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is an SMTP server that does what a test wants.
type server struct {
	t        *testing.T
	ln       net.Listener
	implicit bool
	tls      *tls.Config
	ca       string // file

	// What it offers in clear, and over TLS.
	clear, secure []string
	// say is the answer to a line, where it is not the usual one; "" is; "close" closes, "hang" says nothing.
	say func(line string) string

	wg sync.WaitGroup
	mu sync.Mutex // guards the fields below
	// lines is what clients said; mails are the texts that came.
	lines, mails []string
	conns        []net.Conn
}

func serve(t *testing.T, s *server) *server {
	t.Helper()
	s.t = t
	var err error
	if s.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.tls, s.ca = certificate(t)
	s.wg.Go(func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() { s.session(c) })
		}
	})
	t.Cleanup(func() {
		s.ln.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *server) session(raw net.Conn) {
	defer raw.Close()
	c, offers := raw, s.clear
	if s.implicit {
		c, offers = tls.Server(raw, s.tls), s.secure
	}
	r := bufio.NewReader(c)
	data, logins := false, 0
	var text strings.Builder
	answer := func(line, usual string) bool {
		if s.say != nil {
			if own := s.say(line); own != "" {
				usual = own
			}
		}
		switch usual {
		case "close":
			return false
		case "hang":
			_, _ = r.ReadByte() // until the client goes
			return false
		}
		_, err := fmt.Fprintf(c, "%s\r\n", usual)
		return err == nil
	}
	if !answer("greeting", "220 test.example.net ESMTP") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		usual := "250 ok"
		if data {
			if line != "." {
				text.WriteString(strings.TrimPrefix(line, ".") + "\n")
				continue
			}
			data = false
			s.mu.Lock()
			s.mails = append(s.mails, text.String())
			s.mu.Unlock()
			text.Reset()
			if !answer(".", usual) {
				return
			}
			continue
		}
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		switch verb, _, _ := strings.Cut(line, " "); {
		case logins > 0:
			logins--
			usual = "334 UGFzc3dvcmQ6"
			if logins == 0 {
				usual = "235 ok"
			}
		case verb == "EHLO":
			usual = "250-test.example.net\r\n250-" + strings.Join(append(offers, "PIPELINING"), "\r\n250-") + "\r\n250 HELP"
		case verb == "STARTTLS":
			if !answer(line, "220 go") {
				return
			}
			c, offers = tls.Server(raw, s.tls), s.secure
			r = bufio.NewReader(c)
			continue
		case line == "AUTH LOGIN":
			usual, logins = "334 VXNlcm5hbWU6", 2
		case verb == "AUTH":
			usual = "235 ok"
		case verb == "DATA":
			data, usual = true, "354 go"
		case verb == "QUIT":
			answer(line, "221 bye")
			return
		}
		if !answer(line, usual) {
			return
		}
		if strings.HasPrefix(usual, "354") && s.say != nil && s.say("DATA") != "" {
			data = false
		}
	}
}

// said is everything that clients said, outside of mails.
func (s *server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// got are the mails.
func (s *server) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

// certificate makes one for 127.0.0.1, and a file for those who believe it.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, file
}

func coded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
