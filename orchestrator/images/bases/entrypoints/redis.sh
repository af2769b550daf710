#!/bin/sh
# The start of the image "redis": options and a configuration file go to redis-server; root becomes the user redis, who owns
# the working directory; everybody may connect, as nobody from outside the container's networks can.
set -e

case "$1" in
-* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ]; then
	if [ "$(id -u)" = 0 ]; then
		find . \! -user redis -exec chown redis '{}' + 2>/dev/null || true
		exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
	fi
	protected=no
	for word in "$@"; do
		case "$word" in
		--protected-mode) protected= ;;
		*.conf) if grep -q '^[[:space:]]*protected-mode' "$word" 2>/dev/null; then protected=; fi ;;
		esac
	done
	if [ -n "$protected" ]; then
		set -- "$@" --protected-mode no
	fi
fi
exec "$@"
