#!/usr/bin/env python3
"""The differential runner: every case on the kernel's TCP and under finesse, against kernel TCP over a veth, and the lines compared. See differential.h.

    differential.py                    all cases: make check-differential
    differential.py --short            a sample that takes under a minute: one of make check's tests
    differential.py --only 'conn/fin/*/recv*' [-v]     these alone; -v prints the results, equal or not

`expected` has the differences that are allowed: a pattern of names, the kernel's step that differs first, finesse's, and the reason, with TABs between.
A case that differs and has no entry is a failure, and so is an entry that nothing needs any more (seen by the long form). A difference counts when it is
there in each of a few repetitions, so that a busy machine makes none.
"""
import argparse
import fnmatch
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import CLIENT_IP, SERVER_IP, TOP, Lab, LabError, clean_environment, finesse_command  # noqa: E402

PROGRAM = TOP / "tests/differential/differential"
SERVER_V6, CLIENT_V6 = "fd77::1", "fd77::2"
HOLE_IP, HOLE_V6 = "10.77.9.9", "fd77::99"  # neighbours that never answer
NOBODY = "02:00:00:00:00:99"
REPEATS = 4  # a difference has to be there in each
SETTINGS = ["--close-policy", "off"]  # a held FIN is meant to differ

# The tables may grow; a number that shrinks was lost. Change these with the tables.
CASES_AT_LEAST = 89000
SHORT_AT_LEAST = 2900
ONE_IN = 30


def names(options):
    """The cases of this run."""
    every = subprocess.run([str(PROGRAM), "list"], stdout=subprocess.PIPE, check=True, text=True).stdout.split("\n")[:-1]
    if len(set(every)) != len(every):
        raise LabError("two cases have one name")
    if len(every) < CASES_AT_LEAST:
        raise LabError("only %d cases: there were %d" % (len(every), CASES_AT_LEAST))
    if options.only:
        return [n for n in every if any(fnmatch.fnmatchcase(n, pattern) for pattern in options.only)]
    if options.short or options.one_in > 1:
        chosen = [n for n in every if zlib.crc32(n.encode()) % (ONE_IN if options.short else options.one_in) == 0]
        if options.short and len(chosen) < SHORT_AT_LEAST:
            raise LabError("only %d cases in the short form: there were %d" % (len(chosen), SHORT_AT_LEAST))
        return chosen
    return every


class Runs:
    def __init__(self, lab, workers):
        self.lab, self.workers = lab, workers
        self.control = os.path.join(lab.dir, "control")
        for host, ip in ((lab.server, SERVER_V6), (lab.client, CLIENT_V6)):
            host.run(["ip", "addr", "add", ip + "/64", "dev", host.interface, "nodad"])
        for hole in (HOLE_IP, HOLE_V6):
            lab.client.run(["ip", "neigh", "add", hole, "lladdr", NOBODY, "dev", lab.client.interface, "nud", "permanent"])
        peer = lab.server.spawn([PROGRAM, "peer", self.control, SERVER_IP, SERVER_V6, CLIENT_IP, CLIENT_V6], stdout=-1)
        if peer.stdout.readline() != b"ready\n":
            raise LabError("the peer did not start")

    def run(self, cases, finesse, workers=None):
        """{name: (carrier, result)}, kernel's counters, statistics."""
        stats = tempfile.mkdtemp(dir=self.lab.dir)
        before = self.lab.client.opens()
        command = str(finesse_command()[0]) if finesse else ""
        argv = [PROGRAM, "run", self.control, CLIENT_IP, CLIENT_V6, SERVER_IP, SERVER_V6, HOLE_IP, HOLE_V6, workers or self.workers, stats, command]
        env = dict(clean_environment(), FINESSE_LOG="warn")
        p = self.lab.client.run(argv, finesse=finesse, settings=SETTINGS, timeout=1500, env=env, input="".join(n + "\n" for n in cases).encode())
        self.said = p.stderr.decode(errors="replace")[-2000:]
        after = self.lab.client.opens()
        results = {}
        for line in p.stdout.decode(errors="replace").split("\n")[:-1]:
            name, carrier, text = line.split("\t", 2)
            results[name] = (carrier, text.strip(" |"))
        if list(results) != list(cases):
            raise LabError("%d results for %d cases: %s" % (len(results), len(cases), p.stderr.decode(errors="replace")[-400:]))
        documents = []
        for path in Path(stats).glob("*.json"):
            try:
                document = json.loads(path.read_text())
                documents += document if isinstance(document, list) else [document]
            except ValueError:
                documents.append({})
        return results, [a - b for a, b in zip(after, before)], documents


class Entry:
    """A line of `expected`."""

    def __init__(self, line):
        fields = line.split("\t")
        if len(fields) != 4 or not fields[3].strip():
            raise LabError("expected: not four fields: " + line)
        self.line, self.used = line, False
        self.patterns = [re.compile(fnmatch.translate(f)) for f in fields[:3]]

    def allows(self, name, kernel, finesse):
        return all(p.match(text) for p, text in zip(self.patterns, (name, kernel, finesse)))


