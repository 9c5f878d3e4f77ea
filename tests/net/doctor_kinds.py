#!/usr/bin/python3
"""
What `finesse doctor` says of an interface, and what then is: of each kind, and as it may be. It says that a server on this interface is served if and only if
`finesse stat` says so of one that is started; its exit status and its JSON agree, and no advice of it is setcap, which does
nothing for a preload.
"""
import json
import os
import subprocess
import sys

from interface_kinds import HOST, KINDS, xdp
from lab import Checks, Host, Lab, LabError, finesse_command

PORT = 7200
SERVER = """
import socket, sys
s = socket.create_server(("", %d))
print("listens", flush=True)
sys.stdin.readline()
""" % PORT


def make_port(host, peer):
    """if0 is a bridge's port, and the bridge has the address."""
    KINDS["veth"](host, peer)
    host.run(["ip", "link", "add", "br0", "type", "bridge"])
    host.run(["ip", "link", "set", "if0", "master", "br0"])
    host.run(["ip", "addr", "add", "10.85.0.1/24", "dev", "br0"])
    host.run(["ip", "link", "set", "br0", "up"])


def make_ifb(host, peer):
    host.run(["ip", "link", "add", "if0", "type", "ifb"])


def make_with_xdp(host, peer):
    KINDS["veth"](host, peer)
    host.run(["ip", "link", "set", "if0", "up"])
    xdp(host, peer)


def down(host):
    host.run(["ip", "link", "set", "if0", "down"])


def no_address(host):
    """Nobody can come, and the listener waits for an address."""
    host.run(["ip", "addr", "flush", "dev", "if0"])


def as_it_is(host):
    pass


DROP = "ct state established accept; tcp sport 9 drop"
# interface, what is done to it, a rule of the host's, what doctor says besides "ok", is it served?
CASES = [(kind, as_it_is, None, "", True) for kind in KINDS] + [
    ("bridge's port", as_it_is, None, "", True),
    ("ifb", as_it_is, None, "", True),
    ("veth with XDP", as_it_is, None, "", True),
    ("veth", down, None, "is down: served when it is up", True),
    ("bridge", down, None, "is down: served when it is up", True),
    ("veth", no_address, None, "has no address", None),
    ("bridge's port", no_address, None, "has no address", None),
    ("veth", as_it_is, DROP, "", True),
    ("veth", as_it_is, "ct state established limit rate over 5/second drop", "nftables chain inet t in", False),
]
# With a rule that judges: the setting, and who carries the listener
FIREWALL = [("judged", True), ("kernel", False), ("bypass", True)]
MAKE = dict(KINDS, **{"bridge's port": make_port, "ifb": make_ifb, "veth with XDP": make_with_xdp})


def asked(host):
    """Is it served? And all that is not well."""
    said = host.run(finesse_command() + ["doctor", "--interface", "if0", "--server", str(PORT), "--json"], check=False)
    document = json.loads(said.stdout)
    if (said.returncode == 0) != document["served"]:
        raise LabError("status %d, served %s" % (said.returncode, document["served"]))
    if b"setcap" in said.stdout:
        raise LabError("it advises setcap")
    return document["served"], "; ".join(c["text"] for c in document["checks"] if c["finding"] != "ok")


def started(host, settings=()):
    """Does the engine carry the listener of a server that is started? And why not."""
    p = host.spawn(finesse_command() + ["run", "--interface", "if0", *settings, "--", sys.executable, "-c", SERVER],
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    p.stdout.readline()
    document = host.stat(p.pid)
    p.stdin.close()
    p.wait()
    return [l["carrier"] for l in document["listeners"]] == ["engine"], "; ".join(str(f) for f in document["fallbacks"])


def with_interface(lab, kind, change, rule, ask):
    host, peer = Host(lab, "if0"), Host(lab, "if0")
    try:
        MAKE[kind](host, peer)
        host.run(["ip", "addr", "add", HOST + "/24", "dev", "if0"])
        for h in (host, peer) if kind != "ifb" else (host,):
            h.run(["ip", "link", "set", "if0", "up"])
        if rule:
            host.run(["nft", "-f", "-"], input=("table inet t { chain in { type filter hook input priority 0; %s; }; }" % rule).encode())
        change(host)
        return ask(host)
    finally:
        for h in (host, peer):
            h.holder.kill()
            h.holder.wait()


def main():
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    check = Checks()
    with Lab() as lab:
        for kind, change, rule, named, served in CASES:
            says, besides, (does, why) = with_interface(lab, kind, change, rule, lambda host: (*asked(host), started(host)))
            ok = named in besides and (named or not besides) and (not says and does if served is None else says == does == served)
            check(ok, "%s, %s, %s: doctor: %s (%s); stat: %s (%s)" % (kind, change.__name__, rule, says, besides, does, why))
        for setting, served in FIREWALL:
            does, why = with_interface(lab, "veth", as_it_is, DROP, lambda host: started(host, ["--firewall", setting]))
            check(does == served, "--firewall %s: %s (%s)" % (setting, does, why))
    return check.tally()


if __name__ == "__main__":
    sys.exit(main())
