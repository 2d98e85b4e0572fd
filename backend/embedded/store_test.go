package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func describe(c *ldap.Conn, dn, text string) error {
	m := ldap.NewModifyRequest(dn, nil)
	m.Replace("description", []string{text})
	return c.Modify(m)
}

// temp is the name of the file that a change is written to first.
func (f *fixture) temp() string {
	return filepath.Join(filepath.Dir(f.file), "."+filepath.Base(f.file)+".new")
}

func TestChangeIsOnDiskBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	for i := range 20 {
		text := fmt.Sprintf("change %d", i)
		if err := describe(admin, bobDN, text); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(f.text(t), "description: "+text+"\n") {
			t.Fatalf("%q is acknowledged and not in the file", text)
		}
	}
	f.Close()
	again := runFile(t, f.file)
	if got := one(t, again.admin(t), bobDN).GetAttributeValue("description"); got != "change 19" {
		t.Errorf("after a restart: %q", got)
	}
}

// A write that fails is refused with 52 and leaves memory and file alone.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	// A directory that is not empty stands where the new file must be: this stops root, too.
	if err := os.MkdirAll(filepath.Join(f.temp(), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := f.text(t)
	add := ldap.NewAddRequest("uid=x,"+peopleDN, nil)
	add.Attribute("objectClass", []string{"account"})
	add.Attribute("uid", []string{"x"})
	for name, err := range map[string]error{
		"modify": describe(admin, bobDN, "lost"), "add": admin.Add(add), "delete": admin.Del(ldap.NewDelRequest(bobDN, nil)),
	} {
		if codeOf(err) != 52 {
			t.Errorf("%s: %v, want 52", name, err)
		}
	}
	if got := one(t, admin, bobDN).GetAttributeValue("description"); got != "" {
		t.Errorf("memory has %q", got)
	}
	if len(search(t, admin, peopleDN, 2, "(uid=x)")) != 0 {
		t.Error("the entry that was refused is there")
	}
	if f.text(t) != before {
		t.Error("the file has changed")
	}
	if err := os.RemoveAll(f.temp()); err != nil {
		t.Fatal(err)
	}
	if err := describe(admin, bobDN, "kept"); err != nil {
		t.Errorf("after the trouble is over: %v", err)
	}
}

// The file is replaced, never written to: whoever has it open keeps a whole one.
func TestReplacedNotOverwritten(t *testing.T) {
	t.Parallel()
	f := demo(t)
	open, err := os.Open(f.file)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	before := f.text(t)
	if err := describe(f.admin(t), bobDN, "new"); err != nil {
		t.Fatal(err)
	}
	old := make([]byte, len(before)+1)
	n, _ := open.Read(old)
	if string(old[:n]) != before {
		t.Error("the old file was written to")
	}
	if _, err := os.Stat(f.temp()); !os.IsNotExist(err) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}

// What a crash between writing and renaming has left does no harm.
func TestLeftOverFromCrash(t *testing.T) {
	t.Parallel()
	f := demo(t)
	f.Close()
	if err := os.WriteFile(f.temp(), []byte("dn: half"), 0o644); err != nil {
		t.Fatal(err)
	}
	again := runFile(t, f.file)
	if err := describe(again.admin(t), bobDN, "after"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(again.text(t), "half") || !strings.Contains(again.text(t), "description: after") {
		t.Error("the left-over got into the file")
	}
}

func TestEditedMeanwhile(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	edited := strings.Replace(f.text(t), "cn: Bob Baker", "cn: Bob Butcher", 1)
	if err := os.WriteFile(f.file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := describe(admin, bobDN, "lost"); codeOf(err) != 52 {
		t.Errorf("change over an edited file: %v, want 52", err)
	}
	if f.text(t) != edited {
		t.Error("the edit is gone")
	}
	if !strings.Contains(f.log.String(), "restart to load it") {
		t.Error("the log does not tell what to do")
	}
}

func TestModeAndLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "real.ldif")
	if err := os.WriteFile(file, DemoLDIF, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.ldif")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	f := runFile(t, link)
	if err := describe(f.admin(t), bobDN, "through the link"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(file)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	if !strings.Contains(f.log.String(), "can be read by others") {
		t.Error("a file that others can read is not logged")
	}
}

// A hundred changes at once: all of them in the memory and in the file.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	f := demo(t)
	const workers, each = 10, 10
	var wg sync.WaitGroup
	for w := range workers {
		c := f.admin(t)
		wg.Go(func() {
			for i := range each {
				m := ldap.NewModifyRequest(carolDN, nil)
				m.Add("appPassword", []string{fmt.Sprintf("$app$w%d-%d$x", w, i)})
				if err := c.Modify(m); err != nil {
					t.Error(err)
				}
				if _, err := c.Search(ldap.NewSearchRequest(carolDN, 0, 0, 0, 0, false, "(uid=carol)", nil, nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(one(t, f.admin(t), carolDN).GetAttributeValues("appPassword")); got != workers*each {
		t.Errorf("memory has %d values, want %d", got, workers*each)
	}
	f.Close()
	if got := strings.Count(f.text(t), "$app$w"); got != workers*each {
		t.Errorf("the file has %d values, want %d", got, workers*each)
	}
	tr, err := parse(f.file, f.text(t))
	if err != nil {
		t.Fatal(err)
	}
	if string(tr.appendLDIF(nil)) != f.text(t) || string(f.store.current.Load().appendLDIF(nil)) != f.text(t) {
		t.Error("memory and file differ")
	}
}

// Of many that add the same value, one does.
func TestConcurrentSameValue(t *testing.T) {
	t.Parallel()
	f := demo(t)
	var wg sync.WaitGroup
	codes := make([]int, 8)
	for i := range codes {
		c := f.admin(t)
		wg.Go(func() {
			m := ldap.NewModifyRequest(carolDN, nil)
			m.Add("appPassword", []string{"$app$same$x"})
			codes[i] = codeOf(c.Modify(m))
		})
	}
	wg.Wait()
	count := map[int]int{}
	for _, c := range codes {
		count[c]++
	}
	if count[0] != 1 || count[20] != len(codes)-1 {
		t.Errorf("codes %v", codes)
	}
}

func TestFileMustBeWritable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.ldif")
	if err := os.WriteFile(file, []byte(clearLDIF), 0o600); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(filepath.Dir(file), ".x.ldif.new", "y")
	if err := os.MkdirAll(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(file, (&logBuffer{}).logger())
	if err == nil || !strings.HasPrefix(err.Error(), "the embedded directory must be able to write its file: ") {
		t.Errorf("got %v", err)
	}
}
