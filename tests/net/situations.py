"""Hosts as they are: situations of networks and rules, each natively, with finesse at the server and with finesse at the client. What the two programs see must be the same.

A situation makes namespaces `server`, `client` and where it needs one `router`, starts the two programs (situations_end.py) and has them serve, connect and exchange data, with changes of the network between.
KERNELS says of which end connections are meant to be the kernel's, with a word of the reason that `finesse stat` must have; all others must be the engine's.
"""
import concurrent.futures
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from lab import finesse_command, Host, LabError, tally  # noqa: E402

PORT, CLOSED = 7000, 7001
PIECE = 100000
SILENCE = "wait=0.7"
ANSWER_S = 40
AT_ONCE = 5


class Program:
    """One of the two."""

    def __init__(self, host, finesse):
        self.host = host
        argv = [sys.executable, "-SE", os.path.join(HERE, "situations_end.py")]
        if finesse:
            argv = finesse_command() + ["run", "--"] + argv
        self.process = host.spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.answer()

    def answer(self):
        line = []
        reader = threading.Thread(target=lambda: line.append(self.process.stdout.readline().decode().strip()), daemon=True)
        reader.start()
        reader.join(ANSWER_S)
        return line[0] if line and line[0] else "hangs" if not line else "died"

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()


class Run:
    """One situation, one way."""

    def __init__(self, finesse):
        self.finesse, self.seen = finesse, []
        self.dir, self.processes = tempfile.mkdtemp(prefix="finesse-situation-"), []
        os.chmod(self.dir, 0o755)
        self.hosts = {}
        self.programs = {}

    def host(self, name):
        if name not in self.hosts:
            self.hosts[name] = Host(self, name)
        return self.hosts[name]

    def sh(self, name, script):
        """Commands of the host: a shell script."""
        return self.host(name).run(["sh", "-ec", script]).stdout.decode()

    def wire(self, a, a_name, b, b_name, *addresses):
        """A veth; addresses: "10.0.0.1/24" of a, of b, and so on in turn."""
        self.sh(a, "ip link add name %s type veth peer name %s netns %d" % (a_name, b_name, self.host(b).holder.pid))
        for host, name, own in ((a, a_name, addresses[0::2]), (b, b_name, addresses[1::2])):
            self.sh(host, "ip link set %s up\n" % name + "".join("ip addr add %s dev %s %s\n" % (o, name, "nodad" if ":" in o else "") for o in own))
        for host, own in ((a, addresses[0::2]), (b, addresses[1::2])):
            for o in own:
                if ":" in o:
                    self.sh(host, "until ip -6 route show table local type local | grep -q 'local %s '; do sleep 0.01; done" % o.split("/")[0])

    def start(self):
        for end in ("server", "client"):
            self.programs[end] = Program(self.host(end), self.finesse == end)

    def ask(self, end, text):
        p = self.programs[end]
        p.say(text)
        answer = p.answer()
        self.seen.append("%s: %s: %s" % (end, text, answer))
        return answer

    def server(self, text):
        return self.ask("server", text)

    def client(self, text):
        return self.ask("client", text)

    def usual(self, address, *options):
        """A connection that works, and one to a port where nobody listens."""
        o = "".join(" " + x for x in options)
        self.client("connect a %s %d%s" % (address, PORT, o))
        self.client("trip a %d" % PIECE)
        self.client("connect x %s %d%s" % (address, CLOSED, o))

    def until_silent(self, address, port, answer="nothing"):
        """New rules are obeyed within a second: asks until they are."""
        for _ in range(100):
            if self.client("connect x %s %d %s" % (address, port, SILENCE)) == answer:
                return
            self.seen.pop()
            time.sleep(0.05)
        self.seen.append("never: %s" % answer)

    def stat(self):
        p = self.programs[self.finesse].process
        out = subprocess.run(finesse_command() + ["stat", str(p.pid), "--json"], capture_output=True, timeout=20, check=False).stdout
        try:
            document = json.loads(out)
        except ValueError:
            return {}
        return document[0] if isinstance(document, list) and document else {}

    def close(self):
        for p in self.processes + [h.holder for h in self.hosts.values()]:
            p.kill()
            p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


