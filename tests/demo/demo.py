#!/usr/bin/python3
"""The demonstration: unmodified nginx, curl and ab through finesse, against the kernel's TCP and against each other.

Two network namespaces joined by a veth. Prints three tables; ends with status 1 when something is not as it must be.
FINESSE="" in the environment runs everything on the kernel's TCP: that proves the harness.
"""
import hashlib
import os
import platform
import subprocess
import sys
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
import lab as lab_module  # noqa: E402
from lab import ACK, CLIENT_POOL, FIN, SERVER_IP, SYN, Capture, Lab, LabError  # noqa: E402
from nginx import nginx_argv  # noqa: E402

BULK_BYTES = 100 * 1000 * 1000
REQUESTS = 2000

failures = []


def complain(text):
    failures.append(text)
    print("  ! " + text)


def start_nginx(lab, port, finesse):
    argv = nginx_argv(lab.dir, "%s:%d backlog=4096" % (SERVER_IP, port), http="keepalive_timeout 0;", main="worker_rlimit_nofile 8192;",
                      connections=4096, name="nginx-%d" % port)
    p = lab.server.spawn(argv, finesse)
    lab.server.wait_listening(p, port, finesse)
    return p


def end_nginx(lab, p):
    status = lab.stop(p)
    if status != 0:
        complain("nginx ended with status %d" % status)


def check_carried(lab, what, server, client, before):
    """The engine, not the kernel, made the connections of whoever ran under finesse."""
    active, passive = (after - b for after, b in zip(lab.client.opens()[:1] + lab.server.opens()[1:], before))
    if client and active:
        complain("%s: the kernel opened %d connections of the client" % (what, active))
    if server and passive:
        complain("%s: the kernel accepted %d connections of the server" % (what, passive))


def opens(lab):
    return lab.client.opens()[:1] + lab.server.opens()[1:]


def check_fallbacks(lab, p, what):
    document = lab.server.stat(p.pid)
    for entry in document.get("fallbacks", []):
        complain("%s fell back: %s: %s" % (what, entry.get("what"), entry.get("why")))
    return document


# ---- 1: bulk ----

