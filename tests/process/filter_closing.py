"""What a program has written and closed before it restricts itself arrives: by a filter of system calls (seccomp), and by Landlock's rules for TCP.

Natively and under finesse. The peer reads nothing until the program has restricted itself, so most of the text is still at the program's end then.
"""
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
import landlock  # noqa: E402
from lab import both_ways, Lab, SERVER_IP  # noqa: E402

PORT, PATIENCE, LEAST = 8000, 30, 20_000
PR_SET_SECCOMP, MODE_FILTER, ALLOW = 22, 2, 0x7fff0000


def filter_calls():
    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, ALLOW))  # BPF_RET | BPF_K
    landlock.no_new_privileges()
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))
    landlock.checked(landlock.LIBC.prctl(PR_SET_SECCOMP, MODE_FILTER, program), "seccomp")


def restrict():
    if landlock.has_net():  # an older kernel has nothing to restrict
        landlock.restrict(landlock.CONNECT_TCP)


def program(how):
    with socket.create_connection((SERVER_IP, PORT), PATIENCE) as s:
        s.setblocking(False)
        sent = 0
        try:
            while True:
                sent += s.send(b"x" * 65536)
        except BlockingIOError:
            pass
    {"seccomp": filter_calls, "landlock": restrict}[how]()
    print(sent, flush=True)
    signal.pause()


def arrived(c):
    """How much, and how it ends."""
    got = 0
    try:
        while more := c.recv(1 << 20):
            got += len(more)
    except OSError as e:
        return got, type(e).__name__
    return got, "end of file"


def row(lab, finesse, how):
    with lab.server.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        listener.settimeout(PATIENCE)
        listener.bind((SERVER_IP, PORT))
        listener.listen()
        p = lab.client.spawn([sys.executable, __file__, "program", how], finesse=finesse, stdout=subprocess.PIPE)
        c, _ = listener.accept()
        with c:
            c.settimeout(PATIENCE)
            sent = int(p.stdout.readline())
            got, end = arrived(c)
    p.kill()
    return sent >= LEAST and got == sent and end == "end of file", "%s: %d of %d bytes, then %s" % (how, got, sent, end)


def run(finesse):
    with Lab() as lab:
        opens = lab.client.opens()[0]
        rows = [row(lab, finesse, how) for how in ("seccomp", "landlock")]
        by_kernel = lab.client.opens()[0] - opens
    ok = all(good for good, _ in rows) and (by_kernel == 0 if finesse and os.environ.get("FINESSE_BUILD_DIR") else True)
    return ok, "; ".join(text for _, text in rows) + "; the kernel opened %d" % by_kernel


if sys.argv[1:2] == ["program"]:
    program(sys.argv[2])
else:
    sys.exit(both_ways(run))
