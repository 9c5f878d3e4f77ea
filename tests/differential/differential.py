#!/usr/bin/env python3
"""The differential runner: every case on the kernel's TCP and under finesse, against kernel TCP over a veth, and the lines compared. See differential.h.

    differential.py                    all cases, in parts: make check-differential
    differential.py --keep DIR --minutes 9     the same, not longer than that; what is done stays in DIR, and the next such run does the rest
    differential.py --short            a sample that takes under a minute, and the cases of `always`: one of make check's tests
    differential.py --only 'conn/fin/*/recv*' [-v]     these alone; -v prints the results, equal or not

`expected` has the differences that are allowed: a pattern of names, the kernel's step that differs first, finesse's, and the reason, with TABs between.
A case that differs and has no entry is a failure, and so is an entry that nothing needs any more (seen by the long form). verdicts.sh proves it. A difference counts when it is
there in each of a few repetitions, so that a busy machine makes none.
"""
import argparse
import fnmatch
import hashlib
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
REPEATS = 6  # a difference has to be there in each
SETTINGS = ["--close-policy", "off"]  # a held FIN is meant to differ

# The tables may grow; a number that shrinks was lost. Change these with the tables.
CASES_AT_LEAST = 105400
SHORT_AT_LEAST = 3500
ONE_IN = 30
PARTS = 30  # of the long form


def read_always(every):
    """Cases that once differed: one or two of each kind, so that make check sees each."""
    chosen = [line for line in (HERE / "always").read_text().split("\n") if line and not line.startswith("#")]
    unknown = set(chosen) - set(every)
    if unknown:
        raise LabError("always: no case is named " + sorted(unknown)[0])
    return chosen


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
        always = set(read_always(every)) if options.short else ()
        chosen = [n for n in every if n in always or zlib.crc32(n.encode()) % (ONE_IN if options.short else options.one_in) == 0]
        if options.short and len(chosen) < SHORT_AT_LEAST:
            raise LabError("only %d cases in the short form: there were %d" % (len(chosen), SHORT_AT_LEAST))
        return chosen
    return every


class Runs:
    def __init__(self, lab, workers):
        self.lab, self.workers = lab, workers
        self.control = os.path.join(lab.dir, "control")
        for host, ip in ((lab.server, SERVER_V6), (lab.client, CLIENT_V6)):
            host.add_address(ip)
        # The engine's congestion control is like it in how large a send buffer becomes, and in having nothing to tell (TCP_CC_INFO).
        lab.client.run(["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"])
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


class Part:
    """What some cases gave: plain values, so that a file can keep them."""

    def __init__(self, kernel, ours, suspects, kernel_opens, our_opens, processes, opened, reasons):
        self.kernel, self.ours, self.suspects = kernel, ours, suspects
        self.kernel_opens, self.our_opens = kernel_opens, our_opens
        self.processes, self.opened, self.reasons = processes, opened, reasons

    @classmethod
    def empty(cls):
        return cls({}, {}, [], [0, 0], [0, 0], 0, 0, {})

    def add(self, other):
        self.kernel.update(other.kernel)
        self.ours.update(other.ours)
        self.suspects += other.suspects
        self.kernel_opens = [a + b for a, b in zip(self.kernel_opens, other.kernel_opens)]
        self.our_opens = [a + b for a, b in zip(self.our_opens, other.our_opens)]
        self.processes += other.processes
        self.opened += other.opened
        for why, count in other.reasons.items():
            self.reasons[why] = self.reasons.get(why, 0) + count


def statistics(documents):
    """Connections that the engine carried, and why the kernel carried others."""
    opened = sum(d.get("totals", {}).get(k, 0) for d in documents for k in ("connections_opened", "connections_accepted"))
    reasons = {}
    for d in documents:
        for f in d.get("fallbacks", []):
            why = "%s: %s" % (f.get("what", "?").partition(" ")[0], f.get("why", "?"))
            reasons[why] = reasons.get(why, 0) + f.get("count", 1)
    return opened, reasons


def compare(runs, cases):
    started = time.monotonic()
    kernel, kernel_opens, _ = runs.run(cases, False)
    middle = time.monotonic()
    ours, our_opens, documents = runs.run(cases, True)
    if runs.said:
        print(runs.said)
    ended = time.monotonic()
    suspects = [n for n in cases if kernel[n][1] != ours[n][1]]
    seen = {n: ({kernel[n][1]}, {ours[n][1]}) for n in suspects}
    first = len(suspects)
    for i in range(REPEATS - 1):
        if not suspects:
            break
        workers = max(2, runs.workers - i * 3)
        again_kernel, _, _ = runs.run(suspects, False, workers)
        again_ours, _, _ = runs.run(suspects, True, workers)
        for n in suspects:
            seen[n][0].add(again_kernel[n][1])
            seen[n][1].add(again_ours[n][1])
        # Equal to a result that the kernel was seen to give, too: no difference.
        suspects = [n for n in suspects if seen[n][0].isdisjoint(seen[n][1])]
        kernel.update({n: again_kernel[n] for n in suspects})
        ours.update({n: again_ours[n] for n in suspects})
    print("%d cases: %.0f s on the kernel's TCP, %.0f s under finesse; %d differ, %d more did once" % (
        len(cases), middle - started, ended - middle, len(suspects), first - len(suspects)), flush=True)
    opened, reasons = statistics(documents)
    return Part(kernel, ours, suspects, kernel_opens, our_opens, len(documents), opened, reasons)


