"""
Generated nftables rules that say who comes in each of the ways that nftables has, for judged_rules.py: prefixes, ranges, masks, sets (with time-outs, filled by packets, of ranges,
large), maps, concatenations, raw bytes of the header; and what a rule can look at beside the source. Most of them are about one client, or about nobody who comes.
"""
import judged_rules as rules_of

# {p}: the port; {v} and {w}: verdicts. What packets fill is of one port.
RULES = [
    "ip saddr vmap {{ 10.78.0.0-10.78.0.2 : {v}, 10.78.0.3-10.78.0.9 : {w} }}", "tcp dport vmap {{ 1-7000 : accept, 7001-7002 : {v}, 7003-9000 : accept }}",
    "ip saddr . tcp dport vmap {{ 10.78.0.2 . {p} : {v}, 10.78.0.3 . 80 : drop }}", "ip saddr . tcp dport {{ 10.78.0.3 . {p} }} {v}",
    "ip saddr . tcp dport {{ 10.78.0.0/30 . 7000-7010 }} {v}", "ip saddr vmap {{ 10.78.0.3 : jump other, 10.78.0.2 : goto other }}",
    "ip saddr vmap @verdicts", "ip saddr vmap @aging", "tcp dport {p} ip saddr vmap @aging{p}", "ip saddr . tcp sport {{ 10.78.0.3 . 1024-65535 }} {v}",
    "ip saddr . meta mark {{ 10.78.0.3 . 0 }} {v}", "ip saddr . iifname {{ 10.78.0.3 . \"server0\" }} {v}", "meta nfproto . ip saddr {{ ipv4 . 10.78.0.3 }} {v}",
    "ip saddr . ip saddr {{ 10.78.0.3 . 10.78.0.3 }} {v}", "ip saddr . ip daddr {{ 10.78.0.3 . 10.78.0.1 }} {v}",
    # sets
    "ip saddr != @banned {v}", "ip saddr @banned {v}", "ip saddr @merged {v}", "ip saddr != @merged tcp dport {p} {v}", "ip saddr @aged {v}", "ip saddr != @aged tcp dport {p} {v}",
    "ip saddr @agedranges {v}", "ip6 saddr @aged6 {v}", "ip saddr @seen{p} {v}", "tcp dport {p} add @seen{p} {{ ip saddr }}", "tcp dport {p} update @filled{p} {{ ip saddr timeout 1h }}",
    "ip saddr @filled{p} {v}", "tcp dport {p} ip saddr 10.78.0.3 delete @filled{p} {{ ip saddr }}", "ip saddr @wide6 {v}", "ip6 saddr @six {v}", "ip saddr @big {v}", "ip saddr @bigaged {v}",
    "tcp dport {p} add @rate{p} {{ ip saddr limit rate over 2/minute burst 2 packets }} {v}", "tcp dport {p} add @count{p} {{ ip saddr ct count over 1 }} {v}",
    "tcp dport {p} ip saddr @counted {v}", "tcp dport {p} update @last{p} {{ ip saddr counter }} {v}",
    # prefixes, ranges and comparisons
    "ip saddr 0.0.0.0/0 {v}", "ip saddr 10.0.0.0/7 {v}", "ip saddr 10.78.0.0/31 {v}", "ip saddr 10.78.0.2/31 {v}", "ip saddr 10.78.0.0/21 {v}", "ip saddr 8.0.0.0/5 {v}",
    "ip saddr 10.78.0.3/32 {v}", "ip saddr 10.78.0.3-10.78.0.9 {v}", "ip saddr != 10.78.0.3-10.78.0.9 tcp dport {p} {v}", "ip saddr >= 10.78.0.3 {v}", "ip saddr < 10.78.0.3 {v}",
    "ip saddr >= 9.0.0.0 {v}", "ip saddr < 9.0.0.0 {v}", "ip saddr > 192.0.0.0 {v}", "ip saddr <= 192.0.0.0 {v}", "ip6 saddr >= 2000:: {v}", "ip6 saddr < fe00:: {v}", "tcp sport >= 0 {v}",
    "ip saddr & 255.0.0.1 == 10.0.0.1 {v}", "ip saddr & 0.0.0.1 == 1 {v}", "ip saddr & 255.255.255.254 != 10.78.0.2 {v}", "ip saddr & 255.255.255.254 == 10.78.0.2 {v}",
    "ip saddr ^ 0.0.0.1 == 10.78.0.2 {v}", "ip saddr | 0.0.0.1 == 10.78.0.3 {v}", "ip6 saddr fd78::/16 {v}", "ip6 saddr fd78::2/127 {v}", "ip6 saddr != fd78::/64 {v}",
    "ip6 saddr fd78::1-fd78::9 {v}", "ip6 saddr ::/0 {v}", "ip6 saddr & ffff:: == fd78:: {v}", "ip6 saddr ::ffff:0:0/96 {v}", "ip saddr 10.78.0.0/24 ip saddr != 10.78.0.3 {v}",
    "ip saddr != 10.78.0.3 ip saddr 10.78.0.0/24 {v}", "jhash ip saddr mod 2 0 {v}", "jhash ip saddr mod 2 1 {v}", "ip saddr 10.78.0.3 jump other", "ip saddr 10.78.0.2 goto other",
    "meta nfproto ipv4 @nh,96,32 0x0a4e0003 {v}", "meta nfproto ipv4 @nh,96,16 0x0a4e {v}", "meta nfproto ipv4 @nh,112,16 3 {v}", "meta nfproto ipv4 @nh,120,8 3 {v}",
    "meta nfproto ipv4 @nh,96,64 0x0a4e00030a4e0001 {v}", "meta nfproto ipv4 @nh,64,64 & 0xffffffff == 0x0a4e0003 {v}", "@nh,96,32 0x0a4e0003 {v}",
    "@nh,80,64 & 0xffffffff0000 == 0x0a4e00030000 {v}", "@nh,98,30 0x0a4e0003 {v}",
    # conntrack, marks, limits
    "ct original ip saddr 10.78.0.3 {v}", "ct mark 7 {v}", "meta mark 5 {v}", "ip saddr 10.78.0.3 ct mark set 7", "ip saddr 10.78.0.3 meta mark set 5", "ct direction reply {v}",
    "ct status snat {v}", "ct expiration > 10s {v}", "tcp dport {p} ip saddr 10.78.0.3 ct count over 1 {v}", "tcp dport {p} limit rate over 2/minute burst 2 packets {v}",
    "tcp dport {p} ip saddr {{ 10.78.0.2, 10.78.0.3 }} limit rate over 1/minute burst 1 packets {v}", "tcp dport {p} limit name \"few{p}\" {v}", "tcp dport {p} ct count over 3 {v}",
    "tcp dport {p} quota over 150 bytes {v}", "tcp dport {p} quota until 150 bytes {v}", "tcp dport {p} counter {v}", "tcp dport {p} quota name \"little{p}\" {v}",
    "tcp dport {p} quota over 100 bytes {v}", "tcp dport {p} counter {v}",
    # what else a packet has
    "meta nfproto ipv4 fib saddr type unicast {v}", "meta nfproto ipv4 fib saddr oif \"server0\" {v}", "fib saddr . iif oif missing {v}", "ether saddr 00:11:22:33:44:55 {v}",
    "numgen inc mod 1 0 {v}", "rt ip nexthop 10.78.0.3 {v}", "tcp option maxseg size 1-2000 {v}", "tcp option sack-perm exists {v}", "tcp option timestamp missing {v}",
    "tcp window 1-65535 {v}", "tcp window 0 {v}", "ip dscp cs1 {v}", "ip ttl < 10 {v}", "meta length 1-2000 {v}", "meta length > 2000 {v}", "ip hdrlength 5 {v}", "meta pkttype host {v}",
    "meta pkttype multicast {v}", "iiftype ether {v}", "iifkind \"veth\" {v}", "iifgroup 0 {v}", "meta cpu 0-100 {v}", "meta hour \"00:00\"-\"23:59:59\" {v}", "th dport {p} {v}", "ip version 4 {v}",
    "ip protocol tcp {v}", "ip frag-off & 0x1fff != 0 {v}", "tcp flags & (fin|syn|rst|ack) == syn {v}", "tcp flags syn / syn,ack {v}", "tcp flags & (fin|rst) != 0 {v}", "tcp sequence 0 {v}",
    "socket transparent 1 {v}", "socket wildcard 1 {v}", "meta skuid 33 {v}", "meta secmark 0 {v}", "exthdr frag exists {v}", "tcp dport {p} tcp option maxseg size set 600",
]
SETS = [
    "set banned { type ipv4_addr; elements = { 10.78.0.3, 192.0.2.9 } }",
    "set merged { type ipv4_addr; flags interval; auto-merge; elements = { 10.78.0.3-10.78.0.4, 10.78.0.5, 10.78.0.6/31, 200.0.0.0-255.255.255.255 } }",
    "set aged { type ipv4_addr; flags timeout; elements = { 10.78.0.3 timeout 1h } }",
    "set agedranges { type ipv4_addr; flags interval,timeout; timeout 2h; elements = { 10.78.0.3-10.78.0.9, 192.0.2.0/24 } }",
    "set aged6 { type ipv6_addr; flags timeout; timeout 1d; elements = { fd78::2, 2001:db8::1 timeout 3s } }",
    "set wide6 { type ipv4_addr; flags interval; elements = { 0.0.0.0-10.78.0.2, 10.78.0.9-10.99.0.0 } }",
    "set six { type ipv6_addr; flags interval; elements = { fd78::2-fd78::fff, ::-::ffff } }",
    "set counted { type ipv4_addr; counter; elements = { 10.78.0.3 } }",
    "set big { type ipv4_addr; elements = { %s } }" % ", ".join(["10.78.0.3"] + ["10.9.%d.%d" % (i // 250, i % 250) for i in range(3000)]),
    "set bigaged { type ipv4_addr; flags timeout; timeout 1h; elements = { %s } }" % ", ".join(["10.78.0.3"] + ["10.9.%d.%d" % (i // 250, i % 250) for i in range(3000)]),
    "map verdicts { type ipv4_addr : verdict; elements = { 10.78.0.3 : drop, 192.0.2.9 : accept } }",
    "map aging { type ipv4_addr : verdict; flags timeout; elements = { 10.78.0.3 timeout 1h : drop } }",
    *("map aging%d { type ipv4_addr : verdict; flags timeout; timeout 1h; elements = { 10.78.0.2 : accept } }" % port for port in rules_of.SERVERS),
    *("set %s%d { type ipv4_addr; flags %s; size 100; }" % (name, port, flags) for port in rules_of.SERVERS
      for name, flags in (("seen", "dynamic,timeout; timeout 1h"), ("filled", "timeout"), ("rate", "dynamic"), ("count", "dynamic"), ("last", "dynamic"))),
]
EARLY = [("pre", "filter hook prerouting priority -300"), ("mangle", "filter hook prerouting priority -150"), ("ing", "filter hook ingress device \"server0\" priority 0")]


class Sources(rules_of.Nft):
    """nftables' own, whose rules name sources."""

    name = "nft sources"

    def __init__(self, r):
        super().__init__(None)
        self.lines += ["add " + t.replace(" ", " inet t ", 1) for t in SETS]
        self.lines += ["add limit inet t few%d { rate over 2/minute burst 2 packets; }" % port for port in rules_of.SERVERS]
        self.lines += ["add quota inet t little%d { until 150 bytes; }" % port for port in rules_of.SERVERS]
        self.add("other", r.choice(["drop", "accept", "ip saddr 10.78.0.2 drop", "tcp dport 7001-7002 reject", "return"]))
        self.chain("in", "filter hook input priority 0; policy %s" % r.choice(["accept", "drop"]))
        self.add("in", "iif lo accept")
        if r.random() < 0.8:
            self.add("in", "ct state established,related accept")
        self.add("in", "ip6 nexthdr icmpv6 accept")
        chains = ["in"] * r.randint(1, 3)
        for name, what in EARLY:
            if r.random() < 0.25:
                self.chain(name, what)
                chains.append(name)
        for chain in chains:
            self.add(chain, *rules_of.for_ports(r, rules_of.SERVERS, lambda q, port: self.rule(q, port, chain == "in")))
        self.add("in", "tcp dport { %d, %d } accept" % rules_of.SERVERS)

    @staticmethod
    def rule(r, port, is_input):
        verdict = r.choice(["drop", "drop", "accept", "reject with tcp reset" if is_input else "drop", "return"])
        return r.choice(RULES).format(p=port, v=verdict, w=r.choice(["accept", "drop"]))

    def __str__(self):
        """For who reads it, without the large sets' elements."""
        return "\n".join(line if len(line) < 500 else line[:60] + " … }" for line in self.lines) + "\n"

    def load(self):
        return rules_of.run(["nft", "-f", "-"], "\n".join(self.lines) + "\n")


# ipset's sets, of either family, and how iptables asks for them.
IPSETS = """
create banned4 hash:ip
add banned4 10.78.0.3
create nets4 hash:net
add nets4 10.78.0.2/31
add nets4 10.78.0.3/32 nomatch
create aged4 hash:ip timeout 3600
add aged4 10.78.0.3
create ports4 hash:ip,port
add ports4 10.78.0.3,tcp:7001
add ports4 10.78.0.3,tcp:7002
create bits4 bitmap:ip range 10.78.0.0/24
add bits4 10.78.0.2
create dports bitmap:port range 0-65535
add dports 7001
add dports 7002
create all4 list:set
add all4 banned4
create counted4 hash:ip counters
add counted4 10.78.0.3
create banned6 hash:ip family inet6
add banned6 fd78::2
"""
MATCHES = ["-m set --match-set banned4 src", "-m set ! --match-set banned4 src", "-m set --match-set nets4 src", "-m set --match-set aged4 src", "-m set --match-set ports4 src,dst",
           "-m set --match-set bits4 src", "-m set ! --match-set bits4 src", "-m set --match-set dports dst", "-m set --match-set all4 src", "-m set --match-set counted4 src --packets-gt 3",
           "-m set --match-set banned6 src", "-m set ! --match-set banned6 src"]
