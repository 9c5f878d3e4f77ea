#!/bin/sh
# RLIMIT_AS: the kernel's TCP needs no memory of the process's. Where the engine would have too little, it does not come up, and says so; the program is served in any case.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need curl python3 prlimit
pair_up
echo content >"$scratch/file"
nsenter --net="/proc/$SERVER_NS/ns/net" python3 -u -m http.server --directory "$scratch" 8000 >"$scratch/server.log" 2>&1 9>&- &
holders="$holders $!"
wait_until 60 grep -q Serving "$scratch/server.log"

least=0 # natively
for kib in $(seq 20000 1000 100000); do
	if in_client prlimit --as=$((kib * 1024)) curl -s -m 60 -o /dev/null "http://$SERVER_IP:8000/file"; then
		least=$kib
		break
	fi
done
[ $least -gt 0 ] || fail "curl needs more than 100 MB natively"
by_kernel=0 by_engine=0
for kib in $(seq $((least + 12000)) 1500 $((least + 90000))); do
	said=$(in_client prlimit --as=$((kib * 1024)) "$FINESSE_BUILD_DIR/finesse" run --interface client0 --log info -- curl -s -m 60 "http://$SERVER_IP:8000/file" 2>"$scratch/said"; echo $?)
	case $(tr '\n' ' ' <"$scratch/said") in
	*"serving TCP of"*) by_engine=$((by_engine + 1)) ;;
	*RLIMIT_AS*) by_kernel=$((by_kernel + 1)) ;;
	esac
	[ "$said" = "content
0" ] || fail "$kib KiB (natively $least are enough): $said, $(cat "$scratch/said")"
done
if [ $by_engine -gt 0 ] && [ $by_kernel -gt 0 ]; then pass "each of them was served: $by_engine by the engine, $by_kernel by the kernel for want of room"; else fail "$by_engine by the engine, $by_kernel by the kernel for want of room"; fi
finish
