#!/usr/bin/python3
"""
Plays scripts: what a peer sends, what a program calls, and what must come of it, with times.

Each script runs in a network namespace of its own. The player is the peer: it holds the far end of a TUN device. The program that makes the
calls (subject.py) runs natively, so that the kernel's TCP answers, or with libfinesse.so preloaded. A script's expectations are what Linux does:
`script.py --native` checks the script, `script.py` the engine. What the engine does otherwise stands in `expected`, with the reason.

A script has a line for each event; # begins a comment. DELAY is in seconds since the event before.

    label RFC9293-MUST-58             the requirement that it tests, for --table
    family 4                          of 4, 6, mapped: else all three
    sysctl net.ipv4.tcp_sack=0        set before the program starts
    route initcwnd 4                  words for the route to the peer
    gso 1000                          longer text of the peer's comes as super-segments, made of segments of so many bytes
    begin accepted                    the lines of scripts/accepted.begin
    +DELAY call [NAME&] VERB ARGS => RESULT    subject.py's verbs; with NAME& in the background: `+DELAY done NAME => RESULT` takes its result
    +DELAY in SEGMENT                 from the peer
    +DELAY out SEGMENT                from the program's TCP; anything else that comes is an error
    +DELAY icmp WHAT MTU [SEQ]        from the peer, of the last segment that came from SEQ: net, host, port, frag, admin, quench (of IPv4 alone)
    +DELAY mtu BYTES                  the device's
    +DELAY queue shut                 the device's refuses everything from now on; open: it takes all again
    +DELAY quiet                      nothing more came until here

DELAY of `out` may be A~B: not before A, not after B.

SEGMENT: FLAGS SEQ[:END] [ack N] [win N] [urg N] [ce|ect0|ect1] [tos N] <OPTIONS>; numbers are relative to the initial ones, but
`nought` of a RST; `win *` is any. FLAGS are SFRPUA, E for ECE, W for CWR, X for AE.
A time stamp's `ecr last` echoes that of the last segment that came, `ecr first` that of the first.
The cookie of a Fast Open option is hexadecimal, - for none, or cookie, cookie2: those of the addresses, by the keys of the script's net.ipv4.tcp_fastopen_key.
in/b and out/b: the second connection. The peer calls from port 40000 on to port 8080, and serves ports from 9090 on.

--record writes a script with the results and segments that came: a script's own lines of `out` are not needed then.

A busy machine must not decide. The player and the program run before everything that has no real-time priority, where that is allowed. What fails in a
run in which one of them waited for a processor longer than a script's tolerance is no verdict: such a run is made again, and at last beside the kernel's TCP.
Where the kernel passes each time and the engine never, though a run of it was not disturbed, the engine has failed. Else it is told as undecided; more than a few of those are a failure, unless
real-time priority was refused: then the load decides how many there are.
"""
import argparse
import ctypes
import fcntl
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time
import traceback

import cookie
import segment
from segment import Segment

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("FINESSE_BUILD_DIR", ".")
CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 1, 0x1000, 0x4000
VNET_HEADER = segment.VNET_HEADER
QUIET = 0.02  # seconds, after the script's end, and after the program's
ADDRESSES = {"4": ("192.168.0.1", "192.0.2.1"), "6": ("fd3d:a0b:17d6::1", "fd3d:fa7b:d17d::1"),
             "mapped": ("::ffff:192.168.0.1", "::ffff:192.0.2.1")}
# The peer's own, so that figures do not depend on the machine.
SYSCTLS = {"net.ipv4.tcp_rmem": "4096 131072 6291456", "net.ipv4.tcp_wmem": "4096 16384 4194304", "net.ipv4.tcp_congestion_control": "reno",
           "net.ipv4.tcp_ecn": "2", "net.ipv4.tcp_no_metrics_save": "1", "net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0"}
REAL_TIME = 10  # priority
DISTURBED = 0.004  # seconds without a processor, or late to send: less than any tolerance
TRIES = 12  # of a run that was disturbed
BESIDE = 3  # … then so often in turns with the kernel's TCP
UNDECIDED_SHARE = 0.02  # of all runs, at most; three in any case
EARLY, LATE = 0.006, 0.025  # seconds; timers of the kernel are up to an eighth late by design
PEER_ISN = 0xFFFFFF00  # wraps soon


