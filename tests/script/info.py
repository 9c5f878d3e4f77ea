#!/usr/bin/python3
"""
struct tcp_info, field by field: the same scripts natively and with the engine, and at each of their steps every field of every connection is compared.

What is counted must be equal; times, and rates that follow from them, within a range: the runs are not at the same moment, and a machine has other work.
A script whose expectations are not met in a run tells nothing in it (script.py decides on those). A field has failed when the kernel's TCP told the same in each run, and the engine,
in all of them, did not. Where the kernel itself tells now this, now that, nothing is decided.

    info.py [--jobs N] [--all] [SCRIPT…]
"""
import argparse
import os
import re
import select
import sys

import script
from script import Event, Player, Script

ROUNDS = 6
AFTER = 0.002  # seconds, from a step to the question
COUNTED = """state ca_state retransmits probes backoff options snd_wscale rcv_wscale snd_mss rcv_mss unacked sacked lost retrans fackets last_ack_sent pmtu
snd_ssthresh snd_cwnd advmss reordering rcv_space total_retrans max_pacing_rate bytes_acked bytes_received segs_out segs_in notsent_bytes data_segs_in
data_segs_out delivered delivered_ce bytes_sent bytes_retrans dsack_dups reord_seen rcv_ooopack snd_wnd rehash total_rto total_rto_recoveries""".split()
# From … by how much they may differ, and by which part of the larger one.
TIMES = {"rto": (60000, 0.3), "ato": (60000, 0.3), "rtt": (40000, 0.3), "rttvar": (40000, 0.3), "min_rtt": (40000, 0.3), "rcv_rtt": (60000, 0.3),
         "last_data_sent": (100, 0.3), "last_data_recv": (100, 0.3), "pacing_rate": (0, 0.6), "delivery_rate": (0, 0.6),
         "busy_time": (100000, 0.3), "rwnd_limited": (100000, 0.3), "sndbuf_limited": (100000, 0.3), "total_rto_time": (100, 0.3)}
FIELDS = COUNTED + list(TIMES)
# Where the engine tells something else on purpose: (script, field), with the reason.
EXPECTED = {
    ("foc_lost", "delivery_rate"): "Linux's sample of the SYN's text begins with the clock",
    ("foc_request", "delivery_rate"): "Linux's sample of the SYN's text begins with the clock",
    ("foc_lost", "last_data_sent"): "text goes again at once with the SYN-ACK: Linux counts the moment of an ACK that sends nothing",
    ("foc_lost", "pacing_rate"): "Linux takes the time of the first SYN for a round trip",
    ("rto_undo_ts", "delivered"): "a segment that is acknowledged in part counts when its first byte is",
    ("window_shrinks", "delivered"): "a segment that is acknowledged in part counts when its first byte is",
    ("user_timeout", "lost"): "Linux forgets to clear it when it gives a connection up",
    ("user_timeout", "retrans"): "Linux forgets to clear it when it gives a connection up",
    ("zero_window", "backoff"): "Linux keeps it until a round trip is measured, and does not use it",
}
# Which scripts: each state and each reason for which a field moves.
SCRIPTS = """info_client info_server info_loss info_rto info_syn info_refused info_window info_rwnd_limited info_sndbuf_limited info_last_data_recv
blocking challenge close_local_first close_remote_first close_syn_sent close_wait client_refused delayed_ack dsack_mult dsack_undo ecn_client ecn_server ecn_syn
ecn_off_seen fast_retransmit fin_out_of_order fin_wait fo_server fo_close fo_empty foc_request foc_lost fr_undo_ts gap_acks half_close_data
inq_client invalid_ack keepalive limited_sack newreno_partial nagle notsent ooo_accept ooo_large outq paws prr_window rto rto_undo_ts reneging sack_holes sack_recovery
init_rto synack_retry shutdown_calls simultaneous_close simultaneous_open slow_start_1 slow_start_app small_mss sndbuf_first syn_lost_twice tlp_rack two_in_flight urgent user_timeout
window_shrinks zero_window""".split()


def asks(names, number):
    events = []
    for name in sorted(names):
        event = Event("+%.3f call info %s %s" % (AFTER if not events else 0, name, " ".join(FIELDS)), number)
        event.begins, event.asks = False, True
        events.append(event)
    return events


def has_one(event, names):
    """Which sockets have a connection after this line."""
    m = re.match(r"(?:\w+& )?(accept \w+|connect|sendto|close) (\w+)", event.rest) if event.kind == "call" else None
    if m and m[1] == "close":
        names.discard(m[2])
    elif m:
        names.add(m[2])


