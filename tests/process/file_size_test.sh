#!/bin/sh
# RLIMIT_FSIZE is the program's: what the engine keeps in files, in /run/finesse and in memory, is no reason for a SIGXFSZ, which would end the program. Without those files the engine serves, too.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need socat prlimit
pair_up
echo content >"$scratch/file"

# A process for each connection, so that the port is one of several processes. PORT COMMAND…
serve() {
	port=$1
	shift
	nsenter --net="/proc/$SERVER_NS/ns/net" "$@" socat -U "TCP-LISTEN:$port,fork,reuseaddr" "OPEN:$scratch/file,rdonly" 9>&- &
	holders="$holders $!"
}

listens() {
	in_server ss -Hltn "sport = :$1" | grep -q .
}

serve 8000
wait_until 60 listens 8000
for limit in 0 4096 100000; do
	for fresh in "" fresh; do
		# A host's first program makes the files, later ones find them.
		# shellcheck disable=SC2016 # the inner shell's
		said=$(in_client unshare --mount sh -c '
			[ -z "$1" ] || mount -t tmpfs none /run || exit
			prlimit --fsize="$2" "$3/finesse" run --interface client0 --log info -- socat -u "TCP:$4:8000" - 2>&1
			echo "status $?"' sh "$fresh" $limit "$FINESSE_BUILD_DIR" $SERVER_IP)
		case $said in
		*"serving TCP of"*content*"status 0"*) pass "client, $limit bytes${fresh:+, first of the host}" ;;
		*) fail "client, $limit bytes${fresh:+, first of the host}: $said" ;;
		esac
	done
	port=$((9000 + limit / 1000))
	serve $port prlimit --fsize=$limit "$FINESSE_BUILD_DIR/finesse" run --interface server0 --
	wait_until 60 listens $port
	for turn in first second; do
		said=$(in_client socat -u "TCP:$SERVER_IP:$port" - 2>&1)
		if [ "$said" = content ]; then pass "server, $limit bytes, $turn client"; else fail "server, $limit bytes, $turn client: $said"; fi
	done
done
finish