class Store:
    """Parts that are done, a file each. A part counts only for the programs that made it."""

    def __init__(self, directory):
        self.directory = directory and Path(directory)
        digest = hashlib.sha256()
        for made in (PROGRAM, TOP / "libfinesse.so"):
            digest.update(made.read_bytes())
        self.programs = digest.hexdigest()[:16]

    def _path(self, number, count):
        return self.directory / ("part-%d-of-%d-%s.json" % (number, count, self.programs))

    def read(self, number, count, cases):
        path = self.directory and self._path(number, count)
        if not path or not path.exists():
            return None
        part = Part(**json.loads(path.read_text()))
        return part if sorted(part.kernel) == sorted(cases) else None

    def write(self, number, count, part):
        if not self.directory:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._path(number, count).with_suffix(".new")
        unfinished.write_text(json.dumps(vars(part)))
        unfinished.rename(self._path(number, count))


def in_parts(cases, options):
    """All cases, part by part; and how many cases were not reached in the time given."""
    count = PARTS if len(cases) > 2 * SHORT_AT_LEAST else 1
    store, whole, left, started = Store(options.keep), Part.empty(), 0, time.monotonic()
    with Lab() as lab:
        runs = Runs(lab, options.workers)
        for number in range(count):
            # Not by the hash of --one-in: each part has cases of all kinds, and they take equally long.
            mine = cases[number::count]
            part = store.read(number, count, mine)
            if part is None and options.minutes is not None and time.monotonic() - started >= 60 * options.minutes:
                left += len(mine)
                continue
            if part is None:
                part = compare(runs, mine)
                store.write(number, count, part)
            whole.add(part)
    return whole, left


def who_carried(part, entries):
    """A silent fall-back is a failure: the engine carried every established connection whose state says so, and the kernel made none."""
    problems = []
    with_state = [n for n in part.kernel if part.kernel[n][0] == "k"]
    left = [n for n in with_state if part.ours[n][0] == "k"]
    for n in left:
        # An option that is set before may send a connection to the kernel; it says so in the statistics.
        if "@" not in n and not any(e.allows(n, "carrier: engine", "carrier: kernel") for e in entries):
            problems.append("carried by the kernel: " + n)
    print("connections: %d cases have one, %d of them carried by the kernel under finesse; its TCP opened %d and accepted %d natively, %d and %d under finesse; "
          "finesse stat: %d processes, %d connections" % (len(with_state), len(left), *part.kernel_opens, *part.our_opens, part.processes, part.opened))
    if any("@" in n for n in left) and not part.reasons:
        problems.append("the kernel carried cases, and no finesse stat says why")
    for reason, count in sorted(part.reasons.items()):
        print("  fell back: %s (%d)" % (reason, count))
    return problems


def is_whole(options):
    return not options.short and not options.only and options.one_in == 1


def verdicts(part, entries, options):
    problems = []
    for n in part.suspects:
        step = first_difference(part.kernel[n][1], part.ours[n][1])
        allowing = [e for e in entries if e.allows(n, *step)]
        for e in allowing:
            e.used = True
        if not allowing or options.all:
            problems.append("%s\n    kernel:  %s\n    finesse: %s\n    alone:   tests/differential/differential.py -v --only '%s'" % (n, part.kernel[n][1], part.ours[n][1], n))
    if is_whole(options) or options.unused:
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
    p.add_argument("--keep", metavar="DIR", help="keep finished parts there, and take from there what the same programs gave before")
    p.add_argument("--minutes", type=float, metavar="N", help="begin no part after that time")
    p.add_argument("--expected", metavar="FILE", default=str(HERE / "expected"), help="instead of tests/differential/expected")
    p.add_argument("--unused", action="store_true", help="an expected difference that does not occur is a failure, though this is not the long form")
    p.add_argument("--differences", metavar="FILE", help="write all differences there, as JSON")
    options = p.parse_args()
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    started = time.monotonic()
    try:
        cases = names(options)
        entries = read_expected(Path(options.expected))
        part, left = in_parts(cases, options)
        problems = ["%d cases were not reached in %g minutes: run it again" % (left, options.minutes)] if left else []
        problems += who_carried(part, entries)
        problems += [] if left else verdicts(part, entries, options)
    except LabError as e:
        print("FAILED: %s" % e)
        return 1
    if options.verbose:
        for n in cases:
            print("%s %s\n    kernel:  %s\n    finesse: %s" % ("differs" if n in part.suspects else "equal  ", n, part.kernel[n][1], part.ours[n][1]))
    if options.differences:
        Path(options.differences).write_text(json.dumps({n: (part.kernel[n][1], part.ours[n][1]) for n in part.suspects}))
    for problem in problems:
        print(problem)
    print("%d cases, %d differ, %d problems, %.0f s" % (len(cases) - left, len(part.suspects), len(problems), time.monotonic() - started))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
