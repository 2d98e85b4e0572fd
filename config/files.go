package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// namedFile is a file that the configuration names.
type namedFile struct {
	key, name string
	kind      string // file, secretfile (nobody else may read it), passwordfile (secret, and read here)
}

// maxPasswordFile bounds a password file. It is the limit for a password in a bind, and a final newline.
const maxPasswordFile = 1024 + 1

// maxOtherFile is how much of the other files is read to see that they can be.
const maxOtherFile = 0

// readFile reads a regular file. An error has a text for a person, without the
// name. limit 0: nothing is read, opening is the test. The size is checked on
// what is read: a file may grow.
func readFile(name string, limit int64) ([]byte, fs.FileMode, error) {
	// Opening a FIFO would wait for its writer, so look first.
	info, err := os.Stat(name)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot be read: %w", cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("cannot be read: not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot be read: %w", cause(err))
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, 0, fmt.Errorf("cannot be read: %w", cause(err))
	}
	if limit == maxOtherFile {
		return nil, info.Mode(), nil
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("cannot be read: %w", cause(err))
	case int64(len(data)) > limit:
		return nil, 0, errors.New("is longer than " + strconv.FormatInt(limit, 10) + " bytes; is it the right file?")
	}
	return data, info.Mode(), nil
}

// cause is a file error without the operation and the name, which may be a
// password that was given in place of a file.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// exposed reports whether group or others have any right on a file of this mode.
func exposed(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 }

// private refuses a configuration with a password in it that others can open.
func (d *decoder) private(cfg *Config, mode fs.FileMode) {
	if !exposed(mode) {
		return
	}
	for _, p := range []struct {
		key    string
		secret Secret
	}{
		{"upstream.bind_password", cfg.Upstream.BindPassword},
		{"upstream.manage_password", cfg.Upstream.ManagePassword},
		{"history.password", cfg.History.Password},
		{"mail.password", cfg.Mail.Password},
		{"webhook.secret", cfg.Webhook.Secret},
		{"portal.openid.client_secret", cfg.Portal.OpenID.ClientSecret},
	} {
		if p.secret != "" {
			d.mistakef(p.key, "stands in a file that is open to group or others (mode %04o); run: chmod 600 %s (or use %s_file)",
				mode.Perm(), shellWord(d.file), p.key[strings.LastIndexByte(p.key, '.')+1:])
		}
	}
}

// files looks at every file that the configuration names, and reads the passwords.
func (d *decoder) files(cfg *Config) {
	passwords := map[string]*Secret{
		"upstream.bind_password_file":   &cfg.Upstream.BindPassword,
		"upstream.manage_password_file": &cfg.Upstream.ManagePassword,
		"history.password_file":         &cfg.History.Password,
		"mail.password_file":            &cfg.Mail.Password,
		"webhook.secret_file":           &cfg.Webhook.Secret,

		"portal.openid.client_secret_file": &cfg.Portal.OpenID.ClientSecret,
	}
	for i := range cfg.External {
		passwords["external["+strconv.Itoa(i)+"].password_file"] = &cfg.External[i].Password
	}
	for _, f := range d.named {
		limit := int64(maxOtherFile)
		if f.kind == "passwordfile" {
			limit = maxPasswordFile
		}
		data, mode, err := readFile(f.name, limit)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			d.mistakef(f.key, "there is no such file; relative names start in %s", d.dir)
		case err != nil:
			d.mistakef(f.key, "%s", err)
		case f.kind != "file" && exposed(mode):
			d.mistakef(f.key, "is open to group or others (mode %04o); run: chmod 600 %s", mode.Perm(), shellWord(f.name))
		case f.kind == "passwordfile":
			d.password(f.key, data, passwords[f.key])
		}
	}
}

// password takes the password from a file's content: one line, whose end is not part of it.
func (d *decoder) password(key string, data []byte, target *Secret) {
	text := strings.TrimSuffix(string(data), "\n")
	switch {
	case text == "":
		d.mistakef(key, "the file is empty")
	case strings.ContainsAny(text, "\n\r\x00"):
		d.mistakef(key, "the file must hold the password alone, on one line (with a Unix line end)")
	default:
		*target = Secret(text)
	}
}

// shellWord quotes a file name for the shell where it needs quotes.
func shellWord(name string) string {
	plain := func(r rune) bool { return isAlnum(r) || strings.ContainsRune("/._-+,:@", r) }
	if strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return fmt.Sprintf("'%s'", strings.ReplaceAll(name, "'", `'\''`))
}