class Mismatch(Exception):
    timed = False


class NotInTime(Mismatch):
    """Another time may be otherwise: the kernel's locks are everybody's."""
    timed = True


class Undecided(str):
    """What did not match in a run that was disturbed."""


class Late(str):
    """What did not come in time."""


class Event:
    def __init__(self, line, number):
        self.text, self.number = line, number
        m = re.match(r"\+(\d*\.?\d*)(?:~(\d*\.?\d*))?\s+(call|done|in|out|icmp|mtu|queue|quiet)(?:/(\w))?\s*(.*)$", line)
        if not m:
            raise ValueError("line %d: %r" % (number, line))
        self.delay, self.kind, self.flow, self.rest = float(m[1] or 0), m[3], m[4] or "a", m[5].strip()
        self.spread = float(m[2]) - self.delay if m[2] else 0
        self.result = None
        if self.kind in ("call", "done") and "=>" in self.rest:
            self.rest, self.result = (part.strip() for part in self.rest.split("=>", 1))


class Script:
    def __init__(self, path):
        self.path, self.events, self.labels, self.sysctls, self.route, self.gso = path, [], [], {}, "", 0
        self.families, self.head = ["4", "6", "mapped"], []
        self.read(path, False)

    def read(self, path, begins):
        """`begins`: the lines are another script's."""
        with open(path) as f:
            for number, raw in enumerate(f, 1):
                line = raw.split("#")[0].strip() if not raw.startswith("#") else ""
                word, _, rest = line.partition(" ")
                if not word.startswith("+") and not begins and not [e for e in self.events if not e.begins]:
                    self.head.append(raw.rstrip())
                if word.startswith("+"):
                    self.events.append(Event(line, number))
                    self.events[-1].begins = begins
                elif word == "begin":
                    self.read(os.path.join(os.path.dirname(path), rest + ".begin"), True)
                elif word == "label":
                    self.labels += rest.split()
                elif word == "family":
                    self.families = rest.split()
                elif word == "sysctl":
                    name, _, value = rest.partition("=")
                    self.sysctls[name] = value
                elif word == "route":
                    self.route = rest
                elif word == "gso":
                    self.gso = int(rest)
                elif word:
                    raise ValueError("%s:%d: %r" % (path, number, line))


