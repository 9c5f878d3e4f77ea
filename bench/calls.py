#!/usr/bin/python3
"""System calls per request and per connection, of the end that runs under finesse; the other end is on the kernel's TCP.

Counted in the kernel by perf's tracepoints, which change nothing in how calls are batched; so the figures compare on a busy machine, too, where times do not.
Several built trees are measured one after the other in every round, and the median is told:

    calls.py [--rounds N] [--seconds S] [--only WORD[,WORD…]] [TREE…]      "kernel" for a TREE: without finesse

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

from loads import CLIENT_POOL, PORT, SERVER_IP, Lab, LabError, Server, Setup, start_nginx
import lab as lab_module  # found through loads

ALL = "raw_syscalls:sys_enter"
TRACED = ("accept4 bind bpf close connect epoll_ctl epoll_pwait epoll_wait fcntl futex getsockname getsockopt getpeername io_uring_enter ioctl "
          "newfstatat pread64 open openat poll ppoll read readv recvfrom recvmmsg recvmsg sendfile64 sendmmsg sendmsg sendto setsockopt shutdown socket write "
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
    m = re.search(r"(\d+) requests in", out) or re.search(r"Complete requests:\s+(\d+)", out)
    if not m:
        raise LabError("no count in the client's output: %r" % out[-300:])
    return int(m.group(1))


class Count:
    """One row in one tree: the calls of one end."""

    def __init__(self, lab, tree, seconds):
        self.lab, self.tree, self.seconds = lab, tree, seconds
        self.output = Path(lab.dir) / "perf.out"
        self.output.unlink(missing_ok=True)

    def setup(self, server):
        lab_module.TOP = Path(self.tree)
        return Setup(self.lab, server and self.tree != "kernel", False, self.seconds)

    def server(self, start, client):
        with start(self.setup(True)) as server:
            pids = ",".join(str(p) for p in descendants(server.process.pid))
            counter = subprocess.Popen(perf(self.output, "-p", pids), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                out = self.run(client, ())
            finally:
                counter.send_signal(signal.SIGINT)
                counter.communicate(timeout=10)
        return out, counts(self.output.read_text())

    def client(self, start, client):
        with start(self.setup(False)):
            out = self.run(client, perf(self.output, *self.under_finesse()))
        return out, counts(self.output.read_text())

    def under_finesse(self):
        return () if self.tree == "kernel" else (self.tree + "/finesse", "run", "--interface", self.lab.client.interface, "--")

    def run(self, argv, prefix):
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


ROWS = [  # name, end that is counted, server, client
    ("server, nginx, wrk keep-alive 64", "server", nginx(65), lambda s: wrk(64, s)),
    ("server, nginx, wrk keep-alive 1", "server", nginx(65), lambda s: wrk(1, s)),
    ("server, redis, 64", "server", redis, lambda s: redis_benchmark(64, s)),
    ("server, nginx, wrk close 50", "server", nginx(0), lambda s: wrk(50, s)),
    ("server, nginx, ab close 16", "server", nginx(0), ab),
    ("client, wrk keep-alive 64", "client", nginx(65), lambda s: wrk(64, s)),
    ("client, wrk close 50", "client", nginx(0), lambda s: wrk(50, s)),
    ("client, ab close 16", "client", nginx(0), ab),
    ("client, redis-benchmark 64", "client", redis, lambda s: redis_benchmark(64, s)),
]


def measure(row, tree, seconds):
    name, end, start, client = row
    with Lab(client_pool=True) as lab:
        argv = client(seconds)
        out, calls = getattr(Count(lab, tree, seconds), end)(start, argv)
        n = 30000 * seconds if argv[0] == "redis-benchmark" else requests_of(out)
    return {call: count / n for call, count in calls.items()}


def tell(row, trees, samples):
    print(row[0])
    for tree in trees:
        got = samples[tree]
        calls = {c: statistics.median(s.get(c, 0) for s in got) for c in {c for s in got for c in s}}
        each = sorted(((v, c) for c, v in calls.items() if c != "all" and v >= LEAST), reverse=True)
        print("  %-28s %6.2f   %s" % (Path(tree).name, calls.get("all", 0), " ".join("%s %.2f" % (c, v) for v, c in each)), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("trees", nargs="*", default=[str(lab_module.TOP)])
    args = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("perf"):
        print("calls: needs root (it makes network namespaces), and perf", file=sys.stderr)
        return 77
    words = [w for w in args.only.split(",") if w]
    for row in ROWS:
        if words and not any(w in row[0] for w in words):
            continue
        samples = {tree: [] for tree in args.trees}
        for _ in range(args.rounds):
            for tree in args.trees:
                samples[tree].append(measure(row, tree, args.seconds))
        tell(row, args.trees, samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
