#!/usr/bin/python3
"""Debian's servers as their services start them: natively and under finesse.

    services.py [--only WORD[,WORD…]] [--events NAME[,NAME…]] [--short] [--native] [--client] [--kills N [--seed N]] [--times N] [--list]

Each row is a server: it is right (content by hash, the protocol's answers), and somebody carries its connections: `engine` for their whole life, `handed` to the
kernel's TCP (a process per connection), or the `kernel` from the first. Then come the events of its life under load, with the requests lost natively and under
finesse. `expected` says for each row who carries what, and which events are known to be wrong; what is better than that is told, what is worse fails.

Ends with 77 without root.
"""
import argparse
import importlib.util
import os
import shutil
import sys
import time

from pathlib import Path


HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "apps"), str(HERE.parent / "net")]
import rows_clients  # noqa: E402
import rows_more  # noqa: E402
import rows_other  # noqa: E402
import rows_units  # noqa: E402
import rows_web  # noqa: E402
import rows_wide  # noqa: E402
from case import wanted  # noqa: E402
from row import Load, run_client, run_server  # noqa: E402

ROWS = rows_web.ROWS + rows_other.ROWS + rows_more.ROWS + rows_wide.ROWS + rows_units.ROWS + rows_clients.ROWS
SHORT_KILLS = 6
SHORT = {"nginx": ["reload", "worker -9", "kills"], "nginx, workers as root": ["reload"], "sshd": [], "haproxy -Ws": ["reload"], "redis as redis": ["all -9"]}
BETTER = ["-", "kernel", "mixed", "handed", "engine"]
LOSSLESS = ("reload", "upgrade")  # and `worker -9` may lose what the worker had, and no more


def read_expected():
    """name -> {"listener": …, "connections": …, "client": …, "wrong": [event, …]}"""
    rows = {}
    for line in (HERE / "expected").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            fields = [f.strip() for f in line.split("|")]
            rows[fields[0]] = dict(zip(("listener", "connections", "client"), fields[1:4]), wrong=[w.strip() for w in fields[4].split(",") if w.strip()])
    return rows


