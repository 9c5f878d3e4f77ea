#!/usr/bin/python3
"""Very many connections through one process, and processes that die.

- churn: connections opened, used and closed, in each role and with each side closing first, against the kernel's TCP: every one of them
  as it should be, carried by the engine, to one destination; and afterwards the engine's pools, its fds and the process's memory are what they were.
- crowd: 10,000 connections at once, with data on all, in each role and both.
- kills: a process under finesse, with traffic on every connection, ends at a random moment by SIGKILL, SIGTERM or exit: every peer hears of
  it, and nothing of it is left in the namespace.

    endurance.py [--only WORD[,WORD…]] [--connections N] [--crowd N] [--kills N] [--seed N] [--long]

--long: 10⁶ connections a case and 200 kills, and churn waits until TIME-WAIT is over. Ends with 77 without root.
"""
import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "net"), str(HERE.parent / "apps")]
from case import Failed, carried_by_the_engine, expect, judge, wanted  # noqa: E402
from lab import CLIENT_POOL, SERVER_IP, TOP, Lab, finesse_command  # noqa: E402
from unbroken import left_behind, wait_nothing_left  # noqa: E402

LOAD = TOP / "tests/endurance/load"
PORT = 7000
PARALLEL = 200
WARM_UP = 2000  # connections, before the start is measured: every client address has been seen
RATE_LEAST = 1000  # connections a second, for the time limit only; seen: 5,000 to 12,000
SETTLE_SECONDS = 15
TIME_WAIT_SECONDS = 75
TIME_WAIT_RSS = 512  # bytes of memory for one while it lasts: its entry, its places in tables
RSS_SLACK = 4 << 20
LOCALS = ("--locals", CLIENT_POOL[0], len(CLIENT_POOL))


def start_server(lab, finesse, *more, settings=()):
    p = lab.server.spawn([LOAD, "server", SERVER_IP, PORT, *more], finesse, settings, stdout=subprocess.DEVNULL,
                         stderr=open(Path(lab.dir) / "server.err", "wb"))
    lab.server.wait_listening(p, PORT, finesse)
    return p


def client_argv(lab, *more):
    return [LOAD, "client", SERVER_IP, PORT, *more]


def server_says(lab):
    return (Path(lab.dir) / "server.err").read_text()[-300:]


# ---- what a process holds ----

def kinds_of_fds(pid):
    """How many of each kind, but for what grows with the most there ever was, by design: leases of ports (one for 64 to 1024), tables of the classifier (doubled),
    eventfds (one for each thread that ever followed another in a wait for descriptors, at most 64)."""
    names = []
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            names.append(re.sub(r"\d+", "N", os.readlink("/proc/%d/fd/%s" % (pid, fd))))
        except FileNotFoundError:
            pass
    return collections.Counter(name for name in names if name not in ("anon_inode:bpf-map", "anon_inode:[eventfd]"))


