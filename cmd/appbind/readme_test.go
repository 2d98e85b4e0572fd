package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"appbind/config"
)

// documents are the files whose examples are held to what the program takes.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../../doc/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range append(names, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	return texts
}

// fenced finds code blocks with their language.
var fenced = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// blocks are the code blocks of one language.
func blocks(text, language string) []string {
	var list []string
	for _, m := range fenced.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			list = append(list, m[2])
		}
	}
	return list
}

// example is what a block that shows some keys only is completed with.
const example = `upstream:
  urls: [ldap://127.0.0.1:389]
  bind_dn: cn=appbind,ou=services,dc=example,dc=org
  bind_password_file: bind.password
users:
  bases: ["ou=people,dc=example,dc=org"]
service_accounts: ["cn=dovecot,ou=services,dc=example,dc=org"]
`

const exampleListeners = `listeners:
  - url: ldap://127.0.0.1:3389
`

// complete adds the sections that a block leaves out.
func complete(block string) string {
	has := func(key string) bool { return regexp.MustCompile(`(?m)^` + key + `:`).MatchString(block) }
	if !has("listeners") {
		block += exampleListeners
	}
	for _, section := range regexp.MustCompile(`(?m)^\w+:(?:.*\n)(?:  .*\n)*`).FindAllString(example, -1) {
		if key, _, _ := strings.Cut(section, ":"); !has(key) {
			block += section
		}
	}
	return block
}

// TestDocumentedConfigurations: every yaml block is a configuration, or a part of one, that Load accepts.
func TestDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	found := 0
	for name, text := range documents(t) {
		for _, block := range blocks(text, "yaml") {
			found++
			if err := loads(t, complete(block)); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, block)
			}
		}
	}
	if found < 5 {
		t.Errorf("%d yaml blocks; is the pattern still right?", found)
	}
	if err := loads(t, complete("fallback:\n  mood: deny\n")); err == nil {
		t.Error("an unknown key is accepted")
	}
}

