#!/usr/bin/python3
"""Who closes first, and what that costs: unmodified servers that close first by their own code, on the kernel's TCP and under finesse, interleaved.

Each row is a server and a client, in a pair of namespaces of its own; the client is on the kernel's TCP and has 64 addresses where it can choose. Every round runs it on the kernel (A),
under finesse, and on the kernel again (A'). On the wire at the client: who sent the first FIN, and how long each connection took from SYN to the client's FIN: that is when
the client has done with it. The difference to A, beside that of A' to A, is what steering costs.

    close.py [--rows WORD[,WORD…]] [-n CONNECTIONS] [--rounds N] [--link "loss=1%"] [--both] [--tsv FILE]
    close.py --one SECONDS     one client address at full speed: connections per second, kernel and finesse at either end
    close.py --proxy SECONDS   nginx as its service, as a proxy that closes on both sides: TIME-WAIT at the proxy, and whether it runs out of ports
    close.py --many SECONDS [--svg FILE]     512 client addresses: TIME-WAIT and memory at the server over time

It decides nothing; it ends with 0 unless something could not be measured. As root; 77 otherwise.
"""
import argparse
import os
import signal
import sys

from pathlib import Path

from close_programs import BODY_BYTES, BOTH_ROWS, ROWS
from close_load import many_addresses, one_address, proxy
from case import Case, Failed, Lab, LabError, wanted
from lab import FIN, RST, Capture, connections, first_fins

# No choice of an address, and many connections: these rows raise the budget, which `--one` is about, and do without warming up, because at a kernel client ports run
# short (some 10,000 in the measured second of 28,000).
ONE_ADDRESS = {"wrk"}
WARM_UP = 100  # connections, in which the learner may try


class Seen:
    """One run of one row."""

    def __init__(self):
        self.client_first = self.server_first = self.time_waits = self.errors = 0
        self.seconds = []

    def add(self, other):
        self.client_first += other.client_first
        self.server_first += other.server_first
        self.time_waits += other.time_waits
        self.errors += other.errors
        self.seconds += other.seconds


def completions(segments, port):
    """From SYN to the client's FIN (or RST), of each connection."""
    out = []
    for connection in connections(segments, port):
        start = connection[0]["t"]
        end = next((s["t"] for s in connection if s["dport"] == port and s["flags"] & (FIN | RST)), None)
        if end is not None:
            out.append(end - start)
    return out


def server_time_waits(lab, case, finesse):
    """Those of the port, and of a proxy's connections to the server behind it; of all its processes."""
    n = sum(lab.server.time_waits(port) for port in (case.port, getattr(case, "behind_port", None)) if port)
    if finesse:
        documents = case.box.stat() if getattr(case, "box", None) else [lab.server.stat(case.process.pid)]
        n += sum(document.get("time_wait", 0) for document in documents)
    return n


def run(row, args, server, client):
    (_, start), (client_name, drive) = row
    seen = Seen()
    with Lab(client_pool=True, link=args.link) as lab:
        (Path(lab.dir) / "www").mkdir()
        (Path(lab.dir) / "www/body").write_bytes(os.urandom(BODY_BYTES // 2).hex().encode())
        case = Case(lab, server, client)
        if client_name in ONE_ADDRESS:
            case.settings = ("--close-client-budget", "1000000")
        start(case)
        if server and client_name not in ONE_ADDRESS:
            drive(case, WARM_UP)
        before = server_time_waits(lab, case, server)
        with Capture(lab.client) as capture:
            seen.errors = drive(case, args.n)
        seen.time_waits = server_time_waits(lab, case, server) - before
        fins = first_fins(capture.segments, case.port)
        seen.client_first, seen.server_first = fins["client"], fins["server"]
        seen.seconds = completions(capture.segments, case.port)
        if capture.drops:
            seen.errors += capture.drops
        if getattr(case, "box", None):
            case.box.end()
        for p in (case.process, getattr(case, "behind", None)):
            if p:
                lab.stop(p, signal.SIGKILL)
    return seen


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def milliseconds(ours, theirs, q):
    return 1000 * (quantile(ours.seconds, q) - quantile(theirs.seconds, q))


def share(seen):
    total = seen.client_first + seen.server_first
    return 100 * seen.server_first / total if total else float("nan")


def tell(row, kernel, ours, again, tsv):
    (server, _), (client, _) = row
    fields = [server, client, "%.1f" % share(kernel), "%.1f" % share(ours), "%d" % kernel.time_waits, "%d" % ours.time_waits]
    for q in (0.5, 0.99):
        fields += ["%+.2f" % milliseconds(ours, kernel, q), "%+.2f" % milliseconds(again, kernel, q)]
    fields += ["%d" % len(ours.seconds), "%d/%d/%d" % (kernel.errors, ours.errors, again.errors)]
    print("%-28s %-10s %7s %7s  %6s %6s  %7s %7s  %7s %7s  %6s %6s" % tuple(fields), flush=True)
    if tsv:
        tsv.write("\t".join(fields) + "\n")
        tsv.flush()


HEAD = """                                        first FIN by     TIME-WAIT      added delay to the client, ms
                                       the server, %      at server    median           p99             conn- errors
server                       client      kernel finesse  kernel finesse finesse    A/A  finesse    A/A  ections A/f/A'"""


def table(rows, args, both):
    tsv = open(args.tsv, "w") if args.tsv else None
    status = 0
    print(HEAD)
    for row in rows:
        seen = [Seen(), Seen(), Seen()]
        try:
            for _ in range(args.rounds):
                for i, ours in enumerate((False, True, False)):
                    seen[i].add(run(row, args, ours, ours and both))
            tell(row, *seen, tsv)
        except (Failed, LabError) as error:
            print("! %s, %s: %s" % (row[0][0], row[1][0], error), flush=True)
            status = 1
    return status


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="", help="words; with +, all of them: nginx+ab,redis")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--link", default=None, help="settings of tests/bridge, such as loss=1%%")
    parser.add_argument("--both", action="store_true", help="finesse at both ends")
    parser.add_argument("--tsv", default="")
    parser.add_argument("--svg", default="")
    parser.add_argument("--one", type=int, default=0, metavar="SECONDS")
    parser.add_argument("--many", type=int, default=0, metavar="SECONDS")
    parser.add_argument("--proxy", type=int, default=0, metavar="SECONDS")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("close: needs root (it makes network namespaces)", file=sys.stderr)
        return 77
    if args.one:
        return one_address(args.one)
    if args.proxy:
        return proxy(args.proxy)
    if args.many:
        return many_addresses(args.many, args.svg)
    rows = [r for r in (BOTH_ROWS if args.both else ROWS) if wanted(r[0][0] + " " + r[1][0], args.rows)]
    return table(rows, args, args.both)


if __name__ == "__main__":
    sys.exit(main())