class Holding:
    def __init__(self, host, p):
        leases = host.text(["cat", "/proc/net/unix"]).count("@finesse/ports/")
        self.kinds = kinds_of_fds(p.pid)
        self.fds = sum(self.kinds.values()) - leases
        document = host.stat(p.pid) if finesse_command() else {}
        memory = document.get("memory", {"in_use_bytes": 0, "objects": {}, "failures": 0})
        self.in_use, self.objects, self.failures = memory["in_use_bytes"], memory["objects"], memory["failures"]
        self.time_wait, self.time_wait_bytes = document.get("time_wait", 0), memory.get("time_wait_bytes", 0)
        self.connections = len(document.get("connections", ()))
        self.fallbacks = document.get("fallbacks")
        status = Path("/proc/%d/status" % p.pid).read_text()
        self.rss = int(status.split("VmRSS:")[1].split()[0]) * 1024

    def is_back(self, start):
        """Nothing more than at the start, but for TIME-WAIT."""
        return (self.connections, self.fds) == (start.connections, start.fds) and \
            self.in_use - self.time_wait_bytes <= start.in_use - start.time_wait_bytes

    def __str__(self):
        return "%d connections, %d TIME-WAITs, %d fds (%s), pool %d bytes in use (%s), RSS %d kB" % (
            self.connections, self.time_wait, self.fds, dict(self.kinds), self.in_use, self.objects, self.rss // 1024)


def settled(host, p):
    """What it holds when its last connection is over."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        now = Holding(host, p)
        if not now.connections:
            return now
        expect(time.monotonic() < end, "connections are left after %d s: %s" % (SETTLE_SECONDS, now))
        time.sleep(0.1)


def wait_back(host, p, start, seconds, until=lambda now: True):
    """Until the process holds what it held at the start."""
    end = time.monotonic() + seconds
    while True:
        now = Holding(host, p)
        if now.is_back(start) and until(now):
            return now
        expect(time.monotonic() < end, "not back to the start after %d s: %s; the start: %s" % (seconds, now, start))
        time.sleep(0.25)


def check_memory(start, end):
    grown = end.rss - start.rss
    expect(grown <= RSS_SLACK + end.time_wait * TIME_WAIT_RSS, "the process grew by %d kB: %s" % (grown // 1024, end))
    expect(end.failures == 0, "%d requests for memory were refused" % end.failures)
    expect(not end.fallbacks, "fell back: %s" % end.fallbacks)


# ---- churn ----

def run_client(lab, count, first, finesse, locals_, parallel=PARALLEL):
    argv = client_argv(lab, "--count", count, "--parallel", parallel, "--first", first, *locals_)
    p = lab.client.run(argv, finesse, timeout=30 + count / RATE_LEAST, check=False)
    try:
        result = json.loads(p.stdout)
    except ValueError:
        raise Failed("the client: %s; the server: %s" % (p.stderr.decode(errors="replace")[-300:], server_says(lab))) from None
    expect(result["connections"] == count and result["answers"] >= count, "%s; the server: %s" % (result, server_says(lab)))
    return result


def churn_server(lab, first, count, long):
    """The server under finesse. A kernel client that closes first needs many addresses; one is enough where we do."""
    server = start_server(lab, True, settings=("--close-policy", "off"))
    locals_ = LOCALS if first == "client" else ()
    run_client(lab, WARM_UP, first, False, LOCALS, 2 * PARALLEL)  # more at once: tables that follow the crowd have grown
    start = settled(lab.server, server)
    result = run_client(lab, count, first, False, locals_)
    carried_by_the_engine(lab, True, False)
    return tell_churn(lab.server, server, start, result, count, first == "server", long)


def churn_client(lab, first, count, long):
    """The client under finesse, to one address and port of a kernel server. It stays when it is done: measured while it lasts."""
    start_server(lab, False)
    client = lab.client.spawn(client_argv(lab, "--count", WARM_UP, "--again", count, "--parallel", 2 * PARALLEL, "--first", first), True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(Path(lab.dir) / "client.err", "wb"))
    def phase(n):
        line = client.stdout.readline()
        expect(line, "the client ended: %s" % (Path(lab.dir) / "client.err").read_text()[-300:])
        result = json.loads(line)
        expect(result["connections"] == n and result["answers"] == n, "%s; the server: %s" % (result, server_says(lab)))
        return result
    phase(WARM_UP)
    start = settled(lab.client, client)
    client.stdin.write(b"\n")
    client.stdin.flush()
    result = phase(count)
    carried_by_the_engine(lab, False, True)
    told = tell_churn(lab.client, client, start, result, count, first == "client", long)
    client.stdin.close()
    expect(client.wait(20) == 0, "the client's status")
    lab.processes.remove(client)
    return told


def tell_churn(host, p, start, result, count, we_close_first, long):
    end = wait_back(host, p, start, SETTLE_SECONDS)
    if we_close_first and finesse_command():
        expect(end.time_wait > 0, "we closed first and hold no TIME-WAIT: %s" % end)
    check_memory(start, end)
    told = "%d connections, %.0f a second; %d fds, pool %d → %d bytes, RSS %d → %d kB, %d TIME-WAITs" % (
        count, count / result["seconds"], end.fds, start.in_use, end.in_use, start.rss // 1024, end.rss // 1024, end.time_wait)
    if long and end.time_wait:
        over = wait_back(host, p, start, TIME_WAIT_SECONDS, lambda now: now.time_wait == 0)
        check_memory(start, over)
        told += "; after TIME-WAIT pool %d bytes, RSS %d kB" % (over.in_use, over.rss // 1024)
    return told


# ---- crowd ----

def crowd(lab, count, server, client):
    """All open, all with data, then three answers each, then all close."""
    p = start_server(lab, server)
    for first in ("client", "server"):
        argv = client_argv(lab, "--count", count, "--together", "--rounds", 3, "--first", first, *(() if client else LOCALS))
        got = lab.client.run(argv, client, timeout=120, check=False)
        expect(got.stdout, "the client: %s; the server: %s" % (got.stderr.decode(errors="replace")[-300:], server_says(lab)))
        result = json.loads(got.stdout)
        expect(result["connections"] == count and result["answers"] == 4 * count, "%s; the server: %s" % (result, server_says(lab)))
    carried_by_the_engine(lab, server, client)
    expect(p.poll() is None, "the server ended: %s" % server_says(lab))
    return "%d at once, %.1f s" % (count, result["seconds"])


# ---- kills ----

KILL_CONNECTIONS = 50
STEADY_MS = 20
HEARD_SECONDS = 30
ENDS = {"SIGKILL": (signal.SIGKILL, -signal.SIGKILL), "SIGTERM": (signal.SIGTERM, -signal.SIGTERM), "exit": (signal.SIGUSR1, 0)}


def hanging(lab, peer, dead):
    """For a failure: the peer's connections, what the dead one's kernel has of the same, and what is still there of it."""
    out = []
    for line in peer.text(["ss", "-Htno", "state", "established", "( sport = :%d or dport = :%d )" % (PORT, PORT)]).splitlines()[:5]:
        local, remote = line.split()[2:4]
        there = dead.text(["ss", "-Htano", "src", remote, "dst", local]).strip()
        out.append("%s; there: %s" % (" ".join(line.split()[1:]), there or "nothing"))
    return "%s; left behind: %s" % (" | ".join(out), left_behind(lab, dead))


def established(host):
    return len(host.text(["ss", "-Htn", "state", "established", "( sport = :%d or dport = :%d )" % (PORT, PORT)]).splitlines())


def wait_caught(p, number):
    """Until the program has its handler: before, the signal is a death of another kind."""
    end = time.monotonic() + HEARD_SECONDS
    while p.poll() is None and not int(Path("/proc/%d/status" % p.pid).read_text().split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1:
        expect(time.monotonic() < end, "the program does not handle signal %d" % number)
        time.sleep(0.005)


def kill_once(lab, rng, server_dies, how):
    """One process under finesse, the other the kernel's; the first ends at a random moment."""
    number, status = ENDS[how]
    server = start_server(lab, server_dies, "--steady", STEADY_MS)
    client = lab.client.spawn(client_argv(lab, "--count", KILL_CONNECTIONS, "--steady", STEADY_MS, *(LOCALS if server_dies else ())),
                              not server_dies, stdout=subprocess.PIPE)
    dies, peer = (server, client) if server_dies else (client, server)
    time.sleep(rng.uniform(0, 0.4))
    if how == "exit":
        wait_caught(dies, number)
    got = lab.stop(dies, number)
    expect(got == status or (not server_dies and got in (0, status)), "%s: status %d" % (how, got))
    end = time.monotonic() + HEARD_SECONDS
    if server_dies:
        try:
            client.wait(HEARD_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed("%s of the server: %d of its clients' connections still hang: %s" %
                         (how, established(lab.client), hanging(lab, lab.client, lab.server))) from None
        lab.processes.remove(client)
    else:
        while established(lab.server):
            expect(time.monotonic() < end, "%s of the client: %d of the server's connections still hang: %s" %
                   (how, established(lab.server), hanging(lab, lab.server, lab.client)))
            time.sleep(0.05)
    left = wait_nothing_left(lab, lab.server if server_dies else lab.client)
    expect(not left, "%s left behind: %s" % (how, ", ".join(left)))
    if peer.poll() is None:
        lab.stop(peer, signal.SIGKILL)


def kills(lab, count, seed, server_dies):
    rng, done = random.Random(seed), collections.Counter()
    for i in range(count):
        how = list(ENDS)[i % len(ENDS)]
        try:
            kill_once(lab, rng, server_dies, how)
        except Failed as e:
            raise Failed("number %d, seed %d: %s" % (i, seed, e)) from None
        done[how] += 1
    carried_by_the_engine(lab, server_dies, not server_dies)
    return ", ".join("%s × %d" % item for item in done.items())


def cases(args):
    n, long = args.connections, args.long
    for first in ("client", "server"):
        yield "churn: the server; the %s closes first" % first, lambda lab, f=first: churn_server(lab, f, n, long)
        yield "churn: the client; the %s closes first" % first, lambda lab, f=first: churn_client(lab, f, n, long)
    for role, server, client in (("the server", True, False), ("the client", False, True), ("both", True, True)):
        yield "crowd: %s" % role, lambda lab, s=server, c=client: crowd(lab, args.crowd, s, c)
    yield "kills: the server", lambda lab: kills(lab, args.kills, args.seed, True)
    yield "kills: the client", lambda lab: kills(lab, args.kills, args.seed, False)


def in_a_lab(function):
    with Lab(client_pool=True) as lab:
        return function(lab)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="words; with +, all of them")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--connections", type=int, help="of each churn; 5000, long 1000000")
    parser.add_argument("--crowd", type=int, help="2000, long 10000")
    parser.add_argument("--kills", type=int, help="of each role; 6, long 100")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.connections = args.connections or (1000000 if args.long else 5000)
    args.crowd = args.crowd or (10000 if args.long else 2000)
    args.kills = args.kills or (100 if args.long else 6)
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    if not shutil.which("nstat", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        print("skipped: needs nstat")
        return 77
    checks = failed = 0
    for name, function in cases(args):
        if not wanted(name, args.only):
            continue
        result = judge(name, lambda: in_a_lab(function))
        checks += 1
        failed += result.startswith("FAILED")
        print(result, flush=True)
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (checks - failed) // max(1, checks), checks, failed))
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
