# shellcheck shell=sh
# For shell tests that need root and two hosts. Source it, then:
#
#   need curl nginx           skip (77) without root or one of these programs
#   pair_up                   namespaces $SERVER_NS and $CLIENT_NS (pids), veth server0 10.78.0.1/24 – client0 10.78.0.2/24
#   in_server cmd…  in_client cmd…      run there
#   finesse_server cmd…       exec there under ./finesse on its interface (in a subshell or with &)
#   server_judges PORT        the server's firewall drops what is not established, or for this port, and bans somebody: so that it has to judge; needs nft
#   wait_until SECONDS cmd…   until it succeeds; fails the test otherwise
#   wait_engine PORT          until an engine in the server's namespace listens there
#   pass TEXT  fail TEXT      count; finish prints the summary line and exits
#
# The namespaces have no names and live as long as their holders, which the exit trap ends.
: "${FINESSE_BUILD_DIR:=.}"
SERVER_IP=10.78.0.1 CLIENT_IP=10.78.0.2
checks=0 failures=0 holders=
# What a program prints is compared with what it prints natively: no warnings of ours in between.
FINESSE_LOG=${FINESSE_LOG:-error}
export FINESSE_LOG
PATH=$PATH:/usr/sbin:/sbin

need() {
	if [ "$(id -u)" != 0 ]; then
		echo "skipped: needs root"
		exit 77
	fi
	for program in "$@"; do
		if ! command -v "$program" >/dev/null; then
			echo "skipped: needs $program"
			exit 77
		fi
	done
}

lib_cleanup() {
	for pid in $holders; do
		# One that has ended and was waited for is nobody's; its number may be another's by now.
		grep -q "^PPid:[[:space:]]*$$\$" "/proc/$pid/status" 2>/dev/null && kill -9 "$pid" 2>/dev/null
	done
	[ -z "${scratch:-}" ] || rm -rf "$scratch"
}

# A process in a network namespace of its own; its pid in $holder.
hold_namespace() {
	unshare --net sleep infinity &
	holder=$!
	holders="$holders $holder"
	wait_until 5 sh -c "[ \$(readlink /proc/$holder/ns/net) != \$(readlink /proc/self/ns/net) ]"
}

pair_up() {
	trap lib_cleanup EXIT
	trap 'exit 1' HUP INT TERM
	scratch=$(mktemp -d)
	hold_namespace
	SERVER_NS=$holder
	hold_namespace
	CLIENT_NS=$holder
	in_server ip link set lo up
	in_client ip link set lo up
	in_server ip link add server0 type veth peer name client0 netns "$CLIENT_NS"
	in_server ip addr add $SERVER_IP/24 dev server0
	in_client ip addr add $CLIENT_IP/24 dev client0
	in_server ip link set server0 up
	in_client ip link set client0 up
	wait_until 10 is_operational "$SERVER_NS" server0
	wait_until 10 is_operational "$CLIENT_NS" client0
}

# Whoever came up first of a pair drops what is sent until a work queue of the kernel's has seen that the other one is there. NAMESPACE LINK
is_operational() {
	nsenter --net="/proc/$1/ns/net" ip -o link show "$2" | grep -q ' state UP '
}

in_server() {
	nsenter --net="/proc/$SERVER_NS/ns/net" "$@"
}

in_client() {
	nsenter --net="/proc/$CLIENT_NS/ns/net" "$@"
}

# The same for &: $! is the program then, and not a shell that waits for it and would leave it behind.
as_server() {
	exec nsenter --net="/proc/$SERVER_NS/ns/net" "$@"
}

as_client() {
	exec nsenter --net="/proc/$CLIENT_NS/ns/net" "$@"
}

finesse_server() {
	exec nsenter --net="/proc/$SERVER_NS/ns/net" "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- "$@"
}

finesse_client() {
	exec nsenter --net="/proc/$CLIENT_NS/ns/net" "$FINESSE_BUILD_DIR/finesse" run --interface client0 -- "$@"
}

wait_until() {
	tries=$(($1 * 50))
	shift
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		if [ "$tries" = 0 ]; then
			fail "never: $*"
			return 1
		fi
		sleep 0.02
	done
}

# Until an engine of the server's namespace has the port as well: the kernel's listener is there a little sooner, and who comes in between is the kernel's. PORT
wait_engine() {
	wait_until 20 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net '$FINESSE_BUILD_DIR/finesse' stat --json | grep -q '\"port\": *$1,'"
}

# The kernel's TCP echoes on the server's port. PORT
serve_echo() {
	nsenter --net="/proc/$SERVER_NS/ns/net" /usr/bin/python3 -c "
import socket, threading
def echo(c):
    try:
        while d := c.recv(65536): c.sendall(d)
    except OSError: pass
    c.close()
l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(('$SERVER_IP', $1)); l.listen(64)
while True: threading.Thread(target=echo, args=(l.accept()[0],), daemon=True).start()" 9>&- &
	holders="$holders $!"
	wait_until 60 in_server sh -c "ss -Hltn 'sport = :$1' | grep -q ."
}

# How many connections the kernel of the client's namespace has opened.
kernel_opened() {
	in_client nstat -asz TcpActiveOpens | awk '/TcpActiveOpens/ { print $2 }'
}

# A program in the client's namespace, under finesse: it alone is preloaded, and a sanitizer's runtime comes first. ASAN_OPTIONS COMMAND…
preload_client() {
	preload_asan=$(ldd "$FINESSE_BUILD_DIR/libfinesse.so" | awk '/libasan/ { print $3 }') preload_options=$1
	shift
	(finesse_client env LD_PRELOAD="$preload_asan $FINESSE_BUILD_DIR/libfinesse.so" ASAN_OPTIONS="$preload_options" "$@")
}

# What the program printed natively and under finesse ($scratch/native, $scratch/finesse) is the same, and whole: it ends with "# end".
compare_outputs() {
	if grep -q '^# end' "$scratch/native"; then pass "the program ran to its end"; else fail "the program did not run to its end"; fi
	if diff "$scratch/native" "$scratch/finesse"; then pass "$(wc -l <"$scratch/native") results are the same"; else fail "results differ"; fi
}

pass() {
	checks=$((checks + 1))
	echo "ok: $*"
}

fail() {
	checks=$((checks + 1))
	failures=$((failures + 1))
	echo "FAILED: $*"
}

finish() {
	[ "$checks" -gt 0 ] || checks=1 failures=1
	echo "$((100 * (checks - failures) / checks))%: Checks: $checks, Failures: $failures, Errors: 0"
	[ "$failures" = 0 ]
	exit
}

# The peer's port decides, of which no port of ours can be proved to be open: each SYN is asked about.
server_judges() {
	in_server nft -f - <<-RULES
		add table inet t
		add chain inet t in { type filter hook input priority 0; policy drop; }
		add rule inet t in ct state established accept
		add rule inet t in tcp sport 9 drop
		add rule inet t in tcp dport $1 accept
	RULES
}