NAT = """
nft -f - <<'END'
table ip nat {
  chain pre { type nat hook prerouting priority -100; iif "up0" tcp dport 8080 dnat to 172.17.0.2:7000; }
  chain post { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 oif "up0" masquerade; }
}
END
"""


def container(run, inside):
    """A bridge with one container, as Docker makes it; the other end is outside."""
    outside = "client" if inside == "server" else "server"
    run.sh("router", "ip link add name docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up; echo 1 >/proc/sys/net/ipv4/ip_forward")
    run.wire("router", "veth0", inside, "eth0")
    run.sh("router", "ip link set veth0 master docker0")
    run.sh(inside, "ip addr add 172.17.0.2/16 dev eth0; ip route add default via 172.17.0.1")
    run.wire("router", "up0", outside, "eth0", "192.0.2.1/24", "192.0.2.2/24")
    run.sh("router", NAT)


def bridge_published(run):
    container(run, "server")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 192.0.2.1 8080")
    run.client("trip a %d" % PIECE)
    run.client("connect x 192.0.2.1 %d" % CLOSED)


def bridge_masquerade(run):
    container(run, "client")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.usual("192.0.2.2")
    run.client("connect n 192.0.2.77 %d" % PORT)  # nobody's address: the router says so


def macvlan(run):
    """As Docker's driver makes it: the lower interface is the host's."""
    run.wire("router", "under0", "client", "eth0", "10.0.0.9/24", "10.0.0.2/24")
    run.sh("router", "ip link add name mv0 link under0 type macvlan mode bridge; ip link set mv0 netns %d" % run.host("server").holder.pid)
    run.sh("server", "ip link set mv0 up; ip addr add 10.0.0.1/24 dev mv0")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.usual("10.0.0.1")


def policy_source(run):
    """Two interfaces; answers leave by the one that the address belongs to."""
    run.wire("server", "a0", "client", "a0", "10.0.1.1/24", "10.0.1.2/24")
    run.wire("server", "b0", "client", "b0", "10.0.2.1/24", "10.0.2.2/24")
    run.sh("client", "ip addr add 10.9.9.9/32 dev lo; for i in all a0 b0; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done")
    run.sh("server", "ip rule add from 10.0.1.1 table 101; ip route add default via 10.0.1.2 table 101; ip rule add from 10.0.2.1 table 102; ip route add default via 10.0.2.2 table 102; ip route add default via 10.0.1.2")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    for address in ("10.0.1.1", "10.0.2.1"):
        run.usual(address, "from=10.9.9.9")


def policy_port(run):
    """A rule by port: the client's way to this port is not the one to others."""
    run.wire("client", "a0", "server", "a0", "10.0.1.2/24", "10.0.1.1/24")
    run.wire("client", "b0", "server", "b0", "10.0.2.2/24", "10.0.2.1/24")
    run.sh("server", "ip addr add 10.5.5.5/32 dev lo; for i in all a0 b0; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done")
    run.sh("client", "ip route add 10.5.5.5/32 via 10.0.1.9; ip neigh add 10.0.1.9 lladdr 02:00:00:00:00:99 dev a0; ip route add 10.5.5.5/32 via 10.0.2.1 table 103; ip rule add ipproto tcp dport %d table 103 pref 50" % PORT)
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.5.5.5 %d" % PORT)
    run.client("connect x 10.5.5.5 %d %s" % (CLOSED, SILENCE))