def load(path):
    """The script, with a question wherever a step is over and the next one is far enough."""
    loaded, events, names = Script(path), [], set()
    for event, after in zip(loaded.events, loaded.events[1:] + [None]):
        events.append(event)
        has_one(event, names)
        far = after is None or (after.kind not in ("out", "done", "quiet") and after.delay > 2 * AFTER)
        if far and names:
            events += asks(names, event.number)
            if after:
                after.delay -= AFTER
    loaded.events = events
    return loaded


class Asker(Player):
    def __init__(self, *args):
        super().__init__(*args)
        self.told = []

    def stimulate(self, event):
        result = super().stimulate(event)
        if not hasattr(event, "asks"):
            return result
        self.told.append((event.number, event.rest.split()[1], result))
        return None


def asked(path, native):
    def work():
        script.before_others()
        player = Asker(load(path), "4", native)
        try:
            return {"mismatch": player.play(), "told": player.told}
        finally:
            player.end()
    return script.in_namespace(work)


def ask_all(jobs, count):
    waiting, running, results = list(jobs), {}, {}
    while waiting or running:
        while waiting and len(running) < count:
            job = waiting.pop(0)
            pid, read = asked(*job)
            running[read] = (job, pid)
        for read in select.select(list(running), [], [])[0]:
            job, pid = running.pop(read)
            results[job] = script.wait_result((pid, read))
    return results


def values(text):
    return {name: int(value) for name, _, value in (word.partition("=") for word in text.split()) if value.lstrip("-").isdigit()}


def differs(name, a, b):
    if name not in TIMES:
        return a != b
    least, part = TIMES[name]
    return abs(a - b) > least + part * max(a, b)


def differences(native, engine):
    """{(line, socket, field): (native, engine)} of two runs; None: one of them tells nothing."""
    if not all(isinstance(r, dict) and not r["mismatch"] for r in (native, engine)):
        return None
    found = {}
    for (line, name, one), (_, _, other) in zip(native["told"], engine["told"]):
        a, b = values(one), values(other)
        found.update({(line, name, f): (a.get(f), b.get(f)) for f in FIELDS if a.keys() != b.keys() or (f in a and differs(f, a[f], b[f]))})
    return found


class Case:
    """What is not as the kernel's in any round so far, and what the kernel told each time."""

    def __init__(self, path):
        self.path, self.left, self.kernels, self.rounds, self.known = path, None, {}, 0, set()

    def add(self, native, engine):
        found = differences(native, engine)
        if found is None:
            return
        name = os.path.basename(self.path)[:-4]
        self.known |= {(name, p[2]) for p in found} & EXPECTED.keys()
        found = {p: v for p, v in found.items() if (name, p[2]) not in EXPECTED}
        self.rounds += 1
        for place, (told, _) in found.items():
            self.kernels.setdefault(place, set()).add(told)
        self.left = found if self.left is None else {place: found[place] for place in self.left if place in found}

    def is_done(self):
        return self.left == {}

    def failures(self):
        """What the kernel told alike in each round, and the engine not once."""
        if self.rounds < ROUNDS // 2:
            return {}
        return {p: v for p, v in (self.left or {}).items() if p[2] in TIMES or len(self.kernels[p]) == 1}


def main():
    parser = argparse.ArgumentParser(description="Compares struct tcp_info with the kernel's.")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--all", action="store_true", help="all scripts that have an IPv4 form")
    parser.add_argument("scripts", nargs="*")
    args = parser.parse_args()
    if os.geteuid() or not os.path.exists("/dev/net/tun"):
        print("skipped: needs root and TUN")
        return 77
    paths = args.scripts or [p for p in script.all_scripts() if args.all or os.path.basename(p)[:-4] in SCRIPTS]
    cases = [Case(path) for path in paths if "4" in Script(path).families]
    for turn in range(ROUNDS):
        left = [c for c in cases if not c.is_done()]
        results = ask_all([(c.path, native) for c in left for native in (True, False)], args.jobs if turn == 0 else 4)
        for case in left:
            case.add(results[case.path, True], results[case.path, False])
    failed = undecided = 0
    for case in cases:
        failures = case.failures()
        failed += bool(failures)
        undecided += not failures and not case.is_done()
        if failures or not case.is_done():
            print("%s: %s" % ("FAIL" if failures else "undecided", os.path.basename(case.path)))
        for (line, name, field), (native, engine) in sorted(failures.items()):
            print("    line %d, %s: %s is %s, the kernel's %s" % (line, name, field, engine, native))
    stale = {k for k in EXPECTED if not any(k in c.known for c in cases)} if not args.scripts else set()
    for name, field in sorted(stale):
        print("FAIL: %s: %s is as the kernel's, but EXPECTED says otherwise" % (name, field))
    print("%d scripts as Linux, %d failed, %d undecided" % (len(cases) - failed - undecided, failed, undecided))
    return 1 if failed or stale else 0


if __name__ == "__main__":
    sys.exit(main())