class Table:
    def __init__(self, args):
        self.args, self.expected = args, read_expected()
        self.checks = self.failed = self.skipped = 0

    def judge(self, name, seen, event, words):
        """`words`: what is wrong, or nothing."""
        self.checks += 1
        known = event in self.expected.get(name, {}).get("wrong", ())
        if words and not known:
            self.failed += 1
            print("  FAILED: %s: %s" % (event, words[:700]), flush=True)
        elif words:
            print("  known: %s: %s" % (event, words[:300]), flush=True)
        elif known and event in seen:
            print("  better than expected: %s is right" % event, flush=True)

    def carrier(self, name, what, got):
        want = self.expected.get(name, {}).get(what, "-")
        worse = BETTER.index(got) < BETTER.index(want)
        self.checks += 1
        if worse:
            self.failed += 1
            print("  FAILED: %s: carried by %s, expected %s" % (what, got, want), flush=True)
        elif got != want:
            print("  better than expected: %s by %s, not %s" % (what, got, want), flush=True)

    def kills(self, row):
        """Of the web servers with workers; of the long form all, of the short form those that say so."""
        is_meant = "kills" in SHORT.get(row.name, ()) if self.args.short else row.kind == "http" and row.comm == "nginx"
        return (self.args.kills, self.args.seed) if self.args.kills and is_meant else None

    def row(self, row):
        start = time.monotonic()
        name, events = row.name, self.args.events
        if self.args.short:
            events = SHORT[name]
        native = None if self.args.short or self.args.client else run_server(row, False, events, self.kills(row), self.args.times)
        ours = client = both = None
        if not self.args.native and not self.args.client:
            ours = run_server(row, True, events, self.kills(row), self.args.times)
        if row.clients and not row.proxy and not self.args.native and not self.args.short:
            client, both = run_client(row), run_client(row, True)
        self.tell(row, native, ours, client, both, time.monotonic() - start)

    def tell(self, row, native, ours, client, both, seconds):
        name = row.name
        columns = [ours.listener if ours else "", ours.connections if ours else "", client.client if client else ours.client if ours and row.proxy else ""]
        losses = []
        for event in [name for name, _ in row.events] + ["kills"]:
            pair = [str(run.losses[event][0]) if run and event in run.losses else "" for run in (native, ours)]
            if any(pair):
                losses.append("%s %s" % (event, "/".join(pair)))
        print("%-28s %-8s %-8s %-8s %s (%.0f s)" % (name, *columns, ", ".join(losses), seconds), flush=True)
        if native:
            for event, words in native.faults.items():
                self.checks += 1
                self.skipped += 1
                print("  on the kernel's TCP, too: %s: %s" % (event, words[:500]), flush=True)
        if ours:
            self.carrier(name, "listener", ours.listener)
            self.carrier(name, "connections", ours.connections)
            if row.proxy:
                self.carrier(name, "client", ours.client)
            self.judge_server(row, native, ours)
        if client:
            self.carrier(name, "client", client.client)
            for event in ("start", "content", "box"):
                self.judge(name, ("client",), "client" if event == "content" else event, client.faults.get(event))
                self.judge(name, ("both",), "both ends: " + event, both.faults.get(event))

    def judge_server(self, row, native, ours):
        seen = ["start", "content", "requests", *ours.losses, *(e for e, _ in row.events), "container"]
        seen += ["idle clients: " + e for e in ("all -9", "container") if e in seen and row.held]
        for event in dict.fromkeys(["start", "content", "requests", *ours.losses, *ours.faults]):
            words = ours.faults.get(event)
            lost, told = ours.losses.get(event, (0, ""))
            theirs = native.losses.get(event, (0, ""))[0] if native else 0
            # A death takes what was under way, and an end what was not accepted yet.
            allowed = 0 if event in LOSSLESS else row.threads * 2 if event == "end" else row.threads * self.args.times
            if event == "kills":
                allowed = row.threads * self.args.kills
            if theirs:
                allowed = max(allowed, 3 * theirs + row.threads)
            if native and event in native.faults:
                words = None
            if not words and lost > allowed:
                words = "lost under load: %s (the kernel's TCP: %d)" % (told, theirs)
            self.judge(row.name, seen, event, words)
        if native and getattr(native, "answers_without_master", None) != getattr(ours, "answers_without_master", None):
            self.judge(row.name, seen, "master -9", "the port answers without the master: natively %s, under finesse %s"
                       % (native.answers_without_master, getattr(ours, "answers_without_master", None)))

    def skip(self, row, absent):
        self.checks += 1
        self.skipped += 1
        print("%-28s skipped: needs %s" % (row.name, ", ".join(absent)), flush=True)

    def finish(self):
        good = self.checks - self.failed - self.skipped
        print("%d%%: Checks: %d, Failures: %d, Errors: 0, Skipped: %d" % (100 * good // max(1, self.checks), self.checks, self.failed, self.skipped))
        return 1 if self.failed or not self.checks else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="words; with +, all of them")
    parser.add_argument("--events", default=None, type=lambda s: s.split(","))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--short", action="store_true", help="a few rows and events")
    parser.add_argument("--native", action="store_true", help="on the kernel's TCP alone")
    parser.add_argument("--kills", type=int, default=0, help="so many SIGKILLs at random, of the web servers with workers")
    parser.add_argument("--times", type=int, default=0, help="each event so often; then a request that took 0.9 s, as with a lost SYN, counts as lost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--client", action="store_true", help="the clients alone")
    args = parser.parse_args()
    Load.slow_is_lost = args.times > 0
    args.times = max(1, args.times)
    if args.short:
        args.kills = SHORT_KILLS
    rows = [r for r in ROWS if wanted(r.name, args.only) and (not args.short or r.name in SHORT)]
    if args.list:
        print("\n".join(r.name for r in rows))
        return 0
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    table = Table(args)
    print("%-28s %-8s %-8s %-8s %s" % ("", "listener", "connect.", "client", "requests lost: kernel/finesse"))
    for row in rows:
        absent = [p for p in row.programs.split() if not shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
        absent += [m for m in row.modules.split() if not importlib.util.find_spec(m)]
        if absent:
            table.skip(row, absent)
        else:
            table.row(row)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