def policy_tos(run):
    run.wire("client", "a0", "server", "a0", "10.0.1.2/24", "10.0.1.1/24")
    run.sh("server", "ip addr add 10.5.5.5/32 dev lo")
    run.sh("client", "ip route add 10.5.5.5/32 via 10.0.1.9; ip neigh add 10.0.1.9 lladdr 02:00:00:00:00:99 dev a0; ip route add 10.5.5.5/32 via 10.0.1.1 table 103; ip rule add tos 0x10 table 103 pref 50")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.5.5.5 %d tos=16" % PORT)
    run.client("connect b 10.5.5.5 %d %s" % (PORT, SILENCE))


def policy_comes(run, end):
    """A rule by port, or a route that encapsulates, comes in the middle of connections, and goes."""
    run.wire("client", "a0", "server", "a0", "fd00::2/64", "fd00::1/64", "10.0.1.2/24", "10.0.1.1/24")
    for side in ("server", "client"):
        run.sh(side, "echo 1 >/proc/sys/net/ipv6/conf/all/seg6_enabled; echo 1 >/proc/sys/net/ipv6/conf/a0/seg6_enabled")
    run.sh("server", "ip -6 addr add fd05::5/128 dev lo nodad; ip -6 route add fd06::6/128 via fd00::2")
    run.sh("client", "ip -6 addr add fd06::6/128 dev lo nodad; ip -6 route add fd05::5/128 via fd00::1 metric 20")
    run.start()
    run.server("serve :: %d" % PORT)
    rule = {"client": "dport", "server": "sport"}[end]
    run.client("connect a 10.0.1.1 %d" % PORT)
    run.client("connect v fd05::5 %d" % PORT)
    for name in ("a", "v"):
        run.client("trip %s %d" % (name, PIECE))
    run.sh(end, "ip rule add ipproto tcp %s %d table 103 pref 50" % (rule, PORT))
    run.sh("client", "ip -6 route add fd05::5/128 encap seg6 mode inline segs fd00::1 via fd00::1 dev a0 metric 10")
    for name, address in (("b", "10.0.1.1"), ("w", "fd05::5")):
        run.client("connect %s %s %d" % (name, address, PORT))
    for name in ("a", "b", "v", "w"):
        run.client("trip %s %d" % (name, PIECE))
    run.sh(end, "ip rule del pref 50")
    run.sh("client", "ip -6 route del fd05::5/128 metric 10")
    for name in ("a", "b", "v", "w"):
        run.client("trip %s %d" % (name, PIECE))
    run.usual("10.0.1.1")
    run.usual("fd05::5")


def policy_comes_to_client(run):
    policy_comes(run, "client")


def policy_comes_to_server(run):
    policy_comes(run, "server")


def path_mtu(run):
    """A narrower link behind the router, which says so."""
    run.wire("router", "c0", "client", "eth0", "10.0.2.1/24", "10.0.2.2/24")
    run.wire("router", "s0", "server", "eth0", "10.0.1.1/24", "10.0.1.2/24")
    run.sh("router", "echo 1 >/proc/sys/net/ipv4/ip_forward; ip link set s0 mtu 1300")
    run.sh("server", "ip route add default via 10.0.1.1; ip link set eth0 mtu 1300")
    run.sh("client", "ip route add default via 10.0.2.1")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.usual("10.0.1.2")
    run.client("connect n 10.0.3.1 %d" % PORT)  # the router has no way


def multipath(run):
    run.wire("client", "a0", "server", "a0", "10.0.1.2/24", "10.0.1.1/24")
    run.wire("client", "b0", "server", "b0", "10.0.2.2/24", "10.0.2.1/24")
    run.sh("server", "ip addr add 10.5.5.5/32 dev lo; for i in all a0 b0; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done; ip addr add 10.0.2.1/24 dev b0 2>/dev/null || :; "
           "ip route add 10.6.6.6/32 nexthop via 10.0.1.2 nexthop via 10.0.2.2")
    run.sh("client", "ip addr add 10.6.6.6/32 dev lo; for i in all a0 b0; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done; echo 1 >/proc/sys/net/ipv4/fib_multipath_hash_policy; "
           "ip route add 10.5.5.5/32 nexthop via 10.0.1.1 nexthop via 10.0.2.1")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    for i in range(6):
        run.client("connect a%d 10.5.5.5 %d from=10.6.6.6" % (i, PORT))
        run.client("trip a%d 20000" % i)


