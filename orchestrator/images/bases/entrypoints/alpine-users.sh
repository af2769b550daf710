#!/bin/sh
# adduser and addgroup as BusyBox has them, in images that stand for Alpine's: by useradd(8), groupadd(8) and usermod(8).
# Debian's programs of these names are called when an option is one of theirs alone.
set -e

name=${0##*/}
for word in "$@"; do
	case "$word" in
	--system | --group | --home | --no-create-home | --disabled-login | --uid | --gid | --quiet | --gecos*) exec "/usr/sbin/$name" "$@" ;;
	esac
done

options=
home=-m
system=
group=
first=
second=
if [ "$name" = addgroup ]; then
	while [ $# -gt 0 ]; do
		case "$1" in
		-g) options="$options -g $2" && shift ;;
		-S) options="$options -r" ;;
		-*) echo "addgroup: no option $1" >&2 && exit 1 ;;
		*) if [ -z "$first" ]; then first=$1; else second=$1; fi ;;
		esac
		shift
	done
	if [ -n "$second" ]; then exec usermod -a -G "$second" "$first"; fi
	exec groupadd $options "$first"
fi

comment=
shell=/bin/sh
while [ $# -gt 0 ]; do
	case "$1" in
	-h) options="$options -d $2" && shift ;;
	-g) comment=$2 && shift ;;
	-s | --shell) shell=$2 && shift ;;
	-G | --ingroup) group=$2 && shift ;;
	-u) options="$options -u $2" && shift ;;
	-k) shift ;;
	-S) system=-r home= ;;
	-D | --disabled-password) ;;
	-H) home=-M ;;
	-*) echo "adduser: no option $1" >&2 && exit 1 ;;
	*) if [ -z "$first" ]; then first=$1; else second=$1; fi ;;
	esac
	shift
done
if [ -n "$second" ]; then exec usermod -a -G "$second" "$first"; fi
if [ -z "$group" ] && [ -n "$system" ]; then group=nogroup; fi
if [ -n "$group" ]; then options="$options -g $group"; else options="$options -U"; fi
exec useradd $system $home $options -s "$shell" -c "$comment" "$first"
