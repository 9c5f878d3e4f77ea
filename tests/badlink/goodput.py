#!/usr/bin/python3
"""Goodput over bad links, the engine as the sender, as the receiver and at both ends against the kernel, with the same congestion control: a tool, no test.

Each path is tests/bridge, which knows by the kernel's stamps when a frame came, and tells how late it was: a run in which it was not in time does not count, and
is repeated. The bridge, the senders and the receivers run before all else (SCHED_FIFO), so that a busy machine disturbs little. A round is one transfer of each role *at the same time*, each over a link of its own, with the same seed: the n-th frame of each is
lost, so that rounds can be compared in pairs, and a busy machine is as busy for all. Two rounds run at once. A row is a path and a congestion control:

    bulk    Mbit/s that arrived within so many seconds of the first byte
    short   transfers of 100 kB one after the other, connect to end of file: Mbit/s of them
    fair    one of the kernel's and one of the engine's (of the kernel's again), connected before and started together, through one bottleneck: the ratio of what arrived

It tells the kernel's median, and of each role the median of the rounds' ratios to the kernel's, with the least and the greatest. `again` is the kernel once
more: what its ratio is off 1 is chance. A role may name another build, so that two are compared: sends@/path/to/finesse.

    goodput.py [--rounds N] [--seconds N] [--only WORD[,WORD…] | --row NAME[,NAME…]] [--congestion NAME[,NAME…]] [--roles NAME[,NAME…]] [--seed N] [--ordinary] [--info DIRECTORY]

Ends with 77 without root. A row takes some 15 seconds at 6 rounds. What a busy machine measures is worth its ratios at best.
"""
import argparse
import concurrent.futures
import contextlib
import os
import statistics
import subprocess
import sys
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "net"), str(HERE.parent / "apps")]
from case import wanted  # noqa: E402
from lab import SERVER_IP, Lab, LabError, die_with_parent  # noqa: E402

PORT = 8090
LATE_SHARE, LATEST_US = 0.05, 20000  # of a run that counts
TRIES = 3
AT_ONCE = 8
SHORT_BYTES = 100000


def path(name, rtt_ms, mbit, queue_bdp, seconds, there="", back="", kind="bulk"):
    """A row: half of the round trip each way, the bottleneck towards the receiver."""
    bdp = mbit * rtt_ms * 125
    delay = "delay=%dus" % (rtt_ms * 500)
    way = "%s,rate=%dmbit,queue=%d" % (delay, mbit, max(int(bdp * queue_bdp), 3000)) if queue_bdp is not None else "%s,rate=%dmbit" % (delay, mbit)
    return name, ",".join(filter(None, (way, there))), ",".join(filter(None, (delay, back))), seconds, kind


PATHS = (
    path("1ms clean", 1, 100, 4, 2),
    path("1ms shallow", 1, 100, 1, 2),
    path("1ms loss=1%", 1, 100, 4, 2, "loss=1%"),
    path("1ms loss=5%", 1, 100, 4, 2, "loss=5%"),
    path("20ms clean", 20, 40, 1, 3),
    path("20ms shallow", 20, 40, 0.25, 3),
    path("20ms deep", 20, 40, 4, 3),
    path("20ms loss=0.1%", 20, 40, 1, 4, "loss=0.1%"),
    path("20ms loss=1%", 20, 40, 1, 4, "loss=1%"),
    path("20ms loss=2%", 20, 40, 1, 4, "loss=2%"),
    path("20ms loss=5%", 20, 40, 1, 4, "loss=5%"),
    path("20ms reorder=5%", 20, 40, 1, 4, "reorder=5%"),
    path("20ms loss=2% reorder=5%", 20, 40, 1, 4, "loss=2%,reorder=5%"),
    path("100ms clean", 100, 20, 1, 5),
    path("100ms shallow", 100, 20, 0.25, 5),
    path("100ms deep loss=0.1%", 100, 20, 4, 5, "loss=0.1%"),
    path("100ms loss=1%", 100, 20, 1, 5, "loss=1%"),
    path("100ms loss=5%", 100, 20, 1, 5, "loss=5%"),
    path("100ms reorder=5%", 100, 20, 1, 5, "reorder=5%"),
    path("200ms deep", 200, 20, 4, 7),
    path("200ms clean", 200, 20, 1, 7),
    path("200ms loss=0.1%", 200, 20, 1, 7, "loss=0.1%"),
    path("200ms loss=2%", 200, 20, 1, 7, "loss=2%"),
    path("bufferbloat 20ms 5mbit", 20, 5, 40, 5),
    path("policed 20ms", 20, 20, 0, 5, "burst=60000"),
    path("policed 100ms", 100, 20, 0, 5, "burst=60000"),
    path("acks lost 20% 20ms", 20, 40, 1, 4, "", "loss=20%"),
    path("acks batched 10ms 20ms", 20, 40, 1, 4, "", "batch=10ms"),
    path("acks batched 10ms 20ms loss=1%", 20, 40, 1, 4, "loss=1%", "batch=10ms"),
    path("jitter 20ms", 20, 40, 1, 4, "jitter=10ms", "jitter=10ms"),
    path("short 20ms", 20, 40, 1, 4, "", "", "short"),
    path("short 20ms loss=2%", 20, 40, 1, 6, "loss=2%", "loss=2%", "short"),
    path("short 100ms loss=1%", 100, 20, 1, 10, "loss=1%", "loss=1%", "short"),
    path("fair 20ms", 20, 20, 1, 8, "", "", "fair"),
    path("fair 20ms deep", 20, 20, 4, 8, "", "", "fair"),
    path("fair 20ms shallow", 20, 20, 0.25, 8, "", "", "fair"),
    path("fair 100ms", 100, 20, 1, 12, "", "", "fair"),
)
# does the client's engine send, does the server's receive
ROLES = {"kernel": (False, False), "sends": (True, False), "receives": (False, True), "both": (True, True), "again": (False, False)}