def privacy(run):
    """Temporary addresses come first as a source, and one goes."""
    run.wire("server", "eth0", "client", "eth0", "fd00::1/64", "fd00::2/64")
    run.sh("client", "echo 2 >/proc/sys/net/ipv6/conf/eth0/use_tempaddr; ip -6 addr add fd00::211:22ff:fe33:4455/64 dev eth0 mngtmpaddr nodad valid_lft 1000 preferred_lft 900; "
           "until ip -6 addr show dev eth0 temporary -tentative | grep -q fd00; do sleep 0.01; done")
    run.start()
    run.server("serve :: %d" % PORT)
    answer = run.client("connect a fd00::1 %d" % PORT)
    source = answer.split()[2] if answer.startswith("connected") else ""
    own = run.sh("client", "ip -6 addr show dev eth0 temporary")
    run.seen[-1] = "client: connected from a temporary address: %s" % (bool(source) and source + "/" in own)
    run.client("trip a %d" % PIECE)
    run.client("connect x fd00::1 %d" % CLOSED)


def address_again(run):
    """The server's address goes and comes back in the middle of a connection."""
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.sh("server", "ip addr add 10.0.9.1/32 dev eth0")
    run.sh("client", "ip route add 10.0.9.1/32 via 10.0.0.1")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.0.9.1 %d" % PORT)
    run.client("trip a %d" % PIECE)
    run.sh("server", "ip addr del 10.0.9.1/32 dev eth0")
    run.client("connect b 10.0.9.1 %d %s" % (PORT, SILENCE))
    run.sh("server", "ip addr add 10.0.9.1/32 dev eth0")
    run.client("trip a %d" % PIECE)
    run.client("connect c 10.0.9.1 %d" % PORT)
    run.client("trip c %d" % PIECE)


def client_address_gone(run):
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.sh("client", "ip addr add 10.0.0.3/24 dev eth0")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.0.0.1 %d from=10.0.0.3" % PORT)
    run.client("trip a %d" % PIECE)
    run.sh("client", "ip addr del 10.0.0.3/24 dev eth0")
    run.client("connect b 10.0.0.1 %d from=10.0.0.3" % PORT)
    run.client("connect c 10.0.0.1 %d" % PORT)
    run.sh("client", "ip addr add 10.0.0.3/24 dev eth0")
    run.client("trip a %d" % PIECE)


def interface_changes(run):
    """Down and up, and another name, between the data of a connection, at either end."""
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.0.0.1 %d" % PORT)
    run.client("trip a %d" % PIECE)
    for end in ("server", "client"):
        run.sh(end, "ip link set eth0 down")
        run.client("connect b 10.0.0.1 %d %s" % (PORT, SILENCE))
        run.sh(end, "ip link set eth0 up")
        run.client("trip a %d" % PIECE)
        run.sh(end, "ip link set eth0 down; ip link set eth0 name other0; ip link set other0 up")
        run.client("trip a %d" % PIECE)
        run.client("connect c 10.0.0.1 %d" % PORT)
        run.client("trip c %d" % PIECE)
        run.sh(end, "ip link set other0 down; ip link set other0 name eth0; ip link set eth0 up")


def interface_leaves(run):
    """The server's interface goes to another namespace, and an equal one comes."""
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.0.0.1 %d" % PORT)
    run.client("trip a %d" % PIECE)
    run.host("router")
    run.sh("server", "ip link set eth0 netns %d" % run.host("router").holder.pid)
    run.client("connect b 10.0.0.1 %d %s" % (PORT, SILENCE))
    run.sh("router", "ip link set eth0 netns %d" % run.host("server").holder.pid)
    run.sh("server", "ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up")
    run.client("connect c 10.0.0.1 %d" % PORT)
    run.client("trip c %d" % PIECE)
    run.client("trip a %d" % PIECE)


