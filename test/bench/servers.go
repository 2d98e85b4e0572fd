package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"appbind/test/loopback"
)

// errNotAvailable says that this build of appbind refuses a configuration.
var errNotAvailable = errors.New("not available")

// exitMistake is appbind's exit status for a mistake in the configuration.
const exitMistake = 2

// server is a process and where it listens.
type server struct {
	*process
	addr string
	deny string // appbind: the listener that has no fallback
	tls  string // appbind: the listener for TLS
	seen string // appbind: where its profiler answers
}

// house is the servers of one run and their directory.
type house struct {
	dir     string
	site    *site
	program string // appbind
	peers   map[string]*server
	beside  string             // another build of appbind; empty: none
	proxies map[string]*server // appbind by build and variant
	refused map[string]error   // the variants that are not available, and why
	profile string             // the directory for profiles; empty: none are taken
}

// The servers that appbind is compared with.
const (
	direct   = "slapd"
	backLDAP = "back-ldap"
	haproxy  = "HAProxy"
	lloadd   = "lloadd"
	ours     = "appbind"
	other    = "appbind beside" // the other build
)

const slapdHead = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include %s
pidfile %s/pid
modulepath /usr/lib/ldap
moduleload back_%s
moduleload syncprov
loglevel none
`

const slapdData = `database mdb
suffix dc=example,dc=org
rootdn cn=admin,dc=example,dc=org
directory %s
maxsize 2147483648
index objectClass,uid,mail,entryUUID,departmentNumber eq
access to attrs=appPassword by dn.exact="cn=appbind,ou=services,dc=example,dc=org" read by * none
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
limits dn.exact="cn=appbind,ou=services,dc=example,dc=org" size=unlimited
overlay syncprov
`

// startSlapd loads LDIF into a new slapd and starts it.
func (h *house) startSlapd(name, ldif string) (*server, error) {
	dir := filepath.Join(h.dir, name)
	if err := os.MkdirAll(dir+"/db", 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(slapdHead+slapdData, h.dir+"/appbind.schema", dir, "mdb", dir+"/db")
	if err := os.WriteFile(dir+"/slapd.conf", []byte(config), 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command("slapadd", "-q", "-f", dir+"/slapd.conf", "-b", suffix, "-l", ldif).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("slapadd: %w: %s", err, out)
	}
	return h.runSlapd(name, dir)
}

// startBackLDAP starts a slapd that passes everything on to another server.
func (h *house) startBackLDAP(name, upstream string) (*server, error) {
	dir := filepath.Join(h.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(slapdHead, h.dir+"/appbind.schema", dir, "ldap") +
		fmt.Sprintf("database ldap\nsuffix %s\nuri ldap://%s/\nchase-referrals no\n", suffix, upstream)
	if err := os.WriteFile(dir+"/slapd.conf", []byte(config), 0o600); err != nil {
		return nil, err
	}
	return h.runSlapd(name, dir)
}

// runSlapd starts slapd on the configuration in dir.
func (h *house) runSlapd(name, dir string) (*server, error) {
	return h.serve(name, func(addr string) (string, []string, error) {
		return "slapd", []string{"-f", dir + "/slapd.conf", "-h", "ldap://" + addr + "/", "-d", "0"}, nil
	})
}

// serve starts a program on a free port and waits until it answers.
func (h *house) serve(name string, command func(addr string) (string, []string, error)) (*server, error) {
	var addr string
	if err := loopback.Free(&addr); err != nil {
		return nil, err
	}
	program, args, err := command(addr)
	if err != nil {
		return nil, err
	}
	p, err := start(h.dir, name, program, args...)
	if err != nil {
		return nil, err
	}
	if err := p.await("an answer", func() bool { return answers(addr) }); err != nil {
		p.stop()
		return nil, err
	}
	return &server{process: p, addr: addr}, nil
}

// startHAProxy starts HAProxy, which reads nothing of what it carries.
func (h *house) startHAProxy(upstream string) (*server, error) {
	return h.serve(haproxy, func(addr string) (string, []string, error) {
		file := filepath.Join(h.dir, "haproxy.cfg")
		config := fmt.Sprintf("global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 15m\n  timeout server 15m\n"+
			"listen ldap\n  bind %s\n  server upstream %s\n", addr, upstream)
		return "haproxy", []string{"-db", "-q", "-f", file}, os.WriteFile(file, []byte(config), 0o600)
	})
}

// startLloadd starts OpenLDAP's load balancer.
func (h *house) startLloadd(program, upstream string) (*server, error) {
	return h.serve(lloadd, func(addr string) (string, []string, error) {
		file := filepath.Join(h.dir, "lloadd.conf")
		tier := "tier roundrobin\n"
		if strings.Contains(firstLine(program, "-VV"), "lloadd 2.5.") {
			tier = "" // it came with 2.6
		}
		config := fmt.Sprintf("loglevel none\nbindconf bindmethod=simple binddn=\"%s\" credentials=%s\n%s"+
			"backend-server uri=ldap://%s/ numconns=16 bindconns=256 retry=100 max-pending-ops=10000 conn-max-pending=1000\n", mailDN, mailPW, tier, upstream)
		return program, []string{"-f", file, "-h", "ldap://" + addr + "/", "-d", "0"}, os.WriteFile(file, []byte(config), 0o600)
	})
}

// variants are the configurations of appbind that works ask for, by what they
// have beside the common part.
var variants = map[string]string{
	"live":    "",
	"quiet":   "log: {level: warn}\n",
	"replica": "app_passwords: {lookup: replica}\n",
}

// proxy is a build of appbind, ours or other, in a variant, started if it is not
// running. fresh: it is started anew and remembers nothing.
func (h *house) proxy(build, variant string, fresh bool) (*server, error) {
	name := strings.ReplaceAll(build+" "+variant, " ", "-")
	if err := h.refused[name]; err != nil {
		return nil, err
	}
	if s := h.proxies[name]; s != nil {
		if !fresh {
			return s, nil
		}
		s.stop()
	}
	program := h.program
	if build == other {
		program = h.beside
	}
	s, err := h.startAppbind(program, name, variants[variant], h.peers[direct].addr)
	if errors.Is(err, errNotAvailable) {
		h.refused[name] = err
	}
	if err != nil {
		return nil, err
	}
	h.proxies[name] = s
	return s, nil
}

const appbindConfig = `listeners:
  - url: ldap://%s
  - url: ldap://%s
    fallback: deny
  - url: ldaps://%s
