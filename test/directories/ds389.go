package directories

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// root389 and password389 may do everything.
const root389, password389 = "cn=Directory Manager", "root-secret"

// template389 is what the set-up tool of the package fills in.
const template389 = "/usr/share/dirsrv/data/template-dse.ldif"

// Start389 makes a 389 Directory Server in dir and starts it. The Content
// Synchronization plugin is on, and Service may use it.
func Start389(dir string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	// The last part names the semaphore in /dev/shm, so it holds the port.
	name := fmt.Sprintf("slapd-%d", port)
	conf := filepath.Join(dir, name)
	if err := prepare(dir, []string{name + "/schema", "db", "log", "run", "lock", "tmp", "bak", "ldif"}, "ns-slapd", "pwdhash", "ldapmodify"); err != nil {
		return nil, err
	}
	if err := configure389(dir, conf, port); err != nil {
		return nil, err
	}
	s := &Server{Address: fmt.Sprintf("127.0.0.1:%d", port), Root: root389, RootPW: password389}
	s.launch = func() *exec.Cmd {
		_ = os.Remove(filepath.Join(dir, "run/pid")) // of one that was killed
		return exec.Command("ns-slapd", "-D", conf, "-i", filepath.Join(dir, "run/pid"), "-d", "0")
	}
	s.cleanup = func() { _ = os.Remove("/dev/shm/sem." + name + ".stats") }
	if err := s.Start(); err != nil {
		return nil, err
	}
	if err := s.fill389(filepath.Join(dir, "db")); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// configure389 writes the configuration and the schema.
func configure389(dir, conf string, port int) error {
	template, err := os.ReadFile(template389)
	if err != nil {
		return err
	}
	hash, err := run("", "pwdhash", "-s", "SSHA512", password389)
	if err != nil {
		return err
	}
	below := func(d string) string { return filepath.Join(dir, d) }
	text := strings.NewReplacer("%schema_dir%", conf+"/schema", "%lock_dir%", below("lock"), "%tmp_dir%", below("tmp"),
		"%cert_dir%", conf, "%ldif_dir%", below("ldif"), "%bak_dir%", below("bak"), "%run_dir%", below("run"), "%inst_dir%", dir,
		"%log_dir%", below("log"), "%fqdn%", "localhost", "%ds_port%", fmt.Sprint(port), "%ds_user%", "root", "%rootdn%", root389,
		"%ds_passwd%", strings.TrimSpace(hash), "%ldapi_enabled%", "off", "%ldapi%", below("run/ldapi"), "%ldapi_autobind%", "off",
		"%ds_suffix%", Suffix, "%config_dir%", conf, "%db_dir%", below("db"), "%db_home_dir%", below("db"), "%db_lib%", "bdb").Replace(string(template))
	blocks := regexp.MustCompile(`\n\n+`).Split(text, -1)
	for i, b := range blocks {
		switch {
		case strings.HasPrefix(b, "dn: cn=config\n"):
			b += "\nnsslapd-listenhost: 127.0.0.1"
		case strings.HasPrefix(b, "dn: cn=config,cn=ldbm database,"): // else its cache is sized for the machine
			b += "\nnsslapd-cache-autosize: 0\nnsslapd-dbcachesize: 8388608"
		case strings.HasPrefix(b, "dn: cn=Content Synchronization,"):
			b = strings.Replace(b, "nsslapd-pluginenabled: off", "nsslapd-pluginenabled: on", 1)
		case strings.HasPrefix(b, "dn: cn=Retro Changelog Plugin,"): // which that needs
			b = strings.Replace(b, "nsslapd-pluginenabled: off", "nsslapd-pluginenabled: on", 1) + "\nnsslapd-attribute: nsuniqueid:targetUniqueId"
		}
		blocks[i] = b
	}
	files := map[string]string{"dse.ldif": strings.Join(blocks, "\n\n") + "\n"}
	packaged, err := filepath.Glob("/etc/dirsrv/schema/*.ldif")
	if err != nil || len(packaged) == 0 {
		return errors.Join(err, errors.New("/etc/dirsrv/schema holds no schema"))
	}
	for _, f := range append(packaged, "/etc/dirsrv/config/slapd-collations.conf", "/etc/dirsrv/config/certmap.conf") {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		name := filepath.Base(f)
		if strings.HasSuffix(name, ".ldif") {
			name = "schema/" + name
		}
		files[name] = string(b)
	}
	if files["schema/60appbind.ldif"], err = schemaFile("389ds/60appbind.ldif"); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(b), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// fill389 adds the suffix while the server runs, which then makes the default indexes, the policy, entries and access rules.
func (s *Server) fill389(db string) error {
	ldif := fmt.Sprintf(`dn: cn=userRoot,cn=ldbm database,cn=plugins,cn=config
changetype: add
objectClass: extensibleObject
objectClass: nsBackendInstance
cn: userRoot
nsslapd-suffix: %[1]s
nsslapd-directory: %[2]s/userRoot

dn: cn="%[1]s",cn=mapping tree,cn=config
changetype: add
objectClass: extensibleObject
objectClass: nsMappingTree
cn: %[1]s
nsslapd-state: backend
nsslapd-backend: userRoot

dn: cn=config
changetype: modify
replace: passwordLockout
passwordLockout: on
-
replace: passwordMaxFailure
passwordMaxFailure: %[3]d
-
replace: passwordLockoutDuration
passwordLockoutDuration: 600
-
replace: passwordResetFailureCount
passwordResetFailureCount: 600
-
replace: passwordIsGlobalPolicy
passwordIsGlobalPolicy: on

dn: %[1]s
changetype: add
objectClass: domain
dc: example
aci: (targetattr != "userPassword || aci")(version 3.0; acl "Anyone reads"; allow (read, search, compare) userdn = "ldap:///anyone";)

`, Suffix, db, Failures)
	for _, ou := range []string{"people", "services"} {
		ldif += fmt.Sprintf("dn: ou=%s,%s\nchangetype: add\nobjectClass: organizationalUnit\nou: %s\n\n", ou, Suffix, ou)
	}
	for _, dn := range []string{Service, Manager} {
		ldif += fmt.Sprintf("dn: %s\nchangetype: add\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\nuserPassword: %s\n\n", dn, ServicePW)
	}
	if err := s.Modify(ldif); err != nil {
		return err
	}
	for _, f := range []string{"389ds/aci.ldif", "389ds/policy.ldif", "389ds/sync-control.ldif"} {
		text, err := schemaFile(f)
		if err == nil {
			err = s.Modify(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	return nil
}