def read_expected(path):
    return [Entry(line) for line in path.read_text().split("\n") if line and not line.startswith("#")]


def first_difference(kernel, finesse):
    """The first step of two results that is not the same."""
    for k, f in itertools.zip_longest(kernel.split(" | "), finesse.split(" | "), fillvalue="-"):
        if k.strip() != f.strip():
            return k.strip(), f.strip()
    return "", ""


def compare(runs, cases):
    started = time.monotonic()
    kernel, kernel_opens, _ = runs.run(cases, False)
    middle = time.monotonic()
    ours, our_opens, documents = runs.run(cases, True)
    if runs.said:
        print(runs.said)
    print("%d cases: %.0f s on the kernel's TCP, %.0f s under finesse" % (len(cases), middle - started, time.monotonic() - middle), flush=True)
    suspects = [n for n in cases if kernel[n][1] != ours[n][1]]
    first = len(suspects)
    for i in range(REPEATS - 1):
        if not suspects:
            break
        workers = max(2, runs.workers - i * 3)
        again_kernel, _, _ = runs.run(suspects, False, workers)
        again_ours, _, _ = runs.run(suspects, True, workers)
        # Equal to a result that the kernel was seen to give, too: no difference.
        suspects = [n for n in suspects if again_kernel[n][1] != again_ours[n][1] and again_ours[n][1] != kernel[n][1]]
        kernel.update({n: again_kernel[n] for n in suspects})
        ours.update({n: again_ours[n] for n in suspects})
    print("%d differ, %d more did once" % (len(suspects), first - len(suspects)))
    return kernel, ours, suspects, kernel_opens, our_opens, documents


def who_carried(kernel, ours, kernel_opens, our_opens, documents, entries):
    """A silent fall-back is a failure: the engine carried every established connection whose state says so, and the kernel made none."""
    problems = []
    with_state = [n for n in kernel if kernel[n][0] == "k"]
    left = [n for n in with_state if ours[n][0] == "k"]
    for n in left:
        # An option that is set before may send a connection to the kernel; it says so in the statistics.
        if "@" not in n and not any(e.allows(n, "carrier: engine", "carrier: kernel") for e in entries):
            problems.append("carried by the kernel: " + n)
    opened = sum(d.get("totals", {}).get(k, 0) for d in documents for k in ("connections_opened", "connections_accepted"))
    reasons = {}
    for d in documents:
        for f in d.get("fallbacks", []):
            why = "%s: %s" % (f.get("what", "?").partition(" ")[0], f.get("why", "?"))
            reasons[why] = reasons.get(why, 0) + f.get("count", 1)
    print("connections: %d cases have one, %d of them carried by the kernel under finesse; its TCP opened %d and accepted %d natively, %d and %d under finesse; "
          "finesse stat: %d processes, %d connections" % (len(with_state), len(left), *kernel_opens, *our_opens, len(documents), opened))
    if any("@" in n for n in left) and not reasons:
        problems.append("the kernel carried cases, and no finesse stat says why")
    for reason, count in sorted(reasons.items()):
        print("  fell back: %s (%d)" % (reason, count))
    return problems


def verdicts(kernel, ours, suspects, entries, options):
    problems = []
    for n in suspects:
        step = first_difference(kernel[n][1], ours[n][1])
        allowing = [e for e in entries if e.allows(n, *step)]
        for e in allowing:
            e.used = True
        if not allowing or options.all:
            problems.append("%s\n    kernel:  %s\n    finesse: %s\n    alone:   tests/differential/differential.py -v --only '%s'" % (n, kernel[n][1], ours[n][1], n))
    if not options.short and not options.only and options.one_in == 1:
        problems += ["expected: nothing differs in this way any more: " + e.line for e in entries if not e.used]
    return problems


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--short", action="store_true")
    p.add_argument("--one-in", type=int, default=1, metavar="N", help="a part of the cases")
    p.add_argument("--only", action="append", metavar="PATTERN")
    p.add_argument("--all", action="store_true", help="show expected differences, too")
    p.add_argument("-v", "--verbose", action="store_true")
    p.add_argument("--workers", type=int, default=8)
    p.add_argument("--differences", metavar="FILE", help="write all differences there, as JSON")
    options = p.parse_args()
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    started = time.monotonic()
    try:
        cases = names(options)
        entries = read_expected(HERE / "expected")
        with Lab() as lab:
            kernel, ours, suspects, *carried = compare(Runs(lab, options.workers), cases)
        problems = who_carried(kernel, ours, *carried, entries) + verdicts(kernel, ours, suspects, entries, options)
    except LabError as e:
        print("FAILED: %s" % e)
        return 1
    if options.verbose:
        for n in cases:
            print("%s %s\n    kernel:  %s\n    finesse: %s" % ("differs" if n in suspects else "equal  ", n, kernel[n][1], ours[n][1]))
    if options.differences:
        Path(options.differences).write_text(json.dumps({n: (kernel[n][1], ours[n][1]) for n in suspects}))
    for problem in problems:
        print(problem)
    print("%d cases, %d differ, %d problems, %.0f s" % (len(cases), len(suspects), len(problems), time.monotonic() - started))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
