"""Landlock's rules for TCP (Linux 6.7): what a program may not bind or connect to, it cannot under finesse either. Natively and under finesse, line by line.

A thread restricts itself, or the program is started by one that did. Two peers are on the other host; one port is allowed. A connection of before goes on. From the restriction on all is the kernel's.
"""
import errno
import os
import socket
import subprocess
import sys
import threading

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
import landlock  # noqa: E402
from lab import clean_environment, CLIENT_IP, compare_lines, finesse_command, Lab, SERVER_IP, TOP  # noqa: E402

FORBIDDEN, ALLOWED, PATIENCE = 8000, 8001, 20


def said(what, *args):
    try:
        r = what(*args)
        return r.decode() if isinstance(r, bytes) else "ok"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))


def is_kernels(s):
    own = ":%04X" % s.getsockname()[1]
    with open("/proc/thread-self/net/tcp") as table:
        return any(line.split()[1].endswith(own) and line.split()[3] == "01" for line in table)


def connect(port):
    with socket.socket() as s:
        s.settimeout(PATIENCE)
        s.connect((sys.argv[2], port))
        print("#", "kernel" if is_kernels(s) else "engine", flush=True)
        return s.recv(5)


def bind_and_listen(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        s.listen()


def bind_address():
    """As a client that chooses its address alone: a port is chosen later."""
    with socket.socket() as s:
        s.bind((sys.argv[4], 0))


def all_of(who):
    for name, what in ("connect", connect), ("listen", bind_and_listen):
        for port in FORBIDDEN, ALLOWED:
            print(who, name, port, said(what, port), flush=True)
    print(who, "bind to an address", said(bind_address), flush=True)


def in_thread(f, *args):
    t = threading.Thread(target=f, args=args)
    t.start()
    t.join()


def restricted_thread(rights):
    landlock.restrict(rights, ALLOWED)
    all_of("the thread that restricted itself:")


def rights_of(how):
    return {"connect": landlock.CONNECT_TCP, "bind": landlock.BIND_TCP, "both": landlock.BIND_TCP | landlock.CONNECT_TCP}[how.split("-")[0]]


def program(how):
    held = None
    if "used" in how:
        all_of("before:")
        held = socket.create_connection((sys.argv[2], FORBIDDEN), PATIENCE)
    if "thread" in how:
        in_thread(restricted_thread, rights_of(how))
        all_of("the others:")
    elif "given" in how:
        all_of("who was started so:")
    else:
        landlock.restrict(rights_of(how), ALLOWED)
        if "fork" not in how or os.fork() == 0:
            all_of("after:")
        else:
            os.wait()
    if held:
        print("a connection of before:", said(held.recv, 5), flush=True)


WAYS = ["connect", "bind", "both", "both-used", "both-thread", "both-used-thread", "both-fork", "both-used-fork", "connect-given", "bind-given", "both-given"]


def command(lab, finesse, how):
    """`given`: who restricts itself executes the program, so that the shim sees nothing of it."""
    own = [sys.executable, __file__, "program", SERVER_IP, how, CLIENT_IP]
    if "given" not in how:
        return lab.client.command(own, finesse)[2:]
    return [sys.executable, __file__, "start", how] + (lab.client.command(own, finesse)[2:])


def run(lab, finesse, how):
    p = lab.client.spawn(command(lab, finesse, how), stdout=subprocess.PIPE, env=clean_environment())
    out = p.communicate(timeout=60)[0].decode().splitlines()
    carriers = [line.split()[1] for line in out if line.startswith("# ")]
    lines = [line for line in out if not line.startswith("# ")] or ["says nothing"]
    wanted = {"kernel", "engine"} if "used" in how and finesse and finesse_command() else {"kernel"}
    lines.append("every connection is whose it should be" if set(carriers) == wanted else "carried by %s" % carriers)
    return ["%s: %s" % (how, line) for line in lines]


def seen(finesse):
    with Lab() as lab:
        filtered = Path(os.environ.get("FINESSE_BUILD_DIR", TOP)) / "tests/process/filtered"
        for port in FORBIDDEN, ALLOWED:
            lab.server.wait_listening(lab.server.spawn([filtered, "peer", port]), port)
        return [line for how in WAYS for line in run(lab, finesse, how)]


if sys.argv[1:2] == ["program"]:
    program(sys.argv[3])
elif sys.argv[1:2] == ["start"]:
    landlock.restrict(rights_of(sys.argv[2]), ALLOWED)
    os.execvp(sys.argv[3], sys.argv[3:])
elif not landlock.has_net():
    print("skipped: this kernel's Landlock has no rules for TCP")
    sys.exit(77)
else:
    sys.exit(compare_lines(seen))
