package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// allKeys are the paths of all keys of the struct, with [] for the elements of a list.
func allKeys() map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for i := range t.NumField() {
			key := t.Field(i).Tag.Get("yaml")
			if key == "-" || key == "" {
				continue
			}
			at, inner := join(path, key), t.Field(i).Type
			keys[at] = inner
			if inner.Kind() == reflect.Slice {
				inner, at = inner.Elem(), at+"[]"
			}
			if inner.Kind() == reflect.Struct && inner.PkgPath() == t.PkgPath() && inner != reflect.TypeFor[URL]() {
				walk(inner, at)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return keys
}

// commentedKey is a key that is commented out: no space follows the #.
var commentedKey = regexp.MustCompile(`(?m)^(\s*)#([^ \n])`)

// uncommented is the example with every key active.
func uncommented(text string) string { return commentedKey.ReplaceAllString(text, "$1$2") }

func example(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExampleKeys: the example has every key of the struct and no other, each
// after a line that says what it means.
func TestExampleKeys(t *testing.T) {
	t.Parallel()
	text := uncommented(example(t))
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	inExample := map[string]bool{}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		if n.Kind == yaml.SequenceNode {
			for _, item := range n.Content {
				walk(item, path+"[]")
			}
		}
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			at := join(path, key.Value)
			inExample[at] = true
			if !strings.HasPrefix(strings.TrimSpace(lines[key.Line-2]), "# ") {
				t.Errorf("config.example.yaml:%d: %s: no line before it says what it means", key.Line, at)
			}
			walk(n.Content[i+1], at)
		}
	}
	walk(doc.Content[0], "")
	keys := allKeys()
	for at := range keys {
		if !inExample[at] {
			t.Errorf("%s is not in config.example.yaml", at)
		}
	}
	for at := range inExample {
		if _, known := keys[at]; !known {
			t.Errorf("%s is in config.example.yaml and not in the struct", at)
		}
	}
}

// filledIn are the keys whose value in the example is not the default.
var filledIn = []string{"listeners", "upstream.urls", "upstream.bind_dn", "upstream.bind_password_file", "users.bases", "service_accounts", "external"}

// TestExampleDefaults: what is commented out says the default.
func TestExampleDefaults(t *testing.T) {
	t.Parallel()
	d := newDecoder("config.example.yaml", "/")
	got := d.parse([]byte(uncommented(example(t))))
	for _, m := range d.mistakes {
		// With everything active at once some keys contradict others.
		if !strings.Contains(m.Reason, "is for ldapi listeners") && !strings.Contains(m.Reason, "must have either uid or subject") {
			t.Error(m)
		}
	}
	want := Default()
	equalListener := got.Listeners[0]
	equalListener.URL, equalListener.ProxyProtocolFrom, equalListener.AllowFrom = URL{}, nil, nil
	if !reflect.DeepEqual(equalListener, DefaultListener()) {
		t.Errorf("listener: %+v, want %+v", equalListener, DefaultListener())
	}
	compareDefaults(t, "", reflect.ValueOf(*got), reflect.ValueOf(*want))
}

// compareDefaults compares all keys but those that are filled in; an empty list is as good as none.
func compareDefaults(t *testing.T, path string, got, want reflect.Value) {
	t.Helper()
	for i := range got.NumField() {
		key := got.Type().Field(i).Tag.Get("yaml")
		at := join(path, key)
		g, w := got.Field(i), want.Field(i)
		switch {
		case key == "-" || slices.Contains(filledIn, at):
		case g.Kind() == reflect.Struct:
			compareDefaults(t, at, g, w)
		case (g.Kind() == reflect.Slice || g.Kind() == reflect.Map) && g.Len() == 0 && w.Len() == 0:
		case !reflect.DeepEqual(g.Interface(), w.Interface()):
			t.Errorf("%s: config.example.yaml says %v, the default is %v", at, g, w)
		}
	}
}

// TestExampleLoads: the example as it stands is a configuration, and all that
// is not commented out in it is what compareDefaults leaves out.
func TestExampleLoads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "bind.password", "s3cret\n", 0o600)
	cfg, err := Load(write(t, dir, "appbind.yaml", example(t), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.File = filepath.Join(dir, "appbind.yaml")
	want.Listeners, want.Upstream.URLs = cfg.Listeners, cfg.Upstream.URLs
	want.Upstream.BindDN, want.Upstream.BindPassword = cfg.Upstream.BindDN, "s3cret"
	want.Upstream.ManageDN, want.Upstream.ManagePassword = cfg.Upstream.BindDN, "s3cret"
	want.Upstream.BindPasswordFile = filepath.Join(dir, "bind.password")
	want.Users.Bases, want.ServiceAccounts = cfg.Users.Bases, cfg.ServiceAccounts
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got\n%+v\nwant\n%+v", cfg, want)
	}
}
