#!/bin/sh
# The start of the image "nginx": /etc/nginx/templates/NAME.template becomes /etc/nginx/conf.d/NAME with the environment's
# variables put in, then whatever is in /docker-entrypoint.d runs, then the command.
set -e

if [ "$1" = nginx ] || [ "$1" = nginx-debug ]; then
	templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
	suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
	output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
	if [ -d "$templates" ] && [ -w "$output" ]; then
		# Only variables that are set are put in: nginx has variables of its own.
		names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z_0-9]*\)=.*/\1/p' | grep -E "${NGINX_ENVSUBST_FILTER:-}" | sed 's/.*/${&}/' | tr '\n' ' ')
		find "$templates" -follow -type f -name "*$suffix" | while read -r template; do
			made=${template#"$templates"/}
			made=$output/${made%"$suffix"}
			mkdir -p "$(dirname "$made")"
			envsubst "$names" <"$template" >"$made"
		done
	fi
	for part in /docker-entrypoint.d/*; do
		case "$part" in
		*.envsh) if [ -x "$part" ]; then . "$part"; fi ;;
		*.sh) if [ -x "$part" ]; then "$part"; fi ;;
		esac
	done
fi
exec "$@"
