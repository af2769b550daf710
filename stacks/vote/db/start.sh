#!/bin/sh
# PostgreSQL from Debian's package, with its data in a named volume. Makes the database at the first start: beside its
# final place, then renamed, so that a start that was interrupted begins again from nothing.
set -eu

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
volume=/var/lib/postgresql/data
data=$volume/main

if [ "$(id -u)" = 0 ]; then
    chown postgres:postgres "$volume"
    chmod 0700 "$volume"
    install -d -o postgres -g postgres -m 0755 /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups /bin/sh "$0"
fi

if [ ! -d "$data" ]; then
    rm -rf "$volume/new"
    "$bin/initdb" --pgdata="$volume/new" --encoding=UTF8 --locale=C.UTF-8 --auth-local=peer --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >>"$volume/new/pg_hba.conf"
    single() { "$bin/postgres" --single -j -D "$volume/new" "$1" >/dev/null; }
    printf "CREATE ROLE votes LOGIN PASSWORD '%s';\n\nCREATE DATABASE votes;\n" \
        "$(printf %s "$VOTES_PASSWORD" | sed "s/'/''/g")" | single postgres
    single votes </schema.sql
    mv "$volume/new" "$data"
fi

exec "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
