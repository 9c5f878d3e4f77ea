"""Programs of fastopen_test.sh and fastopen_client_test.sh: a server with TCP_FASTOPEN that echoes, and a client that sends with MSG_FASTOPEN, or by TCP_FASTOPEN_CONNECT."""
import ctypes
import os
import selectors
import signal
import socket
import struct
import sys

TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_INFO, SYN_DATA, MSG_FASTOPEN = 23, 30, 11, 32, 0x20000000
TCP_FASTOPEN_NO_COOKIE, SO_TIMESTAMPING, TX_STAMPS = 34, 37, 1 << 1 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11
PR_SET_PDEATHSIG = 1


def has_syn_data(s):
    return "syn-data" if s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 8)[5] & SYN_DATA else "plain"


def answer(s):
    said = has_syn_data(s)
    size, data = 0, b""
    while size == 0 or len(data) < size:
        data += s.recv(65536)
        size = int(data[:6])
    s.sendall(said.encode())
    s.close()


def answer_passed():
    """A process that answers on what is passed to it; our end."""
    ours, its = socket.socketpair()
    if not os.fork():
        ours.close()
        while True:
            _, fds, _, _ = socket.recv_fds(its, 1, 1)
            if not fds:
                os._exit(0)
            answer(socket.socket(fileno=fds[0]))
    its.close()
    return ours


def serve(listener, how):
    """how: itself; forks, a child for each; passes, to another process; option, one that only the kernel's TCP can do is set."""
    other = answer_passed() if how == "passes" else None
    while True:
        s, _ = listener.accept()
        if other:
            socket.send_fds(other, [b"s"], [s.fileno()])
            s.close()
            continue
        if how == "forks":
            if not os.fork():
                answer(s)
                os._exit(0)
            s.close()
            continue
        if how == "option":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 7)
        answer(s)


def server(address, port, processes, how="itself"):
    """`processes` accept from one socket."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    listener.bind((address, int(port)))
    listener.listen(16)
    for _ in range(int(processes) - 1):
        if not os.fork():
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            serve(listener, how)
    serve(listener, how)


def tell(s):
    answer = s.recv(100).decode()
    print(has_syn_data(s), answer)
    s.close()


def messages(address, sizes):
    """A socket, and a message, of each size."""
    for size in sizes:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))  # the socket must block
        yield s, b"%06d" % int(size) + b"x" * (int(size) - 6)


def client(address, port, *sizes):
    """What each end says of its SYN, for a message of each size."""
    for s, message in messages(address, sizes):
        sent = s.sendto(message, MSG_FASTOPEN, (address, int(port)))
        s.sendall(message[sent:])
        tell(s)


def connecting(address, port, *sizes):
    """The same by TCP_FASTOPEN_CONNECT, without blocking until the answer."""
    for s, message in messages(address, sizes):
        s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        s.setblocking(False)
        s.connect_ex((address, int(port)))
        waiter = selectors.DefaultSelector()
        waiter.register(s, selectors.EVENT_WRITE)
        while message:
            waiter.select(10)
            message = message[s.send(message):]
        s.setblocking(True)
        tell(s)


def handing_over(address, port, size):
    """An option that only the kernel's TCP knows is set while the SYN and its text are under way."""
    for s, message in messages(address, [size]):
        s.setblocking(False)
        sent = s.sendto(message, MSG_FASTOPEN, (address, int(port)))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 7)
        s.setblocking(True)
        s.sendall(message[sent:])
        tell(s)


def error_of(call, *arguments):
    try:
        return call(*arguments)
    except OSError as e:
        return os.strerror(e.errno)


def stamped(address, port):
    """The notices of what has gone with the SYN, once it is answered."""
    for s, message in messages(address, [10]):
        s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_STAMPS)
        s.sendto(message, MSG_FASTOPEN, (address, int(port)))
        print(s.recv(100).decode(), error_of(s.recvmsg, 100, 300, socket.MSG_ERRQUEUE))
        s.close()


def unconnected(address, port):
    """A SYN that waits is given up, and the socket connects again."""
    for s, message in messages(address, [10]):
        s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
        s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        s.connect((address, int(port)))
        print(ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16))
        print(s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1)[0], s.getsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT),
              s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        s.connect((address, int(port)))
        s.sendall(message)
        print(bool(s.recv(100)))
        s.close()


def set_late(address, port):
    """The option where it comes too late."""
    for s, message in messages(address, [10]):
        s.connect((address, int(port)))
        for value in 0, 1, 2:
            print(error_of(s.setsockopt, socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, value))
        s.sendall(message)
        tell(s)


programs = stamped, unconnected, set_late
{**{p.__name__: p for p in programs}, "server": server, "client": client, "connecting": connecting, "handing_over": handing_over}[sys.argv[1]](*sys.argv[2:])