def reverse_path(run):
    """rp_filter: a source whose way back is another interface is refused in silence."""
    run.wire("server", "a0", "client", "a0", "10.0.1.1/24", "10.0.1.2/24")
    run.wire("server", "b0", "client", "b0", "10.0.2.1/24", "10.0.2.2/24")
    run.sh("client", "ip addr add 10.9.9.9/32 dev lo; for i in all a0 b0; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done")
    run.sh("server", "ip route add 10.9.9.9/32 via 10.0.2.2; for i in all a0 b0; do echo 1 >/proc/sys/net/ipv4/conf/$i/rp_filter; done")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.0.1.1 %d from=10.9.9.9 %s" % (PORT, SILENCE))
    run.client("connect b 10.0.2.1 %d from=10.9.9.9" % PORT)
    run.client("trip b %d" % PIECE)
    run.sh("server", "for i in all a0 b0; do echo 2 >/proc/sys/net/ipv4/conf/$i/rp_filter; done")
    run.client("connect c 10.0.1.1 %d from=10.9.9.9" % PORT)
    run.client("trip c %d" % PIECE)


STATEFUL = """
nft -f - <<'END'
table inet t {
  chain in { type filter hook input priority 0; policy drop; ct state established,related accept; tcp dport %d accept; icmp type echo-request accept; }
  chain out { type filter hook output priority 0; policy accept; ct state established,related accept; }
}
END
"""


def rules_come_and_go(run):
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.server("serve 0.0.0.0 7002")
    run.usual("10.0.0.1")
    for k in range(2):
        run.sh("server", STATEFUL % PORT)
        run.client("trip a %d" % PIECE)
        run.client("connect b 10.0.0.1 %d" % PORT)
        run.client("trip b %d" % PIECE)
        run.until_silent("10.0.0.1", 7002)
        run.sh("server", "nft flush ruleset")
        run.client("trip a %d" % PIECE)
        run.client("trip b %d" % PIECE)
        run.client("connect c 10.0.0.1 7002")
        run.client("trip c %d" % PIECE)
    run.sh("client", STATEFUL % 9)
    run.client("trip a %d" % PIECE)
    run.client("connect d 10.0.0.1 %d" % PORT)
    run.client("trip d %d" % PIECE)


def rejects(run):
    """What rules answer: a reset, and each kind of unreachable."""
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.sh("server", "nft -f - <<'END'\ntable inet t { chain in { type filter hook input priority 0; tcp dport 7100 reject with tcp reset; tcp dport 7101 reject with icmp port-unreachable; "
           "tcp dport 7102 reject with icmp admin-prohibited; tcp dport 7103 reject with icmp host-unreachable; tcp dport 7104 reject with icmp net-unreachable; tcp dport 7105 reject with icmp prot-unreachable; }; }\nEND\n")
    run.start()
    for port in range(7100, 7106):
        run.server("serve 0.0.0.0 %d" % port)
        run.client("connect a 10.0.0.1 %d" % port)
    run.server("serve 0.0.0.0 %d" % PORT)
    run.usual("10.0.0.1")


def rejects_out(run):
    """The client's own rules and routes."""
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24", "fd00::1/64", "fd00::2/64")
    run.sh("client", "nft -f - <<'END'\ntable inet t { chain out { type filter hook output priority 0; tcp dport 7100 drop; tcp dport 7101 reject with tcp reset; tcp dport 7102 reject; }; }\nEND\n"
           "ip route add prohibit 10.7.1.0/24; ip route add unreachable 10.7.2.0/24; ip route add blackhole 10.7.3.0/24; ip -6 route add prohibit fd07:1::/64; ip -6 route add unreachable fd07:2::/64; ip -6 route add blackhole fd07:3::/64")
    run.start()
    run.server("serve :: %d" % PORT)
    run.client("connect a 10.0.0.1 7100 %s" % SILENCE)
    for port in (7101, 7102):
        run.client("connect a 10.0.0.1 %d" % port)
    for a in ("10.7.1.1", "10.7.2.1", "10.7.3.1", "10.8.0.1", "fd07:1::1", "fd07:2::1", "fd07:3::1", "fd08::1"):
        run.client("connect b %s %d" % (a, PORT))
    run.usual("10.0.0.1")
    run.usual("fd00::1")
    run.client("connect n 10.0.0.77 %d" % PORT)  # nobody answers the question who has it


