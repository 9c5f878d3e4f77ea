#!/bin/sh
# sendfile, splice and their like say of each kind of source and target what Linux says of it: copy_kinds prints the same natively and under finesse, whose engine carries its connections.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need python3
pair_up
serve_echo 8000
program=$FINESSE_BUILD_DIR/tests/net/copy_kinds
in_client timeout 110 "$program" $SERVER_IP 8000 "$scratch/file" >"$scratch/native" 2>&1
before=$(kernel_opened)
preload_client detect_leaks=0 timeout 110 "$program" $SERVER_IP 8000 "$scratch/file" >"$scratch/finesse" 2>&1
compare_outputs
if [ "$(kernel_opened)" = "$before" ]; then pass "the engine carried it"; else fail "the kernel carried it"; fi
finish
