#!/bin/sh
# A program that comes to the server's cgroup while it serves (cgroup_late.py), in a mount namespace with a cgroup2 of its own.
[ "$(id -u)" = 0 ] || { echo "skipped: needs root"; exit 77; }
[ -x /usr/bin/python3 ] || { echo "skipped: needs python3"; exit 77; }
: "${srcdir:=.}"
export FINESSE_BUILD_DIR="$PWD"
exec unshare --mount sh -c '
	mount -t cgroup2 none /mnt 2>/dev/null || { echo "skipped: no cgroup2"; exit 77; }
	own=/mnt$(sed -n "s/^0:://p" /proc/self/cgroup)
	[ -w "$own/cgroup.procs" ] || { echo "skipped: the cgroup cannot be written"; exit 77; }
	exec timeout 120 /usr/bin/python3 "$1/tests/net/cgroup_late.py" "$own"' sh "$srcdir"
