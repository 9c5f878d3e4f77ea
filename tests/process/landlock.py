"""Landlock's calls (Linux 6.7 for TCP), which Python has not."""
import ctypes
import os
import struct

BIND_TCP, CONNECT_TCP, RULE_NET_PORT, NEEDED_ABI = 1, 2, 2, 4
CREATE, ADD, RESTRICT, VERSION, NO_NEW_PRIVS = 444, 445, 446, 1, 38
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(r, what):
    if r < 0:
        raise OSError(ctypes.get_errno(), what)
    return r


def call(*args):
    return checked(LIBC.syscall(*args), "landlock")


def has_net():
    try:
        return call(CREATE, None, ctypes.c_size_t(0), VERSION) >= NEEDED_ABI
    except OSError:
        return False


def no_new_privileges():
    checked(LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def restrict(rights, *ports):
    """The calling thread, and what it starts: `rights` at these ports only."""
    rules = struct.pack("QQ", 0, rights)
    fd = call(CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    for port in ports:
        call(ADD, fd, RULE_NET_PORT, struct.pack("QQ", rights, port), 0)
    no_new_privileges()
    call(RESTRICT, fd, 0)
    os.close(fd)
