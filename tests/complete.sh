#!/bin/sh
# Every test program that the tree has is one that this build knows: a configure that did not find libcheck, or a forgotten line in a local.mk,
# must not make tests vanish unseen; and every header is in the tarball. automake hands in what it knows: KNOWN_PROGRAMS, KNOWN_SCRIPTS.
set -u
srcdir=${srcdir:-.}
status=0
: "${KNOWN_PROGRAMS?run by make check}" "${KNOWN_SCRIPTS?run by make check}"

# What is run, whatever a caller of make put in the place of TESTS.
run=$(MAKEFLAGS='' make -s -f Makefile -f - print-tests <<'MAKE'
print-tests: ; @echo $(TESTS)
MAKE
)

known() { # NAME LIST
	case " $2 " in *" $1 "*) return 0 ;; esac
	return 1
}

missing() {
	echo "complete: $1 is in the tree, but make check does not run it"
	status=1
}

n=0
for source in "$srcdir"/tests/*/*_test.c "$srcdir"/tests/*/*_probe.c; do
	name=${source#"$srcdir"/}
	n=$((n + 1))
	known "${name%.c}" "$KNOWN_PROGRAMS" && known "${name%.c}" "$run" || missing "$name"
done
for script in "$srcdir"/tests/*/run.sh "$srcdir"/tests/*/*_test.sh "$srcdir"/tests/*.sh; do
	name=${script#"$srcdir"/}
	n=$((n + 1))
	known "$name" "$KNOWN_SCRIPTS" && known "$name" "$run" || missing "$name"
done
headers=0
for header in "$srcdir"/src/*/*.h "$srcdir"/preload/*.h; do
	name=${header#"$srcdir"/}
	headers=$((headers + 1))
	grep -qF "$name" "${header%/*}/local.mk" || { echo "complete: $name is in no list of its local.mk: the tarball would lack it"; status=1; }
done
[ $status = 0 ] || echo "complete: were libcheck and pkg-config there when configure ran? ./quickstart check sees to that"
echo "complete: looked for $n test programs, $headers headers"
[ "$n" -ge 150 ] && [ "$headers" -ge 140 ] || { echo "complete: so few cannot be right"; status=1; }
exit $status
