#!/bin/sh
# Others' programs at the interface's ingress, of tc and of tcx, never see a frame that the engine takes. So such an interface is the kernel's, whether they were there before the server or
# come while it serves: whom they drop gets nothing more, and the others lose nothing.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft curl python3 nstat tc
pair_up
in_client ip addr add 10.78.0.3/24 dev client0
in_server tc qdisc add dev server0 clsact || { echo "skipped: this kernel has no clsact"; exit 77; }
mkdir "$scratch/www"
head -c 3000000 /dev/urandom >"$scratch/www/file"
mkfifo "$scratch/go2" "$scratch/go3"
exec 7<>"$scratch/go2" 8<>"$scratch/go3" # open for both: a word to a reader that is gone blocks nobody

cat >"$scratch/reader.py" <<'END'
import socket, sys
address, source, go = sys.argv[1:]
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
s.bind((source, 0))
s.connect((address, 8080))
s.sendall(b"GET /file HTTP/1.0\r\n\r\n")
n = len(s.recv(1000))
print("begun", flush=True)
open(go).readline()
s.settimeout(4)
try:
    while got := s.recv(65536):
        n += len(got)
except TimeoutError:
    pass
print("all" if n > 3000000 else "a part", flush=True)
END

serve() {
	: >"$scratch/server.log" # no word of an earlier one
	finesse_server python3 -u -m http.server --directory "$scratch/www" 8080 >"$scratch/server.log" 2>&1 7>&- 8>&- 9>&- &
	server=$!
	wait_until 10 grep -q Serving "$scratch/server.log"
}

attach() { # tc|tcx
	: >"$scratch/attached"
	nsenter --net="/proc/$SERVER_NS/ns/net" python3 "${srcdir:-.}/tests/net/ingress_programs.py" "$1" server0 10.78.0.3 >"$scratch/attached" 7>&- 8>&- 9>&- &
	program=$!
	wait_until 10 grep -q attached "$scratch/attached"
}

end() { # what was started
	kill "$1"
	wait "$1" 2>/dev/null || true
}

clear_ingress() {
	end $program
	in_server tc filter del dev server0 ingress 2>/dev/null || true
}

read_slowly() { # 2|3: the client's address ends so
	: >"$scratch/reader$1"
	nsenter --net="/proc/$CLIENT_NS/ns/net" python3 "$scratch/reader.py" $SERVER_IP "10.78.0.$1" "$scratch/go$1" >"$scratch/reader$1" 7>&- 8>&- 9>&- &
	eval "reader$1=\$!"
	wait_until 10 grep -q begun "$scratch/reader$1"
}

fetch() { # ADDRESS: how curl ended: 0, 28 (nothing came)
	in_client curl -s -m "$2" --interface "$1" -o "$scratch/got" "http://$SERVER_IP:8080/file" && cmp -s "$scratch/got" "$scratch/www/file"
	echo $?
}

is_kernels() {
	timeout 5 "$FINESSE_BUILD_DIR/finesse" stat --json "$server" | grep -q "at the ingress of server0"
}

# An engine that has nothing to do does not look.
noticed() {
	fetch 10.78.0.2 10
	is_kernels
}

verdicts() { # WHAT
	got="$(fetch 10.78.0.2 10), $(fetch 10.78.0.3 1)"
	if [ "$got" = "0, 28" ]; then pass "$1: who is not dropped is served"; else fail "$1: curl ended with $got, not 0, 28"; fi
}

for how in tc tcx; do
	attach $how
	serve
	if is_kernels; then pass "$how, there before: the listener is the kernel's"; else fail "$how, there before: the listener is not the kernel's"; fi
	verdicts "$how, there before"
	end $server
	clear_ingress

	serve
	read_slowly 2
	read_slowly 3
	attach $how
	wait_until 10 noticed
	verdicts "$how, while serving"
	echo >&7
	echo >&8
	wait "$reader2" "$reader3"
	got="$(tail -n 1 "$scratch/reader2"), $(tail -n 1 "$scratch/reader3")"
	if [ "$got" = "all, a part" ]; then pass "$how: transfers go on but the dropped one's"; else fail "$how: transfers under way: $got"; fi
	end $server
	clear_ingress
done
finish
