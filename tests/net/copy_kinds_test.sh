#!/bin/sh
# sendfile, splice and their like say of each kind of source and target what Linux says of it: copy_kinds prints the same natively and under finesse, whose engine carries its connections.
# Nothing stays behind of one that is left while it waits: copy_left. A file's bytes come as they stand in it: copy_file.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need python3
pair_up
serve_echo 8000
for name in copy_kinds copy_left copy_file; do
	program=$FINESSE_BUILD_DIR/tests/net/$name
	in_client timeout 110 "$program" $SERVER_IP 8000 "$scratch/file" >"$scratch/native" 2>&1
	before=$(kernel_opened)
	preload_client detect_leaks=0 timeout 110 "$program" $SERVER_IP 8000 "$scratch/file" >"$scratch/finesse" 2>&1
	compare_outputs
	if [ "$(kernel_opened)" = "$before" ]; then pass "the engine carried it"; else fail "the kernel carried it"; fi
done
finish
