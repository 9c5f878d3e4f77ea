#!/usr/bin/python3
"""A program that opens connection after connection, and does to some sockets what must not be seen on later ones.

    reuse.py peer PORT             the other host: the kernel's TCP; accepts, and closes when the client does
    reuse.py walk ADDRESS PORT OWN CLOSED
    reuse.py few ADDRESS PORT

reuse_test.sh runs the walk natively and under finesse, and compares. The last line tells, on stderr, how many kernel sockets were used again."""
import contextlib, ctypes, errno, fcntl, os, resource, select, socket, struct, sys, threading

SOCKETS = 24  # that are open at once when all are looked at
FD = "/proc/self/fd/%d"  # fstat is a call that makes a difference
seen, again = set(), 0
libc = ctypes.CDLL(None)


def inode_of(fd):
    return os.stat(FD % fd).st_ino


def peer(port):
    listener = socket.create_server(("", port), backlog=512)
    print("listening", flush=True)

    def serve(c):
        with c, contextlib.suppress(ConnectionResetError):
            while c.recv(100):
                pass
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def opened(flags=0):
    global again
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM | flags)
    inode = inode_of(s.fileno())
    again += inode in seen
    seen.add(inode)
    return s


def connected(target, s=None):
    s = s or opened()
    s.connect(target)
    return s


def looks_new(s):
    """What a socket that was just made says of itself."""
    told = {name: s.getsockopt(level, number) for name, level, number in (
        ("keepalive", socket.SOL_SOCKET, socket.SO_KEEPALIVE), ("rcvbuf", socket.SOL_SOCKET, socket.SO_RCVBUF), ("mark", socket.SOL_SOCKET, 36),
        ("reuse", socket.SOL_SOCKET, socket.SO_REUSEADDR), ("listens", socket.SOL_SOCKET, socket.SO_ACCEPTCONN), ("error", socket.SOL_SOCKET, socket.SO_ERROR),
        ("nodelay", socket.IPPROTO_TCP, socket.TCP_NODELAY), ("tos", socket.IPPROTO_IP, socket.IP_TOS))}
    told["name"] = s.getsockname()
    told["flags"] = fcntl.fcntl(s, fcntl.F_GETFL) & ~os.O_NONBLOCK, fcntl.fcntl(s, fcntl.F_GETFD)
    told["blocks"] = not fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK
    p = select.poll()
    p.register(s, select.POLLIN | select.POLLOUT)
    told["poll"] = [events for _, events in p.poll(0)]
    told["owner"], told["group"], told["mode"] = owner(s), os.stat(FD % s.fileno()).st_gid, os.stat(FD % s.fileno()).st_mode
    try:
        s.getpeername()
    except OSError as e:
        told["peer"] = errno.errorcode[e.errno]
    return told


def all_new(what, target):
    """So many at once that each one that could have come back does, seen as new; all become connections, and end."""
    sockets = [opened(socket.SOCK_NONBLOCK if i % 3 == 0 else 0) for i in range(SOCKETS)]
    inodes = {inode_of(s.fileno()) for s in sockets}
    told = {repr(sorted((k, v) for k, v in looks_new(s).items() if k != "blocks")) for s in sockets}
    blocks = [looks_new(s)["blocks"] == (i % 3 != 0) for i, s in enumerate(sockets)]
    print("%-28s %d sockets, %d kinds, flags right: %s\n  %s" % (what, len(inodes), len(told), all(blocks), "\n  ".join(sorted(told))))
    for s in sockets:
        s.setblocking(True)
        connected(target, s).close()


def option(s, target, level, number, value, later=False):
    if later:
        connected(target, s)
    s.setsockopt(level, number, value)
    if not later:
        connected(target, s)
    return s


def fails(s, closed):
    try:
        s.connect(closed)
    except OSError as e:
        print("  connect:", errno.errorcode[e.errno])
    return s


def listens(s, own):
    s.bind((own, 0))
    s.listen()
    return s


def with_flags(s, flags, target):
    fcntl.fcntl(s, fcntl.F_SETFL, flags)
    s.connect_ex(target)
    return s


