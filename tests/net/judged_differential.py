#!/usr/bin/env python3
"""
Generated rule sets, and clients against two servers behind them: one of the kernel's TCP, one of finesse's. Every verdict must be the same.

Each rule set has the same rules for either port, so that limits and counts are each server's own. Run by judged_differential_test.sh inside the server's network
namespace; CLIENT_NS names the other. Arguments: SEED COUNT. The seed is printed; the same seed makes the same rule sets.
"""
import ctypes
import os
import random
import socket
import subprocess
import sys
import threading

KERNEL, ENGINE = 7002, 7001
SERVER, SERVER6 = "10.78.0.1", "fd78::1"
CLIENTS = ["10.78.0.2", "10.78.0.2", "10.78.0.3", "10.78.0.2", "fd78::2"]
AGAIN = 3
TIMEOUT, PATIENCE = 0.3, 2.5  # seconds; a connection that is left to the kernel on second thoughts comes by its second SYN

SERVE = """
import socket, sys
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", int(sys.argv[1])))
s.listen(64)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.settimeout(1)
    try:
        c.recv(1)
        c.sendall(b"k")
    except OSError:
        pass
    c.close()
"""


def start(port, *prefix):
    p = subprocess.Popen([*prefix, sys.executable, "-SEc", SERVE, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    return p


def matches(r):
    return [r.choice(m) for m in r.sample(MATCHES, r.choice([0, 1, 1, 1, 2]))]


MATCHES = [
    ["ip saddr 10.78.0.2", "ip saddr != 10.78.0.2", "ip saddr { 10.78.0.3, 192.0.2.0/24 }", "ip saddr 10.78.0.0/31", "ip6 saddr fd78::2", "ip saddr @friends", "ip saddr != @friends"],
    ["ct state new", "ct state established,related", "ct state invalid", "ct state { new, untracked }", "ct direction original"],
    ["tcp sport 1024-65535", "tcp sport 1-1023", "tcp sport != 22", "tcp flags syn", "tcp flags & (syn|ack) == syn"],
    ["limit rate 2/minute burst 2 packets", "limit rate over 2/minute burst 2 packets", "ct count over 2", "ct count 2"],
    ["iifname \"server0\"", "iifname != \"lo\"", "meta nfproto ipv4", "meta nfproto ipv6", "meta mark 5", "meta mark != 5", "fib daddr type local"],
]
VERDICTS = ["accept", "accept", "accept", "drop", "drop", "reject", "reject with tcp reset", "counter", "jump other", "return", "meta mark set 5", "ct mark set 7"]


def rule(r, port):
    to = r.choice(["", "tcp dport %d ", "tcp dport %d ", "tcp dport { 22, %d } ", "meta l4proto tcp "])
    text = " ".join(matches(r)) + " " + r.choice(VERDICTS)
    if "limit" in text or "count" in text:  # what it remembers is of one port
        to = "tcp dport %d "
    return to.replace("%d", str(port)) + text


def ruleset(r):
    """The same choices for each of the two ports."""
    seed = r.random()
    lines = ["add table inet t", "add set inet t friends { type ipv4_addr; elements = { 10.78.0.3 } }", "add chain inet t other"]
    q = random.Random(seed)
    policy = q.choice(["accept", "accept", "drop"])
    lines += ["add chain inet t in { type filter hook input priority 0; policy %s; }" % policy, "add rule inet t in iif lo accept"]
    if q.random() < 0.7:
        lines.append("add rule inet t in ct state established,related accept")
    if q.random() < 0.5:
        lines.append("add rule inet t in ip6 nexthdr icmpv6 accept")
    chains = ["in"] * q.randint(1, 4) + ["other"] * q.randint(0, 2)
    if q.random() < 0.2:
        lines.append("add chain inet t pre { type filter hook prerouting priority %d; }" % q.choice([-300, -150]))
        chains.append("pre")
    if q.random() < 0.2:
        lines.append("add chain inet t out { type filter hook output priority 0; policy accept; }")
        lines.append("add rule inet t out " + q.choice(["ct state established accept", "drop", "ip daddr 10.78.0.3 drop", "tcp sport 22 drop", "oifname \"lo\" accept"]))
    if q.random() < 0.3:
        lines.append("add chain inet t nat { type nat hook prerouting priority -100; }")
        for port in (KERNEL, ENGINE):
            lines.append(q.choice(["add rule inet t nat tcp dport {r} redirect to :{p}", "add rule inet t nat meta nfproto ipv4 tcp dport {r} dnat ip to %s:{p}" % SERVER]).format(r=port + 100, p=port))
    if q.random() < 0.1:
        lines += ["add chain inet t snat { type nat hook input priority 100; }", "add rule inet t snat ip saddr 10.78.0.3 snat ip to 10.78.0.9"]
    for chain in chains:
        inner = q.random()
        for port in (KERNEL, ENGINE):
            text = rule(random.Random(inner), port)
            if chain == "other":
                text = text.replace("jump other", "accept")
            lines.append("add rule inet t %s %s" % (chain, text))
    return "\n".join(lines) + "\n"


def load(rules):
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    p = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True)
    return p.returncode == 0


def one(source, port, timeout):
    v6 = ":" in source
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
    s.settimeout(timeout)
    try:
        s.bind((source, 0))
        s.connect((SERVER6 if v6 else SERVER, port))
        s.sendall(b"x")
        return "open" if s.recv(1) == b"k" else "closed"
    except ConnectionRefusedError:
        return "refused"
    except (socket.timeout, TimeoutError):
        return "silent"
    except OSError as e:
        return os.strerror(e.errno)
    finally:
        s.close()


def enter(pid):
    fd = os.open("/proc/%s/ns/net" % pid, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):  # CLONE_NEWNET, of this thread
        raise OSError(ctypes.get_errno(), "setns")
    os.close(fd)


def verdicts(port, timeout, out):
    enter(os.environ["CLIENT_NS"])
    for source in CLIENTS:
        out.append(one(source, port, timeout))
    out.append(one("10.78.0.2", port + 100, timeout))  # where a rule may redirect it from


def both(timeout):
    results = {KERNEL: [], ENGINE: []}
    threads = [threading.Thread(target=verdicts, args=(port, timeout, results[port])) for port in results]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results[KERNEL], results[ENGINE]


def passive_opens():
    text = subprocess.run(["nstat", "-asz", "TcpPassiveOpens"], capture_output=True, text=True).stdout
    return int(text.split("TcpPassiveOpens")[1].split()[0])


def attempt(rules, timeout):
    load(rules)
    server = start(ENGINE, os.environ["FINESSE"], "run", "--interface", "server0", "--")
    before = passive_opens()
    kernel, engine = both(timeout)
    opens = passive_opens() - before
    server.kill()
    server.wait()
    opened = sum(v == "open" for v in engine)
    return kernel, engine, opened, max(0, opened - max(0, opens - sum(v == "open" for v in kernel)))


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    print("seed", seed)
    r = random.Random(seed)
    native = start(KERNEL)
    done = carried = opened = differ = kinds = 0
    while done < count:
        rules = ruleset(r)
        if not load(rules):
            continue
        done += 1
        kernel, engine, n_open, n_carried = attempt(rules, TIMEOUT)
        for _ in range(AGAIN):  # slow, or wrong? And what `ct count` has forgotten depends on jiffies, for two servers of the kernel's as well
            if kernel != engine:
                kernel, engine, n_open, n_carried = attempt(rules, PATIENCE)
        opened += n_open
        carried += n_carried
        kinds += len(set(kernel)) > 1
        if kernel != engine:
            differ += 1
            print("FAILED: kernel %s, finesse %s, of rules\n%s" % (kernel, engine, rules))
    native.kill()
    print("%d rule sets, %d connections each; %d opened at finesse's server, %d of them by the engine; %d sets tell clients apart; %d sets differ"
          % (done, len(CLIENTS) + 1, opened, carried, kinds, differ))
    sys.exit(differ > 0 or carried < count // 4)


main()
