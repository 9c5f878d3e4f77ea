#!/bin/sh
# An epoll under other numbers than its first, by dup, fork and SCM_RIGHTS: passed_epoll prints the same natively and under finesse, whose engine carries its connections.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need python3
pair_up
serve_echo 8000
program=$FINESSE_BUILD_DIR/tests/net/passed_epoll
in_client timeout 110 "$program" $SERVER_IP 8000 >"$scratch/native" 2>&1
before=$(kernel_opened)
preload_client detect_leaks=0 timeout 110 "$program" $SERVER_IP 8000 >"$scratch/finesse" 2>&1
compare_outputs
if [ "$(kernel_opened)" = "$before" ]; then pass "the engine carried it"; else fail "the kernel carried it"; fi
finish