// loads loads a configuration beside the files that the documents name.
func loads(t *testing.T, text string) error {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"appbind.yaml", "bind.password", "postgres.password", "manage.password", "mail.password", "webhook.secret", "openid.secret", "dovecot.password", "cert.pem", "key.pem", "mailservers.pem", "ca.pem"} {
		content := "a secret that is long enough for any key\n"
		if name == "appbind.yaml" {
			content = text
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := config.Load(filepath.Join(dir, "appbind.yaml"))
	return err
}

var (
	continued = regexp.MustCompile(`\\\n\s*`)
	called    = regexp.MustCompile(`appbind (serve|check|explain|hash|demo|version|completion|history|report|audit|purge|notify|passwords [a-z]+)\b([^|\n]*)`)
	option    = regexp.MustCompile(`(?:^|\s)(--?[a-z][a-z-]*)`)
)

// TestDocumentedCommands: every option in an example is one of its command.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	root := rootCommand(streams{})
	found := 0
	for name, text := range documents(t) {
		for _, block := range blocks(text, "console") {
			for _, m := range called.FindAllStringSubmatch(continued.ReplaceAllString(block, " "), -1) {
				command, _, err := root.Find(strings.Fields(m[1]))
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range option.FindAllStringSubmatch(m[2], -1) {
					found++
					if !hasOption(command, o[1]) {
						t.Errorf("%s: appbind %s has no option %s", name, m[1], o[1])
					}
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("%d options; is the pattern still right?", found)
	}
}

func hasOption(c *cobra.Command, name string) bool {
	if long, is := strings.CutPrefix(name, "--"); is {
		return c.Flags().Lookup(long) != nil
	}
	return c.Flags().ShorthandLookup(name[1:]) != nil
}

// TestDocumentedKeys: the keys and commands that compliance.md names exist, so that no control rests on one that does not.
func TestDocumentedKeys(t *testing.T) {
	t.Parallel()
	text := documents(t)["../../doc/compliance.md"]
	keys := regexp.MustCompile("`([a-z_]+(?:\\.[a-z_]+)+)(?:: [a-z0-9]+)?`").FindAllStringSubmatch(text, -1)
	for _, m := range keys {
		if !hasKey(reflect.TypeFor[config.Config](), strings.Split(m[1], ".")) {
			t.Errorf("there is no key %s", m[1])
		}
	}
	root := rootCommand(streams{})
	commands := regexp.MustCompile("`appbind ([a-z]+)(?: ([a-z]+))?((?: [^`]*)?)`").FindAllStringSubmatch(text, -1)
	for _, m := range commands {
		command, _, err := root.Find(strings.Fields(m[1] + " " + m[2]))
		if err != nil || command == root {
			t.Errorf("there is no command %s", m[0])
			continue
		}
		for _, o := range option.FindAllStringSubmatch(m[3], -1) {
			if !hasOption(command, o[1]) {
				t.Errorf("%s: no option %s", m[0], o[1])
			}
		}
	}
	if len(keys) < 30 || len(commands) < 10 {
		t.Errorf("%d keys, %d commands; are the patterns still right?", len(keys), len(commands))
	}
}

// hasKey tells whether a path of keys leads through a type of the configuration.
func hasKey(of reflect.Type, path []string) bool {
	if len(path) == 0 {
		return true
	}
	if of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	for i := range of.NumField() {
		if f := of.Field(i); f.Tag.Get("yaml") == path[0] {
			return hasKey(f.Type, path[1:])
		}
	}
	return false
}

// link finds the targets of links within the repository.
var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestDocumentedLinks: what a document links to exists.
func TestDocumentedLinks(t *testing.T) {
	t.Parallel()
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := filepath.Join(filepath.Dir(name), m[1])
			content, err := os.ReadFile(target)
			if info, e := os.Stat(target); e == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if m[2] != "" && !hasHeading(string(content), m[2][1:]) {
				t.Errorf("%s: %s has no heading %s", name, m[1], m[2])
			}
		}
	}
}

// hasHeading tells whether a heading has the anchor that renderers make of it.
func hasHeading(text, anchor string) bool {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		if strings.ReplaceAll(strings.ToLower(m[1]), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// TestManualPage: appbind(8) names every command and every option of them, and no other option.
func TestManualPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../doc/man/appbind.8")
	if err != nil {
		t.Fatal(err)
	}
	inPage := map[string]bool{}
	for _, m := range regexp.MustCompile(`Fl -([a-z-]+)`).FindAllStringSubmatch(string(page), -1) {
		inPage[m[1]] = true
	}
	inProgram := map[string]bool{}
	commands := rootCommand(streams{}).Commands()
	for _, c := range commands {
		if c.Name() == "passwords" {
			commands = append(commands, c.Commands()...)
		}
	}
	for _, c := range commands {
		if !regexp.MustCompile(`(?m)^\.It Cm ` + c.Name() + `( |$)`).Match(page) {
			t.Errorf("appbind.8 does not name the command %s", c.Name())
		}
		for _, line := range strings.Split(c.Flags().FlagUsages(), "\n") {
			if m := regexp.MustCompile(`--([a-z-]+)`).FindStringSubmatch(line); m != nil {
				inProgram[m[1]] = true
			}
		}
	}
	for name := range inProgram {
		if !inPage[name] {
			t.Errorf("appbind.8 does not name --%s", name)
		}
	}
	for name := range inPage {
		if !inProgram[name] {
			t.Errorf("appbind.8 names --%s, which no command has", name)
		}
	}
}

// TestDocumentedDependencies: dependencies.md names the modules of go.mod that we import, and no others.
func TestDocumentedDependencies(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text := documents(t)["../../doc/dependencies.md"]
	direct := regexp.MustCompile(`(?m)^(?:\t|require )(\S+\.\S+/\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1)
	if len(direct) == 0 {
		t.Fatal("no module in go.mod; is the pattern still right?")
	}
	for _, m := range direct {
		if !strings.Contains(text, "| "+m[1]+" |") {
			t.Errorf("dependencies.md does not name %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\| (\S+\.\S+/\S+) \|`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(mod), m[1]) {
			t.Errorf("dependencies.md names %s, which is not in go.mod", m[1])
		}
	}
}
