"""The long rows of bench/close.py: one client address at full speed, which waits for the end of file; very many, over time, which close when they have the
answer, as fast as the server or faster; and nginx as a proxy, which closes on both sides."""
import json
import os
import subprocess
import time

from pathlib import Path

from case import PYTHON, Case, sha256
from close_programs import BODY_BYTES, WEB_SERVERS
from lab import CLIENT_POOL, SERVER_IP, TOP, Lab

PORT = 7100
TESTS = Path(__file__).resolve().parent.parent / "tests"
LOAD = TOP / "tests/endurance/load"
PARALLEL = 64
MANY = 512
MANY_FIRST = "10.77.2.1"
SAMPLES = 60
COLUMNS = ("TIME-WAIT", "timers", "slab, kB", "RSS, kB")


def serve(lab, finesse):
    p = lab.server.spawn([LOAD, "server", SERVER_IP, PORT], finesse, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lab.server.wait_listening(p, PORT, finesse)
    return p


def rss_kb(pid):
    for line in open("/proc/%d/status" % pid):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


# ---- one address ----

def count_in(lab, seconds, client, finesse):
    """Connections that one client makes within the time; the server closes first by its own code. Rate of each part, a twentieth, and failures."""
    end = time.monotonic() + seconds
    rates, failed = [], 0
    while time.monotonic() < end:
        start = time.monotonic()
        n = max(1000, int((rates[-1] if rates else 2000) * seconds / 20))
        out = lab.client.run([LOAD, "client", SERVER_IP, PORT, "--count", n, "--parallel", PARALLEL, "--first", "server"], client,
                             timeout=seconds * 4 + 60, check=False).stdout
        result = json.loads(out)
        failed += result.get("failed", 0)
        rates.append(n / (time.monotonic() - start))
    return rates, failed


def one_address(seconds):
    print("one client address, %d s each; the server closes first by its own code\n" % seconds)
    print("%-22s %12s %12s %8s %12s %12s" % ("", "connections/s", "slowest part", "failed", "RSS at start", "at end, kB"))
    for name, server, client in (("kernel", False, False), ("server under finesse", True, False), ("both", True, True), ("client", False, True)):
        with Lab() as lab:
            p = serve(lab, server)
            start_kb = rss_kb(p.pid)
            rates, failed = count_in(lab, seconds, client, client)
            print("%-22s %12.0f %12.0f %8d %12d %12d" % (name, sum(rates) / len(rates), min(rates), failed, start_kb, rss_kb(p.pid)), flush=True)
            if server:
                steering = lab.server.stat(p.pid)["listeners"][0]["steering"]
                print("    " + ", ".join("%s %s" % (k, v) for k, v in steering.items() if v), flush=True)
    return 0


# ---- many addresses ----

def sample(lab, p, finesse, since):
    document = lab.server.stat(p.pid) if finesse else {}
    kernel = len(lab.server.text(["ss", "-Htan", "state", "time-wait", "sport = :%d" % PORT]).splitlines())
    slab = 0
    for line in open("/proc/slabinfo"):
        fields = line.split()
        if fields[0] == "tw_sock_TCP":
            slab = int(fields[1]) * int(fields[3])
    ours = document.get("time_wait", 0)
    # The kernel has a timer for each; ours wait in order, and the first is part of the engine's one deadline.
    return {"t": time.monotonic() - since, "TIME-WAIT": kernel + ours, "timers": kernel + (ours > 0), "slab, kB": slab // 1024, "RSS, kB": rss_kb(p.pid)}


def many_once(seconds, finesse):
    samples = []
    with Lab() as lab:
        lines = "\n".join("addr add 10.77.%d.%d/16 dev %s" % (2 + i // 256, i % 256, lab.client.interface) for i in range(1, MANY + 1))
        lab.client.run(["ip", "-batch", "-"], input=lines.encode())
        p = serve(lab, finesse)
        start, done, failed, client = time.monotonic(), 0, 0, None
        while time.monotonic() < start + seconds:
            if client is None or client.poll() is not None:
                if client is not None:
                    result = json.loads(client.stdout.read())
                    lab.processes.remove(client)
                    done += result["connections"]
                    failed += result.get("failed", 0)
                client = lab.client.spawn([LOAD, "client", SERVER_IP, PORT, "--count", 20000, "--parallel", PARALLEL, "--first", "server", "--eager",
                                           "--locals", MANY_FIRST, MANY], stdout=subprocess.PIPE)
            samples.append(sample(lab, p, finesse, start))
            time.sleep(seconds / SAMPLES)
        lab.stop(client)
    return samples, done / seconds, failed


def many_addresses(seconds, svg):
    runs = {}
    for name, finesse in (("kernel", False), ("finesse", True)):
        runs[name], rate, failed = many_once(seconds, finesse)
        print("%s: %.0f connections/s, %d failed" % (name, rate, failed), flush=True)
    print("\nat the server; slab: tw_sock_TCP of the whole machine")
    print("%8s" % "" + "".join("%44s" % name for name in runs))
    print("%8s" % "s" + "".join("%11s" % column for column in COLUMNS) * len(runs))
    for i in range(0, min(len(r) for r in runs.values()), 6):
        print("%8.0f" % runs["kernel"][i]["t"] + "".join("%11d" % r[i][column] for r in runs.values() for column in COLUMNS))
    if svg:
        open(svg, "w").write(plot(runs))
    return 0


# ---- a proxy ----

PROXY_PROCESSES, PROXY_THREADS = 2, 8


# Looking costs the machine's time: `finesse stat` asks each process, again and again it took a third of the requests.
LOOK_SECONDS = 2


def proxy_load(lab, case, body):
    argv = [PYTHON, TESTS / "services/load.py", "http_length", SERVER_IP, case.port, PROXY_THREADS, 0, "--from", ",".join(CLIENT_POOL), "/body", sha256(body)]
    return [lab.client.spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(PROXY_PROCESSES)]


def proxy_once(seconds, finesse):
    """What the clients saw, and the most TIME-WAITs at the proxy: of its clients, of its connections to the server behind."""
    total, most = {}, [0, 0]
    with Lab(client_pool=True) as lab:
        (Path(lab.dir) / "www").mkdir()
        body = os.urandom(BODY_BYTES // 2).hex().encode()
        (Path(lab.dir) / "www/body").write_bytes(body)
        case = Case(lab, finesse, False)
        dict(WEB_SERVERS)["nginx as a proxy"](case)
        clients = proxy_load(lab, case, body)
        try:
            end = looked = time.monotonic()
            end += seconds
            while time.monotonic() < end:
                # Each client's line must be read, or it stops.
                for p in clients:
                    os.read(p.stdout.fileno(), 65536)
                if time.monotonic() < looked + LOOK_SECONDS:
                    continue
                looked = time.monotonic()
                ours = sum(d.get("time_wait", 0) for d in case.box.stat()) if finesse else 0
                seen = [lab.server.time_waits(case.port) + ours, lab.server.time_waits(case.behind_port) + ours]
                most = [max(pair) for pair in zip(most, seen)]
            for p in clients:
                out, _ = p.communicate(timeout=30)
                for what, n in json.loads(out.splitlines()[-1]).items():
                    if isinstance(n, int) and not isinstance(n, bool):
                        total[what] = total.get(what, 0) + n
        finally:
            case.box.end()
    return total, most


def proxy(seconds):
    print("nginx as a proxy, Connection: close on both sides, %d s each; %d client addresses, which close when they have the answer\n" % (seconds, len(CLIENT_POOL)))
    print("%-10s %12s %34s  %s" % ("", "requests/s", "most TIME-WAITs: clients, behind", "what went wrong"))
    for name, finesse in (("kernel", False), ("finesse", True)):
        total, most = proxy_once(seconds, finesse)
        wrong = ", ".join("%d %s" % (n, what) for what, n in total.items() if what != "ok" and n)
        print("%-10s %12.0f %20d %13d  %s" % (name, total.get("ok", 0) / seconds, *most, wrong or "nothing"), flush=True)
    return 0


def plot(runs):
    """TIME-WAITs at the server over time."""
    width, height, margin = 720, 360, 60
    last = max(s["t"] for r in runs.values() for s in r) or 1
    most = max(s["TIME-WAIT"] for r in runs.values() for s in r) or 1
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">' % (width, height),
           '<text x="%d" y="20">TIME-WAITs at the server, %d client addresses</text>' % (margin, MANY)]
    for i in range(5):
        y = height - margin - i * (height - 2 * margin) / 4
        out.append('<line x1="%d" x2="%d" y1="%.0f" y2="%.0f" stroke="#ddd"/><text x="5" y="%.0f">%d</text>' % (margin, width - 10, y, y, y + 4, most * i / 4))
        out.append('<text x="%.0f" y="%d">%.0f s</text>' % (margin + i * (width - margin - 40) / 4, height - 35, last * i / 4))
    for (name, samples), colour in zip(runs.items(), ("#c33", "#36c")):
        points = " ".join("%.1f,%.1f" % (margin + s["t"] / last * (width - margin - 40), height - margin - s["TIME-WAIT"] / most * (height - 2 * margin)) for s in samples)
        out.append('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' % (colour, points))
        out.append('<text x="%d" y="%d" fill="%s">%s</text>' % (margin + 10 + 90 * (name == "finesse"), height - 10, colour, name))
    return "\n".join(out + ["</svg>", ""])
