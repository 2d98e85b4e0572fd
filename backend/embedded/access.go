package embedded

// role is what a connection is to the directory after its bind.
type role int

const (
	anonymous role = iota // no bind, or the entry is gone
	user                  // any other entry with a password
	service               // cn=appbind,ou=services,<suffix>
	manager               // cn=admin,<suffix>
)

// rights are the access rules, whole: there are no others.
var rights = [...]struct {
	search  bool // read entries; the root DSE and the subschema are open to all
	secrets bool // see userPassword and appPassword, in results and filters
	write   bool // add, modify, delete
}{
	anonymous: {},
	user:      {search: true},
	service:   {search: true, secrets: true},
	manager:   {search: true, secrets: true, write: true},
}

// roleOf is the role of an identity, the key of an entry's DN. It is asked at
// each operation, so that an entry that was deleted has no rights left.
func (t *tree) roleOf(identity string) role {
	switch e := t.byKey[identity]; {
	case identity == "" || e == nil:
		return anonymous
	case e.key == t.manager:
		return manager
	case e.key == t.service:
		return service
	}
	return user
}

// sees reports whether the role may see the attribute, with whatever options.
func (r role) sees(key string) bool {
	return rights[r].secrets || !typeOf(key).secret
}