RECEIVER = """
import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(8)
seconds, short, buffer, got = float(sys.argv[3]), sys.argv[4] == "short", bytearray(1 << 18), 0
while True:
    c = s.accept()[0]
    c.settimeout(seconds + 60)
    try:
        c.recv(1, 0 if short else socket.MSG_PEEK) # the clock runs from the first byte
        end = time.monotonic() + seconds
        c.settimeout(seconds + 5)
        while short or time.monotonic() < end:
            n = c.recv_into(buffer)
            if not n: break
            got += n
    except TimeoutError:
        pass
    if not short: break
    c.close()
print(got)
"""
SENDER = """
import json, socket, struct, sys, time
address, seconds, congestion, short, info = (sys.argv[1], int(sys.argv[2])), float(sys.argv[3]), sys.argv[4].encode(), sys.argv[5] == "short", sys.argv[6] == "1"
def fresh():
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion)
    s.settimeout(seconds + 5)
    return s
def look(s, at):
    b = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)
    w = struct.unpack_from("=24I4Q", b, 8)
    names = ("rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets", "a", "b", "c", "d", "pmtu", "rcv_ssthresh", "rtt", "rttvar", "ssthresh", "cwnd",
             "advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans", "pacing", "max_pacing", "acked", "received")
    d = {n: v for n, v in zip(names, w) if n in ("rtt", "rto", "ssthresh", "cwnd", "reordering", "total_retrans", "unacked", "lost", "sacked", "pacing", "acked")}
    d["at"], d["ca"], d["wmem"] = round(at, 3), b[1], struct.unpack("=9I", s.getsockopt(socket.SOL_SOCKET, 55, 36))[3]
    if len(b) >= 192:
        d["delivery"], d["busy"], d["rwnd"], d["snd"] = struct.unpack_from("=4Q", b, 160)
    print(json.dumps(d), file=sys.stderr, flush=True)
s = fresh()
if not short: s.connect(address)
print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic()
if short:
    done, spent = 0, 0
    while time.monotonic() < start + seconds:
        begin = time.monotonic()
        s.connect(address)
        s.sendall(bytes(%d))
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
        spent += time.monotonic() - begin
        done += 1
        s.close()
        s = fresh()
    print(done / spent)
else:
    chunk, next_look = bytes(1 << 14), 0
    try:
        while time.monotonic() < start + seconds + 2:
            s.sendall(chunk)
            if info and time.monotonic() - start >= next_look:
                look(s, time.monotonic() - start)
                next_look = time.monotonic() - start + 0.05
    except OSError:
        pass
""" % SHORT_BYTES


class Late(Exception):
    pass


class First:
    """What is started inside of it runs before all that is not."""

    def __enter__(self):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    def __exit__(self, *_):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Transfer:
    """One sender and its receiver in a lab."""

    def __init__(self, lab, port, row, congestion, sends, receives, seconds, info):
        python = ["/usr/bin/python3", "-c"]
        kind = row[4]
        self.lab, self.short, self.seconds = lab, kind == "short", seconds
        self.receiver = lab.server.spawn([*python, RECEIVER, SERVER_IP, port, seconds, kind], receives, stdout=subprocess.PIPE)
        lab.server.wait_listening(self.receiver, port, receives)
        self.sender = lab.client.spawn([*python, SENDER, SERVER_IP, port, seconds, congestion, kind, "1" if info else "0"], sends,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(info, "w") if info else None)
        if self.sender.stdout.readline() != b"ready\n":
            raise LabError("the sender did not start")

    def go(self):
        self.sender.stdin.write(b"\n")
        self.sender.stdin.flush()

    def end(self):
        """Mbit/s."""
        if self.short:
            rate = float(self.sender.communicate(timeout=self.seconds + 60)[0])
            self.lab.processes.remove(self.sender)
            return rate * SHORT_BYTES * 8 / 1e6
        got = int(self.receiver.communicate(timeout=self.seconds + 60)[0])
        self.lab.processes.remove(self.receiver)
        return got * 8 / self.seconds / 1e6


