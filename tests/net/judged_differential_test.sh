#!/bin/sh
# Generated rule sets of the host's firewall: every verdict on a client is the same for a server of finesse's and one of the kernel's (judged_differential.py).
# JUDGED_SEED and JUDGED_SETS choose others.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft python3 nstat
pair_up
in_client ip addr add 10.78.0.3/24 dev client0
in_server ip addr add fd78::1/64 dev server0 nodad
in_client ip addr add fd78::2/64 dev client0 nodad
# What `reject` answers is not to depend on how many came before.
in_server sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_ratemask=0
if in_server env CLIENT_NS="$CLIENT_NS" FINESSE="$(realpath "$FINESSE_BUILD_DIR")/finesse" \
	python3 "${srcdir:-.}/tests/net/judged_differential.py" "${JUDGED_SEED:-1}" "${JUDGED_SETS:-25}"; then
	pass "verdicts are the kernel's"
else
	fail "verdicts are the kernel's"
fi
finish
