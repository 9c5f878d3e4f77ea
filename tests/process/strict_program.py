"""Programs for strict_test.sh: each prints what its calls say, one name a line."""
import errno
import os
import pty
import socket
import sys

FASTOPEN = 23  # TCP_FASTOPEN
MARK = 36  # SO_MARK: only the kernel's TCP can do it


def tried(what, call):
    try:
        call()
        print(what, 0, flush=True)
    except OSError as e:
        print(what, errno.errorcode[e.errno], flush=True)


def marked(s):
    s.setsockopt(socket.SOL_SOCKET, MARK, 7)
    return s


def calls(server, peer):
    s = [socket.socket() for _ in range(7)]
    s[0].bind((server, 8000))
    s[1].bind((server, 8001))
    s[2].bind(("127.0.0.1", 8002))
    s[3].bind((server, 8003))
    tried("listen", s[0].listen)
    tried("listen with SO_MARK", marked(s[1]).listen)
    tried("listen on loopback", s[2].listen)
    tried("listen by rule", s[3].listen)
    s[6].bind((server, 8004))
    s[6].setsockopt(socket.IPPROTO_TCP, FASTOPEN, 5)
    tried("listen with TCP_FASTOPEN", s[6].listen)
    tried("connect", lambda: s[4].connect((peer, 9000)))
    tried("connect with SO_MARK", lambda: marked(s[5]).connect((peer, 9000)))
    sys.stdin.read()


def terminal(*command):
    """Runs the command with a terminal as its standard error, and prints what came there."""
    pid, fd = pty.fork()
    if not pid:
        os.execvp(command[0], command)
    said = b""
    while True:
        try:
            some = os.read(fd, 4096)
        except OSError:
            break
        if not some:
            break
        said += some
    os.waitpid(pid, 0)
    sys.stdout.write(said.decode().replace("\r\n", "\n"))


def connects(peer):
    for _ in range(2):
        socket.create_connection((peer, 9000)).close()


{"calls": calls, "terminal": terminal, "connects": connects}[sys.argv[1]](*sys.argv[2:])
