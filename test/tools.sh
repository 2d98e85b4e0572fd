#!/bin/sh
# tools.sh [bench]: installs what the tests need, or the benchmark, and this machine lacks, from Debian's or Ubuntu's packages, and
# below test/npm from npm.
#
# Nothing is started: the packages' own services stay off, the tests start
# servers of their own on loopback. Needs root, or sudo that asks nothing.
set -eu

packages=
need() { # need PROGRAM PACKAGE...
	program=$1
	shift
	command -v "$program" >/dev/null 2>&1 || [ -e "$program" ] || packages="$packages $*"
}
PATH=$PATH:/usr/sbin:/sbin
need slapd slapd
if [ "${1:-}" = bench ]; then
	need haproxy haproxy
else
	need ldapsearch ldap-utils
	need dovecot dovecot-core
	need /usr/lib/dovecot/imap dovecot-imapd
	need /usr/lib/dovecot/lmtp dovecot-lmtpd
	need /usr/lib/dovecot/pop3 dovecot-pop3d
	need /usr/lib/dovecot/managesieve dovecot-managesieved
	need /usr/lib/dovecot/modules/auth/libauthdb_ldap.so dovecot-ldap
	need postfix postfix
	need /usr/lib/postfix/postfix-ldap.so postfix-ldap
	need openssl openssl
	need /usr/lib/python3/dist-packages/ldap python3-ldap
	need ldapvi ldapvi
	need fail2ban-regex fail2ban
	need debootstrap debootstrap debian-archive-keyring
	need chromium chromium fonts-dejavu-core
	need node nodejs
	need npm npm
	need ns-slapd 389-ds-base
	need samba samba samba-ad-dc
	need samba-tool samba-common-bin
	need /usr/share/samba/setup/provision.ldif samba-ad-provision
	need "$(echo /usr/lib/*/samba/ldb/samba_dsdb.so)" samba-dsdb-modules samba-vfs-modules
	# Debian keeps the server's programs out of the path.
	found=
	for program in /usr/lib/postgresql/*/bin/initdb; do
		[ ! -e "$program" ] || found=yes
	done
	[ -n "$found" ] || need initdb postgresql
fi
# Dovecot 2.4, from Debian 13 in a root directory of its own, on whatever this machine is.
debian13=/opt/appbind-test/debian13
[ "${1:-}" != bench ] && [ ! -d $debian13 ] || debian13=
# What test/npm/package-lock.json names.
npm=$(dirname "$0")/npm
[ "${1:-}" != bench ] && ! [ "$npm/node_modules/.package-lock.json" -nt "$npm/package-lock.json" ] || npm=
[ -n "$packages$debian13$npm" ] || exit 0

sudo=
if [ -n "$packages$debian13" ] && [ "$(id -u)" -ne 0 ]; then
	sudo="sudo -n"
	$sudo true || { echo "tools.sh: not root and no sudo; install by hand:$packages $debian13" >&2; exit 1; }
fi

if [ -n "$packages" ]; then
	echo "installing:$packages"
	# A policy-rc.d that says 101 keeps packages from starting their services.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		trap '$sudo rm -f $policy' EXIT
		printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
		$sudo chmod 755 $policy
	fi
	echo "postfix postfix/main_mailer_type select No configuration" | $sudo debconf-set-selections
	$sudo apt-get update -q
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
fi

if [ -n "$debian13" ]; then
	echo "installing: Dovecot 2.4 in $debian13"
	$sudo rm -rf $debian13.new
	$sudo mkdir -p $debian13.new
	$sudo debootstrap --variant=minbase --include=dovecot-imapd,dovecot-pop3d,dovecot-ldap trixie $debian13.new >/dev/null
	$sudo mv $debian13.new $debian13
fi
if [ -n "$npm" ]; then
	echo "installing: npm's packages in $npm"
	(cd "$npm" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
fi