def walk(target, own, closed):
    cookies, told_inodes = set(), set()

    def cookie(s):
        value = s.getsockopt(socket.SOL_SOCKET, 57, 8)
        if value in cookies:
            print("  a cookie twice")
        cookies.add(value)
        return s

    def fstat(s):
        inode = os.fstat(s.fileno()).st_ino
        if inode in told_inodes:
            print("  an inode twice")
        told_inodes.add(inode)
        return s

    def chmod(s):
        os.fchmod(s.fileno(), 0o600)
        return s

    changes = {
        "plain": lambda s: connected(target, s),
        "SO_KEEPALIVE before": lambda s: option(s, target, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        "SO_KEEPALIVE after": lambda s: option(s, target, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, True),
        "TCP_NODELAY after": lambda s: option(s, target, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1, True),
        "SO_RCVBUF after": lambda s: option(s, target, socket.SOL_SOCKET, socket.SO_RCVBUF, 9999, True),
        "IP_TOS before": lambda s: option(s, target, socket.IPPROTO_IP, socket.IP_TOS, 16),
        "bound": lambda s: (s.bind((own, 0)), connected(target, s))[1],
        "bound, not connected": lambda s: (s.bind((own, 0)), s)[1],
        "unused": lambda s: s,
        "listening": lambda s: listens(s, own),
        "refused": lambda s: fails(s, closed),
        "refused, then connected": lambda s: connected(target, fails(s, closed)),
        "loopback refused": lambda s: fails(s, ("127.0.0.1", closed[1])),
        "O_NONBLOCK": lambda s: with_flags(s, os.O_NONBLOCK, target),
        "O_APPEND": lambda s: with_flags(s, os.O_APPEND, target),
        "shut down": lambda s: (connected(target, s), s.shutdown(socket.SHUT_RDWR))[0],
        "cookie read before": lambda s: connected(target, cookie(s)),
        "cookie read after": lambda s: cookie(connected(target, s)),
        "fstat before": lambda s: connected(target, fstat(s)),
        "fstat after": lambda s: fstat(connected(target, s)),
        "fchmod before": lambda s: connected(target, chmod(s)),
        "fchmod after": lambda s: chmod(connected(target, s)),
        "bound when it was over": lambda s: over_and_bound(connected(target, s), own),
        "dissolved": lambda s: dissolved(connected(target, s)),
    }
    for what, change in changes.items():
        for _ in range(4):
            change(opened()).close()
        all_new(what, target)

    kept = connected(target)
    copy = os.dup(kept.fileno())
    kept.close()
    all_new("a copy stays open", target)
    print("  the copy is", inode_of(copy) in seen, os.write(copy, b"x"))
    os.close(copy)

    s = connected(target)
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(w)
        os.read(r, 1)  # until the parent has looked
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            s.send(b"child")
        finally:
            os._exit(0)
    s.close()
    all_new("a child has one", target)
    os.close(w)
    print("  the child:", os.waitpid(child, 0)[1])

    watched(target)
    all_new("watched by an epoll", target)
    limited(target)
    all_new("short of numbers", target)
    undecided(target, own, closed)
    all_new("undecided ones", target)
    for group in 1, 0:
        os.setegid(group)
        all_new("another group", target)
    os.seteuid(1)
    all_new("another user", target)
    os.seteuid(0)
    thread = threading.Thread(target=all_new, args=("another thread", target))
    thread.start()
    thread.join()
    owners = set()
    for _ in range(4):
        in_thread(another_user, target)
        in_thread(lambda: owners.add(owner(opened())))
    print("  after another user's thread:", owners)
    in_thread(elsewhere, own)
    with_a_ring(target)
    print("end")
    print(again, file=sys.stderr)


def owner(s):
    return os.stat(FD % s.fileno()).st_uid


def in_thread(call, *args):
    thread = threading.Thread(target=call, args=args)
    thread.start()
    thread.join()


def another_user(target):
    """This thread alone; the next one mostly gets its stack."""
    libc.syscall(117, -1, 1, -1)  # setresuid
    connected(target).close()


def elsewhere(own):
    """This thread is in another network namespace, which has not the address."""
    libc.unshare(0x40000000)  # CLONE_NEWNET
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP: without any address all are taken
    says("bound elsewhere", opened().bind, (own, 0))


def with_a_ring(target):
    """A ring of the program's own reaches the kernel's socket past libc: its flags are what the program said."""
    for _ in range(8):
        s = opened(socket.SOCK_NONBLOCK)
        s.connect_ex(target)
        s.close()
    ring = libc.syscall(425, 4, (ctypes.c_char * 120)())  # io_uring_setup
    flags = set()
    for i in range(8):
        s = opened(0 if i % 2 else socket.SOCK_NONBLOCK)
        s.setblocking(not i % 2)
        with open("/proc/self/fdinfo/%d" % s.fileno()) as f:
            flags.add((i % 2, int(f.read().split("flags:")[1].split()[0], 8) & os.O_NONBLOCK))
    print("  with a ring:", ring >= 0, sorted(flags))


def says(what, call, *args):
    try:
        value = call(*args)
    except OSError as e:
        value = errno.errorcode[e.errno]
    print("  %s: %s" % (what, value))


def named(s):
    """Its address, and whether it has a port."""
    name = s.getsockname()
    return name[0], name[1] != 0


def bound(own):
    s = opened()
    s.bind((own, 0))
    return s


def watched(target):
    """An epoll set that heard of sockets which are closed since tells nothing of those that came after them."""
    ep = select.epoll()
    for i in range(8):
        s = opened()
        ep.register(s, select.EPOLLIN | select.EPOLLOUT)
        if i % 2:
            connected(target, s)
        s.close()
    later = [opened() for _ in range(8)]
    for s in later:
        connected(target, s)
    print("  of closed ones:", ep.poll(0))
    again = []
    for s in later[:4]:
        try:
            ep.register(s, select.EPOLLOUT)
        except OSError as e:
            again.append(errno.errorcode[e.errno])
    print("  registered anew:", again, sorted(events for _, events in ep.poll(1)))
    for s in later:
        s.close()


def limited(target):
    """As many sockets as there are numbers, after many that were closed; and a program that closes all that it does not know."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(20):
        connected(target).close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken = []
    try:
        while True:
            taken.append(opened())
    except OSError as e:
        print("  %d sockets, then %s" % (len(taken), errno.errorcode[e.errno]))
    for s in taken:
        s.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for _ in range(20):
        connected(target).close()
    os.closerange(max(int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) < 200) + 1, 1 << 16)
    says("after closing all others", lambda: connected(target).getpeername() == target)


INHERITED = "import fcntl, os, socket; s = socket.socket(fileno=%d); print(' ', s.getsockname()[0], s.getsockname()[1] != 0, fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK, flush=True)"


def undecided(target, own, closed):
    """What is said of a socket that was bound, or made non-blocking, before anything else happened to it."""
    says("bound", lambda: named(bound(own)))
    says("bound twice", lambda: bound(own).bind((own, 0)))
    says("bound to nobody's", lambda: opened().bind(("203.0.113.1", 0)))
    says("bound, then reuse", lambda: (lambda s: (s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), named(s)))(bound(own)))
    says("bound, connected", lambda: named(connected(target, bound(own))))
    s = bound(own)
    before = s.getsockname()
    says("the name stays", lambda: connected(target, s).getsockname() == before)
    s = bound(own)
    says("refused", s.connect, closed)
    says("  its name", named, s)
    says("  connects", lambda: named(connected(target, s)))
    says("  bound again", s.bind, (own, 0))
    s = bound(own)
    says("loopback from there", s.connect_ex, ("127.0.0.1", closed[1]))
    s = bound(own)
    s.listen()
    says("listens", named, s)
    s.setblocking(False)
    says("  accepts", s.accept)
    s = opened()
    s.setblocking(False)
    s.listen()
    says("not blocking, listens, accepts", s.accept)
    s = opened()
    fcntl.fcntl(s, fcntl.F_SETFL, os.O_NONBLOCK)
    says("not blocking", lambda: fcntl.fcntl(s, fcntl.F_GETFL))
    says("  connects", s.connect_ex, target)
    s = opened(socket.SOCK_NONBLOCK)
    says("made so", lambda: fcntl.fcntl(s, fcntl.F_GETFL))
    says("  loopback", s.connect_ex, ("127.0.0.1", closed[1]))
    s = bound(own)
    s.setblocking(False)
    os.set_inheritable(s.fileno(), True)
    sys.stdout.flush()
    if os.fork() == 0:
        print("  in a child:", named(s), fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK, flush=True)
        os._exit(0)
    os.wait()
    s = bound(own)
    s.setblocking(False)
    os.set_inheritable(s.fileno(), True)
    os.waitpid(os.posix_spawn(sys.executable, ["python3", "-c", INHERITED % s.fileno()], os.environ), 0)
    s = bound(own)
    a, b = socket.socketpair()
    socket.send_fds(a, [b"x"], [s.fileno()])
    got = socket.socket(fileno=socket.recv_fds(b, 1, 1)[1][0])
    says("passed", lambda: (named(got), got.getsockname() == s.getsockname()))


def over_and_bound(s, own):
    s.shutdown(socket.SHUT_RDWR)
    while s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) not in (b"\x06", b"\x07"):  # TIME-WAIT shows as CLOSE
        select.select([], [], [], .001)
    s.bind((own, 0))
    return s


def dissolved(s):
    unspecified = b"\0" * 16
    libc.connect(s.fileno(), unspecified, 16)
    return s


def few(target):
    """A program that can have few numbers: how many files it opens after its first connection, and after many."""
    def room():
        files = []
        with contextlib.suppress(OSError):
            while True:
                files.append(os.open("/dev/null", os.O_RDONLY))
        for fd in files:
            os.close(fd)
        return len(files)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    connected(target).close()
    before = room()
    for _ in range(4):
        for s in [connected(target) for _ in range(40)]:
            s.close()
    print(before, room())


if sys.argv[1] == "peer":
    peer(int(sys.argv[2]))
elif sys.argv[1] == "few":
    few((sys.argv[2], int(sys.argv[3])))
else:
    address, port, own, closed = sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    walk((address, port), own, (address, closed))