def conntrack_helper(run):
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.sh("server", "nft -f - <<'END'\ntable inet t { ct helper f { type \"ftp\" protocol tcp; }\n chain pre { type filter hook prerouting priority -150; tcp dport %d ct helper set \"f\"; }; }\nEND\n" % PORT)
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.usual("10.0.0.1")


def loopback_aliases(run):
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.sh("server", "ip addr add 10.50.0.1/32 dev lo; ip addr add 10.51.0.0/24 dev lo; ip route add local 10.52.0.0/24 dev lo")
    run.sh("client", "for n in 10.50.0.1/32 10.51.0.0/24 10.52.0.0/24 127.0.0.2/32; do ip route add $n via 10.0.0.1 2>/dev/null || :; done")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.server("serve 127.0.0.5 7005")
    for a in ("10.50.0.1", "10.51.0.0", "10.51.0.7", "10.52.0.7"):
        run.usual(a)


def dnat_to_server(run):
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.sh("server", "ip addr add 10.0.0.5/24 dev eth0; nft -f - <<'END'\ntable ip nat { chain pre { type nat hook prerouting priority -100; tcp dport 8080 redirect to :7000; tcp dport 8081 dnat to 10.0.0.5:7000; tcp dport 8082 dnat to 127.0.0.1:7000; }; }\nEND\n")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    for port in (8080, 8081):
        run.client("connect a 10.0.0.1 %d" % port)
        run.client("trip a %d" % PIECE)
    run.client("connect l 10.0.0.1 8082 %s" % SILENCE)
    run.usual("10.0.0.1")


def tproxy(run):
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24")
    run.sh("client", "ip route add default via 10.0.0.1")
    run.sh("server", "ip rule add fwmark 1 lookup 100; ip route add local 0.0.0.0/0 dev lo table 100; nft -f - <<'END'\n"
           "table ip t { chain pre { type filter hook prerouting priority -150; tcp dport 80 tproxy to :7000 meta mark set 1 accept; }; }\nEND\n")
    run.start()
    run.server("serve 0.0.0.0 %d transparent=1" % PORT)
    run.client("connect a 203.0.113.7 80")
    run.client("trip a %d" % PIECE)
    run.client("connect b 10.0.0.1 %d" % PORT)
    run.client("trip b %d" % PIECE)


def vxlan(run):
    run.wire("server", "under0", "client", "under0", "10.0.1.1/24", "10.0.1.2/24")
    for end, mine, other, own in (("server", "10.0.1.1", "10.0.1.2", "10.0.0.1"), ("client", "10.0.1.2", "10.0.1.1", "10.0.0.2")):
        run.sh(end, "ip link add name vx0 type vxlan id 5 dstport 4789 local %s remote %s dev under0; ip addr add %s/24 dev vx0; ip link set vx0 up" % (mine, other, own))
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.usual("10.0.0.1")
    run.usual("10.0.1.1")


def bound_to_device(run):
    run.wire("server", "a0", "client", "a0", "10.0.1.1/24", "10.0.1.2/24")
    run.wire("server", "b0", "client", "b0", "10.0.2.1/24", "10.0.2.2/24")
    run.start()
    run.server("serve 0.0.0.0 %d device=a0" % PORT)
    run.usual("10.0.1.1")
    run.client("connect b 10.0.2.1 %d" % PORT)
    run.client("connect c 10.0.1.1 %d device=a0" % PORT)
    run.client("connect d 10.0.1.1 %d device=b0" % PORT)


