#!/bin/sh
# A library that stands in for clock_gettime (faketime) does not bend the engine's time: a transfer by a program that polls is complete.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need curl python3
pair_up
mkdir "$scratch/www"
head -c 3000000 /dev/urandom >"$scratch/www/file"
nsenter --net="/proc/$CLIENT_NS/ns/net" python3 -m http.server --directory "$scratch/www" 8000 >"$scratch/http.log" 2>&1 9>&- &
holders="$holders $!"
wait_until 60 in_client curl -s -o /dev/null http://$CLIENT_IP:8000/

# fetch LIBRARIES: curl's file is the server's.
fetch() {
	in_server env LD_PRELOAD="$1" FINESSE_LOG=info FINESSE_INTERFACE=server0 curl -s --max-time 60 -o "$scratch/got" http://$CLIENT_IP:8000/file 2>"$scratch/said"
	cmp -s "$scratch/www/file" "$scratch/got"
}

clocks=$FINESSE_BUILD_DIR/tests/net/clocks.so ours=$FINESSE_BUILD_DIR/libfinesse.so
if fetch "$clocks"; then pass "the library alone"; else fail "the library alone"; fi
for libraries in "$clocks $ours" "$ours $clocks"; do
	what=$(for l in $libraries; do basename "$l"; done | tr '\n' ' ')
	if fetch "$libraries" && grep -q "serving TCP of" "$scratch/said"; then pass "$what: complete, by the engine"; else fail "$what: $(cat "$scratch/said")"; fi
done
finish
