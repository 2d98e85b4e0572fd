# Lists, changes and revokes app passwords as virtual entries, with python-ldap:
# virtual.py URI DN PASSWORD USER ID-TO-RENAME ID-TO-REVOKE
import sys
import ldap
import ldap.schema
from ldap.controls import SimplePagedResultsControl

uri, dn, password, user, rename, revoke = sys.argv[1:]
conn = ldap.initialize(uri)
conn.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
conn.simple_bind_s(dn, password)

subentry = conn.search_subschemasubentry_s()
schema = ldap.schema.SubSchema(conn.read_subschemasubentry_s(subentry))
entry_class = schema.get_obj(ldap.schema.ObjectClass, "appPasswordEntry")
assert entry_class is not None and "appPasswordId" in entry_class.must, entry_class
for name in entry_class.must + entry_class.may:
    assert schema.get_obj(ldap.schema.AttributeType, name) is not None, name

entries = dict(conn.search_s(user, ldap.SCOPE_ONELEVEL))
assert len(entries) == 2, entries
paged = []
control = SimplePagedResultsControl(True, size=1, cookie="")
while True:
    message = conn.search_ext(user, ldap.SCOPE_ONELEVEL, "(objectClass=appPasswordEntry)", serverctrls=[control])
    _, data, _, controls = conn.result3(message)
    paged += data
    control.cookie = controls[0].cookie
    if not control.cookie:
        break
assert dict(paged) == entries, paged

conn.modify_s("appPasswordId=%s,%s" % (rename, user), [(ldap.MOD_REPLACE, "appPasswordLabel", [b"tablet"])])
conn.delete_s("appPasswordId=%s,%s" % (revoke, user))
left = conn.search_s(user, ldap.SCOPE_ONELEVEL)
assert len(left) == 1 and left[0][1]["appPasswordLabel"] == [b"tablet"], left
