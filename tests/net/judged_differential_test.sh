#!/bin/sh
# Generated rule sets of the host's firewall (nftables, iptables over nftables, legacy iptables, programs on the cgroup): every verdict on a client that comes, and on one that goes
# out, is the same for finesse's TCP and the kernel's (judged_differential.py). JUDGED_SEED and JUDGED_SETS choose others.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft iptables-legacy-restore ip6tables-legacy-restore iptables-nft-restore ip6tables-nft-restore python3 nstat
pair_up
for address in 10.78.0.3/24 "fd78::2/64 nodad"; do
	# shellcheck disable=SC2086 # two words
	in_client ip addr add $address dev client0
done
for address in 10.78.0.9/24 "fd78::1/64 nodad"; do
	# shellcheck disable=SC2086
	in_server ip addr add $address dev server0
done
# What `reject` answers is not to depend on how many came before.
for side in in_server in_client; do
	$side sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_ratemask=0
done
cgroup=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
[ -z "$cgroup" ] || cgroup=$cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
[ -w "$cgroup/cgroup.procs" ] || cgroup=
if in_server env CLIENT_NS="$CLIENT_NS" FINESSE="$(realpath "$FINESSE_BUILD_DIR")/finesse" \
	timeout 3000 python3 "${srcdir:-.}/tests/net/judged_differential.py" "${JUDGED_SEED:-1}" "${JUDGED_SETS:-25}" ${cgroup:+"$cgroup"}; then
	pass "verdicts are the kernel's"
else
	fail "verdicts are the kernel's"
fi
finish
