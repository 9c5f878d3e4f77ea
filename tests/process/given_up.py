"""Who waits for accept is reset when the last process that has the listener closes it, although one that served the port goes on with another client.

Natively and under finesse, with the child or the parent as the last one.
"""
import os
import select
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import both_ways, finesse_command, Lab, SERVER_IP  # noqa: E402

PORT, PATIENCE = 8000, 10


def say(word):
    print(word, flush=True)


def child(listener, go):
    """Accepts one client, whom it serves until the end, and looks at the next one only."""
    listener.accept()[0].close()  # who comes before anybody accepts is the kernel's
    kept, _ = listener.accept()
    kept.sendall(b"1")
    select.select([listener], [], [])
    say("waits")
    os.read(go, 1)
    listener.close()
    say("closed")
    kept.sendall(kept.recv(1))
    kept.recv(1)
    os._exit(0)


def serve(child_is_last):
    listener = socket.create_server(("0.0.0.0", PORT))
    go, tell = os.pipe()
    if os.fork() == 0:
        os.close(tell)
        child(listener, go)
    say("listens")
    sys.stdin.readline()
    if child_is_last:
        listener.close()
    os.write(tell, b"g")
    sys.stdin.readline()
    listener.close()
    say("closed")
    os.wait()


def hear(p, word):
    got = p.stdout.readline().strip().decode()
    if got != word:
        raise SystemExit("FAILED: the server says %r, not %r" % (got, word))


def connect(lab):
    s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(PATIENCE)
    s.connect((SERVER_IP, PORT))
    return s


def end_of(s):
    try:
        return "reads %r" % s.recv(1)
    except OSError as e:
        return type(e).__name__


def once(lab, finesse, order):
    p = lab.server.spawn([sys.executable, __file__, "serve", order], finesse=finesse, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    hear(p, "listens")
    with connect(lab) as early:
        early.recv(1)
    by_kernel = lab.server.opens()[1]
    with connect(lab) as kept:
        first = kept.recv(1)
        with connect(lab) as waits:
            hear(p, "waits")
            for _ in range(2):
                p.stdin.write(b"\n")
                p.stdin.flush()
                hear(p, "closed")
            end = end_of(waits)
        kept.sendall(b"2")
        answers = first + kept.recv(1)
    p.wait(PATIENCE)
    lab.processes.remove(p)
    carried = not (finesse and finesse_command()) or lab.server.opens()[1] == by_kernel
    return end == "ConnectionResetError" and answers == b"12" and carried, "%s closes last: who waits %s; the other reads %r%s" % (
        order, end, answers, "" if carried else "; the kernel carried it")


def run(finesse):
    with Lab() as lab:
        seen = [once(lab, finesse, order) for order in ("child", "parent")]
        return all(ok for ok, _ in seen), "; ".join(words for _, words in seen)


if sys.argv[1:2] == ["serve"]:
    serve(sys.argv[2] == "child")
else:
    sys.exit(both_ways(run))
