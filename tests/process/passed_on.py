"""A listener goes to another process or program while connections wait for accept: natively and under finesse, with clients on the kernel's TCP.

  passed_on.py server HOW USED     serves; each line of standard input is an order
  passed_on.py successor FD        what accepts in the end
  passed_on.py mode                says in which mode a listener is that was made non-blocking by who got it, after it was passed on once more
  passed_on.py table               the clients' side: every way, natively and under finesse

Whoever has the listener then gets every one of them: the kernel's queue is the listener's, not the process's.
"""
import array
import os
import select
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
PORT, WAITING, PATIENCE = 8000, 5, 10
WAYS = ["exec", "exec close", "spawn, ends", "spawn, closes", "spawn, stays", "rights, ends", "rights, closes", "rights, stays", "fork, ends", "fork, closes", "fork, stays"]


def successor(listener):
    """Accepts and answers until its standard input ends."""
    print("accepts", flush=True)
    while True:
        ready = select.select([listener, sys.stdin], [], [])[0]
        if listener in ready:
            c = listener.accept()[0]
            c.sendall(b"%d" % len(c.recv(100)))
            c.close()
        elif sys.stdin in ready:
            os._exit(0)


def receiver(channel):
    """Waits for a listener, and is its successor."""
    successor(socket.socket(fileno=passed(channel)))


def pass_on(how, listener, channel):
    fd = listener.fileno()
    os.set_inheritable(fd, True)
    program = [sys.executable, __file__, "successor", str(fd)]
    if how.startswith("exec"):
        if how == "exec close":  # what many do: everything else is closed
            os.closerange(fd + 1, 1024)
        os.execv(program[0], program)
    kind, _, then = how.partition(", ")
    if kind == "spawn":
        subprocess.Popen(program, pass_fds=[fd])
    elif kind == "rights":
        channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    elif os.fork() == 0:
        successor(listener)
    if then == "ends":
        sys.exit(0)
    if then == "closes":
        listener.close()
    os.read(0, 0)
    while sys.stdin.readline():
        pass
    os._exit(0)


def server(how, used):
    ours, theirs = socket.socketpair()
    if how.startswith("rights") and os.fork() == 0:
        ours.close()
        receiver(theirs)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", PORT))
    listener.listen(16)
    print("listens", flush=True)
    if used:
        c = listener.accept()[0]
        c.sendall(b"first")
        c.close()
        print("used", flush=True)
    os.read(0, 1)  # the order; not through stdin's buffer
    pass_on(how, listener, ours)


def passed(channel):
    fds = array.array("i")
    fds.frombytes(channel.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))[1][0][2])
    return fds[0]


def mode():
    """O_NONBLOCK is of the socket, not of who has it: whoever passes it on leaves it as it is."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        first = passed(theirs)
        os.set_blocking(first, False)
        theirs.send(b"x")
        second = passed(theirs)
        print("".join("blocks " if os.get_blocking(fd) else "non-blocking " for fd in (first, second)), flush=True)
        os._exit(0)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", PORT))
    listener.listen(16)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))]
    ours.sendmsg([b"x"], rights)
    ours.recv(1)
    ours.sendmsg([b"x"], rights)
    os.wait()


def mode_of(lab, finesse):
    p = lab.server.spawn([sys.executable, __file__, "mode"], finesse=finesse, settings=["--strict"] if finesse else (), stdout=subprocess.PIPE)
    said = p.communicate()[0].strip().decode()
    lab.processes.remove(p)
    return said


def words(process, word):
    if not select.select([process.stdout], [], [], PATIENCE)[0]:
        raise TimeoutError("the server does not say: " + word)
    line = process.stdout.readline().strip().decode()
    if line != word:
        raise RuntimeError("the server says %r, not %r" % (line, word))


def answer(s):
    try:
        return s.recv(100).decode() or "end of file"
    except OSError as e:
        return type(e).__name__
    finally:
        s.close()


def one(lab, how, used, finesse):
    """What each client was told, and how many the kernel's TCP of the server's host accepted before."""
    from lab import SERVER_IP

    def connect():
        s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(PATIENCE)
        s.connect((SERVER_IP, PORT))
        return s
    p = lab.server.spawn([sys.executable, __file__, "server", how, "used" if used else ""], finesse=finesse, settings=["--strict"] if finesse else (),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        words(p, "listens")
        if used:
            first = connect()
            words(p, "used")
            first.close()
        before = lab.server.opens()[1]
        clients = [connect() for _ in range(WAITING)]
        for i, c in enumerate(clients):
            c.sendall(b"x" * (i + 1))
        kernels = lab.server.opens()[1] - before
        p.stdin.write(b"\n")
        words(p, "accepts")
        got = [answer(c) for c in clients]
        late = connect()
        late.sendall(b"late")
        return got + [answer(late)], kernels
    except (OSError, RuntimeError) as e:
        return [repr(e)], 0
    finally:
        p.stdin.close()
        p.stdout.read()
        p.wait()
        p.stdout.close()
        lab.processes.remove(p)


def table(only):
    from lab import Lab, finesse_command
    wrong = checks = 0
    with Lab() as lab:
        for how, used in [(how, used) for used in (False, True) for how in WAYS]:
            name = how + (", used before" if used else "")
            if only and name not in only:
                continue
            expected, _ = one(lab, how, used, False)
            seen, kernels = one(lab, how, used, True)
            right = seen == expected and (not kernels or not finesse_command())
            checks += 1
            wrong += not right
            print("%s: %s: %s, natively %s; %d waited in the kernel's queue" % ("ok" if right else "FAILED", name, seen, expected, kernels), flush=True)
        if not only or "mode" in only:
            expected, seen = mode_of(lab, False), mode_of(lab, True)
            checks += 1
            wrong += seen != expected
            print("%s: mode: %s, natively %s" % ("ok" if seen == expected else "FAILED", seen, expected), flush=True)
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (checks - wrong) // max(1, checks), checks, wrong))
    return wrong or not checks


if sys.argv[1] == "server":
    server(sys.argv[2], bool(sys.argv[3]))
elif sys.argv[1] == "mode":
    mode()
elif sys.argv[1] == "successor":
    successor(socket.socket(fileno=int(sys.argv[2])))
elif os.geteuid() != 0:
    print("skipped: needs root")
    sys.exit(77)
else:
    sys.exit(table(sys.argv[2:]))
