"""A port that several processes serve (prefork.c), through all that happens to its workers: natively and under finesse, with a client on the kernel's TCP.

Under finesse the engine must carry every connection, unless a part says otherwise; and no request is lost where the kernel loses none.
"""
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import ACK, CLIENT_IP, Capture, Lab, LabError, SERVER_IP, Timely, TOP, connections, finesse_command  # noqa: E402

ONLY = sys.argv[1:]  # names of parts
OWN = ("reuseport", "own_sockets")  # a socket for each worker
PORT, WORKERS, PATIENCE = 8000, 3, 60
failures, checks, timely = [], 0, Timely()


def check(ok, what):
    global checks
    checks += 1
    print(("ok: " if ok else "FAILED: ") + what, flush=True)
    if not ok:
        failures.append(what)


class Server:
    """prefork HOW under finesse or not."""

    def __init__(self, lab, how, finesse, workers=WORKERS, settings=(), user=(), errors=None):
        self.errors = errors
        self.lab, self.how, self.finesse, self.n = lab, how, finesse, workers
        self.settings, self.user = settings, user

    def __enter__(self):
        self.process = self.lab.server.spawn([*self.user, TOP / "tests/process/prefork", self.how, str(PORT), str(self.n)], finesse=self.finesse,
                                             settings=self.settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.workers = self.answer()
        listeners = self.n if self.how in OWN else 1
        self.until(lambda: len(self.lab.server.text(["ss", "-Hltn", "sport = :%d" % PORT]).split("\n")) > listeners, "it listens")
        self.opens = self.lab.server.opens()
        return self

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise LabError("%s: never: %s" % (self.how, what))
            time.sleep(0.02)

    def answer(self):
        # It prints one line a command; the pipe's buffer is empty in between.
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise LabError("%s: the server has not answered for %d s" % (self.how, PATIENCE))
        words = self.process.stdout.readline().split()
        if not words or words[0] != b"ok":
            raise LabError("%s: the server does not answer" % self.how)
        return words[1:]

    def tell(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        self.workers = self.answer()

    def by_kernel(self):
        """Connections that the kernel's TCP accepted since the start."""
        return self.lab.server.opens()[1] - self.opens[1]

    def stat(self):
        p = self.lab.server.run(finesse_command() + ["stat", "--json"], check=False, timeout=15)
        try:
            document = json.loads(p.stdout)
        except ValueError:
            return []
        return document if isinstance(document, list) else [document]

    def ready(self):
        """Every worker serves the port, when it runs under finesse."""
        if self.finesse and finesse_command():
            self.until(lambda: sum(len(d.get("listeners", [])) > 0 for d in self.stat()) >= (1 if self.how == "serial" else self.n), "every worker has joined")

    def __exit__(self, kind, *_):
        namespace = os.readlink("/proc/%d/ns/net" % self.lab.server.holder.pid)
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.lab.processes.remove(self.process)
        for pid in [p for p in os.listdir("/proc") if p.isdigit() and int(p) != self.lab.server.holder.pid]:
            try:
                if os.readlink("/proc/%s/ns/net" % pid) == namespace:
                    os.kill(int(pid), 9)
            except OSError:
                pass
        self.until(lambda: not self.lab.server.text(["ss", "-Hltn", "sport = :%d" % PORT]).strip(), "the port is free again")


def ask(lab, line=b"who\n", timeout=PATIENCE, keep=False):
    """The answer, and the socket when it is to be kept. OSError: none came."""
    s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        s.settimeout(timeout)
        s.connect((SERVER_IP, PORT))
        s.sendall(line)
        got = s.recv(64)
        if not got:
            raise ConnectionResetError("end of file")
    except OSError:
        s.close()
        raise
    if keep:
        return got.strip(), s
    s.close()
    return got.strip()


def make_busy(kept):
    """Each of the workers for 15 ms."""
    for sockets in kept.values():
        sockets[0].sendall(b"busy 15\n")


def await_done(kept):
    for sockets in kept.values():
        sockets[0].settimeout(PATIENCE)
        sockets[0].recv(20)


def keep_of_each(lab, server):
    """Connections that stay open, by worker, until each has one; a hundred at most. Who has one is busy meanwhile: the kernel may well give all to the same two."""
    kept = {}
    for _ in range(100):
        make_busy(kept)
        who, s = ask(lab, keep=True)
        await_done(kept)
        kept.setdefault(who, []).append(s)
        if len(kept) == server.n:
            break
    return kept


class Load(threading.Thread):
    """Connects and asks, one after the other, until it is stopped."""

    def __init__(self, lab):
        super().__init__()
        self.lab, self.stopped, self.answers, self.lost, self.slowest = lab, False, 0, [], 0.0

    def run(self):
        ours = self.lab.client
        while not self.stopped:
            start = time.monotonic()
            try:
                ask(self.lab)
                self.answers += 1
            except OSError as error:
                self.lost.append(str(error))
            self.slowest = max(self.slowest, time.monotonic() - start)
        del ours


def under_load(server, command, times=3):
    """(lost, answered, slowest) while the server does `command` so often; at least 20 answers come in between."""
    loads = [Load(server.lab) for _ in range(4)]
    for load in loads:
        load.start()
    for _ in range(times):
        target = sum(load.answers for load in loads) + 40
        server.until(lambda: sum(load.answers for load in loads) >= target, "answers under load")
        server.tell(command)
    target = sum(load.answers for load in loads) + 40
    server.until(lambda: sum(load.answers for load in loads) >= target, "answers afterwards")
    for load in loads:
        load.stopped = True
    for load in loads:
        load.join()
    return [error for load in loads for error in load.lost], sum(load.answers for load in loads), max(load.slowest for load in loads)


# ---- the parts: each is run natively and under finesse; what it returns must be the same. `engine` is told apart ----

def part_one_after_the_other(lab, how, finesse, user=()):
    with Server(lab, how, finesse, user=user) as server:
        server.ready()
        right = 0
        for _ in range(60):
            right += ask(lab) in server.workers
        by_kernel = server.by_kernel()
        server.tell("quit")
        check(right == 60, "%s, %s: %d of 60 answered, one after the other" % (how, side(finesse), right))
        if finesse:
            timely(by_kernel <= 6, "%s: %d of 60 by the kernel's TCP" % (how, by_kernel))


def part_never_privileged(lab, how, finesse):
    """No process of the server ever had a privilege: what a group shares is the broker's work."""
    part_one_after_the_other(lab, how, finesse, ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))


def part_many_at_once(lab, how, finesse):
    with Server(lab, how, finesse) as server:
        server.ready()
        multiplexed = how not in ("accept", "serial", "daemon", "own_master")
        n = 120 if multiplexed else WORKERS
        kept = [ask(lab, keep=True) for _ in range(n)]
        by = {who: sum(1 for w, _ in kept if w == who) for who in server.workers}
        by_kernel = server.by_kernel()
        for _, s in kept:
            s.close()
        if not multiplexed:
            check(sorted(by.values()) == [1] * WORKERS, "%s, %s: a connection for each of %d workers" % (how, side(finesse), WORKERS))
        else:
            check(sum(by.values()) == n, "%s, %s: %d of %d at once" % (how, side(finesse), sum(by.values()), n))
        if finesse:
            timely(by_kernel <= n / 10, "%s: %d of %d at once by the kernel's TCP" % (how, by_kernel, n))


def part_seen(lab, how, finesse):
    """`finesse stat` of each worker shows them all, and who waits."""
    if not finesse or not finesse_command():
        return
    with Server(lab, how, finesse) as server:
        server.ready()

        def groups():
            return {d["pid"]: l["group"]["members"] for d in server.stat() for l in d.get("listeners", []) if "group" in l}

        def all_wait():
            seen = groups()
            return len(seen) == WORKERS and all(sorted(m["pid"] for m in members) == sorted(seen) and all(m["waiting"] and m["accepting"] for m in members)
                                                for members in seen.values())
        try:
            server.until(all_wait, "every worker is seen by every worker, and waits")
            check(True, "%s: stat shows the %d members, which all wait" % (how, WORKERS))
        except LabError as error:
            check(False, "%s: %s" % (error, groups()))
        victim = sorted(groups())[0]
        os.kill(victim, 9)

        def gone():
            try:
                ask(lab)  # who comes by the kernel's queue lets the others look for their dead
            except OSError:
                pass  # its SYN went to the dead one: lost with it
            return victim not in {m["pid"] for members in groups().values() for m in members}
        server.until(gone, "the dead one is not shown any more")
        check(True, "%s: one that was killed is not a member any more" % how)


def part_events(lab, how, finesse):
    with Server(lab, how, finesse) as server:
        server.ready()
        for command in ("reload", "more"):
            lost, answered, slowest = under_load(server, command)
            check(not lost, "%s, %s: %s under load: %d answered, lost %s" % (how, side(finesse), command, answered, lost[:3]))
            timely(slowest < 2, "%s, %s: %s under load: the slowest took %.2f s" % (how, side(finesse), command, slowest))


def part_deaths(lab, how, finesse):
    """A killed worker takes what it has with it: at most a connection of each of the four clients, for each death. New ones are answered at once."""
    with Server(lab, how, finesse) as server:
        server.ready()
        lost, answered, slowest = under_load(server, "kill", 4)
        check(len(lost) <= 16, "%s, %s: four deaths under load: %d answered, %d lost" % (how, side(finesse), answered, len(lost)))
        timely(slowest < 3, "%s, %s: four deaths under load: the slowest took %.2f s" % (how, side(finesse), slowest))
        if how == "own_sockets":  # the master has the dead one's: it is for the next worker
            return
        server.tell("dies")
        right = sum(ask(lab) in server.workers for _ in range(30))
        check(right == 30, "%s, %s: one worker less: %d of 30" % (how, side(finesse), right))


def hears_the_end(s):
    s.settimeout(PATIENCE)
    try:
        return s.recv(64) == b""
    except ConnectionError:
        return True


def answers(s):
    """The worker."""
    s.settimeout(PATIENCE)
    s.sendall(b"who\n")
    return s.recv(64).strip()


def part_takes_its_own(lab, how, finesse):
    """A worker that is killed takes its own connections with it, of which each client hears though it says nothing, and no other's. Who comes then is another's."""
    with Server(lab, how, finesse) as server:
        server.ready()
        kept = {who: [s] for who, s in (ask(lab, keep=True) for _ in range(WORKERS))} if how == "daemon" else keep_of_each(lab, server)
        before, by_kernel = set(server.workers), server.by_kernel()
        server.tell("kill")
        dead = before - set(server.workers)
        ended = sum(hears_the_end(s) for who in dead for s in kept[who])
        same = sum(answers(s) == who for who in kept if who not in dead for s in kept[who])
        theirs = sum(len(kept[who]) for who in dead)
        others = sum(map(len, kept.values())) - theirs
        for s in sum(kept.values(), []):
            s.close()
        right = sum(ask(lab, timeout=PATIENCE) in server.workers for _ in range(20))
        if finesse:
            check(by_kernel == 0, "%s: %d of those that they had by the kernel's TCP" % (how, by_kernel))
        check(len(dead) == 1 and len(kept) == WORKERS and (ended, same, right) == (theirs, others, 20),
              "%s, %s: a worker is killed: %d of its %d connections end, %d of the others' %d go on, and %d of 20 new ones are answered" % (how, side(finesse), ended, theirs, same, others, right))


def unread_syns(lab, server):
    """Clients whose SYN a stopped worker has, which is killed then: (how many, the longest that one of them waited to be connected)."""
    victim = int(server.workers[0])
    os.kill(victim, signal.SIGSTOP)
    poll, begun = select.poll(), {}
    for _ in range(16):
        s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setblocking(False)
        begun[s.fileno()] = time.monotonic(), s
        s.connect_ex((SERVER_IP, PORT))
        poll.register(s, select.POLLOUT)

    def connected(timeout_ms):
        now = poll.poll(timeout_ms)
        for fd, _ in now:
            poll.unregister(fd)
            if begun[fd][1].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise LabError("a client is refused")
        return [fd for fd, _ in now]
    stuck = set(begun)
    while now := connected(50):
        stuck -= set(now)
    n, slowest, end = len(stuck), 0.0, time.monotonic() + PATIENCE
    os.kill(victim, signal.SIGKILL)
    while stuck and time.monotonic() < end:
        for fd in connected(100):
            slowest = max(slowest, time.monotonic() - begun[fd][0])
            stuck.discard(fd)
    for _, s in begun.values():
        s.close()
    return n, PATIENCE if stuck else slowest


def part_unread(lab, how, finesse):
    """Nobody reads a SYN that is in a dead worker's packet ring. Its client does not wait for the second after which TCP sends it again."""
    told = []
    for _ in range(5):  # a busy machine may be late; without help no client ever is in time
        with Server(lab, how, finesse) as server:
            server.ready()
            n, slowest = unread_syns(lab, server)
            told.append("%d in %.3f s" % (n, slowest))
            if slowest < 0.9 and (n or not finesse):
                break
    check(slowest < 0.9 and (n > 0) == bool(finesse and finesse_command()), "%s, %s: clients of a stopped worker that is killed are connected: %s" % (how, side(finesse), "; ".join(told)))


def part_unread_alone(lab, how, finesse):
    """The same of the only worker: no group's table has its clients. Each whose SYN nobody answered is asked, by a number that cannot be right."""
    with Capture(lab.client, True) as wire, Server(lab, how, finesse, 1) as server:
        server.ready()
        n, slowest = unread_syns(lab, server)
    sent_most = 1000  # bytes of such a client
    asked = sum(any(s["sport"] == PORT and s["flags"] == ACK and (s["ack"] - c[0]["seq"]) % 2**32 > sent_most for s in c) for c in connections(wire.segments, PORT))
    check(slowest < PATIENCE and (n > 0) == bool(finesse and finesse_command()), "%s, %s: %d clients of the only worker are stuck until it is killed, %.3f s" % (how, side(finesse), n, slowest))
    # The client's own SYN, a second later, may come first.
    timely(asked == n,
          "%s, %s: %d clients of the only worker, stopped and killed: %d are asked, and all connected after %.3f s" % (how, side(finesse), n, asked, slowest))


def syn(sport):
    """A TCP header without options, and its checksum."""
    def words(data):
        return sum(struct.unpack("!%dH" % (len(data) // 2), data))
    header = struct.pack("!HHIIBBHHH", sport, PORT, sport, 0, 5 << 4, 2, 65535, 0, 0)
    total = words(socket.inet_aton(CLIENT_IP) + socket.inet_aton(SERVER_IP)) + socket.IPPROTO_TCP + len(header) + words(header)
    total = (total & 0xffff) + (total >> 16)
    return header[:16] + struct.pack("!H", ~((total & 0xffff) + (total >> 16)) & 0xffff) + header[18:]


def unanswered(raw, ports):
    """SYNs from these ports, each sent once: to how many no answer came."""
    left, end = set(ports), time.monotonic() + PATIENCE
    for sport in ports:
        raw.sendto(syn(sport), (SERVER_IP, 0))
    while left and (seconds := end - time.monotonic()) > 0 and select.select([raw], [], [], seconds)[0]:
        ip = raw.recv(2000)
        if struct.unpack("!H", ip[20:22]) == (PORT,) and ip[33] & 0x12 == 0x12:
            left.discard(struct.unpack("!H", ip[22:24])[0])
    return len(left)


def part_dead_alone(lab, how, finesse):
    """No broker sees the deaths of this classifier's members. A SYN that would be a dead one's is answered all the same, without coming again."""
    deaths, at_once, lost = 8, 8, 0
    with Server(lab, how, finesse, settings=("--classifier", "socket", "--firewall", "bypass")) as server, lab.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        for n in range(deaths):
            server.ready()
            server.tell("dies")
            lost += unanswered(raw, range(20000 + n * at_once, 20000 + (n + 1) * at_once))
            server.tell("more")
        by_kernel = server.by_kernel()
        check(not lost and not (finesse and by_kernel), "%s, %s: %d deaths, and %d SYNs after each: %d were left to the dead; %d answered by the kernel's TCP" % (how, side(finesse), deaths, at_once, lost, by_kernel))


def part_busy(lab, how, finesse):
    """A worker that computes keeps nobody waiting."""
    with Server(lab, how, finesse) as server:
        server.ready()
        ask(lab)
        worker, s = ask(lab, keep=True)
        s.sendall(b"busy 1500\n")
        slow = 0
        for _ in range(30):
            start = time.monotonic()
            slow += ask(lab) == worker or time.monotonic() - start > 0.7
        s.settimeout(PATIENCE)
        done = s.recv(20)
        s.close()
        check(done == b"done\n", "%s, %s: the busy worker answers at last" % (how, side(finesse)))
        timely(slow == 0, "%s, %s: a worker is busy: %d of 30 waited for it" % (how, side(finesse), slow))


def part_all_busy(lab, how, finesse):
    """Who comes while all workers are busy is served by one of them afterwards."""
    with Server(lab, how, finesse) as server:
        server.ready()
        kept = keep_of_each(lab, server)
        check(len(kept) == server.n, "%s, %s: %d of %d workers have a connection" % (how, side(finesse), len(kept), server.n))
        lost = []
        for _ in range(15):
            make_busy(kept)
            for _ in range(6):
                try:
                    ask(lab)
                except OSError as error:
                    lost.append(str(error))
            await_done(kept)
        for s in sum(kept.values(), []):
            s.close()
        check(not lost, "%s, %s: all workers are busy: %d of 90 lost: %s" % (how, side(finesse), len(lost), lost[:3]))


def part_exec(lab, how, finesse):
    """The master ends its workers and executes itself: who waits for accept then waits for the new ones."""
    with Server(lab, how, finesse) as server:
        server.ready()
        kept = keep_of_each(lab, server)
        for sockets in kept.values():
            sockets[0].sendall(b"busy 300\n")
        waiting = []
        for _ in range(12):  # most of these a member has taken by the time at which its worker ends
            s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
            s.settimeout(PATIENCE)
            s.connect((SERVER_IP, PORT))
            s.sendall(b"who\n")
            waiting.append(s)
        for s in sum(kept.values(), waiting[:]):
            s.shutdown(socket.SHUT_WR)  # a worker ends when it is through
        server.tell("exec")
        right = 0
        for s in waiting:
            try:
                right += s.recv(64).strip().isdigit()  # natively an old worker may have been free
            except OSError:
                pass
        for s in sum(kept.values(), waiting):
            s.close()
        check(right == 12, "%s, %s: the master executes itself: %d of 12 who waited are answered" % (how, side(finesse), right))
        lost, answered, _ = under_load(server, "exec")
        check(not lost, "%s, %s: exec under load: %d answered, lost %s" % (how, side(finesse), answered, lost[:3]))


def part_device(lab, how, finesse):
    """A worker's listener is bound to a device that is not served: the kernel's, and no interface is served for it."""
    with tempfile.TemporaryFile() as errors, Server(lab, how, finesse, errors=errors) as server:
        if finesse and finesse_command():
            def told():
                errors.seek(0)
                return errors.read().count(b"interface that is not served")
            try:
                server.until(lambda: told() >= server.n, "every worker says so")
            except LabError:
                pass
            check(told() == server.n, "%s: a listener that is bound to the loopback device: %d of %d workers say so" % (how, told(), server.n))
        with lab.server.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.settimeout(5)
            s.connect(("127.0.0.1", PORT))
            s.sendall(b"who\n")
            answer = s.recv(64).strip()
        check(answer in server.workers, "%s, %s: … it is answered there: %r" % (how, side(finesse), answer))


def part_drained(lab, how, finesse):
    """A worker that stopped listening goes on with what it has."""
    with Server(lab, how, finesse) as server:
        server.ready()
        kept = [ask(lab, keep=True) for _ in range(20)]
        server.tell("reload")
        old = {who for who, _ in kept}
        right = sum(ask(lab) not in old for _ in range(20))
        same = 0
        for who, s in kept:
            s.sendall(b"who\n")
            same += s.recv(20).strip() == who
            s.close()
        check(same == 20, "%s, %s: after a reload %d of 20 old connections go on" % (how, side(finesse), same))
        check(right >= 19, "%s, %s: … and %d of 20 new ones are with new workers" % (how, side(finesse), right))


def is_running(pid):
    try:
        return Path("/proc/%d/stat" % int(pid)).read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def part_deferred(lab, how, finesse):
    """Whom TCP_DEFER_ACCEPT holds back is held back still when the worker that had him is gone, and nobody waits for him at the end."""
    with Server(lab, how, finesse) as server:
        server.ready()
        silent = [lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(12)]
        for s in silent:
            s.settimeout(PATIENCE)
            s.connect((SERVER_IP, PORT))
        speaks, resets, silent = silent[:4], silent[4:8], silent[8:]
        answers, old = [], server.workers
        kept = keep_of_each(lab, server)
        server.tell("reload")
        server.ready()
        new = sum(len(ask(lab)) > 0 for _ in range(20))
        check(new == 20, "%s, %s: while old workers have silent ones %d of 20 new ones are served" % (how, side(finesse), new))
        for s in speaks[2:]:  # the old workers listen no more, and live
            s.sendall(b"who\n")
            answers.append(s.recv(20).strip() in server.workers)
        for s in sum(kept.values(), speaks[2:]):
            s.close()
        server.until(lambda: not any(map(is_running, old)), "the workers that had connections end")
        for turn in range(2):  # the second time it was left to those who leave it now
            old = server.workers
            server.tell("reload")
            server.until(lambda: not any(map(is_running, old)), "the old workers end")
            speaks[turn].sendall(b"who\n")
            answers.append(speaks[turn].recv(20).strip() in server.workers)
            speaks[turn].close()
            s = resets.pop()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        check(not finesse or server.by_kernel() == 0, "%s, %s: … and none by the kernel" % (how, side(finesse)))
        check(all(answers), "%s, %s: who is silent while workers change speaks, and a new one answers: %s" % (how, side(finesse), answers))
        server.tell("quit")
        check(True, "%s, %s: workers end although %d clients have said nothing" % (how, side(finesse), len(silent + resets)))
        ends = 0
        for s in silent:
            try:
                s.sendall(b"who\n")
                s.recv(20)
            except ConnectionResetError:
                ends += 1
        check(ends == len(silent), "%s, %s: … who speaks when nobody listens is reset: %d of %d" % (how, side(finesse), ends, len(silent)))
        for s in silent + speaks + resets:
            s.close()


def side(finesse):
    return "under finesse" if finesse else "natively"


ALL = ("accept", "poll", "epoll", "epoll_first", "serial", "reuseport", "own_sockets", "daemon", "own_master", "launched", "passed")
PARTS = [("%s_%s" % (function.__name__[5:], how), function, how)
         for function, hows in ((part_one_after_the_other, ALL), (part_never_privileged, ALL), (part_many_at_once, ALL), (part_seen, ("accept", "epoll")), (part_events, ("accept", "epoll", "launched")),
                                (part_unread, ("accept", "epoll")), (part_unread_alone, ("accept", "epoll")), (part_dead_alone, ("epoll",)), (part_takes_its_own, ("daemon", "epoll", "reuseport", "own_sockets")), (part_deaths, ("accept", "epoll", "reuseport", "own_sockets")), (part_busy, ("accept", "epoll")), (part_drained, ("epoll",)), (part_deferred, ("deferred",)),
                                (part_all_busy, ("epoll", "own_sockets")), (part_exec, ("launched",)), (part_device, ("bound",)))
         for how in hows]


def main():
    if os.geteuid() != 0:
        print("skipped: needs root")
        sys.exit(77)
    with Lab() as lab:
        for name, function, how in PARTS:
            if ONLY and not any(only in name for only in ONLY):
                continue
            for finesse in (False, True):
                try:
                    timely.tried(lambda: function(lab, how, finesse))
                    check(not timely.failed, "%s, %s: in time" % (name, side(finesse)))
                except (LabError, OSError) as error:
                    check(False, "%s, %s: %s" % (name, side(finesse), error))
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (checks - len(failures)) / max(checks, 1), checks, len(failures)))
    sys.exit(1 if failures or not checks else 0)


main()
