#!/usr/bin/python3
"""System calls per request and per connection, of the end that runs under finesse, and the frames that it sends; the other end is on the kernel's TCP.

Calls are counted in the kernel by perf's tracepoints, which change nothing in how they are batched; frames by the interface (a super-segment is one). So the figures
compare on a busy machine, too, where times do not.
Several built trees are measured one after the other in every round, and the median is told:

    calls.py [--rounds N] [--seconds S] [--only WORD[,WORD…]] [--rules COMMAND] [TREE…]      "kernel" for a TREE: without finesse

With --rules each tree is measured on a host without rules and on one for which the command made rules (by sh in the server's network, "nft -f FILE" say), and the answers a second are told, too.
As root and with perf; 77 otherwise.
"""
import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys

from pathlib import Path

from loads import CLIENT_POOL, PORT, SERVER_IP, TOP, Lab, LabError, Server, Setup, generator_argv, start_nginx
import lab as lab_module  # found through loads

ALL = "raw_syscalls:sys_enter"
TRACED = ("accept4 bind bpf close connect epoll_ctl epoll_pwait epoll_wait fcntl futex getsockname getsockopt getpeername io_uring_enter ioctl "
          "newfstatat pread64 open openat poll ppoll prlimit64 read readv recvfrom recvmmsg recvmsg sendfile64 sendmmsg sendmsg sendto setsockopt shutdown socket write "
          "writev mmap munmap madvise dup fstat").split()
LEAST = 0.005  # calls a request that are worth a word


def events():
    have = Path("/sys/kernel/tracing/events/syscalls")
    return [ALL] + ["syscalls:sys_enter_" + c for c in TRACED if (have / ("sys_enter_" + c)).exists()]


def counts(text):
    """perf stat -x, output: calls by name."""
    out = {}
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit() and ":" in fields[2]:
            out[fields[2].rsplit(":", 1)[1].replace("sys_enter_", "")] = int(fields[0])
    out["all"] = out.pop("sys_enter", 0)
    return out


def perf(output, *argv):
    return ["perf", "stat", "-x,", "-o", output, "-e", ",".join(events()), *argv]


def descendants(pid):
    out = [pid]
    for p in out:
        for children in Path("/proc/%d/task" % p).glob("*/children"):
            out += [int(c) for c in children.read_text().split()]
    return out


def requests_of(out):
    m = re.search(r"(\d+) requests in", out) or re.search(r"Complete requests:\s+(\d+)", out) or re.search(r'"answers": (\d+)', out)
    if not m:
        raise LabError("no count in the client's output: %r" % out[-300:])
    return int(m.group(1))


def rate_of(out, n, seconds):
    """Answers a second: ab makes so many requests, and takes as long as it takes."""
    m = re.search(r"Requests per second:\s+([\d.]+)", out)
    return float(m.group(1)) if m else n / seconds


FRAMES = "frames sent"  # among the calls


