#!/bin/sh
# A handler that interrupts a call on a listener closes it and opens its port again: reopened prints the same natively and under finesse, whose engine listens.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
pair_up
program=$FINESSE_BUILD_DIR/tests/net/reopened
asan=$(ldd "$FINESSE_BUILD_DIR/libfinesse.so" | awk '/libasan/ { print $3 }')
in_client timeout 110 "$program" $CLIENT_IP >"$scratch/native" 2>&1
(finesse_client env LD_PRELOAD="$asan $FINESSE_BUILD_DIR/libfinesse.so" FINESSE_LOG=info ASAN_OPTIONS=detect_leaks=0 timeout 110 "$program" $CLIENT_IP) >"$scratch/finesse" 2>"$scratch/log"
if grep -q '^# end' "$scratch/native"; then pass "the program ran to its end"; else fail "the program did not run to its end"; fi
if diff "$scratch/native" "$scratch/finesse"; then pass "$(wc -l <"$scratch/native") lines are the same"; else fail "they differ"; fi
if grep -q "serving TCP" "$scratch/log"; then pass "the engine served"; else fail "the engine did not serve"; fi
finish