def marked(run):
    """SO_MARK chooses the way."""
    run.wire("client", "a0", "server", "a0", "10.0.1.2/24", "10.0.1.1/24")
    run.sh("server", "ip addr add 10.5.5.5/32 dev lo")
    run.sh("client", "ip route add unreachable 10.5.5.5/32; ip route add 10.5.5.5/32 via 10.0.1.1 table 103; ip rule add fwmark 7 table 103 pref 50")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    run.client("connect a 10.5.5.5 %d mark=7" % PORT)
    run.client("connect b 10.5.5.5 %d" % PORT)


def multipath_marked(run):
    """SO_MARK chooses between two next hops, and so between two sources."""
    run.wire("client", "a0", "server", "a0", "10.0.1.2/24", "10.0.1.1/24")
    run.wire("client", "b0", "server", "b0", "10.0.2.2/24", "10.0.2.1/24")
    run.sh("server", "ip addr add 10.5.5.5/32 dev lo")
    run.sh("client", "ip route add 10.5.5.5/32 via 10.0.1.1; ip route add 10.5.5.5/32 via 10.0.2.1 table 103; ip rule add fwmark 7 table 103 pref 50")
    run.start()
    run.server("serve 0.0.0.0 %d" % PORT)
    for name, mark in (("a", ""), ("b", " mark=7"), ("c", " mark=8"), ("d", " mark=7")):
        answer = run.client("connect %s 10.5.5.5 %d%s" % (name, PORT, mark))
        run.seen[-1] = "client: mark%s: from %s" % (mark, answer.split()[2] if answer.startswith("connected") else answer)
        run.client("trip %s %d" % (name, PIECE))


def ipsec(run):
    """Policies that the host must not go without: block stands for one that asks for encryption. They come, and go, in the middle as well."""
    run.wire("server", "eth0", "client", "eth0", "10.0.0.1/24", "10.0.0.2/24", "fd00::1/64", "fd00::2/64")
    run.sh("server", "ip xfrm policy add src 10.0.0.2 dst 10.0.0.1 proto tcp dport 7004 dir in action block; ip xfrm policy add src 10.0.0.2 dst 10.0.0.1 proto tcp dport %d dir in action allow" % PORT)
    run.sh("client", "ip xfrm policy add src 10.0.0.0/24 dst 10.0.0.1 proto tcp dport 7005 dir out action block")
    run.start()
    run.server("serve :: %d" % PORT)
    run.server("serve :: 7004")
    run.client("connect a 10.0.0.1 7004 %s" % SILENCE)
    run.client("connect b 10.0.0.1 7005")
    run.usual("10.0.0.1")
    run.usual("fd00::1")
    run.sh("server", "ip xfrm policy add src fd00::2 dst fd00::1 dir in action block")
    run.until_silent("fd00::1", PORT)
    run.sh("server", "ip xfrm policy flush")
    run.client("trip a %d" % PIECE)
    run.sh("client", "ip xfrm policy add dst fd00::1 dir out action block")
    run.until_silent("fd00::1", PORT, "EPERM")
    run.client("connect a 10.0.0.1 %d" % PORT)
    run.sh("client", "ip xfrm policy flush")
    run.client("trip a %d" % PIECE)


def encapsulated(run):
    """A route that puts a header before the packet."""
    run.wire("client", "a0", "server", "a0", "fd00::2/64", "fd00::1/64", "10.0.1.2/24", "10.0.1.1/24")
    run.sh("server", "ip -6 addr add fd05::5/128 dev lo nodad; echo 1 >/proc/sys/net/ipv6/conf/all/seg6_enabled; echo 1 >/proc/sys/net/ipv6/conf/a0/seg6_enabled")
    run.sh("client", "ip -6 route add fd05::5/128 encap seg6 mode inline segs fd00::1 dev a0 via fd00::1")
    run.start()
    run.server("serve :: %d" % PORT)
    run.usual("fd05::5")


