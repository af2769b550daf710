#!/bin/sh
# For Dockerfiles that were written for Alpine: apk(8)'s add and del by apt-get(8), as far as packages are called the same.
set -e

verb=
packages=
group=
while [ $# -gt 0 ]; do
	case "$1" in
	--virtual | -t) group=$2 && shift ;;
	--virtual=*) group=${1#*=} ;;
	--repository | -X | --root | -p) shift ;;
	-*) ;;
	add | del | update | upgrade | fix) if [ -z "$verb" ]; then verb=$1; else packages="$packages $1"; fi ;;
	*) if [ -z "$verb" ]; then verb=$1; else packages="$packages ${1%%[=<>~]*}"; fi ;;
	esac
	shift
done
case "$verb" in
update) exec apt-get -q update ;;
upgrade | fix) exit 0 ;;
add)
	if [ -n "$group" ]; then echo "$packages" >"/var/lib/apk-$group"; fi
	if [ -z "$(ls /var/lib/apt/lists/*Packages* 2>/dev/null)" ]; then apt-get -q update; fi
	apt-get -q install -y --no-install-recommends $packages || {
		echo "apk: this is Debian with apt-get beneath, where packages may have other names than in Alpine" >&2
		exit 1
	}
	;;
del)
	# What was added under one name; anything else stays, for other packages may need it here.
	for name in $packages; do rm -f "/var/lib/apk-$name"; done
	;;
*)
	echo "apk: \"$verb\" is not there: this is Debian, use apt-get" >&2
	exit 1
	;;
esac
