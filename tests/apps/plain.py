"""What a program does that is not to be accelerated: loopback TCP, UDP, AF_UNIX. Prints what it saw; the same natively and under
finesse, line by line."""
import errno
import os
import select
import socket
import sys
import threading


def tcp_over_loopback(family, address):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, 0))
    server.listen(5)
    client = socket.create_connection(server.getsockname()[:2])
    peer, name = server.accept()
    data = bytes(range(256)) * 4096
    out = []
    reader = threading.Thread(target=lambda: out.append(receive_all(peer)))
    reader.start()
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    reader.join()
    peer.sendall(b"bye")
    peer.close()
    print("tcp", address, name[0], len(out[0]), out[0] == data, client.recv(10), client.recv(10))
    client.close()
    server.close()


def receive_all(sock):
    out = b""
    while True:
        block = sock.recv(65536)
        if not block:
            return out
        out += block


def tcp_errors():
    s = socket.socket()
    try:
        s.connect(("127.0.0.1", 1))
    except OSError as e:
        print("refused", errno.errorcode[e.errno])
    s.close()
    a, b = socket.socket(), socket.socket()
    a.bind(("127.0.0.1", 0))
    a.listen()
    try:
        b.bind(a.getsockname())
    except OSError as e:
        print("in use", errno.errorcode[e.errno])
    print("listens", a.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), b.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    a.close()
    b.close()


def udp(address):
    a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    a.bind((address, 0))
    b.connect(a.getsockname())
    b.send(b"over")
    data, name = a.recvfrom(100)
    a.sendto(b"and out", name)
    print("udp", address, data, b.recv(100), name[0])
    poll = select.poll()
    poll.register(a, select.POLLIN | select.POLLOUT)
    print("udp poll", [events for _, events in poll.poll(0)])
    a.close()
    b.close()


def unix():
    a, b = socket.socketpair()
    a.sendall(b"pair")
    print("unix", b.recv(10))
    socket.send_fds(a, [b"fd"], [0])
    data, fds, _, _ = socket.recv_fds(b, 10, 1)
    print("unix fd", data, len(fds), os.fstat(fds[0]).st_rdev == os.fstat(0).st_rdev)
    name = "\0finesse-test-%d" % os.getpid()
    server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen()
    client.connect(name)
    peer, _ = server.accept()
    epoll = select.epoll()
    epoll.register(peer, select.EPOLLIN)
    client.sendall(b"abstract")
    print("unix epoll", [events for _, events in epoll.poll(5)], peer.recv(10))


def fds():
    first = socket.socket()
    number = first.fileno()
    first.close()
    second = socket.socket()
    print("lowest free", second.fileno() == number)
    os.set_blocking(second.fileno(), False)
    print("non-blocking", os.get_blocking(second.fileno()), second.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
    pipe = os.pipe()
    os.write(pipe[1], b"x")
    print("pipe", select.select([pipe[0]], [pipe[1]], [], 0) == ([pipe[0]], [pipe[1]], []))


if __name__ == "__main__":
    tcp_over_loopback(socket.AF_INET, "127.0.0.1")
    tcp_over_loopback(socket.AF_INET6, "::1")
    tcp_over_loopback(socket.AF_INET, sys.argv[1])
    tcp_errors()
    udp("127.0.0.1")
    udp(sys.argv[1])
    unix()
    fds()
