#!/usr/bin/python3
"""Goodput over bad links, the engine as the sender and as the receiver against the kernel, with the same congestion control: a tool, no test.

Each path is tests/bridge with a delay, a loss or reordering, and behind it a bottleneck with a queue (tc's tbf). A row tells what arrived in so many seconds
from a kernel's sender to a kernel's receiver, then with the engine at either end, by turns, and the medians' ratios.

    goodput.py [--runs N] [--seconds N] [--only WORD[,WORD…]] [--congestion NAME[,NAME…]]

Ends with 77 without root. What a busy machine measures is worth its ratios at best.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "net"), str(HERE.parent / "apps")]
from case import wanted  # noqa: E402
from lab import SERVER_IP, Lab, LabError  # noqa: E402

PORT = 8090
MBIT = 50
SHALLOW, DEEP = 30000, 1000000  # bytes
# name, of the bridge both ways, towards the receiver only, queue
PATHS = (
    ("2ms deep", "delay=1ms", "", DEEP),
    ("2ms shallow", "delay=1ms", "", SHALLOW),
    ("20ms shallow", "delay=10ms", "", SHALLOW),
    ("20ms deep loss=0.1%", "delay=10ms", "loss=0.1%", DEEP),
    ("20ms deep loss=2%", "delay=10ms", "loss=2%", DEEP),
    ("20ms deep loss=5%", "delay=10ms", "loss=5%", DEEP),
    ("20ms deep reorder=3%", "delay=10ms", "reorder=3%", DEEP),
    ("20ms deep loss=2% reorder=5%", "delay=10ms", "loss=2%,reorder=5%", DEEP),
    ("200ms deep", "delay=100ms", "", DEEP),
    ("200ms deep loss=0.1%", "delay=100ms", "loss=0.1%", DEEP),
)
ROLES = (("kernel", False, False), ("engine sends", True, False), ("engine receives", False, True))

RECEIVER = """
import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(1)
c = s.accept()[0]
c.settimeout(5)
end, got, buffer = time.monotonic() + float(sys.argv[3]), 0, bytearray(1 << 18)
try:
    while time.monotonic() < end:
        n = c.recv_into(buffer)
        if not n: break
        got += n
except TimeoutError:
    pass
print(got)
"""
SENDER = """
import socket, sys, time
s = socket.socket()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, sys.argv[4].encode())
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(float(sys.argv[3]) + 5)
end, chunk = time.monotonic() + float(sys.argv[3]) + 1, bytes(1 << 16)
try:
    while time.monotonic() < end: s.sendall(chunk)
except OSError:
    pass
"""


def measure(path, congestion, sends, receives, seconds, seed):
    """Mbit/s."""
    _, both, there, queue = path
    way = "%s%s,seed=%d" % (both, "," + there if there else "", seed)
    with Lab(link=(way, "%s,seed=%d" % (both, seed + 1))) as lab:
        lab.middle.run(["tc", "qdisc", "add", "dev", "to-server", "root", "tbf", "rate", "%dmbit" % MBIT, "burst", "16kb", "limit", str(queue)])
        python = ["/usr/bin/python3", "-c"]
        receiver = lab.server.spawn([*python, RECEIVER, SERVER_IP, PORT, seconds], receives, stdout=subprocess.PIPE)
        lab.server.wait_listening(receiver, PORT, receives)
        sender = lab.client.spawn([*python, SENDER, SERVER_IP, PORT, seconds, congestion], sends)
        out, _ = receiver.communicate(timeout=seconds + 20)
        lab.processes.remove(receiver)
        lab.stop(sender)
        opens = lab.client.opens()[0] if sends else lab.server.opens()[1] if receives else 0
        if opens:
            raise LabError("the kernel's TCP carried it")
        return int(out) * 8 / seconds / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default="", help="words of paths; with +, all of them")
    parser.add_argument("--congestion", default="bbr,cubic,reno")
    args = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("tc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        print("skipped: needs root and tc")
        return 77
    print("%-7s %-30s %s" % ("", "%d Mbit/s" % MBIT, " ".join("%16s" % role[0] for role in ROLES)))
    for path in PATHS:
        if not wanted(path[0], args.only):
            continue
        for congestion in args.congestion.split(","):
            got = {role[0]: [] for role in ROLES}
            for run in range(args.runs):
                for name, sends, receives in ROLES:
                    got[name].append(measure(path, congestion, sends, receives, args.seconds, 1 + 2 * run))
            kernel = statistics.median(got["kernel"])
            cells = ["%9.2f" % kernel + " " * 7]
            cells += ["%9.2f (%4.2f)" % (statistics.median(got[r[0]]), statistics.median(got[r[0]]) / max(kernel, 0.01)) for r in ROLES[1:]]
            print("%-7s %-30s %s" % (congestion, path[0], " ".join(cells)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
