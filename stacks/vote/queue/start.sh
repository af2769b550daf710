#!/bin/sh
# Starts as root to make its directory, and goes on as redis. The last exec makes Redis itself the container's process 1.
set -eu
install -d -o redis -g redis -m 0750 /var/lib/redis
exec setpriv --reuid=redis --regid=redis --init-groups redis-server /etc/redis/redis.conf
