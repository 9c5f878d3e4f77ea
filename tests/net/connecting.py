#!/usr/bin/python3
"""Connecting beside something else, natively and under finesse: tests/net/connecting.c, deciding.c, stepped.c, jumped.c, replaced.c and handled.c say what."""
import os
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import CLIENT_IP, HERE, Lab, LabError, SERVER_IP, tally, TOP

PORT, CLOSED_PORT, KERNELS_PORT, RESETTING_PORT = 7410, 7411, 7412, 7413
LINK = "delay=4ms"  # between the hosts: the peer has half of a connection for so long
SLOW_LINK = "delay=100ms"  # a handshake is not over before the other thread has called
NOBODY_IP, NOBODY = "10.77.0.9", "02:00:00:00:00:99"  # SYNs go there, and nothing comes back
# what, how many connections
WALKS = [("given_up", 150), ("spawn", 40)]
AT_ONCE = 8  # connecting.c's
HANDLED_ROUNDS = 3  # a send may find room between two signals, on either side: what differs by fault differs in each round


def walk(lab, what, finesse):
    p = lab.client.run([str(TOP / "tests/net/connecting"), what, SERVER_IP, str(PORT)], finesse=finesse, timeout=60, check=False)
    return p.stdout.decode() + p.stderr.decode()


def differences(native, ours):
    pairs = zip(native.splitlines(), ours.splitlines(), strict=False)
    return "".join("    kernel:  %s\n    finesse: %s\n" % (a, b) for a, b in pairs if a != b)


def deciding_once(lab):
    said = []
    for finesse in (False, True):
        p = lab.client.run([str(TOP / "tests/net/deciding"), SERVER_IP, str(PORT), str(CLOSED_PORT), str(KERNELS_PORT)], finesse=finesse,
                           settings=("--except", "client %s:%d" % (SERVER_IP, KERNELS_PORT)), timeout=90, check=False)
        if p.returncode == 77:
            return None
        said.append(p.stdout.decode() + p.stderr.decode())
    native, ours = said
    right = native.endswith("done\n") and native == ours
    return right, "" if right else "%d lines, %d lines\n%s" % (len(native.splitlines()), len(ours.splitlines()), differences(native, ours))


def deciding(lab):
    """
    The same lines, natively and under finesse. None: the machine gives no real-time priority.

    A machine that stands still for longer than the link's delay lets a handshake end too early, in either run. What is wrong is wrong every time.
    """
    for _ in range(3):
        verdict = deciding_once(lab)
        if verdict is None or verdict[0]:
            break
    return verdict


def same(lab, program, *args):
    """What it says natively and under finesse, and whether it is all right and the same."""
    said = []
    for finesse in (False, True):
        p = lab.client.run([str(TOP / "tests/net" / program), *args], finesse=finesse, timeout=300, check=False)
        said.append(p.stdout.decode() + "".join(line + "\n" for line in p.stderr.decode().splitlines() if "lost its epoll registration" in line))
    native, ours = said
    right = native.endswith("done\n") and native == ours
    return right, "" if right else "%d lines, %d lines\n%s" % (len(native.splitlines()), len(ours.splitlines()), differences(native, ours))


def nobody(lab):
    lab.client.run(["ip", "neigh", "add", NOBODY_IP, "lladdr", NOBODY, "dev", lab.client.interface, "nud", "permanent"])
    return NOBODY_IP


def stepped(lab):
    """One thread's call at each step of another one's: nothing but what one of the two orders gives, and these are as natively."""
    return same(lab, "stepped", nobody(lab))


def replaced(lab):
    """Who copies a connection over a socket that lingers waits for that alone."""
    return same(lab, "replaced", nobody(lab))


def jumped(lab):
    """Calls that a handler leaves by siglongjmp, at each of their steps: nothing is left of them."""
    peer = lab.server.spawn([sys.executable, str(HERE / "reuse.py"), "peer", str(PORT)], stdout=subprocess.DEVNULL)
    lab.server.wait_listening(peer, PORT)
    return same(lab, "jumped", CLIENT_IP, SERVER_IP, str(PORT))


