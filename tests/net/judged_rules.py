"""
Generated rule sets of a host, for judged_differential.py: nftables', iptables' over nftables and legacy iptables', with programs on the cgroup.

A rule set is made twice from the same choices, once for each of two roles' ports, so that limits and counts are each one's own. SERVERS are ports of this host that
clients come to; PEERS are ports of the other host that this host's clients go to. The first of each belongs to the kernel's TCP, the second to finesse's.
"""
import ctypes
import errno
import os
import random
import shutil
import struct
import subprocess

SERVERS, PEERS = (7002, 7001), (7004, 7003)
REDIRECTED = 100  # a port that a rule may redirect to a server's is so far above it
SERVER, SPARE = "10.78.0.1", "10.78.0.9"  # both are addresses of the servers' host

NFT_IN = [
    ["ip saddr 10.78.0.2", "ip saddr != 10.78.0.2", "ip saddr { 10.78.0.3, 192.0.2.0/24 }", "ip saddr 10.78.0.0/31", "ip6 saddr fd78::2", "ip saddr @friends", "ip saddr != @friends"],
    ["ct state new", "ct state established,related", "ct state invalid", "ct state { new, untracked }", "ct direction original"],
    ["tcp sport 1024-65535", "tcp sport 1-1023", "tcp sport != 22", "tcp flags syn", "tcp flags & (syn|ack) == syn"],
    ["limit rate 2/minute burst 2 packets", "limit rate over 2/minute burst 2 packets", "ct count over 2", "ct count 2"],
    ["iifname \"server0\"", "iifname != \"lo\"", "meta nfproto ipv4", "meta nfproto ipv6", "meta mark 5", "meta mark != 5", "fib daddr type local"],
]
NFT_OUT = [
    ["ip daddr 10.78.0.2", "ip daddr != 10.78.0.2", "ip daddr { 10.78.0.3, 192.0.2.0/24 }", "ip6 daddr fd78::2", "ip daddr @friends", "ip daddr != @friends"],
    ["ct state new", "ct state established,related", "ct state invalid", "ct direction original"],
    ["tcp sport 1024-65535", "tcp sport 1-1023", "tcp flags & (syn|ack) == syn"],
    ["limit rate 2/minute burst 2 packets", "ct count over 2"],
    ["oifname \"server0\"", "oifname \"lo\"", "meta nfproto ipv6", "meta mark 5", "meta skuid 0", "meta skuid 33", "meta length > 100", "ip ttl 3"],
]
NFT_VERDICTS = ["accept", "accept", "accept", "drop", "drop", "reject", "reject with tcp reset", "counter", "jump other", "return", "meta mark set 5", "ct mark set 7"]

IPT_IN = [
    ["-s 10.78.0.2", "! -s 10.78.0.2", "-s 10.78.0.0/31", "-s fd78::2", "! -s fd78::2", "-m iprange --src-range 10.78.0.3-10.78.0.9"],
    ["-m conntrack --ctstate NEW", "-m conntrack --ctstate RELATED,ESTABLISHED", "-m conntrack ! --ctstate INVALID", "-m state --state NEW,UNTRACKED", "-m conntrack --ctdir ORIGINAL"],
    ["--sport 1024:65535", "--sport 1:1023", "! --sport 22", "--syn", "! --syn", "--tcp-flags FIN,SYN,RST,ACK SYN", "-m tcpmss --mss 100:2000"],
    ["-m limit --limit 2/minute --limit-burst 2", "-m connlimit --connlimit-above 2 --connlimit-mask 0", "-m connlimit --connlimit-upto 2 --connlimit-mask 0 --connlimit-daddr",
     "-m hashlimit --hashlimit-upto 2/minute --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name h%d"],
    ["-i server0", "! -i lo", "-i serv+", "-m mark --mark 5", "-m mark ! --mark 5", "-m addrtype --dst-type LOCAL", "-m length --length 100:", "-m ttl --ttl-gt 3", "-m pkttype --pkt-type unicast",
     "-m comment --comment why", "-m connmark --mark 7", "-m mac --mac-source 00:11:22:33:44:55"],
]
IPT_OUT = [
    ["-d 10.78.0.2", "! -d 10.78.0.2", "-d 10.78.0.0/31", "-d fd78::2"],
    ["-m conntrack --ctstate NEW", "-m conntrack --ctstate RELATED,ESTABLISHED", "-m conntrack ! --ctstate INVALID"],
    ["--sport 1024:65535", "--sport 1:1023", "--syn", "! --syn"],
    ["-m limit --limit 2/minute --limit-burst 2", "-m connlimit --connlimit-above 2 --connlimit-mask 0"],
    ["-o server0", "-o lo", "-m mark --mark 5", "-m owner --uid-owner 0", "-m owner --uid-owner 33", "-m length --length 100:", "-m comment --comment why"],
]
IPT_VERDICTS = ["ACCEPT", "ACCEPT", "ACCEPT", "DROP", "DROP", "REJECT", "REJECT --reject-with tcp-reset", "other", "RETURN", None]