def before_others():
    """Real-time priority for this process and its children. False: it is not allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REAL_TIME))
    except OSError:
        return False
    return True


def seconds_waited(pid):
    """So long were the threads of the process ready, and had no processor."""
    waited = 0
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
                waited += int(f.read().split()[1]) / 1e9
    except (OSError, IndexError):
        pass
    return waited


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def tun_up(script, family):
    for name, value in {**SYSCTLS, **script.sysctls}.items():
        with open("/proc/sys/" + name.replace(".", "/"), "w") as f:
            f.write(value)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETOFFLOAD, 1 | 2 | 4)  # checksum, TSO for IPv4 and IPv6: super-segments come whole
    route = script.route.split()
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", "192.168.0.1/16", "dev", "tun0")
    run("ip", "-6", "addr", "add", "fd3d:a0b:17d6::1/64", "dev", "tun0", "nodad")
    run("ip", "link", "set", "tun0", "up", "mtu", "1520" if family == "6" else "1500")  # the MSS is 1460
    run("ip", "route", "add", "192.0.2.0/24", "dev", "tun0", *route)
    run("ip", "-6", "route", "add", "fd3d:fa7b:d17d::/48", "dev", "tun0", *route)
    return tun


class Program:
    """subject.py, and the calls under way."""

    def __init__(self, native, family):
        ask_read, self.ask = os.pipe()
        self.answers, answer_write = os.pipe()
        env = {k: v for k, v in os.environ.items() if not k.startswith("FINESSE_")}
        if not native:
            env.update({"FINESSE_INTERFACE": "tun0", "FINESSE_CLOSE_POLICY": "off", "FINESSE_STRICT": "on", "FINESSE_LOG": "error",
                        "LD_PRELOAD": os.path.abspath(os.path.join(BUILD, "libfinesse.so"))})
        self.process = subprocess.Popen(["/usr/bin/python3", os.path.join(HERE, "subject.py"), str(ask_read), str(answer_write)],
                                        pass_fds=(ask_read, answer_write), env=env, stdin=subprocess.DEVNULL)
        os.close(ask_read)
        os.close(answer_write)
        self.family, self.text, self.results, self.last, self.names = family, b"", {}, 0, {}
        if not os.read(self.answers, 3):  # it is ready
            raise OSError("the program did not start")

    def start(self, words, background=None):
        self.last += 1
        self.names[background or self.last] = self.last
        local, remote = ADDRESSES[self.family]
        request = {"id": self.last, "verb": words[0], "args": words[1:], "family": self.family, "local": local, "remote": remote,
                   "background": bool(background)}
        os.write(self.ask, json.dumps(request).encode() + b"\n")
        return self.last

    def read(self):
        data = os.read(self.answers, 65536)
        if not data:
            raise Mismatch("the program ended")
        self.text += data
        while b"\n" in self.text:
            line, self.text = self.text.split(b"\n", 1)
            reply = json.loads(line)
            self.results[reply["id"]] = reply["result"]

    def end(self):
        os.close(self.ask)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Flow:
    def __init__(self, name):
        index = ord(name) - ord("a")
        self.remote_ports = (40000 + index, 9090 + index)
        self.sport, self.dport = 8080, 40000 + index  # ours; a SYN of ours sets them
        self.isn_ours, self.isn_peer = None, PEER_ISN
        self.ts_last, self.ts_base, self.id_next, self.raw = 0, None, None, []


class Player:
    def __init__(self, script, family, native):
        self.script, self.family = script, family
        self.tun = tun_up(script, family)
        self.program = Program(native, family)
        self.flows, self.came, self.trace, self.noise = {}, [], [], []
        self.late, self.waited, self.timed = 0, self.both_waited(), False
        self.mss = 1460
        v6 = family == "6"
        local, remote = ADDRESSES["6" if v6 else "4"]
        self.ours, self.peer = (socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, a) for a in (local, remote))
        self.cookies = cookie.cookies(cookie.keys_of_sysctl(script.sysctls.get("net.ipv4.tcp_fastopen_key", "")), self.peer, self.ours)

    def both_waited(self):
        return seconds_waited(os.getpid()) + seconds_waited(self.program.process.pid)

    def was_disturbed(self):
        return max(self.late, self.both_waited() - self.waited) > DISTURBED

    # ---- what comes ----

    def flow_of(self, seg):
        for name in "abcdefghij":
            flow = self.flows.get(name) or Flow(name)
            if seg.dport in flow.remote_ports:
                self.flows[name] = flow
                if seg.has("S") and not seg.has("A"):
                    flow.sport, flow.dport = seg.sport, seg.dport
                if (seg.sport, seg.dport) == (flow.sport, flow.dport):
                    return name, flow
        return None, None

    def take(self, packet, now):
        decoded = segment.decode(packet)
        if not decoded or decoded[1:] != (self.ours, self.peer):
            return
        seg = decoded[0]
        name, flow = self.flow_of(seg)
        if not flow:
            self.noise.append("from no connection: %s" % seg.__dict__)
            return
        if seg.has("S"):
            if flow.isn_ours != seg.seq:
                flow.isn_ours, flow.ts_base, flow.id_next = seg.seq, None, None
        flow.raw.append((seg.seq, packet))
        self.came.append((now, name, self.words(flow, seg, now)))

    def words(self, flow, seg, now):
        base = flow.isn_ours if flow.isn_ours is not None else 0
        seq = segment.relative(seg.seq, base)
        place = "%d:%d" % (seq, seq + seg.length) if seg.length else str(seq) if seg.seq or not seg.has("R") else "nought"
        words = [segment.order_flags(seg.flags) or "-", place]
        if seg.has("A"):
            words.append("ack %d" % segment.relative(seg.ack, flow.isn_peer))
        words.append("win %d" % seg.window)
        if seg.has("U"):
            words.append("urg %d" % seg.urgent)
        words += [["", "ect1", "ect0", "ce"][seg.ecn]] if seg.ecn else []
        words += ["tos %d" % seg.tos] if seg.tos else []
        words += ["ttl %d" % seg.ttl] if seg.ttl != 64 else []
        words += self.id_words(flow, seg)
        words.append(segment.option_words(self.option_values(flow, seg, now)))
        return " ".join(words)

    def id_words(self, flow, seg):
        """IPv4's identification: 0, or each segment's by one more than the last one's. A FIN's may be any: there finesse's ends find each other."""
        if self.family == "6" or seg.has("F"):
            return []
        expected, words = flow.id_next, [] if seg.df else ["nodf"]
        if seg.ip_id == 0:
            return words + ["id0"]
        flow.id_next = (seg.ip_id + max(1, -(-seg.length // (self.mss - 12)))) & 0xFFFF
        odd = expected is not None and (seg.ip_id - expected) & 0xFFFF > 64
        return words + (["id?"] if odd else [])

    def option_values(self, flow, seg, now):
        options = []
        for option in seg.options:
            if option[0] == "ts":
                flow.ts_last = option[1]
                if flow.ts_base is None:
                    flow.ts_base = (option[1], now)
                off = segment.relative(option[1], flow.ts_base[0]) / 1000 - (now - flow.ts_base[1])
                option = ("ts", "*" if abs(off) < 0.1 else "off by %.3f s" % off, option[2])
            elif option[0] == "mss":
                option = ("mss", "path" if option[1] == self.mss else option[1])
            elif option[0] == "sack":
                option = ("sack", *[tuple(segment.relative(n, flow.isn_peer) for n in pair) for pair in option[1:]])
            elif option[0] in ("fo", "foexp"):
                names = [name for name, value in self.cookies.items() if value == option[1]]
                option = (option[0], names[0] if names else option[1].hex() or "-")
            options.append(option)
        return options

    def pump(self, until, one=False):
        """Takes what comes until then; once at least. `one`: until something came."""
        while True:
            now = time.monotonic()
            timeout = max(0, until - now)
            ready = select.select([self.tun, self.program.answers], [], [], timeout)[0]
            if self.tun in ready:
                packet = os.read(self.tun, 70000)[VNET_HEADER:]
                self.take(packet, time.monotonic())
            if self.program.answers in ready:
                self.program.read()
            if not ready or time.monotonic() >= until or (one and self.came):
                return

    # ---- what goes ----

    def parse(self, flow, text):
        options = re.search(r"<(.*)>", text)
        words = text.split("<")[0].split()
        seg = Segment(sport=flow.dport, dport=flow.sport, flags=words[0].replace("-", ""))
        if seg.has("S") and not seg.has("A"):
            seg.dport = flow.sport
        first, _, end = words[1].partition(":")
        seg.seq = int(first) + flow.isn_peer
        seg.length = int(end) - int(first) if end else 0
        rest = words[2:]
        while rest:
            word = rest.pop(0)
            if word == "ack":
                seg.ack = (flow.isn_ours or 0) + int(rest.pop(0))
            elif word == "win":
                seg.window = int(rest.pop(0))
            elif word == "urg":
                seg.urgent = int(rest.pop(0))
            elif word == "tos":
                seg.tos = int(rest.pop(0))
            elif word in ("ect1", "ect0", "ce"):
                seg.ecn = {"ect1": 1, "ect0": 2, "ce": 3}[word]
            else:
                raise ValueError("no word of a segment: " + word)
        for option in segment.parse_options(options[1]) if options else []:
            if option[0] == "ts":
                option = ("ts", int(option[1]), flow.ts_last if option[2] == "last" else flow.ts_base[0] if option[2] == "first" else int(option[2]))
            elif option[0] == "mss":
                option = ("mss", self.mss if option[1] == "path" else int(option[1]))
            elif option[0] == "wscale":
                option = ("wscale", int(option[1]))
            elif option[0] in ("fo", "foexp"):
                option = (option[0], b"" if option[1] == "-" else self.cookies.get(option[1]) or bytes.fromhex(option[1]))
            elif option[0] == "sack":
                option = ("sack", *[tuple(n + (flow.isn_ours or 0) for n in pair) for pair in option[1:]])
            seg.options.append(option)
        return seg

    def send(self, event):
        flow = self.flows.setdefault(event.flow, Flow(event.flow))
        os.write(self.tun, segment.encode_frame(self.parse(flow, event.rest), self.peer, self.ours, self.script.gso))

    def send_icmp(self, event):
        flow, words = self.flows[event.flow], event.rest.split()
        mtu = int(words[1]) if len(words) > 1 else 0
        quoted = flow.raw[-1][1]
        if len(words) > 2:
            seq = (int(words[2]) + flow.isn_ours) & 0xFFFFFFFF
            quoted = next(raw for number, raw in reversed(flow.raw) if number == seq)
        os.write(self.tun, b"\0" * VNET_HEADER + segment.encode_icmp(words[0], mtu, quoted, self.peer, self.ours))

    def call(self, event):
        words = event.rest.split()
        if words[0].endswith("&"):
            self.program.start(words[1:], words[0][:-1])
            return None
        number = self.program.start(words)
        return self.result(number, time.monotonic() + 10)

    def result(self, number, until):
        while number not in self.program.results:
            if time.monotonic() > until:
                return "(no answer)"
            self.pump(min(until, time.monotonic() + 0.001))
        return self.program.results[number]

    def stimulate(self, event):
        """Does what the line says. The result, where it has one."""
        if event.kind == "in":
            self.send(event)
        elif event.kind == "icmp":
            self.send_icmp(event)
        elif event.kind == "mtu":
            run("ip", "link", "set", "tun0", "mtu", event.rest)
        elif event.kind == "queue":
            run("tc", "qdisc", "replace", "dev", "tun0", "root", "pfifo", "limit", "0" if event.rest == "shut" else "1000")
        elif event.kind == "call":
            return self.call(event)
        return None

    # ---- playing ----

    def check_quiet(self):
        if self.came:
            raise Mismatch("unexpected: out/%s %s" % self.came[0][1:])
        if self.noise:
            raise Mismatch(self.noise[0])

    def expect_out(self, event, due):
        late = due + event.spread + LATE + event.delay / 8
        while not self.came and time.monotonic() < late:
            self.pump(late, True)
        if not self.came:
            raise NotInTime("nothing came")
        at, name, words = self.came.pop(0)
        expected = event.rest if self.family != "6" else event.rest.replace(" id0", "")
        if name != event.flow or not same_words(expected, words):
            raise Mismatch("came: out/%s %s" % (name, words))
        if not due - EARLY - event.delay / 50 <= at <= late:
            raise NotInTime("came %.1f ms %s" % (abs(at - due) * 1000, "late" if at > due else "early"))
        return at

    def expect_done(self, event, due):
        late = due + LATE + event.delay / 8
        result = self.result(self.program.names[event.rest], late + 0.1)
        if not same_result(event.result or "0", result):
            raise Mismatch("result: %s" % result)
        return time.monotonic()

    def step(self, event, last):
        due = last + event.delay
        if event.kind == "out":
            return self.expect_out(event, due)
        if event.kind == "done":
            return self.expect_done(event, due)
        self.pump(due)
        self.check_quiet()
        at = time.monotonic()
        self.late = max(self.late, at - due)
        result = self.stimulate(event)
        if event.kind == "call" and result is not None and not same_result(event.result or "0", result):
            raise Mismatch("result: %s" % result)
        return at

    def play(self):
        last = time.monotonic()
        for event in self.script.events:
            try:
                last = self.step(event, last)
            except Mismatch as error:
                self.timed = error.timed
                self.pump(time.monotonic() + 0.05)
                more = "".join("\n        then: out/%s %s" % c[1:] for c in self.came[:4])
                return "line %d: %s\n        %s%s" % (event.number, event.text, error, more)
        try:
            self.pump(last + QUIET)
            self.check_quiet()
        except Mismatch as error:
            self.timed = True  # a machine that is late here meets the timer of what nobody answered
            return "at the end: %s" % error
        return None

    def end(self):
        """The program's, then its connections': over IPv6 one that waits for the last ACK keeps the device, and with it this process, for minutes."""
        self.program.end()
        while select.select([self.tun], [], [], QUIET)[0]:
            self.take(os.read(self.tun, 70000)[VNET_HEADER:], time.monotonic())
        for flow in self.flows.values():
            last = segment.decode(flow.raw[-1][1])[0] if flow.raw else None
            if last and last.has("A"):
                reset = Segment(sport=flow.dport, dport=flow.sport, flags="R", seq=last.ack)
                os.write(self.tun, b"\0" * VNET_HEADER + segment.encode(reset, self.peer, self.ours))

    def record(self):
        """The lines of the script with everything that came in between."""
        lines, last = list(self.script.head), time.monotonic()
        before = None
        for event in [e for e in self.script.events if e.kind != "out"] + [None]:
            self.pump(last + (event.delay if event else 0.05))
            outs, offset = self.came, 0
            self.came = []
            for at, name, words in outs:
                lines.append("+%s out%s %s" % (seconds(at - last - offset), suffix(name), words))
                offset += round_seconds(at - last - offset)
            if before and before.begins:
                del lines[len(lines) - len(outs):]
            if not event:
                break
            last = time.monotonic()
            if event.kind == "done":
                result = self.result(self.program.names[event.rest], last + 5)
                event.delay += time.monotonic() - last
                last = time.monotonic()
            else:
                result = self.stimulate(event)
            if not event.begins:
                text = "+%s %s%s %s" % (("%.3f" % max(event.delay - offset, 0)).rstrip("0").rstrip("."), event.kind, suffix(event.flow), event.rest)
                lines.append(text.rstrip() + (" => " + result if result not in (None, "0") else ""))
            before = event
        return lines + ["# " + n for n in self.noise]


def round_seconds(value):
    """What comes within milliseconds comes at once."""
    return round(value, 3) if value >= 0.008 else 0


def seconds(value):
    return ("%.3f" % round_seconds(value)).rstrip("0").rstrip(".")


def suffix(flow):
    return "" if flow == "a" else "/" + flow


def same_words(expected, came):
    """`*` is any word, `<*` any options."""
    head, _, options = expected.partition("<")
    came_head, _, came_options = came.partition("<")
    a, b = head.split(), came_head.split()
    return (len(a) == len(b) and all(x in (y, "*") for x, y in zip(a, b)) and
            (options == "*" or same_options(options.strip("> ").split(), came_options.strip("> ").split())))


def same_options(a, b):
    return len(a) == len(b) and all(x in (y, "*") for x, y in zip(a, b))


def same_result(expected, result):
    a, b = expected.split(), result.split()
    return len(a) == len(b) and all(same_word(x, y) for x, y in zip(a, b))


def same_word(expected, came):
    if expected == came or expected == "*":
        return True
    name, _, value = expected.partition("=")
    if value == "*":
        return came.startswith(name + "=")
    if "~" in value:  # from~to
        low, high = value.split("~")
        return came.startswith(name + "=") and int(low) <= int(came.partition("=")[2]) <= int(high)
    return False


def in_namespace(work):
    """The result of work() in a child with a network of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                raise OSError("unshare")
            result = work()
        except BaseException:  # told to the parent
            result = traceback.format_exc()
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    return pid, read


def wait_result(child):
    pid, read = child
    with os.fdopen(read, "rb") as f:
        data = f.read()
    os.waitpid(pid, 0)
    return json.loads(data) if data else "the player died"


def play(script, family, native):
    def work():
        before_others()
        player = Player(script, family, native)
        try:
            mismatch = player.play()
            return {"mismatch": mismatch, "disturbed": bool(mismatch) and player.was_disturbed(), "timed": player.timed}
        finally:
            player.end()
    return in_namespace(work)


def verdict_of(result):
    """Of what play's process told."""
    if not isinstance(result, dict):
        return result
    if not result["mismatch"]:
        return None
    return (Undecided if result["disturbed"] else Late if result["timed"] else str)(result["mismatch"])


def record(script, family, native):
    def work():
        player = Player(script, family, native)
        try:
            return player.record()
        finally:
            player.end()
    return wait_result(in_namespace(work))


def read_expected():
    reasons = {}
    with open(os.path.join(HERE, "expected")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, _, reason = line.strip().partition(" ")
                reasons[name] = reason.strip()
    return reasons


def arguments():
    parser = argparse.ArgumentParser(description="Plays scripts against a TCP.")
    parser.add_argument("--native", action="store_true", help="the kernel's TCP: does the script say what Linux does?")
    parser.add_argument("--record", action="store_true", help="write what came, as a script")
    parser.add_argument("--table", action="store_true", help="requirement, script, result")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--family", help="4, 6 or mapped")
    parser.add_argument("scripts", nargs="*")
    return parser.parse_args()


def all_scripts():
    folder = os.path.join(HERE, "scripts")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".seg")]


def reason(expected, script, family):
    name = os.path.basename(script.path)[:-4]
    return expected.get(name + "/" + family) or expected.get(name)


def play_all(jobs, native, count):
    """The mismatch, or None, of each (script, family)."""
    waiting, running, results = list(jobs), {}, {}
    while waiting or running:
        while waiting and len(running) < count:
            script, family = waiting.pop(0)
            pid, read = play(script, family, native)
            running[read] = (script, family, pid)
        for read in select.select(list(running), [], [])[0]:
            script, family, pid = running.pop(read)
            results[script, family] = verdict_of(wait_result((pid, read)))
    return results


def run_all(jobs, native, count, expected):
    """(script, family, mismatch or None) for each. What is not as it should be runs again, with fewer beside it, and then alone; while it is undecided or late, more often."""
    results, alone = {}, set()
    for beside in [count, 3] + [1] * TRIES:
        again = [job for job in jobs if job not in results or bool(results[job]) != bool(reason(expected, *job))]
        if beside == 1 and len(results) == len(jobs):
            again = [job for job in again if isinstance(results[job], (Undecided, Late)) or job not in alone]
            alone.update(again)
        results.update(play_all(again, native, min(beside, count)))
    return [(script, family, results[script, family]) for script, family in jobs]


def beside_kernel(job):
    """The engine's mismatch, or None. Undecided no more: what the kernel does without fault at the same time, and the engine does not, in a run that was not disturbed."""
    decided = None
    for _ in range(BESIDE):
        kernel, engine = (play_all([job], native, 1)[job] for native in (True, False))
        if not engine:
            return None
        if kernel:
            return Undecided(engine)
        if not isinstance(engine, Undecided):
            decided = str(engine)
    return decided or engine


def main():
    args = arguments()
    if os.geteuid() or not os.path.exists("/dev/net/tun"):
        print("skipped: needs root and TUN")
        return 77
    scripts = [Script(path) for path in args.scripts or all_scripts()]
    if args.record:
        for script in scripts:
            result = record(script, args.family or script.families[0], args.native)
            print("\n".join(result) if isinstance(result, list) else result)
        return 0
    jobs = [(s, f) for s in scripts for f in s.families if args.family in (None, f)]
    expected = {} if args.native else read_expected()
    passed = failed = known = undecided = 0
    table = []
    for script, family, mismatch in run_all(jobs, args.native, args.jobs, expected):
        name = os.path.basename(script.path)[:-4]
        said = reason(expected, script, family)
        if isinstance(mismatch, Undecided) and not said and not args.native:
            mismatch = beside_kernel((script, family))
        verdict = "fail" if mismatch else "pass"
        if bool(mismatch) == bool(said):
            passed += not mismatch
            known += bool(mismatch)
            if mismatch and args.scripts:
                print("%s (%s)\n    %s\n    expected: %s" % (name, family, mismatch, said))
        elif isinstance(mismatch, Undecided):
            undecided += 1
            print("UNDECIDED: %s (%s): the machine was too busy\n    %s" % (name, family, mismatch), flush=True)
        else:
            failed += 1
            print("FAIL: %s (%s)\n    %s" % (name, family, mismatch or "passes, but `expected` says: " + said), flush=True)
        table += [(label, name, family, verdict) for label in script.labels]
    if args.table:
        for row in sorted(table):
            print("%-24s %-32s %-7s %s" % row)
    print("%d as Linux, %d otherwise as expected, %d failed%s" % (passed, known, failed, ", %d undecided" % undecided if undecided else ""))
    if undecided > max(3, UNDECIDED_SHARE * len(jobs)):
        if wait_result(in_namespace(before_others)) is True:
            print("FAIL: too many are undecided")
            failed += 1
        else:
            print("many are undecided, since real-time priority is refused here: no failure")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
