#!/usr/bin/python3
"""The settings of a network namespace (net.ipv4.tcp_* and the like): each is set in a fresh one, and a client there connects, natively and under finesse.

What it reads of its socket and what its SYN says, as a capture at the peer has it, must be the same. The last rounds change a setting while the program runs.
"""
import json
import os
import subprocess
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import Capture, finesse_command, Lab, LabError, SERVER_IP, SYN, tally  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "namespace_end.py")]
PORT = 7300
PATIENCE = (1, 5, 20)  # seconds until a change is seen; longer when the two differ: a handshake that is slow moves the RTO, and a program that is starved sees late

# What is written below /proc/sys/net before each connection of a program. The first is in force when the program starts.
CASES = [
    [""],
    ["ipv4/tcp_rmem=4096 131072 6291456"],
    ["ipv4/tcp_rmem=4096 131072 33554432"],
    ["ipv4/tcp_rmem=4096 65536 70000"],
    ["ipv4/tcp_rmem=4096 87380 16777216"],
    ["ipv4/tcp_rmem=4096 20000 30000"],
    ["ipv4/tcp_timestamps=0"],
    ["ipv4/tcp_sack=0"],
    ["ipv4/tcp_window_scaling=0"],
    ["ipv4/tcp_timestamps=0;ipv4/tcp_sack=0;ipv4/tcp_window_scaling=0"],
    ["ipv4/tcp_keepalive_time=11;ipv4/tcp_keepalive_intvl=12;ipv4/tcp_keepalive_probes=13"],
    ["ipv4/tcp_syn_retries=3;ipv4/tcp_fin_timeout=17"],
    ["ipv4/ip_default_ttl=77"],
    ["ipv4/tcp_rto_min_us=500000"],
    # … and again, while it runs.
    ["", "ipv4/tcp_timestamps=0", "ipv4/tcp_timestamps=1;ipv4/tcp_sack=0"],
    ["", "ipv4/tcp_rmem=4096 131072 6291456", "ipv4/tcp_keepalive_time=21"],
    ["", "ipv4/tcp_syn_retries=2"],
]


def serve(lab):
    """A greeting for each client."""
    code = ("import socket\n"
            "s = socket.create_server(('%s', %d), backlog=64)\n"
            "print('ready', flush=True)\n"
            "kept = []\n"
            "while True:\n"
            "    c, _ = s.accept()\n"
            "    c.send(b'x')\n"
            "    kept.append(c)\n" % (SERVER_IP, PORT))
    p = lab.server.spawn([sys.executable, "-c", code], stdout=subprocess.PIPE)
    if p.stdout.readline() != b"ready\n":
        raise LabError("the server did not start")


def is_out_of_reach(lab, rounds):
    """A setting that this kernel does not have."""
    return any(lab.client.run(["test", "-e", "/proc/sys/net/" + setting.split("=")[0]], check=False).returncode
               for r in rounds for setting in filter(None, r.split(";")))


def run(rounds, patience, finesse):
    """What the program saw, round by round, and the SYNs; None: this kernel lacks a setting."""
    with Lab() as lab:
        if is_out_of_reach(lab, rounds):
            return None
        lab.client.run(["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"])  # which every kernel and the engine have
        serve(lab)
        for setting in filter(None, rounds[0].split(";")):
            name, value = setting.split("=", 1)
            lab.client.run(["sh", "-c", "printf %s \"$1\" >/proc/sys/net/$0", name, value])
        before = lab.client.opens()
        with Capture(lab.server) as capture:
            p = lab.client.run(END + [SERVER_IP, str(PORT), str(patience)], finesse=finesse, settings=["--strict"], input=("\n" + "\n".join(rounds[1:]) + "\n").encode()
                               if len(rounds) > 1 else b"\n", timeout=200)
        saw = [json.loads(line) for line in p.stdout.splitlines()]
        if finesse and finesse_command() and lab.client.opens() != before:
            raise LabError("the kernel carried it")
        syns = [{k: s.get(k) for k in ("options", "window")} for s in capture.segments if s["dport"] == PORT and s["flags"] & SYN]
        return saw, [s for i, s in enumerate(syns) if not i or s != syns[i - 1]]


def main():
    if os.geteuid() or not Path("/proc/sys/net/ipv4/tcp_rmem").exists():
        print("skipped: needs root")
        return 77
    checks = failures = 0
    for rounds in CASES:
        name = " then ".join(r or "the defaults" for r in rounds)
        for patience in PATIENCE:
            natively, ours = run(rounds, patience, False), run(rounds, patience, True)
            if natively == ours:
                break
        if natively is None:
            print("skipped: %s: this kernel lacks it" % name)
            continue
        checks += 1
        if natively == ours and len(natively[0]) == len(rounds):
            print("ok: %s" % name)
        else:
            failures += 1
            print("FAILED: %s" % name)
            for part in (0, 1):
                for a, b in zip(natively[part], ours[part]):
                    print("\n".join("    %s: natively %s, under finesse %s" % (k, a[k], b[k]) for k in a if a[k] != b[k]) or "    (the same)")
    return tally(checks, failures)


sys.exit(main())
