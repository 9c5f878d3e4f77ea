#!/usr/bin/python3
"""finesse against the kernel's TCP, interleaved in one run over one veth.

Every round measures each load once in each set-up, one after the other, so that what the machine does otherwise falls on
all of them: kernel at both ends; the server under finesse; the client; both. The table has medians, the ratio of each to the kernel's (above
1 is better than the kernel, for latencies too), the spread of the ratios over the rounds, and the machine's CPU time per request.

    bench.py [--rounds N] [--seconds S] [--only WORD[,WORD…]] [--tsv FILE] [--settings "--x y"]
             [--link "loss=1%,delay=20ms,…"]

With --link the two ends are joined by tests/bridge, a bad network, with their offloads off: figures compare with each other only.

It decides nothing: it ends with 0 unless something could not be measured. As root; 77 otherwise.
"""
import argparse
import os
import statistics
import sys

from loads import CLIENT_IP, ROWS, SERVER_IP, Lab, LabError, Setup

SETUPS = (("kernel", False, False), ("server", True, False), ("client", False, True), ("both", True, True))


def measure(lab, row, name, server, client, args):
    """One sample; where the kernel sends in bulk, the best of its congestion controls."""
    samples = []
    for congestion in row.congestions or ("",):
        if congestion:
            for host, ip in ((lab.server, SERVER_IP), (lab.client, CLIENT_IP)):
                host.run(["ip", "route", "replace", "10.77.0.0/16", "dev", host.interface, "src", ip, "congctl", congestion])
        samples.append(row.load(Setup(lab, server, client, args.seconds, tuple(args.settings.split()))))
    return max(samples, key=lambda s: -s.value if row.lower_is_better else s.value)


def measure_row(row, args):
    setups = row.setups(SETUPS)
    samples, errors = {name: [] for name, _, _ in setups}, []
    for number in range(args.rounds):
        with Lab(client_pool=True, link=args.link) as lab:
            for name, server, client in setups:
                try:
                    samples[name].append(measure(lab, row, name, server, client, args))
                except LabError as error:
                    errors.append("%s, %s, round %d: %s" % (row.name, name, number + 1, error))
                    samples[name].append(None)
    return samples, errors


def ratios(row, samples, name, figure=lambda s: s.value):
    out = []
    for kernel, ours in zip(samples["kernel"], samples[name]):
        if kernel and ours and figure(kernel) and figure(ours):
            out.append(figure(kernel) / figure(ours) if row.lower_is_better else figure(ours) / figure(kernel))
    return out


def median_of(samples, figure):
    values = [figure(s) for s in samples if s]
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else float("nan")


def cpu_per_request(s):
    return s.cpu_us / s.requests if s.requests else None


def tell_row(row, samples, tsv):
    print("%s (%s%s)" % (row.name, row.unit, ", less is better" if row.lower_is_better else ""))
    for name in samples:
        value, cpu = median_of(samples[name], lambda s: s.value), median_of(samples[name], cpu_per_request)
        server = median_of(samples[name], lambda s: s.server_us / s.requests if s.requests else None)
        client = median_of(samples[name], lambda s: s.client_us / s.requests if s.requests else None)
        r = ratios(row, samples, name)
        ratio = (statistics.median(r), min(r), max(r)) if r else (float("nan"),) * 3
        print("  %-7s %11.2f   ratio %5.2f (%5.2f – %5.2f)   CPU %8.2f us each (server %7.2f, client %7.2f)" %
              (name, value, *ratio, cpu, server, client), flush=True)
        if tsv:
            tsv.write("\t".join([row.name, row.unit, name] + ["%.4f" % v for v in (value, *ratio, cpu, server, client)]) + "\n")
            tsv.flush()
        for more in sorted({key for s in samples[name] if s for key in s.more}):
            figure = lambda s, key=more: s.more[key]  # noqa: E731
            r = ratios(row, samples, name, figure) or [float("nan")]
            print("    %-5s %11.2f   ratio %5.2f (%5.2f – %5.2f)" % (more, median_of(samples[name], figure), statistics.median(r), min(r), max(r)), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--tsv", default="")
    parser.add_argument("--settings", default="", help="settings of `finesse run` for our ends")
    parser.add_argument("--link", default=None, help="a bad network between the ends: loss, delay, jitter, reorder, dup, corrupt, rate, seed")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root (it makes network namespaces)", file=sys.stderr)
        return 77
    words = [w for w in args.only.split(",") if w]
    tsv = open(args.tsv, "w") if args.tsv else None
    if tsv:
        tsv.write("load\tunit\tsetup\tmedian\tratio\tratio_min\tratio_max\tcpu_us\tserver_us\tclient_us\n")
    all_errors = []
    for row in ROWS:
        if words and not any(w in row.name for w in words):
            continue
        samples, errors = measure_row(row, args)
        tell_row(row, samples, tsv)
        all_errors += errors
    for error in all_errors:
        print("! " + error)
    return 1 if all_errors else 0


if __name__ == "__main__":
    sys.exit(main())
