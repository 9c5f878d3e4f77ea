#!/bin/sh
# The simulator and the fuzz targets for SOAK_SECONDS (600), half of them each, with seeds that differ from run to run: `make soak`. SOAK_SEED=N does again what a run told.
# Without libFuzzer (--enable-fuzzers with CC=clang) the simulator has all of the time. What a fuzz target finds stays in soak/.
set -u
: "${srcdir:=.}" "${SOAK_SECONDS:=600}"
SOAK_SEED=${SOAK_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
targets=
for t in frame reader host pieces; do
	[ -x "tests/fuzz/${t}_fuzz" ] && targets="$targets $t"
done
share=$SOAK_SECONDS
[ -n "$targets" ] && share=$((SOAK_SECONDS / 2))
echo "soak: seed $SOAK_SEED, $SOAK_SECONDS s; again: make soak SOAK_SEED=$SOAK_SEED SOAK_SECONDS=$SOAK_SECONDS"
failed=0
mkdir -p soak

first=$SOAK_SEED seeds=0 end=$(($(date +%s) + share))
while [ "$(date +%s)" -lt "$end" ]; do
	if ! CK_FORK=no FINESSE_SIM_FIRST=$first FINESSE_SIM_SEEDS=20 tests/sim/sim_test >soak/sim.log 2>&1; then
		grep -m 3 ': seed ' soak/sim.log || tail -n 20 soak/sim.log
		echo "soak: simulator: failed; again: CK_FORK=no FINESSE_SIM_FIRST=$first FINESSE_SIM_SEEDS=20 tests/sim/sim_test"
		failed=1
	fi
	first=$((first + 20)) seeds=$((seeds + 20))
done
echo "soak: simulator: $seeds seeds of each scenario"

set -- $targets
for t in "$@"; do
	mkdir -p "soak/$t"
	"tests/fuzz/${t}_fuzz" -seed="$SOAK_SEED" -max_total_time=$((SOAK_SECONDS / 2 / $#)) -print_final_stats=1 -artifact_prefix="soak/$t-" \
		"soak/$t" "$srcdir/tests/fuzz/corpus/$t" >"soak/$t.log" 2>&1 || {
		tail -n 20 "soak/$t.log"
		failed=1
	}
	echo "soak: $t: $(sed -n 's/^stat::number_of_executed_units: *//p' "soak/$t.log") executions, $(sed -n 's/^stat::average_exec_per_sec: *//p' "soak/$t.log") a second"
done
[ -n "$targets" ] || echo "soak: fuzz targets: not built (./configure --enable-fuzzers CC=clang)"
exit $failed
