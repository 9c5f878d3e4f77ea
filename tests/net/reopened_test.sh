#!/bin/sh
# A handler that interrupts a call on a listener closes it and opens its port again: reopened prints the same natively and under finesse, whose engine listens.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
pair_up
program=$FINESSE_BUILD_DIR/tests/net/reopened
in_client timeout 110 "$program" $CLIENT_IP >"$scratch/native" 2>&1
preload_client detect_leaks=0 env FINESSE_LOG=info timeout 110 "$program" $CLIENT_IP >"$scratch/finesse" 2>"$scratch/log"
compare_outputs
if grep -q "serving TCP" "$scratch/log"; then pass "the engine served"; else fail "the engine did not serve"; fi
finish