SITUATIONS = [bridge_published, bridge_masquerade, macvlan, vxlan, policy_source, policy_port, policy_tos, policy_comes_to_client, policy_comes_to_server, encapsulated, marked, multipath_marked, path_mtu,
              multipath, privacy, address_again, client_address_gone, interface_changes, interface_leaves, reverse_path, rules_come_and_go, rejects, rejects_out, ipsec, conntrack_helper,
              loopback_aliases, dnat_to_server, tproxy, bound_to_device]

# Where an end's connections are the kernel's, all or some: a word of the reason that `finesse stat` has, or "" where that is policy (an address that no served interface has, a way that is none).
KERNELS = {
    (policy_source, "client"): "",
    (policy_port, "client"): "ip rule",
    (policy_port, "server"): "",
    (policy_tos, "client"): "ip rule",
    (policy_tos, "server"): "",
    (policy_comes_to_client, "client"): "encap",
    (policy_comes_to_client, "server"): "",
    (policy_comes_to_server, "server"): "ip rule",
    (policy_comes_to_server, "client"): "encap",
    (encapsulated, "client"): "encap",
    (encapsulated, "server"): "",
    (marked, "client"): "",
    (marked, "server"): "",
    (multipath_marked, "client"): "SO_MARK",
    (multipath_marked, "server"): "",
    (multipath, "client"): "",
    (multipath, "server"): "",
    (reverse_path, "client"): "",
    (rejects_out, "client"): "nftables chain inet t out drops",
    (rejects, "server"): "nftables chain inet t in rejects",
    (ipsec, "client"): "IPsec policy",
    (ipsec, "server"): "IPsec policy",
    (conntrack_helper, "server"): "nftables chain inet t pre",
    (loopback_aliases, "server"): "",
    (dnat_to_server, "server"): "",
    (tproxy, "server"): "IP_TRANSPARENT",
}


def once(situation, finesse):
    """What the programs saw, how many connections the kernel's TCP of the end under finesse made, and the reasons. None: it cannot be made here."""
    run = Run(finesse)
    try:
        situation(run)
        active, passive = run.host(finesse or "server").opens()
        reasons = [f["why"] for f in run.stat().get("fallbacks", [])] if finesse else []
        return run.seen, passive if finesse == "server" else active, reasons
    except LabError as e:
        return ["cannot be made: %s" % e] + run.seen, 0, []
    finally:
        run.close()


def judge(situation, natively, end, result):
    """Lines that tell what is wrong."""
    seen, opened, reasons = result
    wrong = ["natively %s, under finesse %s" % pair for pair in itertools.zip_longest(natively, seen, fillvalue="nothing more") if pair[0] != pair[1]]
    kernels = KERNELS.get((situation, end))
    if kernels is None and opened:
        wrong.append("%d connections were the kernel's, %s" % (opened, reasons))
    if kernels and not any(kernels in r for r in reasons):
        wrong.append("stat does not tell of '%s': %s" % (kernels, reasons))
    return wrong


def main():
    if os.geteuid() or not shutil.which("nft"):
        print("skipped: needs root and nft")
        return 77
    chosen = [s for s in SITUATIONS if len(sys.argv) == 1 or s.__name__ in sys.argv[1:]]
    checks = failures = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:  # what is started dies with the thread that started it, so they stay
        results = {(s, end): pool.submit(once, s, end) for s in chosen for end in (None, "server", "client")}
        for s in chosen:
            natively = results[s, None].result()[0]
            if natively and natively[0].startswith("cannot be made"):
                print("skipped: %s: %s" % (s.__name__, natively[0]))
                continue
            for end in ("server", "client"):
                wrong = judge(s, natively, end, results[s, end].result())
                checks, failures = checks + 1, failures + bool(wrong)
                print("%s: %s, finesse at the %s" % ("FAILED" if wrong else "ok", s.__name__, end))
                for line in wrong:
                    print("    " + line)
    return tally(checks, failures)


if __name__ == "__main__":
    sys.exit(main())
