#!/usr/bin/python3
"""What it costs to begin and to end: short programs, and servers from their start to the first answer, and from the signal to the end of the last process.

Every round measures each row once with the kernel's TCP and once in each built tree, one after the other; told are the medians in milliseconds, the 90th percentile, and the ratio to the kernel's:

    start.py [--rounds N] [--only WORD[,WORD…]] [TREE…]

"alone": a client under a `finesse run` of its own, begun when nothing is left of the one before. "in a tree": its parent runs under finesse, too. "kernel-only": its one connection is over
loopback, which stays with the kernel. As root; 77 otherwise.
"""
import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

from pathlib import Path

from loads import PORT, SERVER_IP, TOP, Lab, LabError
import lab as lab_module  # found through loads

SHORT = TOP / "bench/short_client"
TIMES = 12  # in a tree
FIRST = 2  # of those are not counted: the broker finds out what is wanted
PATIENCE_S = 20
NGINX = """user www-data; worker_processes 2; pid %(dir)s/pid; error_log %(dir)s/errors; daemon on;
events { worker_connections 512; }
http { access_log off; server { listen %(port)d; location / { return 200 'ok'; } } }
"""
REDIS = ["redis-server", "--port", PORT, "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]


def until(condition, what, pause_s=0.0005):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise LabError("never: " + what)
        time.sleep(pause_s)


def living(host, names):
    """The processes of these names in a host's network."""
    net, out = os.readlink("/proc/%d/ns/net" % host.holder.pid), []
    for p in Path("/proc").iterdir():
        try:
            if p.name.isdigit() and (p / "comm").read_text().strip() in names and os.readlink(p / "ns/net") == net:
                out.append(int(p.name))
        except OSError:
            pass
    return out


def settle(host):
    until(lambda: not living(host, ("finesse-broker",)), "the end of a broker", 0.01)


def answers(lab, request):
    with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(5)
        try:
            s.connect((SERVER_IP, PORT))
            s.sendall(request)
            return bool(s.recv(64))
        except OSError:
            return False


class Alone:
    def __init__(self, address):
        self.address = address

    def measure(self, lab, finesse):
        settle(lab.client)
        argv = lab.client.command([SHORT, self.address, PORT], finesse)
        before = time.perf_counter()
        subprocess.run(argv, check=True, env=lab_module.clean_environment(), stdout=subprocess.DEVNULL)
        return {"": time.perf_counter() - before}


class InTree(Alone):
    def measure(self, lab, finesse):
        settle(lab.client)
        out = lab.client.text([SHORT, self.address, PORT, TIMES], finesse=finesse)
        return {"": statistics.median([int(n) for n in out.split()][FIRST:]) / 1e6}


class Server:
    def __init__(self, name, argv, request):
        self.name, self.argv, self.request = name, argv, request

    def measure(self, lab, finesse):
        settle(lab.server)
        argv = [str(a).replace("DIR", lab.dir) for a in self.argv]
        Path(lab.dir, "nginx.conf").write_text(NGINX % {"dir": lab.dir, "port": PORT})
        before = time.perf_counter()
        p = lab.server.spawn(argv, finesse, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(lab, self.request), "an answer")
        start = time.perf_counter() - before
        until(lambda: all(answers(lab, self.request) for _ in range(5)), "answers")
        pid_file = Path(lab.dir, "pid")
        before = time.perf_counter()
        os.kill(int(pid_file.read_text()) if pid_file.exists() else p.pid, signal.SIGTERM)
        until(lambda: p.poll() is not None and not living(lab.server, (self.name,)), "the server's end")
        lab.processes.remove(p)
        return {"start": start, "end": time.perf_counter() - before}


ROWS = [
    ("client alone", Alone(SERVER_IP)),
    ("client alone, kernel-only", Alone("127.0.0.1")),
    ("client in a tree", InTree(SERVER_IP)),
    ("client in a tree, kernel-only", InTree("127.0.0.1")),
    ("nginx, 2 workers", Server("nginx", ["nginx", "-c", "DIR/nginx.conf"], b"GET / HTTP/1.0\r\n\r\n")),
    ("redis", Server("redis-server", REDIS, b"PING\r\n")),
]


def serve(host):
    server = host.spawn([TOP / "bench/epoll_server", "0.0.0.0", PORT, "--close"], stdout=subprocess.DEVNULL)
    host.wait_listening(server, PORT)


def measure(row, trees, rounds):
    """In one pair of hosts; the client's peers are on the kernel. Who comes after whom changes with each round: what a broker leaves to the kernel when it ends takes time after it."""
    samples = {tree: [] for tree in trees}
    with Lab() as lab:
        if isinstance(row, Alone):
            serve(lab.server)
            serve(lab.client)
        for n in range(rounds):
            for tree in trees[n % len(trees):] + trees[:n % len(trees)]:
                os.environ["FINESSE"] = tree + "/finesse"
                samples[tree].append(row.measure(lab, tree != "kernel"))
    return samples


def tell(name, samples):
    for kind in samples["kernel"][0]:
        base = statistics.median(s[kind] for s in samples["kernel"])
        print("%s%s" % (name, ", " + kind if kind else ""))
        for tree, got in samples.items():
            values = sorted(s[kind] for s in got)
            middle = statistics.median(values)
            print("  %-24s %8.2f ms   (%7.2f – %7.2f, 90 %% %7.2f)   ratio %5.2f" %
                  (Path(tree).name, middle * 1e3, values[0] * 1e3, values[-1] * 1e3, values[int(len(values) * 0.9)] * 1e3, base / middle), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("trees", nargs="*", default=[str(TOP)])
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("start: needs root (it makes network namespaces)", file=sys.stderr)
        return 77
    words = [w for w in args.only.split(",") if w]
    for name, row in ROWS:
        if words and not any(w in name for w in words):
            continue
        tell(name, measure(row, ["kernel"] + [str(Path(t).resolve()) for t in args.trees], args.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
