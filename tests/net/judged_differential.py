#!/usr/bin/env python3
"""
Generated rule sets (judged_rules.py), clients from outside against two servers behind them, and two clients behind them against servers outside: one of each of the kernel's TCP,
one of finesse's. Every verdict must be the same: opened, refused, silent, an error, and of a client behind the rules the address that its peer sees.

Run by judged_differential_test.sh inside the server's network namespace; CLIENT_NS names the other. Arguments: SEED COUNT [CGROUP2]. The seed is printed; the same
seed makes the same rule sets. JUDGED_KIND=nft|sources|iptables|ipset makes those of one kind alone.
"""
import collections
import ctypes
import os
import random
import subprocess
import sys
import threading

import judged_rules as rules_of

KERNEL, ENGINE = 0, 1  # of the pairs of ports
SERVER, SERVER6 = "10.78.0.1", "fd78::1"
CLIENTS = ["10.78.0.2", "10.78.0.2", "10.78.0.3", "10.78.0.2", "fd78::2"]
PEERS = ["10.78.0.2", "10.78.0.3", "fd78::2"]
TIMEOUT = 0.3  # seconds
PATIENCE = (2.5, 8, 20)  # and when the two differ; a connection that is left to the kernel on second thoughts comes by its second SYN

# A client may be cut off in the middle: the next one does not wait for it.
SERVE = """
import socket, sys, threading
def answer(c, peer):
    c.settimeout(20)
    try:
        c.recv(1)
        c.sendall(peer[0].encode() + b"\\n")
    except OSError:
        pass
    c.close()
def serve(port):
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::", port))
    s.listen(64)
    print("ready", flush=True)
    while True:
        threading.Thread(target=answer, args=s.accept(), daemon=True).start()
for port in sys.argv[2:]:
    threading.Thread(target=serve, args=(int(port),), daemon=True).start()
serve(int(sys.argv[1]))
"""

CONNECT = """
import errno, socket, sys
def one(to, port, source, timeout):
    s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
    s.settimeout(timeout)
    try:
        if source:
            s.bind((source, 0))
        s.connect((to, port))
        s.sendall(b"x")
        seen = s.makefile().readline().strip()
        return "open " + seen if seen else "closed"
    except (socket.timeout, TimeoutError):
        return "silent"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
    finally:
        s.close()
"""

CONNECT_ALL = CONNECT + """
for to in sys.argv[3:]:
    print(one(to, int(sys.argv[1]), None, float(sys.argv[2])), flush=True)
"""
exec(CONNECT)


def finesse():
    return [os.environ["FINESSE"], "run", "--interface", "server0", "--"]


def start(*ports, prefix=()):
    p = subprocess.Popen([*prefix, sys.executable, "-SEc", SERVE, *map(str, ports)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in ports:
        p.stdout.readline()
    return p


def enter(pid):
    fd = os.open("/proc/%s/ns/net" % pid, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):  # CLONE_NEWNET, of this thread
        raise OSError(ctypes.get_errno(), "setns")
    os.close(fd)


def from_outside(which, timeout, out):
    enter(os.environ["CLIENT_NS"])
    port = rules_of.SERVERS[which]
    for source in CLIENTS:
        out.append(one(SERVER6 if ":" in source else SERVER, port, source, timeout))
    out.append(one(SERVER, port + rules_of.REDIRECTED, "10.78.0.2", timeout))  # where a rule may redirect it from


def to_outside(which, timeout, out):
    argv = [*(finesse() if which == ENGINE else []), sys.executable, "-SEc", CONNECT_ALL, str(rules_of.PEERS[which]), str(timeout), *PEERS]
    out += subprocess.run(argv, capture_output=True, text=True, timeout=300).stdout.split("\n")[:-1]


def both(function, timeout):
    results = [], []
    threads = [threading.Thread(target=function, args=(which, timeout, results[which])) for which in (KERNEL, ENGINE)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def opens(name):
    text = subprocess.run(["nstat", "-asz", name], capture_output=True, text=True).stdout
    return int(text.split(name)[1].split()[0])


def opened(verdicts):
    return sum(v.startswith("open") for v in verdicts)


def attempt_servers(timeout):
    server = start(rules_of.SERVERS[ENGINE], prefix=finesse())
    before = opens("TcpPassiveOpens")
    kernel, engine = both(from_outside, timeout)
    by_kernel = opens("TcpPassiveOpens") - before - opened(kernel)
    server.kill()
    server.communicate()
    return kernel, engine, opened(engine), max(0, opened(engine) - max(0, by_kernel))


def attempt_clients(timeout):
    before = opens("TcpActiveOpens")
    kernel, engine = both(to_outside, timeout)
    by_kernel = opens("TcpActiveOpens") - before - len(PEERS)
    return kernel, engine, opened(engine), max(0, min(opened(engine), len(PEERS) - by_kernel))


class Side:
    """What was seen of servers, or of clients."""

    def __init__(self, name, attempt):
        self.name, self.attempt = name, attempt
        self.opened = self.carried = self.telling = self.differ = 0

    def look(self, rules):
        kernel, engine, n_open, n_carried = self.attempt(TIMEOUT)
        by_kernel, by_engine = {tuple(kernel)}, {tuple(engine)}
        for patience in PATIENCE:  # slow, or wrong? And what a count has forgotten depends on jiffies, for two servers of the kernel's as well
            if by_kernel.isdisjoint(by_engine):
                rules.load()
                kernel, engine, n_open, n_carried = self.attempt(patience)
                by_kernel.add(tuple(kernel))
                by_engine.add(tuple(engine))
        self.opened += n_open
        self.carried += n_carried
        self.telling += len(set(kernel)) > 1
        if by_kernel.isdisjoint(by_engine):
            self.differ += 1
            print("FAILED: %s: kernel %s, finesse %s, of rules\n%s" % (self.name, by_kernel, by_engine, rules))

    def __str__(self):
        return "%s: %d opened, %d of them by the engine; %d sets tell one from another; %d sets differ" % (self.name, self.opened, self.carried, self.telling, self.differ)


def look_at_all(r, count, cgroup, sides):
    kinds, refused = collections.Counter(), 0
    kind = os.environ.get("JUDGED_KIND")
    known = [] if kind else list(rules_of.known(cgroup))
    while sum(kinds.values()) < count and refused < 10 * count:
        rules = known.pop() if known else rules_of.RuleSet.generated(r, cgroup, kind)
        if not rules.load():  # a match that this kernel does not have
            refused += 1
            continue
        kinds[rules.kind()] += 1
        for side in sides:
            side.look(rules)
            rules.load()
    return kinds, refused


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    print("seed", seed)
    cgroup = rules_of.Cgroup(sys.argv[3]) if sys.argv[3:] else None
    native = [start(rules_of.SERVERS[KERNEL]), start(*rules_of.PEERS, prefix=["nsenter", "--net=/proc/%s/ns/net" % os.environ["CLIENT_NS"]])]
    sides = [Side("servers", attempt_servers), Side("clients", attempt_clients)]
    try:
        kinds, refused = look_at_all(random.Random(seed), count, cgroup, sides)
    finally:
        for p in native:
            p.kill()
            p.wait()
        if cgroup:
            cgroup.leave()
    print("%d rule sets (%d more were refused):" % (sum(kinds.values()), refused), ", ".join("%s %d" % k for k in kinds.most_common()))
    print(*sides, sep="\n")
    sys.exit(any(s.differ for s in sides) or sides[0].carried < count // 4 or sides[1].carried < count // 4)


main()
