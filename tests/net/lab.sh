# shellcheck shell=sh
# For tests that are a Python program on tests/net/lab.py. Source it, then:
#
#   in_lab PROGRAM ARGUMENT…      runs $srcdir/PROGRAM in this shell's place, or skips (77) without what lab.py calls
in_lab() {
	PATH=$PATH:/usr/sbin:/sbin
	for program in /usr/bin/python3 ip nsenter nstat ss unshare; do
		command -v $program >/dev/null || { echo "skipped: needs $program"; exit 77; }
	done
	program=$1
	shift
	FINESSE_BUILD_DIR=$PWD exec /usr/bin/python3 "${srcdir:-.}/$program" "$@"
}
