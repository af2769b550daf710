#!/bin/bash
# The start of the image "postgres": an empty PGDATA becomes a cluster by POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB,
# POSTGRES_INITDB_ARGS, POSTGRES_INITDB_WALDIR and POSTGRES_HOST_AUTH_METHOD (each also as NAME_FILE), then by what is in
# /docker-entrypoint-initdb.d; then the server runs, always as the user postgres.
set -Eeuo pipefail

fail() {
	echo "error: $*" >&2
	exit 1
}

# NAME [DEFAULT]: from NAME, or from the file that NAME_FILE names.
setting() {
	local name=$1 file=$1_FILE
	if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
		fail "both $name and $file are set"
	elif [ -n "${!file:-}" ]; then
		export "$name=$(<"${!file}")"
	else
		export "$name=${!name:-${2:-}}"
	fi
	unset "$file"
}

sql() {
	PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password "$@"
}

run_parts() {
	local part
	for part in /docker-entrypoint-initdb.d/*; do
		case "$part" in
		*.sh)
			echo "running $part"
			if [ -x "$part" ]; then "$part"; else . "$part"; fi
			;;
		*.sql)
			echo "running $part"
			sql --dbname "$POSTGRES_DB" -f "$part"
			;;
		*.sql.gz)
			echo "running $part"
			gunzip -c "$part" | sql --dbname "$POSTGRES_DB"
			;;
		*.sql.xz)
			echo "running $part"
			xz -dc "$part" | sql --dbname "$POSTGRES_DB"
			;;
		*.sql.zst)
			echo "running $part"
			zstd -dc "$part" | sql --dbname "$POSTGRES_DB"
			;;
		*/\*) ;;
		*) echo "leaving $part out" ;;
		esac
	done
}

make_cluster() {
	local method arguments=()
	setting POSTGRES_PASSWORD
	setting POSTGRES_USER postgres
	setting POSTGRES_DB "$POSTGRES_USER"
	setting POSTGRES_INITDB_ARGS
	method=${POSTGRES_HOST_AUTH_METHOD:-}
	if [ -z "$POSTGRES_PASSWORD" ] && [ "$method" != trust ]; then
		fail "the database is empty and POSTGRES_PASSWORD is not set: set it, or POSTGRES_HOST_AUTH_METHOD=trust to let everybody in"
	fi
	if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
		arguments+=(--waldir "$POSTGRES_INITDB_WALDIR")
	fi
	eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") $POSTGRES_INITDB_ARGS" '"${arguments[@]}"'
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
	if [ -z "$method" ]; then
		method=$(postgres -C password_encryption)
	fi
	printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

	# Reachable through the socket alone until all is there.
	if [ "${1:-}" = postgres ]; then shift; fi
	PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")" -w start
	export PGPASSWORD=${PGPASSWORD-$POSTGRES_PASSWORD}
	if [ -z "$(sql --dbname postgres --set wanted="$POSTGRES_DB" --tuples-only <<<"SELECT 1 FROM pg_database WHERE datname = :'wanted';")" ]; then
		sql --dbname postgres --set wanted="$POSTGRES_DB" <<<'CREATE DATABASE :"wanted";'
	fi
	run_parts "$@"
	PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
	unset PGPASSWORD
	echo "the database is made"
}

if [ "${1:0:1}" = - ]; then
	set -- postgres "$@"
fi
if [ "$1" = postgres ] && [[ " $* " != *" --version "* && " $* " != *" --help "* && " $* " != *" -V "* ]]; then
	if [ "$(id -u)" = 0 ]; then
		mkdir -p "$PGDATA" /var/run/postgresql
		chmod 0700 "$PGDATA" || true
		chmod 03775 /var/run/postgresql || true
		find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
		find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
		if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
			mkdir -p "$POSTGRES_INITDB_WALDIR"
			find "$POSTGRES_INITDB_WALDIR" \! -user postgres -exec chown postgres '{}' +
			chmod 0700 "$POSTGRES_INITDB_WALDIR"
		fi
		export HOME=/var/lib/postgresql
		exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$BASH_SOURCE" "$@"
	fi
	if [ ! -s "$PGDATA/PG_VERSION" ]; then
		mkdir -p "$PGDATA"
		chmod 0700 "$PGDATA" || true
		make_cluster "$@"
	fi
fi
exec "$@"