tls: {certificate: tls.crt, key: tls.key}
upstream:
  urls: [ldap://%s]
  bind_dn: %s
  bind_password: %s
users: {bases: ["%s"]}
service_accounts: ["%s"]
limits: {connections: 12000, first_message: 1m}
%s%s`

// startAppbind starts a build of appbind before an upstream and waits until it is ready.
func (h *house) startAppbind(program, name, more, upstream string) (*server, error) {
	s, err := h.launch(program, name, more, upstream, h.profile != "")
	if err != nil {
		return nil, err
	}
	err = s.await("being ready", func() bool { return answers(s.addr) })
	if err == nil && more == variants["replica"] {
		err = s.await("a replica that holds every user", func() bool { return isLoaded.Match(s.printed()) })
	}
	if err != nil {
		s.stop()
		if s.cmd.ProcessState.ExitCode() == exitMistake {
			err = fmt.Errorf("%w: this build refuses %q: %s", errNotAvailable, strings.TrimSpace(more), s.output())
		}
		return nil, err
	}
	return s, nil
}

// launch starts a build of appbind before an upstream. observed: with metrics, health and profiles.
func (h *house) launch(program, name, more, upstream string, observed bool) (*server, error) {
	s := &server{}
	if err := loopback.Free(&s.addr, &s.deny, &s.tls, &s.seen); err != nil {
		return nil, err
	}
	file := filepath.Join(h.dir, name+".yaml")
	observe := ""
	if observed {
		observe = fmt.Sprintf("observe: {listen: %q, pprof: true}\n", s.seen)
	}
	text := fmt.Sprintf(appbindConfig, s.addr, s.deny, s.tls, upstream, serviceDN, servicePW, people, mailDN, observe, more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var err error
	s.process, err = start(h.dir, name, program, "serve", "-c", file)
	return s, err
}

// startPeers starts the directory and what stands before it.
func (h *house) startPeers() error {
	ldif := filepath.Join(h.dir, "site.ldif")
	var err error
	if h.site, err = writeSite(ldif); err != nil {
		return err
	}
	if h.peers[direct], err = h.startSlapd(direct, ldif); err != nil {
		return err
	}
	upstream := h.peers[direct].addr
	if h.peers[backLDAP], err = h.startBackLDAP(backLDAP, upstream); err != nil {
		return err
	}
	if h.peers[haproxy], err = h.startHAProxy(upstream); err != nil {
		return err
	}
	if program := os.Getenv("BENCH_LLOADD"); program != "" {
		h.peers[lloadd], err = h.startLloadd(program, upstream)
	}
	return err
}

// close stops everything and removes the directory.
func (h *house) close() {
	for _, s := range h.proxies {
		s.stop()
	}
	for _, name := range []string{lloadd, haproxy, backLDAP, direct} {
		if s := h.peers[name]; s != nil {
			s.stop()
		}
	}
	os.RemoveAll(h.dir)
}

// newHouse builds appbind, without the race detector, and makes the directory.
func newHouse() (*house, error) {
	dir, err := os.MkdirTemp("", "appbind-bench")
	if err != nil {
		return nil, err
	}
	h := &house{dir: dir, program: dir + "/appbind", peers: map[string]*server{}, proxies: map[string]*server{}, refused: map[string]error{}}
	schema, err := os.ReadFile("contrib/schema/openldap/appbind.schema")
	if err == nil {
		err = os.WriteFile(dir+"/appbind.schema", schema, 0o600)
	}
	if err == nil {
		err = writeCertificate(dir+"/tls.crt", dir+"/tls.key")
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%w: run it in the root of the repository", err)
	}
	build := exec.Command("go", "build", "-trimpath", "-o", h.program, "./cmd/appbind")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	return h, nil
}
