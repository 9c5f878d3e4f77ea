#!/bin/sh
# A program that was started under a filter of system calls: what it survives natively it survives under finesse, and the kernel serves where the engine's own calls would end it.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter setpriv
pair_up
ulimit -c 0
sandboxed=$FINESSE_BUILD_DIR/tests/process/sandboxed

# status_of CALL VARIABLE=VALUE…: of a server under the filter; what it says is in $scratch/said.
status_of() {
	call=$1
	shift
	in_server "$sandboxed" under "$call" env "$@" "$sandboxed" listen >"$scratch/said" 2>&1
	echo $?
}

ours="LD_PRELOAD=$FINESSE_BUILD_DIR/libfinesse.so FINESSE_LOG=info"
served="serving TCP of"
refused="a filter of system calls (seccomp) would end the process for"

for call in nothing $("$sandboxed" list); do
	native=$(status_of "$call" LC_ALL=C)
	# shellcheck disable=SC2086 # two words
	under=$(status_of "$call" $ours FINESSE_INTERFACE=server0)
	if [ "$call" = nothing ]; then wanted=$served; else wanted="$refused $call"; fi
	if [ "$native" != "$under" ]; then
		fail "$call: natively $native, under finesse $under: $(cat "$scratch/said")"
	elif [ "$native" = 0 ] && ! grep -qF "$wanted" "$scratch/said"; then
		fail "$call: not '$wanted', but $(cat "$scratch/said")"
	else
		pass "$call: ends with $native"
	fi
done

# A program without privilege that executes another: where the library can be read, nothing is asked about the other one that the filter might not allow.
chmod 755 "$scratch"
cp "$FINESSE_BUILD_DIR/libfinesse.so" "$scratch/"
chmod 755 "$scratch/libfinesse.so"
executes() {
	in_server "$sandboxed" under fgetxattr setpriv --reuid=65534 --clear-groups env "$@" sh -c 'echo "$LD_PRELOAD"; exec true'
	echo $?
}
native=$(executes LC_ALL=C)
under=$(executes LD_PRELOAD="$scratch/libfinesse.so" 2>&1)
if [ "$under" = "$scratch/libfinesse.so$native" ]; then pass "what a program without privilege executes is not asked for capabilities"; else fail "natively '$native', under finesse '$under'"; fi
finish
