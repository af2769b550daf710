#!/bin/bash
# The start of the images "mariadb" and "mysql": an empty /var/lib/mysql becomes a database by MARIADB_* (or MYSQL_*)
# ROOT_PASSWORD, ALLOW_EMPTY_ROOT_PASSWORD, RANDOM_ROOT_PASSWORD, ROOT_HOST, DATABASE, USER and PASSWORD (each also as
# NAME_FILE), then by what is in /docker-entrypoint-initdb.d; then the server runs, always as the user mysql.
set -Eeuo pipefail

SOCKET=/run/mysqld/mysqld.sock
DATA=/var/lib/mysql
QUOTE="'"

fail() {
	echo "error: $*" >&2
	exit 1
}

# NAME: the value of MARIADB_NAME or MYSQL_NAME, or of the file that MARIADB_NAME_FILE or MYSQL_NAME_FILE names.
setting() {
	local name file
	for name in "MARIADB_$1" "MYSQL_$1"; do
		file=${name}_FILE
		if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
			fail "both $name and $file are set"
		elif [ -n "${!name:-}" ]; then
			printf %s "${!name}"
			return
		elif [ -n "${!file:-}" ]; then
			printf %s "$(<"${!file}")"
			return
		fi
	done
}

# A text as SQL has it, in quotes.
quoted() {
	local text=${1//\\/\\\\}
	printf "'%s'" "${text//$QUOTE/$QUOTE$QUOTE}"
}

# A name as SQL has it, in backquotes.
named() {
	printf '`%s`' "${1//\`/\`\`}"
}

client() {
	MYSQL_PWD=${root_password:-} mariadb --protocol=socket -uroot -hlocalhost --socket="$SOCKET" --comments "$@"
}

run_parts() {
	local part
	for part in /docker-entrypoint-initdb.d/*; do
		case "$part" in
		*.sh)
			echo "running $part"
			if [ -x "$part" ]; then "$part"; else . "$part"; fi
			;;
		*.sql) echo "running $part"; client --database="$database" <"$part" ;;
		*.sql.gz) echo "running $part"; gunzip -c "$part" | client --database="$database" ;;
		*.sql.xz) echo "running $part"; xz -dc "$part" | client --database="$database" ;;
		*.sql.zst) echo "running $part"; zstd -dc "$part" | client --database="$database" ;;
		*/\*) ;;
		*) echo "leaving $part out" ;;
		esac
	done
}

make_database() {
	local user password host
	root_password=$(setting ROOT_PASSWORD)
	database=$(setting DATABASE)
	user=$(setting USER)
	password=$(setting PASSWORD)
	host=$(setting ROOT_HOST)
	if [ -z "$root_password" ] && [ -n "$(setting RANDOM_ROOT_PASSWORD)" ]; then
		root_password=$(head -c 24 /dev/urandom | base64 | tr -d '+/=')
		echo "the password of root: $root_password"
	elif [ -z "$root_password" ] && [ -z "$(setting ALLOW_EMPTY_ROOT_PASSWORD)$(setting ALLOW_EMPTY_PASSWORD)" ]; then
		fail "the database is empty and no password of root is set: set MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD or MARIADB_RANDOM_ROOT_PASSWORD"
	fi
	mariadb-install-db --datadir="$DATA" --auth-root-authentication-method=normal --skip-test-db --cross-bootstrap >/dev/null

	# Reachable through the socket alone until all is there.
	"$@" --skip-networking --socket="$SOCKET" --datadir="$DATA" --skip-log-bin --expire-logs-days=0 &
	local server=$! tries=300 new_password=$root_password
	root_password=
	until client -e 'SELECT 1' >/dev/null 2>&1; do
		kill -0 "$server" 2>/dev/null || fail "the server ended while the database was made"
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "the server does not answer while the database is made"
		sleep 0.1
	done
	mariadb-tzinfo-to-sql /usr/share/zoneinfo 2>/dev/null | client --database=mysql 2>/dev/null || true
	{
		echo "SET @@SESSION.SQL_LOG_BIN=0;"
		# mariadb-install-db makes accounts without a password, also for addresses.
		echo "DELETE FROM mysql.global_priv WHERE user = '' OR (user = 'root' AND host <> 'localhost');"
		echo "FLUSH PRIVILEGES;"
		host=${host:-%}
		if [ "$host" != localhost ]; then
			echo "CREATE USER 'root'@$(quoted "$host") IDENTIFIED BY $(quoted "$new_password");"
			echo "GRANT ALL ON *.* TO 'root'@$(quoted "$host") WITH GRANT OPTION;"
		fi
		echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $(quoted "$new_password");"
		if [ -n "$database" ]; then echo "CREATE DATABASE IF NOT EXISTS $(named "$database");"; fi
		if [ -n "$user" ] && [ -n "$password" ]; then
			echo "CREATE USER $(quoted "$user")@'%' IDENTIFIED BY $(quoted "$password");"
			if [ -n "$database" ]; then
				echo "GRANT ALL ON $(named "${database//_/\\_}").* TO $(quoted "$user")@'%';"
			fi
		fi
	} | client --database=mysql
	root_password=$new_password
	run_parts
	kill "$server"
	wait "$server" || true
	echo "the database is made"
}

if [ "${1:0:1}" = - ]; then
	set -- mariadbd "$@"
fi
if [ "$1" = mariadbd ] || [ "$1" = mysqld ]; then
	if [ "$(id -u)" = 0 ]; then
		mkdir -p "$DATA" /run/mysqld
		find "$DATA" /run/mysqld \! -user mysql -exec chown mysql: '{}' +
		exec setpriv --reuid=mysql --regid=mysql --clear-groups -- "$BASH_SOURCE" "$@"
	fi
	if [ ! -d "$DATA/mysql" ]; then
		make_database "$@"
	fi
fi
exec "$@"