def check_in_time(lab):
    for way in lab.bridge_counters().values():
        if way["late"] > LATE_SHARE * way["frames"] or way["latest_us"] > LATEST_US:
            raise Late("%d of %d frames late, %d us" % (way["late"], way["frames"], way["latest_us"]))


def measure(row, congestion, role, seconds, seed, info, ordinary):
    _, there, back, _, kind = row
    name, _, other = role.partition("@")
    sends, receives = ROLES[name]
    if other:
        os.environ["FINESSE"] = other
    else:
        os.environ.pop("FINESSE", None)
    with Lab(link=("%s,seed=%d" % (there, seed), "%s,seed=%d" % (back, seed))) as lab:
        os.sched_setscheduler(lab.bridge.pid, os.SCHED_FIFO, os.sched_param(2))
        with contextlib.nullcontext() if ordinary else First():
            transfers = [Transfer(lab, PORT, row, congestion, False, False, seconds, info and info + ".other")] if kind == "fair" else []
            transfers.append(Transfer(lab, PORT + len(transfers), row, congestion, sends, receives, seconds, info))
        for t in transfers:
            t.go()
        rates = [t.end() for t in transfers]
        of_kernel = kind == "fair"
        if (sends and lab.client.opens()[0] > of_kernel) or (receives and lab.server.opens()[1] > of_kernel):
            raise LabError("the kernel's TCP carried it")
        check_in_time(lab)
        return rates[1] / max(rates[0], 0.001) if kind == "fair" else rates[0]


def measure_in_time(*args):
    """What was measured, and in how many runs the link was not in time."""
    for late in range(TRIES):
        try:
            return measure(*args), late
        except Late as why:
            said = why
    return None, "%d runs late, the last: %s" % (TRIES, said)


def ask(pool, row, congestion, roles, args):
    info = lambda role, n: "%s/%s.%s.%d" % (args.info, row[0].replace(" ", "_"), congestion + "." + role.replace("/", "_"), n) if args.info else ""  # noqa: E731
    seconds = args.seconds or row[3]
    return [[pool.submit(measure_in_time, row, congestion, role, seconds, args.seed + n, info(role, n), args.ordinary) for role in roles] for n in range(args.rounds)]


def tell(row, congestion, roles, rounds):
    voided, late = [], 0
    for one in rounds:
        late += sum(n for got, n in one if got is not None)
        voided += [n for got, n in one if got is None]
    rounds = [[got for got, _ in one] for one in rounds if all(got is not None for got, _ in one)]
    if not rounds:
        print("%-6s %-32s void: %s" % (congestion, row[0], voided[0]), flush=True)
        return
    cells = ["%8.2f" % statistics.median(one[0] for one in rounds)]
    for i in range(0 if row[4] == "fair" else 1, len(roles)):
        ratios = [one[i] if row[4] == "fair" else one[i] / max(one[0], 0.001) for one in rounds]
        cells.append("%5.2f (%4.2f–%4.2f)" % (statistics.median(ratios), min(ratios), max(ratios)))
    if row[4] == "fair":
        cells[0] = " " * 8
    print("%-6s %-32s %s  %d rounds%s" % (congestion, row[0], " ".join(cells), len(rounds), ", %d late runs repeated" % late if late else ""), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0, help="of each transfer; else the row's own")
    parser.add_argument("--only", default="", help="words of paths; with +, all of them")
    parser.add_argument("--row", default="", help="names of paths, with commas between")
    parser.add_argument("--congestion", default="bbr,cubic,reno")
    parser.add_argument("--roles", default="sends,receives,both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--ordinary", action="store_true", help="senders and receivers at the priority of all others: what a busy machine does to them")
    parser.add_argument("--info", default="", help="a directory for the senders' tcp_info, each 50 ms")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    roles = ["kernel"] + args.roles.split(",")
    print("load %.1f; the kernel's Mbit/s, and the ratio to it of: %s" % (os.getloadavg()[0], ", ".join(roles[1:])), flush=True)
    begin = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(args.at_once, initializer=die_with_parent) as pool:
        rows = [row for row in PATHS if row[0] in args.row.split(",") or (not args.row and wanted(row[0], args.only))]
        asked = [(row, congestion, ask(pool, row, congestion, roles, args)) for row in rows for congestion in args.congestion.split(",")]
        for row, congestion, rounds in asked:
            tell(row, congestion, roles, [[f.result() for f in one] for one in rounds])
    print("%.0f s, load %.1f" % (time.monotonic() - begin, os.getloadavg()[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
