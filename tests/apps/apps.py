#!/usr/bin/python3
"""Unmodified programs under finesse against the kernel's TCP at the other end, in both roles, and both under finesse.

Every case asserts that the content is exact (by hash), that nothing hangs and all end cleanly, and that the *engine* carried the
traffic: no fall-back in `finesse stat --json`, and not one connection in the kernel's own counters of that namespace.

    apps.py [--only WORD[,WORD…]] [--list] [--long]

FINESSE="" in the environment runs all on the kernel's TCP: that proves the harness. Ends with 77 without root.
"""
import argparse
import os
import shutil
import signal
import sys
import time
import traceback

from pathlib import Path

import stream
import traced
import unbroken
import web
from case import FILE_BYTES, Case, Failed, Lab, LabError, expect, finesse_command, wanted

PAIRS = web.PAIRS + stream.PAIRS
ROLES = [("the server", True, False), ("the client", False, True), ("both", True, True)]


def run_pair(lab, pair, server, client):
    case = Case(lab, server, client)
    before_client, before_server = lab.client.opens()[0], lab.server.opens()[1]
    try:
        pair(case)
        if finesse_command():
            active, passive = lab.client.opens()[0] - before_client, lab.server.opens()[1] - before_server
            expect(not client or active == 0, "the kernel opened %d of the client's connections" % active)
            expect(not server or passive == 0, "the kernel accepted %d of the server's connections" % passive)
    finally:
        if case.process in lab.processes:
            lab.stop(case.process, signal.SIGKILL)


def all_cases():
    for pair, programs in PAIRS:
        for role, server, client in ROLES:
            yield "%s: %s" % (pair.__name__, role), programs, (lambda lab, p=pair, s=server, c=client: run_pair(lab, p, s, c))
    for other, programs in unbroken.OTHERS + traced.OTHERS:
        yield other.__name__, programs, other


class Score:
    def __init__(self):
        self.checks = self.failed = self.skipped = 0
        self.results = {}  # (programs, role): text

    def run(self, lab, name, programs, function):
        absent = [p for p in programs.split() if not shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
        self.checks += 1
        if absent:
            self.skipped += 1
            print("skipped: %s (needs %s)" % (name, ", ".join(absent)), flush=True)
            self.note(name, "skipped")
            return
        start = time.monotonic()
        why = None
        try:
            function(lab)
        except (Failed, LabError) as e:
            why = str(e)
        except Exception:  # a bug here or a surprise there: told, and the rest goes on
            why = traceback.format_exc()
        if why is not None:
            self.failed += 1
            print("FAILED: %s: %s" % (name, why), flush=True)
            self.note(name, "FAILED")
            for p in list(lab.processes):
                lab.stop(p, signal.SIGKILL)
        else:
            print("ok: %s (%.1f s)" % (name, time.monotonic() - start), flush=True)
            self.note(name, "%.1f s" % (time.monotonic() - start))

    def note(self, name, text):
        programs, _, role = name.partition(": ")
        self.results[programs, role] = text

    def table(self):
        """Who was under finesse, and how long it took."""
        roles = [role for role, _, _ in ROLES]
        print("\n%-28s" % "" + "".join("%12s" % role for role in roles))
        for programs in dict.fromkeys(programs for programs, _ in self.results):
            columns = [self.results.get((programs, role), "") for role in roles]
            if not any(columns):
                columns = [self.results[programs, ""]]
            print("%-28s" % programs + "".join("%12s" % c for c in columns))

    def summary(self):
        good = self.checks - self.failed - self.skipped
        return "%d%%: Checks: %d, Failures: %d, Errors: 0, Skipped: %d" % (100 * good // max(1, self.checks), self.checks, self.failed, self.skipped)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="words; with +, all of them: redis,curl+client")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--long", action="store_true", help="ten times the data, connections and requests")
    args = parser.parse_args()
    cases = [c for c in all_cases() if wanted(c[0], args.only)]
    if args.list:
        print("\n".join(c[0] for c in cases))
        return 0
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    score = Score()
    Case.scale = 10 if args.long else 1
    with Lab() as lab:
        www = Path(lab.dir) / "www"
        (www / "put").mkdir(parents=True)
        (www / "file").write_bytes(os.urandom(FILE_BYTES * Case.scale))
        (www / "small").write_bytes(os.urandom(700))
        for name, programs, function in cases:
            score.run(lab, name, programs, function)
    score.table()
    print(score.summary())
    return 1 if score.failed or not score.checks else 0


if __name__ == "__main__":
    sys.exit(main())
