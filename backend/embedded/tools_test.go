package embedded

import (
	"os/exec"
	"strings"
	"testing"
)

// tool runs one of OpenLDAP's clients as admin and returns its output and exit status.
func (f *fixture) tool(t *testing.T, input, name string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(name, append([]string{"-x", "-H", f.URL(), "-D", adminDN, "-w", DemoAdmin}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// OpenLDAP's clients do a day's work on the directory.
func TestTools(t *testing.T) {
	t.Parallel()
	f := demo(t)
	const dora = "uid=dora," + peopleDN
	for _, step := range []struct {
		name, input, tool string
		args              []string
		status            int
		want              []string
	}{
		{"add", "dn: " + dora + "\nobjectClass: inetOrgPerson\nuid: dora\ncn: Dora\nsn:: w4k=\nuserPassword: dorapw\n",
			"ldapadd", nil, 0, []string{"adding new entry"}},
		{"add again", "dn: " + dora + "\nobjectClass: inetOrgPerson\nuid: dora\n", "ldapadd", nil, 68, nil},
		{"search", "", "ldapsearch", []string{"-LLL", "-b", suffixDN, "(uid=dora)", "sn", "+"}, 0,
			[]string{"sn:: w4k=", "entryUUID: ", "pwdChangedTime: 20260701120000Z", "entryDN: " + dora}},
		{"paged", "", "ldapsearch", []string{"-LLL", "-b", suffixDN, "-E", "pr=2/noprompt", "(uid=*)", "1.1"}, 0,
			[]string{"uid=alice", "uid=bob", "uid=carol", "uid=dora"}},
		{"modify", "dn: " + dora + "\nchangetype: modify\nadd: appPassword\nappPassword: $app$phone$x\n-\nreplace: cn\ncn: Dora D\ncn: D\n",
			"ldapmodify", nil, 0, []string{"modifying entry"}},
		{"revoke", "dn: " + dora + "\nchangetype: modify\ndelete: appPassword\nappPassword: $app$phone$x\n", "ldapmodify", nil, 0, nil},
		{"revoke again", "dn: " + dora + "\nchangetype: modify\ndelete: appPassword\nappPassword: $app$phone$x\n", "ldapmodify", nil, 16, nil},
		{"see", "", "ldapsearch", []string{"-LLL", "-b", dora, "-s", "base", "cn", "appPassword"}, 0, []string{"cn: Dora D\ncn: D\n"}},
		{"critical control", "", "ldapsearch", []string{"-LLL", "-b", suffixDN, "-E", "!sss=cn"}, 12, nil},
		{"size limit", "", "ldapsearch", []string{"-LLL", "-z", "1", "-b", suffixDN, "(uid=*)"}, 4, nil},
		{"delete", "", "ldapdelete", []string{dora}, 0, nil},
		{"delete again", "", "ldapdelete", []string{dora}, 32, []string{"matched DN: " + peopleDN}},
		{"root DSE", "", "ldapsearch", []string{"-LLL", "-b", "", "-s", "base", "+"}, 0, []string{"namingContexts: " + suffixDN}},
	} {
		out, status := f.tool(t, step.input, step.tool, step.args...)
		if status != step.status {
			t.Errorf("%s: status %d, want %d\n%s", step.name, status, step.status, out)
		}
		for _, w := range step.want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", step.name, w, out)
			}
		}
	}
	if strings.Contains(f.text(t), "dora") {
		t.Error("the file still has the entry")
	}
}