class Count:
    """One row in one tree: the calls of one end, and its frames."""

    def __init__(self, lab, tree, seconds):
        self.lab, self.tree, self.seconds = lab, tree, seconds
        self.output = Path(lab.dir) / "perf.out"
        self.output.unlink(missing_ok=True)

    def setup(self, server):
        lab_module.TOP = Path(self.tree)
        return Setup(self.lab, server and self.tree != "kernel", False, self.seconds)

    def frames(self, host):
        fields = next(line for line in host.text(["cat", "/proc/net/dev"]).splitlines() if line.strip().startswith(host.interface + ":")).split(":")[1].split()
        return int(fields[9])

    def server(self, start, client):
        with start(self.setup(True)) as server:
            frames = self.frames(self.lab.server)
            pids = ",".join(str(p) for p in descendants(server.process.pid))
            counter = subprocess.Popen(perf(self.output, "-p", pids), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                out = self.run(client, ())
            finally:
                counter.send_signal(signal.SIGINT)
                counter.communicate(timeout=10)
            frames = self.frames(self.lab.server) - frames
        return out, {**counts(self.output.read_text()), FRAMES: frames}

    def client(self, start, client):
        with start(self.setup(False)):
            frames = self.frames(self.lab.client)
            out = self.run(client, perf(self.output, *self.under_finesse()))
            frames = self.frames(self.lab.client) - frames
        return out, {**counts(self.output.read_text()), FRAMES: frames}

    def under_finesse(self):
        return () if self.tree == "kernel" else (self.tree + "/finesse", "run", "--interface", self.lab.client.interface, "--")

    def run(self, argv, prefix):
        argv = argv(self.lab) if callable(argv) else argv
        p = self.lab.client.run([*prefix, *argv], timeout=30 + 10 * self.seconds)
        return p.stdout.decode(errors="replace")


def nginx(keepalive):
    return lambda setup: start_nginx(setup, keepalive)


def redis(setup):
    return Server(setup, ["redis-server", "--port", PORT, "--bind", SERVER_IP, "--save", "", "--appendonly", "no", "--protected-mode", "no"])


URL = "http://%s:%d/1k" % (SERVER_IP, PORT)


def wrk(connections, seconds):
    return ["wrk", "-t", "1", "-c", connections, "-d", "%ds" % seconds, URL]


def ab(seconds):
    return ["ab", "-q", "-B", CLIENT_POOL[0], "-c", "16", "-n", 4000 * seconds, URL]


def redis_benchmark(connections, seconds):
    return ["redis-benchmark", "-h", SERVER_IP, "-p", PORT, "-c", connections, "-n", 30000 * seconds, "-t", "get", "-d", 64, "--csv"]


def epoll(setup):
    return Server(setup, [TOP / "bench/epoll_server", SERVER_IP, PORT, "--close"])


def generator(seconds):
    return lambda lab: generator_argv(lab, seconds, True)


ROWS = [  # name, end that is counted, server, client
    ("server, nginx, wrk keep-alive 64", "server", nginx(65), lambda s: wrk(64, s)),
    ("server, nginx, wrk keep-alive 1", "server", nginx(65), lambda s: wrk(1, s)),
    ("server, redis, 64", "server", redis, lambda s: redis_benchmark(64, s)),
    ("server, nginx, wrk close 50", "server", nginx(0), lambda s: wrk(50, s)),
    ("server, nginx, ab close 16", "server", nginx(0), ab),
    ("server, nginx, generator close 64", "server", nginx(0), generator),
    ("server, epoll, generator close 64", "server", epoll, generator),
    ("client, wrk keep-alive 64", "client", nginx(65), lambda s: wrk(64, s)),
    ("client, wrk close 50", "client", nginx(0), lambda s: wrk(50, s)),
    ("client, ab close 16", "client", nginx(0), ab),
    ("client, redis-benchmark 64", "client", redis, lambda s: redis_benchmark(64, s)),
]


def measure(row, variant, seconds):
    name, end, start, client = row
    tree, rules = variant
    with Lab(client_pool=True) as lab:
        if rules:
            lab.server.run(["sh", "-c", rules])
        argv = client(seconds)
        out, calls = getattr(Count(lab, tree, seconds), end)(start, argv)
        n = 30000 * seconds if isinstance(argv, list) and argv[0] == "redis-benchmark" else requests_of(out)
    return {call: count / n for call, count in calls.items()} | {"answers": rate_of(out, n, seconds)}


def tell(row, variants, samples):
    print(row[0])
    for variant in variants:
        got = samples[variant]
        calls = {c: statistics.median(s.get(c, 0) for s in got) for c in {c for s in got for c in s}}
        answers = calls.pop("answers")
        each = sorted(((v, c) for c, v in calls.items() if c not in ("all", FRAMES) and v >= LEAST), reverse=True)
        name = Path(variant[0]).name + (", rules" if variant[1] else "")
        rate = "   %d/s" % answers if any(v[1] for v in variants) else ""
        print("  %-28s %6.2f   %s %.2f   %s%s" % (name, calls.get("all", 0), FRAMES, calls.get(FRAMES, 0), " ".join("%s %.2f" % (c, v) for v, c in each), rate), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--rules")
    parser.add_argument("trees", nargs="*", default=[str(lab_module.TOP)])
    args = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("perf"):
        print("calls: needs root (it makes network namespaces), and perf", file=sys.stderr)
        return 77
    args.trees = [tree if tree == "kernel" else str(Path(tree).resolve()) for tree in args.trees]
    variants = [(tree, rules) for tree in args.trees for rules in ([None, args.rules] if args.rules else [None])]
    words = [w for w in args.only.split(",") if w]
    for row in ROWS:
        if words and not any(w in row[0] for w in words):
            continue
        samples = {variant: [] for variant in variants}
        for _ in range(args.rounds):
            for variant in variants:
                samples[variant].append(measure(row, variant, args.seconds))
        tell(row, variants, samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