def reset_each(listener):
    """One after the other: on its first byte."""
    while True:
        c = listener.accept()[0]
        c.recv(1)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()


def handled(lab):
    """A handler closes, replaces or ends what its thread's call waits for, and binds the port again."""
    silent = nobody(lab)
    listener = lab.server.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind((SERVER_IP, PORT))
    listener.listen(4000)  # and nobody accepts
    resetting = lab.server.socket()
    resetting.bind((SERVER_IP, RESETTING_PORT))
    resetting.listen(5)
    threading.Thread(target=reset_each, args=(resetting,), daemon=True).start()
    for _ in range(HANDLED_ROUNDS):
        right, why = same(lab, "handled", CLIENT_IP, SERVER_IP, str(PORT), silent, str(RESETTING_PORT))
        if right:
            break
    listener.close()
    return right, why


def accept_rounds(listener, at_once, ports):
    """As a server of one connection at a time: all of a round, in order, before it ends any."""
    while True:
        clients = []
        for _ in range(at_once):
            try:
                c, name = listener.accept()
            except OSError:
                return
            clients.append(c)
            ports.append(name[1])
        for c in clients:
            c.close()


def order(lab):
    """Connections are accepted in the order in which they were connected, whichever of them have said something."""
    wrong = []
    for finesse in (False, True):
        listener, ports = lab.server.socket(), []
        listener.bind((SERVER_IP, PORT + finesse))
        listener.listen(64)
        thread = threading.Thread(target=accept_rounds, args=(listener, AT_ONCE, ports), daemon=True)
        thread.start()
        p = lab.client.run([str(TOP / "tests/net/connecting"), "order", SERVER_IP, str(PORT + finesse)], finesse=finesse, timeout=60, check=False)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        *lines, last = p.stdout.decode().splitlines() or [""]
        called = [int(w) for w in lines if w.isdigit()]
        rounds = range(0, len(called), AT_ONCE)
        mixed = sum(called[i:i + AT_ONCE] != ports[i:i + AT_ONCE] for i in rounds)
        if last != "done %d" % len(lines) or len(called) != len(lines) or mixed:
            wrong.append("%s: %d of %d rounds in another order; %s" % ("finesse" if finesse else "kernel", mixed, len(rounds), last))
    return not wrong, "; ".join(wrong)


def main():
    if os.geteuid():
        print("skipped: needs root")
        sys.exit(77)
    checks = failures = 0
    for what, n in WALKS:
        with Lab(link=LINK) as lab:
            peer = lab.server.spawn([sys.executable, str(HERE / "reuse.py"), "peer", str(PORT)], stdout=subprocess.DEVNULL)
            lab.server.wait_listening(peer, PORT)
            for finesse in (False, True):
                said = walk(lab, what, finesse)
                right = said.startswith("done %d\n" % n)
                checks += 1
                failures += not right
                print("%s: %s, %s" % ("ok" if right else "FAILED", what, "finesse" if finesse else "kernel"), "" if right else said, flush=True)
    with Lab(link=SLOW_LINK) as lab:
        for port in (PORT, KERNELS_PORT):
            peer = lab.server.spawn([sys.executable, str(HERE / "reuse.py"), "peer", str(port)], stdout=subprocess.DEVNULL)
            lab.server.wait_listening(peer, port)
        verdict = deciding(lab)
        if verdict is None:
            print("skipped: deciding, there is no real-time priority")
        else:
            checks += 1
            failures += not verdict[0]
            print("%s: deciding" % ("ok" if verdict[0] else "FAILED"), verdict[1], flush=True)
    for part in stepped, jumped, replaced, handled, order:
        with Lab() as lab:
            try:
                right, why = part(lab)
            except LabError as e:
                right, why = False, str(e)
            checks += 1
            failures += not right
            print("%s: %s" % ("ok" if right else "FAILED", part.__name__), why, flush=True)
    sys.exit(tally(checks, failures))


main()