def bulk(lab):
    www = Path(lab.dir) / "www"
    digest = hashlib.sha256()
    with open(www / "bulk.bin", "wb") as f:
        for _ in range(BULK_BYTES // 1000000):
            block = os.urandom(1000000)
            digest.update(block)
            f.write(block)
    print("\n1. nginx sends %d MB to curl (sha256 of what arrives against what was sent)\n" % (BULK_BYTES // 1000000))
    print("   %-22s %-22s %8s %9s   %s" % ("nginx on", "curl on", "seconds", "MB/s", "sha256"))
    port = 8100
    for server, client in ((False, False), (True, False), (False, True), (True, True)):
        if (server or client) and not lab_module.finesse_command():
            continue
        port += 1
        bulk_once(lab, port, server, client, digest.hexdigest())


def bulk_once(lab, port, server, client, want):
    what = "nginx %s, curl %s" % (name(server), name(client))
    before = opens(lab)
    nginx = start_nginx(lab, port, server)
    out = Path(lab.dir) / "got.bin"
    start = time.monotonic()
    try:
        lab.client.run(["curl", "-sS", "--fail", "-o", out, "http://%s:%d/bulk.bin" % (SERVER_IP, port)], client, timeout=60)
        seconds = time.monotonic() - start
        with open(out, "rb") as f:
            got = hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(f.read()).hexdigest()
        print("   %-22s %-22s %8.2f %9.0f   %s" % (name(server), name(client), seconds, BULK_BYTES / 1e6 / seconds,
                                                   "equal" if got == want else "DIFFERENT"))
        if got != want:
            complain("%s: the file arrived damaged" % what)
    except LabError as e:
        complain("%s: %s" % (what, e))
    check_carried(lab, what, server, client, before)
    if server:
        check_fallbacks(lab, nginx, what)
    end_nginx(lab, nginx)


def name(finesse):
    return "finesse" if finesse else "the kernel's TCP"


# ---- 2: short requests ----

def curl_clients(lab, port, finesse):
    """One curl, 2,000 transfers, 64 at a time, each from the next of 64 addresses. It closes when Content-Length is reached."""
    sections = []
    for i in range(REQUESTS):
        sections.append("url = http://%s:%d/short\ninterface = %s\noutput = /dev/null\n" % (SERVER_IP, port, CLIENT_POOL[i % 64]))
    config = Path(lab.dir) / "curl.conf"
    config.write_text("next\n".join(sections))
    lab.client.run(["curl", "-sS", "--no-progress-meter", "--fail", "--parallel", "--parallel-max", "64", "-K", config],
                   finesse, timeout=60)
    return ""


def ab_clients(lab, port, finesse):
    """64 of ApacheBench, one per address. It waits for the server's end of file, whatever Content-Length says."""
    share = [REQUESTS // 64 + (i < REQUESTS % 64) for i in range(64)]
    running = []
    for address, n in zip(CLIENT_POOL, share):
        running.append(lab.client.spawn(["ab", "-q", "-n", n, "-c", 1, "-B", address, "http://%s:%d/short" % (SERVER_IP, port)],
                                        finesse, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    bad = ""
    for p, n in zip(running, share):
        out = p.communicate(timeout=60)[0].decode(errors="replace")
        lab.processes.remove(p)
        if p.returncode != 0 or not any(line.split()[:2] == ["Complete", "requests:"] and int(line.split()[2]) == n
                                        for line in out.splitlines()):
            bad = bad or "ab: status %d: %s" % (p.returncode, out.strip()[-200:])
    return bad


def short_requests(lab):
    (Path(lab.dir) / "www" / "short").write_bytes(b"finesse\n" * 64)
    print("\n2. %d short requests from %d addresses; nginx closes first by its own code (Connection: close)\n" % (REQUESTS, len(CLIENT_POOL)))
    print("   %-34s %-18s %8s   %-19s   %s" % ("", "", "requests", "TIME-WAIT after", "first FIN on the wire"))
    print("   %-34s %-18s %8s   %9s %9s   %9s %9s" % ("clients (on the kernel's TCP)", "nginx on", "/s", "server", "clients", "server", "client"))
    port = 8200
    for label, clients in (("curl: knows the length", curl_clients), ("ab: waits for the end of file", ab_clients)):
        for server in (False, True):
            if server and not lab_module.finesse_command():
                continue
            port += 1
            short_once(lab, port, server, label, clients)


def short_once(lab, port, server, label, clients):
    what = "%s, nginx %s" % (label, name(server))
    before = opens(lab)
    nginx = start_nginx(lab, port, server)
    with Capture(lab.client) as capture:
        start = time.monotonic()
        try:
            bad = clients(lab, port, False)
        except LabError as e:
            bad = str(e)
        seconds = time.monotonic() - start
    if bad:
        complain("%s: %s" % (what, bad))
    document = check_fallbacks(lab, nginx, what) if server else {}
    at_server = lab.server.time_waits(port) + document.get("time_wait", 0)
    fins = lab_module.first_fins(capture.segments, port)
    print("   %-34s %-18s %8.0f   %9d %9d   %9d %9d" % (label, name(server), REQUESTS / seconds, at_server, lab.client.time_waits(port),
                                                        fins["server"], fins["client"]))
    if fins["reset"] or fins["open"]:
        complain("%s: %d connections ended by RST, %d without an end" % (what, fins["reset"], fins["open"]))
    if capture.drops:
        complain("the capture lost %d segments" % capture.drops)
    elif sum(fins.values()) != REQUESTS:
        complain("%s: %d connections on the wire instead of %d" % (what, sum(fins.values()), REQUESTS))
    check_carried(lab, what, server, False, before)
    for listener in document.get("listeners", []):
        if listener.get("port") == port and listener.get("steering"):
            steering.append((label, listener["steering"]))
    end_nginx(lab, nginx)


steering = []


def tell_steering():
    for label, s in steering:
        reasons = ", ".join("%d %s" % (n, r) for r, n in s.get("server_first", {}).items())
        print("   finesse says, %s: %d closes, %d held, %d ended by the client's FIN, %d ran out%s" % (
            label.split(":")[0], s.get("closes", 0), s.get("held", 0), s.get("hold_client_fin", 0), s.get("hold_expired", 0),
            "; FIN at once: " + reasons if reasons else ""))


# ---- 3: one connection in words ----

def words(lab):
    server = bool(lab_module.finesse_command())
    port = 8300
    print("\n3. One connection: curl on the kernel's TCP, nginx on %s\n" % name(server))
    nginx = start_nginx(lab, port, server)
    with Capture(lab.client, everything=True) as capture:
        lab.client.run(["curl", "-sS", "--fail", "-o", "/dev/null", "http://%s:%d/short" % (SERVER_IP, port)])
    document = lab.server.stat(nginx.pid) if server else {}
    told = lab_module.connections(capture.segments, port)
    if len(told) != 1:
        complain("%d connections on the wire instead of one" % len(told))
    else:
        tell(told[0], port, document, server)
        held_by = [who for who, n in (("the client (kernel)", lab.client.time_waits(port)), ("the server (kernel)", lab.server.time_waits(port)),
                                      ("the server (finesse)", document.get("time_wait", 0))) if n]
        print("   TIME-WAIT  %s" % (", ".join(held_by) or "nobody"))
    end_nginx(lab, nginx)


def tell(segments, port, document, server):
    start = segments[0]["t"]

    def line(s, what, text):
        print("   %7.3f ms  %s  %-9s %s" % ((s["t"] - start) * 1e3, "client -> server" if s["dport"] == port else "client <- server", what, text))

    syn = segments[0]
    line(syn, "SYN", "ISN %d, %s" % (syn["seq"], describe(syn["options"])))
    answer = next((s for s in segments if s["flags"] & (SYN | ACK) == SYN | ACK), None)
    if not answer:
        complain("no SYN-ACK on the wire")
        return
    line(answer, "SYN-ACK", "ISN %d, %s" % (answer["seq"], describe(answer["options"])))
    rest = segments[segments.index(answer) + 1:]
    third = next((s for s in rest if s["dport"] == port), None)
    if third:
        line(third, "ACK", "the handshake took %d us between SYN-ACK and ACK on the wire%s" % ((third["t"] - answer["t"]) * 1e6, measured(document)))
    for s in (s for s in rest if s["len"]):
        line(s, "data", "%d bytes%s" % (s["len"], ", and FIN" if s["flags"] & FIN else ""))
    fins = [s for s in rest if s["flags"] & FIN]
    for i, s in enumerate(fins[:2]):
        who = "the client" if s["dport"] == port else "the server"
        line(s, "FIN", "%s closes%s" % (who, " first" if i == 0 else ""))
    if fins:
        print("   why        %s" % reason(fins[0]["dport"] == port, document, server))


def describe(o):
    parts = ["MSS %s" % o.get("mss", "none")]
    if "wscale" in o:
        parts.append("window scale %d" % o["wscale"])
    parts += [word for key, word in (("sack", "SACK"), ("timestamps", "timestamps")) if o.get(key)]
    return ", ".join(parts)


def measured(document):
    rtts = [c["handshake_rtt_us"] for c in document.get("connections", []) if c.get("handshake_rtt_us")]
    return "; finesse measured %d us" % rtts[0] if rtts else ""


def reason(client_first, document, server):
    if not server:
        return "the kernel sends a FIN at once when a program closes; %s was the faster" % ("curl" if client_first else "nginx")
    s = next((entry.get("steering", {}) for entry in document.get("listeners", []) if entry.get("port") == 8300), {})
    if client_first and s.get("hold_client_fin"):
        return "nginx closed, finesse held its FIN; curl had all of the response and closed: the hold was over"
    if client_first:
        return "curl had all of the response and closed before nginx did"
    return "finesse sent the FIN at once: %s" % (", ".join(s.get("server_first", {})) or "no reason told")


def main():
    if os.geteuid() != 0:
        print("the demonstration needs root: it makes network namespaces", file=sys.stderr)
        return 77
    release = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().split()[-1]
    curl = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[1]
    print("finesse: the demonstration (Linux %s, %d CPUs, %s, curl/%s)" % (platform.release(), os.cpu_count(), release, curl))
    start = time.monotonic()
    with Lab(client_pool=True) as lab:
        (Path(lab.dir) / "www").mkdir()
        for part in (bulk, short_requests, words):
            try:
                part(lab)
            except LabError as e:
                complain(str(e))
            if part is short_requests and steering:
                print()
                tell_steering()
    print("\n%s in %.0f s" % ("All as it must be" if not failures else "%d things are NOT as they must be" % len(failures),
                              time.monotonic() - start))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
