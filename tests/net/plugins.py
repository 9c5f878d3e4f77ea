#!/usr/bin/python3
"""A library that a program loads with its own symbols first (RTLD_DEEPBIND, as PHP its extensions) uses the program's sockets under finesse as natively. As root; 77 otherwise."""
import os
import shutil
import subprocess
import sys

from lab import CLIENT_IP, TOP, Checks, Lab

PYTHON = "/usr/bin/python3"
PORT = 7000
PROGRAM = """
import ctypes, os, socket, sys
directory, address = sys.argv[1], (sys.argv[2], int(sys.argv[3]))
if sys.argv[4]:
    os.setgid(65534)
    os.setuid(65534)  # /proc/self/mem is root's from now on
early = os.RTLD_LAZY | os.RTLD_DEEPBIND
ctypes.CDLL(directory + "/early.so", mode=early)  # before there is a socket
for name, mode in (("early", early), ("plain", os.RTLD_NOW), ("lazy", os.RTLD_LAZY | os.RTLD_DEEPBIND), ("now", os.RTLD_NOW | os.RTLD_DEEPBIND), ("direct", os.RTLD_NOW | os.RTLD_DEEPBIND), ("other_goes", early)):
    s = socket.create_connection(address)
    s.settimeout(None)
    if name == "other_goes":
        os.environ["PLUGIN_CLOSES"] = str(ctypes.CDLL(directory + "/other.so")._handle)
    plugin = ctypes.CDLL(directory + "/" + name + ".so", mode=mode)
    os.environ.pop("PLUGIN_CLOSES", None)
    data = ctypes.create_string_buffer(5)
    print(name, "family", plugin.plugin_family(s.fileno()), "send", plugin.plugin_send(s.fileno(), b"hello", 5), end=" ")
    print("read", plugin.plugin_read(s.fileno(), data, 5), data.raw, "by RUNPATH", plugin.plugin_finds(b"inner_" + name.encode() + b".so", os.RTLD_NOW), flush=True)
"""
PEER = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    s = listener.accept()[0]
    s.sendall(b"world")
    try:
        while s.recv(100):
            pass
    except ConnectionError:
        pass
"""


def run(finesse, as_root):
    with Lab() as lab:
        os.chmod(lab.dir, 0o755)
        for name in ("early", "plain", "lazy", "now", "other_goes", "other"):
            shutil.copy(TOP / "tests/net/plugin.so", lab.dir + "/%s.so" % name)
        shutil.copy(TOP / "tests/net/plugin_direct.so", lab.dir + "/direct.so")
        os.mkdir(lab.dir + "/inner")
        for name in ("early", "plain", "lazy", "now", "direct", "other_goes"):
            shutil.copy(TOP / "tests/net/plugin.so", lab.dir + "/inner/inner_%s.so" % name)
        peer = lab.client.spawn([PYTHON, "-c", PEER, CLIENT_IP, str(PORT)], stdout=subprocess.PIPE)
        peer.stdout.readline()
        before = lab.server.opens()
        p = lab.server.spawn([PYTHON, "-c", PROGRAM, lab.dir, CLIENT_IP, str(PORT), "" if as_root else "nobody"], finesse, stdout=subprocess.PIPE)
        try:
            said = p.communicate(timeout=30)[0].decode().splitlines()
        except subprocess.TimeoutExpired:
            said = ["did not end"]
        return said, lab.server.opens() == before


def compare(check, as_root):
    who = "root" if as_root else "who was root"
    native, _ = run(False, as_root)
    check(len(native) == 6 and all("b'world'" in line and line.endswith("RUNPATH 1") for line in native), "%s: natively %s" % (who, native))
    ours, carried = run(True, as_root)
    ours += ["nothing"] * (len(native) - len(ours))
    for a, b in zip(native, ours):
        check(a == b, "%s: natively %s; under finesse %s" % (who, a, b))
    check(carried, "%s: the engine carried it" % who)


def main():
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    check = Checks()
    for as_root in (True, False):
        compare(check, as_root)
    return check.tally()


if __name__ == "__main__":
    sys.exit(main())
