"""What other people's suites were seen to trip over under finesse, in a few lines each: right on the kernel's TCP, wrong on the landed code.

results.py runs them in the mirrored host: 127.0.0.1 is the wire (mirror.c), 127.0.0.2 stays loopback.
"""
import errno
import os
import resource
import select
import socket
import struct
import unittest

LOOPBACK = "127.0.0.2"


def in_child(body):
    """Runs body() in a process of its own: what it raises is in the status. No engine is there before."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def use_up_descriptors(limit):
    """All numbers below a small limit are taken: the list of them, the last first."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        return taken[::-1]


class Descriptors(unittest.TestCase):
    """libuv's emfile: with a single number left, connect works, and so does accept."""

    limit = 32

    def listener(self, address=""):
        s = socket.create_server((address, 0))
        s.settimeout(5)
        return s

    def case(self, body):
        self.assertEqual(in_child(body), 0)

    def test_connect_with_the_last_number(self):
        def body():
            server = self.listener()
            os.close(use_up_descriptors(self.limit)[0])
            client = socket.socket()
            client.connect(("127.0.0.1", server.getsockname()[1]))
        self.case(body)

    def test_bound_connect_with_the_last_number(self):
        def body():
            server = self.listener()
            os.close(use_up_descriptors(self.limit)[0])
            client = socket.socket()
            client.bind(("127.0.0.1", 0))
            client.connect(("127.0.0.1", server.getsockname()[1]))
            self.assertNotEqual(client.getsockname()[1], 0)
        self.case(body)

    def accept_from(self, address):
        def body():
            server = self.listener()
            client = socket.socket()
            taken = use_up_descriptors(self.limit)
            client.connect((address, server.getsockname()[1]))
            with self.assertRaises(OSError):
                server.accept()
            os.close(taken[0])
            accepted, _ = server.accept()
            accepted.sendall(b"x")
            self.assertEqual(client.recv(1), b"x")
        self.case(body)

    def test_accept_with_the_last_number(self):
        self.accept_from("127.0.0.1")

    def test_accept_of_a_loopback_client_with_the_last_number(self):
        self.accept_from(LOOPBACK)


class DescriptorsOfALargerTable(Descriptors):
    limit = 300


class FirstMessage(unittest.TestCase):
    """asyncio's start_tls after a write of 100 KiB: what the socket does not take must stay below asyncio's 64 KiB, or the writer is paused."""

    def test_most_of_a_first_message_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            with accepted:
                for end in (client, accepted):
                    end.setblocking(False)
                    self.assertGreaterEqual(end.send(b"x" * 102400), 102400 - 65536)


class Reset(unittest.TestCase):
    """test_ssl's preauth_data_to_tls_server: data, then a reset, before the server looks. There is no peer any more, but there is data."""

    def test_no_peer_after_a_reset(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            accepted, _ = server.accept()
            with accepted:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(b"data")
                client.close()
                waits = select.poll()
                waits.register(accepted, 0)
                self.assertTrue(waits.poll(5000))
                with self.assertRaises(OSError) as raised:
                    accepted.getpeername()
                self.assertEqual(raised.exception.errno, errno.ENOTCONN)


if __name__ == "__main__":
    unittest.main()