def pick(r, matches):
    return " ".join(r.choice(m) for m in r.sample(matches, min(len(matches), r.choice([0, 1, 1, 1, 2]))))


def for_ports(r, ports, make):
    """The same rule for each port."""
    seed = r.random()
    return [make(random.Random(seed), port) for port in ports]


def nft_rule(r, port, matches, last):
    to = r.choice(["", "tcp dport %d ", "tcp dport %d ", "tcp dport { 22, %d } ", "meta l4proto tcp "])
    text = pick(r, matches) + " " + r.choice(NFT_VERDICTS)
    if "limit" in text or "count" in text:  # what it remembers is of one port
        to = "tcp dport %d "
    if last:
        text = text.replace("jump other", "accept")
    return to.replace("%d", str(port)) + text


class Nft:
    """nftables' own."""

    name = "nft"

    def __init__(self, r):
        self.lines = ["add table inet t", "add set inet t friends { type ipv4_addr; elements = { 10.78.0.3 } }", "add chain inet t other"]
        if r:
            self.input(r)
            self.output(r)
            self.nat(r)

    def add(self, chain, *rules):
        self.lines += ["add rule inet t %s %s" % (chain, rule) for rule in rules]

    def chain(self, name, what):
        self.lines.append("add chain inet t %s { type %s; }" % (name, what))

    def input(self, r):
        self.chain("in", "filter hook input priority 0; policy %s" % r.choice(["accept", "accept", "drop"]))
        self.add("in", "iif lo accept")
        if r.random() < 0.7:
            self.add("in", "ct state established,related accept")
        if r.random() < 0.5:
            self.add("in", "ip6 nexthdr icmpv6 accept")
        chains = ["in"] * r.randint(1, 4) + ["other"] * r.randint(0, 2)
        if r.random() < 0.2:
            self.chain("pre", "filter hook prerouting priority %d" % r.choice([-300, -150]))
            chains.append("pre")
        for chain in chains:
            self.add(chain, *for_ports(r, SERVERS, lambda q, port: nft_rule(q, port, NFT_IN, chain == "other")))

    def output(self, r):
        if r.random() < 0.3:
            self.chain("out", "filter hook output priority 0; policy accept")
            self.add("out", r.choice(["ct state established accept", "drop", "ip daddr 10.78.0.3 drop", "tcp sport 22 drop", "oifname \"lo\" accept"]))
        if r.random() < 0.5:
            self.chain("away", "%s priority 0; policy accept" % r.choice(["filter hook output", "filter hook output", "route hook output", "filter hook postrouting"]))
            for _ in range(r.randint(1, 2)):
                self.add("away", *for_ports(r, PEERS, lambda q, port: nft_rule(q, port, NFT_OUT, True)))

    def nat(self, r):
        if r.random() < 0.3:
            self.chain("nat", "nat hook prerouting priority -100")
            rule = r.choice(["tcp dport {r} redirect to :{p}", "meta nfproto ipv4 tcp dport {r} dnat ip to %s:{p}" % SERVER])
            self.add("nat", *(rule.format(r=port + REDIRECTED, p=port) for port in SERVERS))
        if r.random() < 0.1:
            self.chain("snat", "nat hook input priority 100")
            self.add("snat", "ip saddr 10.78.0.3 snat ip to 10.78.0.77")
        if r.random() < 0.2:
            self.chain("post", "nat hook postrouting priority 100")
            self.add("post", r.choice(["ip saddr 172.17.0.0/16 masquerade", "ip daddr 10.78.0.3 masquerade", "meta nfproto ipv4 oifname \"server0\" snat ip to " + SPARE]))
        if r.random() < 0.1:
            self.chain("dnat", "nat hook output priority -100")
            self.add("dnat", "ip daddr 10.78.0.2 tcp dport { %d, %d } dnat ip to 10.78.0.3" % PEERS)

    def load(self):
        return run(["nft", "-f", "-"], str(self))

    def __str__(self):
        return "\n".join(self.lines) + "\n"


