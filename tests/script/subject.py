"""The program whose calls a script makes. Reads a line of JSON for each call, answers with one: natively, or with the engine preloaded."""
import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import termios
import threading

LEVELS = {"SO": socket.SOL_SOCKET, "TCP": socket.IPPROTO_TCP, "IP": socket.IPPROTO_IP, "IPV6": socket.IPPROTO_IPV6}
NUMBERS = {"TCP_USER_TIMEOUT": 18, "TCP_FASTOPEN": 23, "TCP_FASTOPEN_CONNECT": 30, "TCP_FASTOPEN_KEY": 33, "TCP_FASTOPEN_NO_COOKIE": 34,
           "TCP_NOTSENT_LOWAT": 25, "TCP_INQ": 36, "TCP_TX_DELAY": 37, "SO_MAX_PACING_RATE": 47, "TCP_CC_INFO": 26, "TCP_QUICKACK": 12,
           "TCP_THIN_LINEAR_TIMEOUTS": 16, "IP_MTU_DISCOVER": 10, "IP_MTU": 14, "IP_TOS": 1, "IP_TTL": 2, "TCP_RTO_MAX_MS": 44,
           "SO_ZEROCOPY": 60, "SO_TIMESTAMP": 29, "SO_TIMESTAMPNS": 35, "SO_TIMESTAMPING": 37, "TCP_SAVE_SYN": 27, "TCP_SAVED_SYN": 28,
           "SO_INCOMING_CPU": 49, "IP_BIND_ADDRESS_NO_PORT": 24, "IP_LOCAL_PORT_RANGE": 51, "SO_SNDBUFFORCE": 32, "SO_RCVBUFFORCE": 33, "IPV6_TCLASS": 67}
FLAGS = {"more": 0x8000, "dontwait": 0x40, "oob": 1, "peek": 2, "eor": 0x80, "trunc": 0x20, "waitall": 0x100, "nosignal": 0x4000,
         "fastopen": 0x20000000, "zerocopy": 0x4000000}
EVENTS = {"in": select.EPOLLIN, "out": select.EPOLLOUT, "err": select.EPOLLERR, "hup": select.EPOLLHUP, "rdhup": select.EPOLLRDHUP,
          "pri": select.EPOLLPRI, "et": 1 << 31, "oneshot": 1 << 30, "exclusive": 1 << 28}
# struct tcp_info of Linux: name and struct's letter; the bit fields are split below.
INFO = """state:B ca_state:B retransmits:B probes:B backoff:B options:B wscale:B limited:B rto:I ato:I snd_mss:I rcv_mss:I unacked:I
sacked:I lost:I retrans:I fackets:I last_data_sent:I last_ack_sent:I last_data_recv:I last_ack_recv:I pmtu:I rcv_ssthresh:I rtt:I
rttvar:I snd_ssthresh:I snd_cwnd:I advmss:I reordering:I rcv_rtt:I rcv_space:I total_retrans:I pacing_rate:Q max_pacing_rate:Q
bytes_acked:Q bytes_received:Q segs_out:I segs_in:I notsent_bytes:I min_rtt:I data_segs_in:I data_segs_out:I delivery_rate:Q
busy_time:Q rwnd_limited:Q sndbuf_limited:Q delivered:I delivered_ce:I bytes_sent:Q bytes_retrans:Q dsack_dups:I reord_seen:I
rcv_ooopack:I snd_wnd:I rcv_wnd:I rehash:I total_rto:H total_rto_recoveries:H total_rto_time:I""".split()

CONTROL = {(socket.SOL_SOCKET, 29): "timestamp", (socket.SOL_SOCKET, 35): "timestampns", (socket.SOL_SOCKET, 37): "timestamping"}
TSTAMP = ["snd", "sched", "ack"]  # SCM_TSTAMP_*

sockets = {}
epolls = {}
libc = ctypes.CDLL(None, use_errno=True)


def name_of(number):
    return "-" + errno.errorcode.get(number, str(number))


def option_number(name):
    number = NUMBERS.get(name)
    return number if number is not None else getattr(socket, name)


def tcp_info(sock, fields):
    layout = "=" + "".join(word.split(":")[1] for word in INFO)
    raw = sock.getsockopt(socket.IPPROTO_TCP, 11, struct.calcsize(layout))
    raw += b"\0" * (struct.calcsize(layout) - len(raw))
    values = dict(zip((word.split(":")[0] for word in INFO), struct.unpack(layout, raw)))
    values["snd_wscale"], values["rcv_wscale"] = values["wscale"] & 15, values["wscale"] >> 4
    values["app_limited"] = values["limited"] & 1
    return " ".join("%s=%d" % (f, values[f]) for f in fields)


def flags_of(words):
    return sum(FLAGS[w] for w in words)


