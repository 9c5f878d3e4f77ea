#!/usr/bin/python3
"""One socket, several lives: what every call says when a connection was refused, dissolved (AF_UNSPEC) or shut down, and how connect, listen and bind begin anew.

    anew.py peer SOCKET                  the other host: the kernel's TCP, told what to do over a Unix socket
    anew.py walk SOCKET PEER HOLE OWN [TEST…]    the calls; HOLE is a neighbour that never answers, OWN an address of this host

anew_test.sh runs it natively and under finesse, and compares. What is printed depends on neither time nor the ports that the kernel chose."""
import ctypes, errno, fcntl, os, select, socket, struct, subprocess, sys, termios, threading, time

PORT, CLOSED, OWN_PORT = 7200, 9, 7300
SLOWER = int(os.environ.get("ANEW_SLOWER", 1))  # how much longer than on an idle machine it waits for others, where it cannot ask


def name(e):
    return errno.errorcode.get(e, str(e))


def peer(path):
    """Accepts all; `seen`: how the connection from that port ended; `connect`: what a connect to that port says."""
    listener, control = socket.socket(), socket.socket(socket.AF_UNIX)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", PORT))
    listener.listen(64)
    control.bind(path)
    control.listen(4)
    seen, kept = {}, []

    def watch(c, port):
        try:
            while True:
                data = c.recv(16)
                if data == b"reset":
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                if data.startswith(b"later"):  # reset when nothing more comes: who sends is blocked then
                    queued = 0
                    while not queued or queued != before:
                        before = queued
                        time.sleep(.1)
                        queued = struct.unpack("i", fcntl.ioctl(c, termios.FIONREAD, bytes(4)))[0]
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                if data == b"pause":
                    c.send(b"!")
                    time.sleep(8)
                if data == b"fin":
                    c.shutdown(socket.SHUT_WR)
                if not data:
                    seen[port] = "end of file"
                    break
        except OSError as e:
            seen[port] = name(e.errno)
        c.close()

    def accept():
        while True:
            c, a = listener.accept()
            seen.pop(a[1], None)
            threading.Thread(target=watch, args=(c, a[1]), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    while True:
        c = control.accept()[0]
        for line in c.makefile("r"):
            words = line.split()
            if words[0] == "seen":
                until = time.monotonic() + 20
                while int(words[1]) not in seen and time.monotonic() < until:
                    time.sleep(.01)
                reply = seen.pop(int(words[1]), "nothing")
            else:
                s = socket.socket()
                s.settimeout(20)
                e = s.connect_ex((words[1], int(words[2])))
                kept.append(s)
                reply = name(e)
            c.sendall((reply + "\n").encode())


libc = ctypes.CDLL(None, use_errno=True)


def unspec(s):
    r = libc.connect(s.fileno(), ctypes.create_string_buffer(16), 16)
    return 0 if r == 0 else name(ctypes.get_errno())


def attempt(call, *args):
    try:
        r = call(*args)
        return 0 if r is None else r
    except OSError as e:
        return name(e.errno)


def events(fd, wanted=0x2007):
    p = select.poll()
    p.register(fd, wanted)
    r = p.poll(0)
    return hex(r[0][1]) if r else 0


def address(s, chosen):
    a = attempt(s.getsockname)
    if not isinstance(a, tuple) or chosen:
        return a
    return "has one"  # of a socket that has no connection any more, Linux still tells the port, and it may tell the address


class Walk:
    def __init__(self, path, peer_ip, hole, own):
        self.peer, self.closed, self.hole, self.own = (peer_ip, PORT), (peer_ip, CLOSED), (hole, PORT), own
        control = socket.socket(socket.AF_UNIX)
        control.connect(path)
        self.control = control.makefile("rw")

    def tell(self, line):
        self.control.write(line + "\n")
        self.control.flush()
        return self.control.readline().strip()

    def seen(self, own):
        return self.tell("seen %d" % own[1])

    def arrive(self, port=OWN_PORT):
        return self.tell("connect %s %d" % (self.own, port))

    def look(self, s, chosen=False):
        """Everything that an observer can ask, in an order in which the error is told once."""
        print("   poll", events(s), "name", address(s, chosen), "peer", attempt(s.getpeername) if not isinstance(attempt(s.getpeername), tuple) else "has one")
        print("   error", name(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)), "poll", events(s), "listens", s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        print("   recv", attempt(s.recv, 5, socket.MSG_DONTWAIT), "send", attempt(s.send, b"x", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), "poll", events(s))

    def connects(self, s, to, times=1):
        """Until the answer is not `in progress`: what connect says, one after the other."""
        said = []
        for _ in range(times):
            e = s.connect_ex(to)
            said.append(name(e))
            if e == errno.EINPROGRESS:
                select.select([], [s], [], 20)
        return said

    def works(self, s):
        s.setblocking(True)
        own = s.getsockname()
        print("   send", attempt(s.send, b"fin"), "recv", attempt(s.recv, 5), "name", own[0] == self.own)
        s.close()
        print("   the peer saw", self.seen(own))

    def pair(self):
        s = socket.socket()
        s.connect(self.peer)
        return s

    # ---- connect(AF_UNSPEC) ----

    def dissolve_fresh(self):
        s = socket.socket()
        print(unspec(s))
        self.look(s)
        print(self.connects(s, self.peer))
        self.works(s)

    def dissolve_connected(self):
        s = self.pair()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = s.getsockname()
        print(unspec(s), "the peer saw", self.seen(own))
        self.look(s)
        print(unspec(s), self.connects(s, self.peer, 2), "nodelay", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        self.works(s)

    def dissolve_options(self):
        """Set while connected: more than are put off until then, the latest value of each, others in between."""
        keep = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        tcp = [(socket.IPPROTO_TCP, n) for n in (socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT,
                                                 socket.TCP_USER_TIMEOUT, socket.TCP_CORK)]
        buffers = [(socket.SOL_SOCKET, n) for n in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
        for count in range(1, len(tcp) + 1):
            s = self.pair()
            s.setsockopt(*tcp[0], 0)
            for option in [keep] + tcp[:count]:
                s.setsockopt(*option, 9)
            s.setsockopt(*buffers[count % 2], 30000)
            s.setsockopt(*keep, count % 2)
            s.setsockopt(*tcp[count - 1], 7)
            print(unspec(s), [s.getsockopt(*option) for option in [keep] + tcp + [buffers[count % 2]]])
            print(self.connects(s, self.peer, 2), [s.getsockopt(*option) for option in [keep] + tcp])
            self.works(s)

    def dissolve_keeps_address(self):
        """Bound to an address without a port: it keeps the address, however often it connects."""
        s = socket.socket()
        s.bind((self.own, 0))
        for _ in range(4):
            print(self.connects(s, self.peer, 2), "name", s.getsockname()[0] == self.own)
            print(unspec(s), "name", s.getsockname()[0] == self.own)
        print(self.connects(s, self.peer, 2))
        self.works(s)

    def dissolve_dup(self):
        s = self.pair()
        d = socket.socket(fileno=os.dup(s.fileno()))
        print(unspec(d))
        print(self.connects(s, self.peer), attempt(d.getpeername)[1])
        s.close()
        self.works(d)

    def dissolve_error_first(self):
        for call in (lambda s: attempt(s.recv, 5), lambda s: attempt(s.send, b"x", socket.MSG_NOSIGNAL)):
            s = self.pair()
            print(unspec(s), call(s), call(s), events(s))

    def port_given_up(self):
        """An event loop with a port of its own: what a reset gives up can be had at once, also before the loop's next wait."""
        said = []
        for _ in range(200):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.setblocking(False)
            s.bind((self.own, OWN_PORT + 90))
            said.append(name(s.connect_ex(self.peer)))
            select.select([], [s], [], 20)
            said.append(name(s.connect_ex(self.peer)))
            s.send(b"x")
            s.close()
        print({e: said.count(e) for e in sorted(set(said))})

    def dissolve_peer_closed(self):
        s = self.pair()
        s.send(b"fin")
        s.recv(1)
        own = s.getsockname()
        print(unspec(s), "the peer saw", self.seen(own))
        self.look(s)

    def dissolve_while_received(self):
        s, said = self.pair(), []
        t = threading.Thread(target=lambda: said.append(attempt(s.recv, 5)), daemon=True)
        t.start()
        time.sleep(.1 * SLOWER)
        print(unspec(s))
        t.join(20)
        print(said)

    def dissolve_bound(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((self.own, OWN_PORT + 1))
        s.connect(self.peer)
        print(unspec(s))
        self.look(s, True)
        print(attempt(s.bind, (self.own, OWN_PORT + 2)), attempt(s.listen, 5), events(s), self.arrive(OWN_PORT + 1))
        print(attempt(s.accept)[1][0] == self.peer[0])

    def dissolve_accepted(self):
        l = self.listener()
        print(self.arrive())
        s = l.accept()[0]
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        number = s.fileno()
        print(unspec(s))
        self.look(s)
        print(self.connects(s, self.peer, 2), s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), number == s.fileno())
        self.works(s)

    def dissolve_listener(self):
        l = self.listener()
        print(self.arrive(), unspec(l), self.arrive())
        self.look(l, True)
        print(attempt(l.accept), attempt(l.listen, 5), self.arrive(), attempt(l.accept)[1][0] == self.peer[0])

    def dissolve_connecting(self):
        s = socket.socket()
        s.setblocking(False)
        print(name(s.connect_ex(self.hole)), name(s.connect_ex(self.hole)), unspec(s))
        self.look(s)
        print(self.connects(s, self.peer, 2))
        self.works(s)

    def dissolve_while_connecting(self):
        for how in (unspec, lambda s: attempt(s.shutdown, socket.SHUT_RDWR)):
            s, said = socket.socket(), []
            t = threading.Thread(target=lambda: said.append(name(s.connect_ex(self.hole))), daemon=True)
            t.start()
            time.sleep(.1 * SLOWER)
            print(how(s))
            t.join(20)
            print(said)
            self.look(s)
            print(self.connects(s, self.peer, 2))

    # ---- a connect that failed ----

    def refused(self):
        s = socket.socket()
        s.setblocking(False)
        print(self.connects(s, self.closed))
        self.look(s)
        print(attempt(s.listen, 5), self.connects(s, self.peer, 3))
        self.works(s)

    def refused_not_asked(self):
        s = socket.socket()
        s.setblocking(False)
        print(self.connects(s, self.closed, 2), self.connects(s, self.peer, 2))
        self.works(s)

    def refused_blocking(self):
        s = socket.socket()
        print(self.connects(s, self.closed))
        self.look(s)
        print(self.connects(s, self.closed, 2), self.connects(s, self.peer, 2))
        self.works(s)

    def refused_then_listens(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        print(self.connects(s, self.closed), attempt(s.bind, ("", OWN_PORT + 3)), attempt(s.listen, 5), self.arrive(OWN_PORT + 3))
        print(attempt(s.accept)[1][0] == self.peer[0])

    def refused_in_epoll(self):
        s, e = socket.socket(), select.epoll()
        e.register(s, select.EPOLLOUT | select.EPOLLIN)
        s.setblocking(False)
        print([hex(x[1]) for x in e.poll(0)], self.connects(s, self.closed), [hex(x[1]) for x in e.poll(1 * SLOWER)])
        print(self.connects(s, self.peer), [hex(x[1]) for x in e.poll(0)], self.connects(s, self.peer, 2), [hex(x[1]) for x in e.poll(1 * SLOWER)], [hex(x[1]) for x in e.poll(0)])
        print(unspec(s), [hex(x[1]) for x in e.poll(1 * SLOWER)], attempt(e.modify, s, select.EPOLLIN), [hex(x[1]) for x in e.poll(1 * SLOWER)], attempt(e.unregister, s), e.poll(0))

    def shut_after_failure(self):
        s = socket.socket()
        s.setblocking(False)
        print(self.connects(s, self.closed), attempt(s.shutdown, socket.SHUT_WR), self.connects(s, self.peer, 2), unspec(s), self.connects(s, self.peer, 2))

    def timed_out(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 100000))
        print(name(s.connect_ex(self.hole)), name(s.connect_ex(self.hole)), unspec(s))
        s.setsockopt(socket.IPPROTO_TCP, 18, 300)  # TCP_USER_TIMEOUT
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 4, 0))
        print(self.connects(s, self.hole), self.connects(s, self.peer, 2))
        self.works(s)

    def reset(self):
        s = self.pair()
        s.send(b"reset")
        time.sleep(.1 * SLOWER)
        print(self.connects(s, self.peer, 2), name(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)), attempt(s.listen, 5), unspec(s), self.connects(s, self.peer, 2))
        self.works(s)

    def again_and_again(self):
        s = socket.socket()
        print([unspec(s) if i % 2 else self.connects(s, self.peer) for i in range(20)])
        print(self.connects(s, self.closed, 5))

    # ---- shutdown ----

    def shut_connecting(self):
        for how in range(3):
            s = socket.socket()
            s.setblocking(False)
            print(name(s.connect_ex(self.hole)), attempt(s.shutdown, how))
            self.look(s)
            print(self.connects(s, self.peer, 2))

    def listener(self):
        l = socket.socket()
        l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        l.bind((self.own, OWN_PORT))
        l.listen(5)
        return l

    def shut_listener(self):
        for how in range(3):
            l, said = self.listener(), []
            ts = [threading.Thread(target=lambda: said.append(attempt(l.accept)), daemon=True) for _ in range(2)]
            for t in ts:
                t.start()
            time.sleep(.1 * SLOWER)
            print(how, attempt(l.shutdown, how), events(l))
            for t in ts:
                t.join(.3 * SLOWER if how == socket.SHUT_WR else 20)
            print([x if isinstance(x, str) else "a client" for x in said])
            if how == socket.SHUT_WR:
                print(self.arrive(), self.arrive())
                for t in ts:
                    t.join(20)
                print([x if isinstance(x, str) else "a client" for x in said])
            else:
                print(self.arrive(), attempt(l.accept), attempt(l.shutdown, how))
                self.look(l, True)
                print(attempt(l.listen, 5), events(l), self.arrive(), attempt(l.accept)[1][0] == self.peer[0])
            l.close()

    def shut_listener_with_clients(self):
        l = self.listener()
        print(self.arrive(), self.arrive(), hex(select_mask(l)), attempt(l.shutdown, socket.SHUT_RDWR))
        l.setblocking(False)
        print(attempt(l.listen, 5), attempt(l.accept), self.arrive(), hex(select_mask(l)), attempt(l.accept)[1][0] == self.peer[0], l.getblocking())

    def shut_listener_in_epoll(self):
        l, e = self.listener(), select.epoll()
        e.register(l, select.EPOLLIN)
        print(e.poll(0), attempt(l.shutdown, socket.SHUT_RD), [hex(x[1]) for x in e.poll(1 * SLOWER)], attempt(l.listen, 5), e.poll(0))
        print(self.arrive(), [hex(x[1]) for x in e.poll(1 * SLOWER)], attempt(l.accept)[1][0] == self.peer[0], e.poll(0))

    def shut_listener_connects(self):
        l = self.listener()
        print(attempt(l.shutdown, socket.SHUT_RD), attempt(l.bind, ("", OWN_PORT + 4)), self.connects(l, self.peer, 2), l.getsockname()[1] == OWN_PORT)
        self.works(l)

    # ---- SO_LINGER ----

    def full(self, linger_s):
        """A connection whose peer reads nothing for a while, with as much to send as fits."""
        s = self.pair()
        s.send(b"pause")
        s.recv(1)
        s.setblocking(False)
        quiet = 0
        while quiet < 3:  # the kernel's buffer grows while the peer's takes more
            try:
                while s.send(bytes(65536)):
                    quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(.1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger_s))
        return s

    def close_lingers(self):
        for blocking in (True, False):
            s = self.full(1)
            s.setblocking(blocking)
            began = time.monotonic()
            s.close()
            took = time.monotonic() - began
            print("blocking", blocking, "close waits", "not" if took < .9 else "a second" if took < 3 else "too long")

    def exec_dissolved(self):
        for failed in (True, False):
            s = socket.socket() if failed else self.pair()
            print(self.connects(s, self.closed) if failed else unspec(s))
            s.set_inheritable(True)
            code = "import socket,sys; s = socket.socket(fileno=%d); print(s.connect_ex((sys.argv[1], %d)), s.send(b'fin'), s.recv(1))" % (s.fileno(), PORT)
            print("  ", subprocess.run([sys.executable, "-c", code, self.peer[0]], close_fds=False, stdout=subprocess.PIPE, text=True).stdout.strip())


    def standard_stream(self):
        """libc's stdio writes there, and no wrapper sees it."""
        kept, libc = os.dup(2), ctypes.CDLL(None)
        stderr = ctypes.c_void_p.in_dll(libc, "stderr")
        for how in ("connect", "dup2"):
            s = self.pair() if how == "dup2" else None
            os.close(2)
            if how == "dup2":
                os.dup2(s.fileno(), 2)
                s.close()
                s = socket.socket(fileno=2)
            else:
                s = self.pair()
            number, own = s.fileno(), s.getsockname()
            s.settimeout(20)
            libc.fputs(b"fin", stderr)
            print(how, number, "recv", attempt(s.recv, 5))
            s.detach()
            os.dup2(kept, 2)
            print("   the peer saw", self.seen(own))


    def forked_set(self):
        """An epoll set and its socket, each used by parent and child: both make the connection the kernel's, and register it. Nobody complains."""
        s, ready = self.pair(), select.epoll()
        ready.register(s, select.EPOLLIN)
        s.send(b"fin")
        child = os.fork()
        if not child:
            print("   child", [mask for _, mask in ready.poll(20)], s.recv(5), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print("   parent", [mask for _, mask in ready.poll(20)], s.recv(5))


    def reset_in_send(self):
        """A send that a reset cuts off says how much it took; the error is the next call's."""
        s, much = self.pair(), bytes(32 << 20)
        s.send(b"later")
        taken = attempt(s.send, much)
        print("takes a part", isinstance(taken, int) and 0 < taken < len(much), attempt(s.send, b"x"), attempt(s.send, b"x"), attempt(s.recv, 1))
        s.close()

    def edge_of_shutdown(self):
        """shutdown wakes who waits, also where it says ENOTCONN."""
        s, edges = self.pair(), select.epoll()
        s.send(b"reset")
        print("  ", attempt(s.recv, 1))
        edges.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        print("  ", [hex(mask) for _, mask in edges.poll(20)], edges.poll(0))
        for how in (socket.SHUT_WR, socket.SHUT_RDWR):
            print("  ", attempt(s.shutdown, how), [hex(mask) for _, mask in edges.poll(0)], edges.poll(0))
        s.close()


def select_mask(s):
    return int(events(s) or "0", 16)


def walk(path, peer_ip, hole, own, *wanted):
    w = Walk(path, peer_ip, hole, own)
    for test in [x for x in vars(Walk) if not x.startswith("_") and x not in ("tell", "seen", "arrive", "look", "connects", "works", "pair", "listener", "full")]:
        if wanted and test not in wanted:
            continue
        print(test, flush=True)
        done = threading.Thread(target=one, args=(w, test), daemon=True)
        done.start()
        done.join(30 + 3 * SLOWER)
        if done.is_alive():
            print("HANGS", flush=True)
            os._exit(1)
    print("end", flush=True)
    os._exit(0)


def one(w, test):
    try:
        getattr(w, test)()
    except Exception as e:
        print("raised", type(e).__name__, e)
    sys.stdout.flush()


if sys.argv[1] == "peer":
    peer(sys.argv[2])
else:
    walk(*sys.argv[2:])