def ipt_rule(r, port, matches, verdicts):
    text, verdict = pick(r, matches), r.choice(verdicts)
    one = "--dport %d"
    to = one if "limit" in text else r.choice(["", one, one, "-m multiport --dports 22,%d"])
    return ("-p tcp -m tcp %s %s%s" % (to, text, " -j " + verdict if verdict else "")).replace("%d", str(port))


class Iptables:
    """iptables' and ip6tables' tables; `flavour` is nft or legacy; `sets`: with ipset's."""

    def __init__(self, r, flavour, sets=None):
        self.name, self.flavour, self.sets = "iptables-" + flavour + (" with ipset" if sets else ""), flavour, sets
        self.tables = {"filter": [":INPUT %s [0:0]" % r.choice(["ACCEPT", "ACCEPT", "DROP"]), ":OUTPUT ACCEPT [0:0]", ":other - [0:0]"]}
        self.add("filter", "INPUT", "-i lo -j ACCEPT", "-p icmpv6 -j ACCEPT")
        if r.random() < 0.7:
            self.add("filter", "INPUT", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        for _ in range(r.randint(0, 2)):
            self.add("filter", "other", *for_ports(r, SERVERS, lambda q, port: ipt_rule(q, port, IPT_IN, [v for v in IPT_VERDICTS if v != "other"])))
        for _ in range(r.randint(1, 4)):
            self.add("filter", "INPUT", *for_ports(r, SERVERS, lambda q, port: ipt_rule(q, port, IPT_IN + ([sets.MATCHES] * 4 if sets else []), IPT_VERDICTS)))
        if r.random() < 0.2:
            self.add("filter", "OUTPUT", r.choice(["-m conntrack --ctstate ESTABLISHED -j ACCEPT", "-j DROP", "-d 10.78.0.3 -j DROP", "-p tcp --sport 22 -j DROP", "-o lo -j ACCEPT"]))
        if r.random() < 0.4:
            self.add("filter", "OUTPUT", *for_ports(r, PEERS, lambda q, port: ipt_rule(q, port, IPT_OUT, [v for v in IPT_VERDICTS if v != "other"])))
        self.others(r)

    def others(self, r):
        if r.random() < 0.3:
            self.tables["mangle"] = []
            chain = r.choice(["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"])
            out = chain in ("OUTPUT", "POSTROUTING")
            self.add("mangle", chain, *for_ports(r, PEERS if out else SERVERS,
                     lambda q, port: ipt_rule(q, port, IPT_OUT if out else IPT_IN, ["MARK --set-mark 5", "CONNMARK --set-mark 7", "ACCEPT", "DROP", "TTL --ttl-set 9", "TCPMSS --set-mss 600"])))
        if r.random() < 0.15:
            self.tables["raw"] = []
            self.add("raw", "PREROUTING", *for_ports(r, SERVERS, lambda q, port: ipt_rule(q, port, [IPT_IN[0]], ["CT --notrack", "DROP", "ACCEPT"])))
        if r.random() < 0.4:
            self.tables["nat"] = []
            kind = r.random()
            if kind < 0.5:
                self.add("nat", "PREROUTING", *("-p tcp --dport %d -j REDIRECT --to-ports %d" % (port + REDIRECTED, port) for port in SERVERS))
            elif kind < 0.8:
                self.add("nat", "POSTROUTING", r.choice(["-s 172.17.0.0/16 -j MASQUERADE", "-d 10.78.0.3 -j MASQUERADE", "-d 10.78.0.0/24 -j SNAT --to-source " + SPARE]))
            else:
                self.add("nat", "OUTPUT", "-d 10.78.0.2 -p tcp -m multiport --dports %d,%d -j DNAT --to-destination 10.78.0.3" % PEERS)

    def add(self, table, chain, *rules):
        self.tables[table] += ["-A %s %s" % (chain, rule) for rule in rules]

    def text(self, v6):
        foreign = "10.78." if v6 else "fd78::"
        without = (foreign, "172.17.", "--ttl", "4 src") if v6 else (foreign, "icmpv6", "6 src")
        out = ""
        for table, lines in self.tables.items():
            out += "*%s\n%s\nCOMMIT\n" % (table, "\n".join(line for line in lines if not any(w in line for w in without)))
        return out

    def load(self):
        if self.sets and not run(["ipset", "restore"], self.sets.IPSETS):
            return False
        return all(run([family + "-%s-restore" % self.flavour], self.text(family == "ip6tables")) for family in ("iptables", "ip6tables"))

    def __str__(self):
        return "iptables-%s\n%sip6tables-%s\n%s" % (self.flavour, self.text(False), self.flavour, self.text(True))


def run(argv, text):
    return subprocess.run(argv, input=text, text=True, capture_output=True).returncode == 0


def flush():
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    for family in ("ip", "ip6"):
        names = open("/proc/net/%s_tables_names" % family).read().split() if os.path.exists("/proc/net/%s_tables_names" % family) else []
        for table in names:
            for what in ("-F", "-X"):
                subprocess.run([family + "tables-legacy", "-t", table, what], check=True)
            if table == "filter":
                subprocess.run([family + "tables-legacy", "-P", "INPUT", "ACCEPT"], check=True)
    for _ in range(1000 if shutil.which("ipset") else 0):  # the rules that looked into them end a little later
        if run(["ipset", "restore"], "flush\ndestroy\n"):
            return


# ---- programs on the cgroup ----

BPF_PROG_LOAD, BPF_LINK_CREATE, SYS_BPF = 5, 28, 321
CGROUP_SKB, INGRESS, EGRESS = 8, 0, 1
SKB_LEN, SKB_LOCAL_PORT = 0, 136  # struct __sk_buff


def insn(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


def dropping(field, least, most):
    """Drops packets whose field is from least to most, and accepts others (1)."""
    return b"".join([insn(0x61, 2, 1, field), insn(0xb7, 0, 0, 0, 1), insn(0xa5, 2, 0, 2, least), insn(0x25, 2, 0, 1, most), insn(0xb7, 0, 0, 0, 0), insn(0x95)])


CGROUP_PROGRAMS = {
    "ingress: accept": (INGRESS, dropping(SKB_LEN, 1, 0)),
    "ingress: drop servers": (INGRESS, dropping(SKB_LOCAL_PORT, 7001, 7002)),
    "ingress: drop others": (INGRESS, dropping(SKB_LOCAL_PORT, 22, 22)),
    "ingress: drop what has 1 byte of payload": (INGRESS, dropping(SKB_LEN, 53, 53)),
    "egress: accept": (EGRESS, dropping(SKB_LEN, 1, 0)),
    "egress: drop servers": (EGRESS, dropping(SKB_LOCAL_PORT, 7001, 7002)),
    "egress: drop what has 1 byte of payload": (EGRESS, dropping(SKB_LEN, 53, 53)),
}
libc = ctypes.CDLL(None, use_errno=True)


def bpf(cmd, attr):
    buf = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    fd = libc.syscall(SYS_BPF, cmd, buf, 128)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return fd


class Cgroup:
    """A cgroup of our own; every program that is started from now on is in it, unless it is to be `empty`."""

    def __init__(self, top, empty=False):
        self.dir, self.links = os.path.join(top, "finesse-judged-%d" % os.getpid()), []
        self.parent = top
        os.mkdir(self.dir)
        if not empty:
            self.enter(self.dir, os.getpid())

    @staticmethod
    def enter(path, pid):
        with open(os.path.join(path, "cgroup.procs"), "w") as f:
            f.write(str(pid))

    def attach(self, name):
        where, code = CGROUP_PROGRAMS[name]
        text, license = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
        attr = struct.pack("<IIQQIIQII16sII", CGROUP_SKB, len(code) // 8, ctypes.addressof(text), ctypes.addressof(license), 0, 0, 0, 0, 0, b"judged", 0, where)
        prog = bpf(BPF_PROG_LOAD, attr)
        group = os.open(self.dir, os.O_RDONLY)
        try:
            self.links.append(bpf(BPF_LINK_CREATE, struct.pack("<IIII", prog, group, where, 0)))
        finally:
            os.close(prog)
            os.close(group)

    def detach(self):
        while self.links:
            os.close(self.links.pop())

    def leave(self):
        self.detach()
        for _ in range(100):  # a broker of finesse's may be about to end
            for pid in open(os.path.join(self.dir, "cgroup.procs")).read().split():
                try:
                    self.enter(self.parent, pid)
                except ProcessLookupError:
                    pass
            try:
                os.rmdir(self.dir)
                return
            except OSError as e:
                if e.errno != errno.EBUSY:
                    raise


class RuleSet:
    """One host: its rules, and perhaps a program on the cgroup."""

    def __init__(self, rules, program, cgroup):
        self.rules, self.program, self.cgroup = rules, program, cgroup

    @classmethod
    def generated(cls, r, cgroup, only=None):
        """`only`: of one kind."""
        import judged_sources  # it knows this module
        kind = only or r.choices(["nft", "sources", "iptables", "ipset"], [35, 25, 30, 10])[0]
        if kind == "nft":
            rules = Nft(r)
        elif kind == "sources":
            rules = judged_sources.Sources(r)
        else:
            rules = Iptables(r, r.choice(["nft", "legacy"]), judged_sources if kind == "ipset" and shutil.which("ipset") else None)
        return cls(rules, r.choice(sorted(CGROUP_PROGRAMS)) if r.random() < 0.12 else None, cgroup)

    def load(self):
        if self.cgroup:
            self.cgroup.detach()
        flush()
        if not self.rules.load():
            return False
        if self.cgroup and self.program:
            self.cgroup.attach(self.program)
        return True

    def kind(self):
        return self.rules.name + (" with " + self.program.split(":")[0] if self.cgroup and self.program else "")

    def __str__(self):
        return str(self.rules) + ("cgroup %s\n" % self.program if self.program else "")


def known(cgroup):
    """Hosts that finesse once got wrong: a program that looks beyond the SYN, answers to one client dropped where every SYN is let in."""
    yield RuleSet(Nft(None), "ingress: drop what has 1 byte of payload", cgroup)
    answers = Nft(None)
    answers.chain("out", "filter hook output priority 0")
    answers.add("out", "ip daddr 10.78.0.3 drop")
    yield RuleSet(answers, None, cgroup)