def poll_words(events):
    names = [("in", select.POLLIN), ("out", select.POLLOUT), ("err", select.POLLERR), ("hup", select.POLLHUP), ("rdhup", select.POLLRDHUP),
             ("pri", select.POLLPRI)]
    return " ".join(n for n, bit in names if events & bit) or "none"


def control_words(level, kind, data):
    """What a control message says, without its times: those of SCM_TIMESTAMPING are told as present or not."""
    if (level, kind) in CONTROL:
        times = struct.unpack("=%dq" % (len(data) // 8), data)
        return CONTROL[level, kind] + ":" + "".join("y" if any(times[i:i + 2]) else "n" for i in range(0, len(times), 2))
    if (level, kind) in ((0, 11), (41, 25)):  # IP_RECVERR, IPV6_RECVERR
        number, origin, what, code, _, info, value = struct.unpack("=IBBBBII", data[:16])
        told = TSTAMP[info] if origin == 4 else info
        return "%s origin=%d type=%d code=%d info=%s data=%d" % (name_of(number)[1:] if number else "0", origin, what, code, told, value)
    return "%d/%d:%s" % (level, kind, struct.unpack("=i", data[:4])[0])


def receive(s, size, flags):
    data, control, out, _ = s.recvmsg(size, 512, flags)
    names = [("errqueue", socket.MSG_ERRQUEUE), ("trunc", socket.MSG_TRUNC), ("ctrunc", socket.MSG_CTRUNC), ("oob", socket.MSG_OOB)]
    return " ".join([str(len(data))] + [n for n, bit in names if out & bit] + [control_words(*c) for c in control])


def sent_bytes(s):
    """What the next message of the error queue has: protocol, TCP flags and header, and how many bytes of text; or text alone."""
    data = s.recvmsg(70000, 512, socket.MSG_ERRQUEUE)[0]
    text = len(data) - len(data.rstrip(b"x"))
    head = data[:len(data) - text]
    if not head:
        return "text=%d" % text
    protocol, tcp = (head[9], head[20:]) if head[0] >> 4 == 4 else (head[6], head[40:])
    return "protocol=%d flags=%d header=%d text=%d" % (protocol, tcp[13], tcp[12] >> 2, text)


def epoll_call(args):
    """epoll E add|mod|del SOCKET EVENT...; epoll E wait [MS]"""
    instance = epolls.setdefault(args[0], None) or select.epoll()
    epolls[args[0]] = instance
    if args[1] == "wait":
        found = instance.poll((int(args[2]) if len(args) > 2 else 0) / 1000, 8)
        names = {s.fileno(): n for n, s in sockets.items()}
        words = ["%s:%s" % (names[fd], ",".join(n for n, bit in EVENTS.items() if events & bit)) for fd, events in found]
        return " ".join(sorted(words)) or "none"
    mask = sum(EVENTS[w] for w in args[3:])
    if args[1] == "del":
        instance.unregister(sockets[args[2]])
    else:
        (instance.register if args[1] == "add" else instance.modify)(sockets[args[2]], mask)
    return 0


def raw(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def file_call(verb, s, size):
    """From a file to the socket, or from the socket through a pipe."""
    if verb == "sendfile":
        file = os.memfd_create("text")
        os.truncate(file, size)
        sent = os.sendfile(s.fileno(), file, 0, size)
        os.close(file)
        return sent
    ends = os.pipe()
    moved = raw(libc.splice(s.fileno(), None, ends[1], None, ctypes.c_size_t(size), 2 if s.getblocking() is False else 0))
    os.close(ends[0])
    os.close(ends[1])
    return moved


def bad_call(s, args):
    """Arguments that no program means."""
    pointer = ctypes.c_void_p(1)
    call, size = args[0], ctypes.c_size_t(int(args[1]) if len(args) > 1 else 10)
    if call in ("send", "recv"):
        return raw(getattr(libc, call)(s.fileno(), pointer, size, sum(FLAGS[w] for w in args[2:])))
    if call in ("read", "write", "readv", "writev"):
        return raw(getattr(libc, call)(s.fileno(), pointer, ctypes.c_size_t(1) if call.endswith("v") else size))
    return raw(getattr(libc, call)(s.fileno(), None, 0))  # sendmsg, recvmsg


def call(request):
    verb, args, family = request["verb"], request["args"], request["family"]
    if verb == "epoll":
        return epoll_call(args)
    if verb == "socket":
        sockets[args[0]] = socket.socket(socket.AF_INET if family == "4" else socket.AF_INET6, socket.SOCK_STREAM)
        if "nonblock" in args:
            sockets[args[0]].setblocking(False)
        return 0
    s = sockets[args[0]]
    rest = args[1:]
    if verb == "bind":
        s.bind((request["local"], int(rest[0])))
    elif verb == "listen":
        s.listen(int(rest[0]))
    elif verb == "accept":
        sockets[rest[0]] = s.accept()[0]
        sockets[rest[0]].setblocking(s.getblocking())
    elif verb == "connect":
        s.connect((request["remote"], int(rest[0])))
    elif verb == "send":
        return s.send(b"x" * int(rest[0]), flags_of(rest[1:]))
    elif verb == "sendv":
        return s.sendmsg([b"x" * int(n) for n in rest if n.isdigit()], [], flags_of(w for w in rest if not w.isdigit()))
    elif verb == "sendto":
        return s.sendto(b"x" * int(rest[0]), flags_of(rest[2:]), (request["remote"], int(rest[1])))
    elif verb == "recv":
        return len(s.recv(int(rest[0]), flags_of(rest[1:])))
    elif verb == "recvmsg":
        return receive(s, int(rest[0]), flags_of(rest[1:]))
    elif verb == "errqueue":
        return receive(s, int(rest[0]) if rest else 1, socket.MSG_ERRQUEUE)
    elif verb == "errbytes":
        return sent_bytes(s)
    elif verb in ("sendfile", "splice"):
        return file_call(verb, s, int(rest[0]))
    elif verb == "bad":
        return bad_call(s, rest)
    elif verb == "disconnect":
        return raw(libc.connect(s.fileno(), b"\0" * 16, 16))
    elif verb == "shutdown":
        s.shutdown({"rd": 0, "wr": 1, "rdwr": 2}[rest[0]])
    elif verb == "close":
        sockets.pop(args[0]).close()
    elif verb == "nonblock":
        s.setblocking(False)
    elif verb == "block":
        s.setblocking(True)
    elif verb == "set":
        level = LEVELS[rest[0].split("_")[0]]
        value = rest[1]
        s.setsockopt(level, option_number(rest[0]), struct.pack("ii", int(rest[1]), int(rest[2])) if rest[0] == "SO_LINGER" else
                     int(value) if value.lstrip("-").isdigit() else value.encode())
    elif verb == "setbyte":
        s.setsockopt(LEVELS[rest[0].split("_")[0]], option_number(rest[0]), bytes([int(rest[1])]))
    elif verb == "sethex":
        s.setsockopt(LEVELS[rest[0].split("_")[0]], option_number(rest[0]), bytes.fromhex(rest[1]))
    elif verb == "gethex":
        return s.getsockopt(LEVELS[rest[0].split("_")[0]], option_number(rest[0]), int(rest[1])).hex() or "none"
    elif verb == "peername":
        return s.getpeername()[1]
    elif verb == "getlen":
        return len(s.getsockopt(LEVELS[rest[0].split("_")[0]], option_number(rest[0]), int(rest[1])))
    elif verb == "get":
        level = LEVELS[rest[0].split("_")[0]]
        if rest[0] == "TCP_CONGESTION":
            return s.getsockopt(level, 13, 16).rstrip(b"\0").decode()
        if rest[0] == "TCP_CC_INFO":  # struct tcp_bbr_info
            told = s.getsockopt(level, 26, 64)
            names = "bw_lo bw_hi min_rtt pacing_gain cwnd_gain".split()
            return " ".join("%s=%d" % pair for pair in zip(names, struct.unpack("=%dI" % (len(told) // 4), told))) or "none"
        value = s.getsockopt(level, option_number(rest[0]))
        return errno.errorcode.get(value, "0") if rest[0] == "SO_ERROR" else value
    elif verb == "info":
        return tcp_info(s, rest)
    elif verb == "poll":
        poll = select.poll()
        poll.register(s, select.POLLIN | select.POLLOUT | select.POLLRDHUP | select.POLLPRI)
        return poll_words(sum(e for _, e in poll.poll(int(rest[0]) if rest else 0)))
    elif verb == "outq":
        return struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, b"\0" * 4))[0]
    elif verb == "inq":
        return struct.unpack("i", fcntl.ioctl(s, termios.FIONREAD, b"\0" * 4))[0]
    elif verb == "outqnsd":
        return struct.unpack("i", fcntl.ioctl(s, 0x894B, b"\0" * 4))[0]
    else:
        raise ValueError("no call: " + verb)
    return 0


def answer(request):
    try:
        return str(call(request))
    except OSError as error:
        return name_of(error.errno)
    except KeyError as error:
        return "no %s" % error


def main():
    warm = socket.create_server(("", 9))  # so that the engine is up before the script begins
    assert warm
    lines = os.fdopen(int(sys.argv[1]), "rb", buffering=0)
    out = os.fdopen(int(sys.argv[2]), "wb", buffering=0)
    lock = threading.Lock()

    def reply(request):
        result = answer(request)
        with lock:
            out.write(json.dumps({"id": request["id"], "result": result}).encode() + b"\n")

    out.write(b"{}\n")
    for line in iter(lines.readline, b""):
        request = json.loads(line)
        if request["background"]:
            threading.Thread(target=reply, args=(request,), daemon=True).start()
        else:
            reply(request)
    os._exit(0)


main()
