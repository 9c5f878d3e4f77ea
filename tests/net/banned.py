#!/usr/bin/python3
"""
Who is banned in the middle of a transfer gets nothing that it does not have, from the moment on in which its connection has become the kernel's: not even the segment
that Linux would send a second later to find out whether something was lost. Who is not banned gets on.

banned.py
"""
import re
import select
import socket
import sys
import time

from lab import Checks, Lab, LabError

PORT, EACH, PATIENCE = 7100, 8, 60  # the last ends what hangs
BANNED, OTHER, SERVERS = ("10.77.1.1", "fd77::11"), ("10.77.1.2", "fd77::12"), ("10.77.0.1", "fd77::1")
BEGUN = 300000  # bytes: a transfer is under way
RULES = """table inet t {
	set bad { type ipv4_addr; }
	set bad6 { type ipv6_addr; }
	chain in {
		type filter hook input priority 0; policy drop
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		ip saddr @bad drop
		ip6 saddr @bad6 drop
		tcp sport 9 drop
		ct state established,related accept
		tcp dport 7100 accept
	}
}
"""
SERVER = """
import socket, threading
s = socket.create_server(("::", %d), family=socket.AF_INET6, dualstack_ipv6=True)
def serve(c):
    try:
        while True:
            c.sendall(b"x" * 65536)
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
""" % PORT


class Transfers:
    """Of the clients. What came is counted."""

    def __init__(self, lab):
        self.got, self.banned = {}, []
        for n in range(EACH):
            for v6 in (False, True):
                for address in (BANNED[v6], OTHER[v6]):
                    if n and address is OTHER[v6]:
                        continue
                    s = lab.client.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
                    s.settimeout(PATIENCE)
                    s.bind((address, 0))
                    s.connect((SERVERS[v6], PORT))
                    s.setblocking(False)
                    self.got[s] = 0
                    if address is BANNED[v6]:
                        self.banned.append(s)
        self.others = [s for s in self.got if s not in self.banned]

    def pump(self, wait_s):
        """Reads what there is, once; False: nothing came in the time."""
        ready = select.select(list(self.got), [], [], wait_s)[0]
        for s in ready:
            self.got[s] += len(s.recv(1 << 18))
        return bool(ready)

    def until(self, true, what):
        end = time.monotonic() + PATIENCE
        while not true():
            self.pump(0.01)
            if time.monotonic() > end:
                raise LabError(what)

    def banned_got(self):
        return [self.got[s] for s in self.banned]


def repeating(lab):
    """Of the banned: how many connections the kernel has, and how many of them wait longer after each repetition."""
    lines = re.split(r"\n(?=\S)", lab.server.text(["ss", "-Htin", "sport", "=", ":%d" % PORT]))
    theirs = [line for line in lines if "[%s]:" % BANNED[1] in line or BANNED[0] + "]:" in line]
    return len(theirs), sum("backoff:" in line for line in theirs)


def main():
    check = Checks()
    with Lab() as lab:
        lab.server.add_address(SERVERS[1])
        for address in BANNED + OTHER:
            v6 = ":" in address
            lab.client.run(["ip", "addr", "replace", address + ("/64" if v6 else "/16"), "dev", lab.client.interface] + (["nodad"] if v6 else []))
        lab.server.run(["nft", "-f", "-"], input=RULES.encode())
        p = lab.server.spawn([sys.executable, "-c", SERVER], finesse=True)
        lab.server.wait_listening(p, PORT, finesse=True)
        t = Transfers(lab)
        t.until(lambda: min(t.got.values()) > BEGUN, "a transfer does not begin")
        check(lab.server.opens()[1] == 0, "%d transfers of the engine's are under way" % len(t.got))
        lab.server.run(["nft", "add element inet t bad { %s }; add element inet t bad6 { %s }" % BANNED])
        t.until(lambda: repeating(lab)[0] == 2 * EACH, "a banned connection does not become the kernel's")
        then = None
        while then != t.banned_got():
            then = t.banned_got()
            t.pump(0)
        t.until(lambda: repeating(lab)[1] == 2 * EACH, "a banned connection repeats nothing")
        late = [after - before for before, after in zip(then, t.banned_got())]
        check(not any(late), "what each of the banned got then: %s" % late)
        going = sum(t.got[s] for s in t.others)
        t.until(lambda: sum(t.got[s] for s in t.others) > going + BEGUN, "who is not banned does not get on")
        check(True, "who is not banned gets on")
        lab.stop(p)
    return check.tally()


if __name__ == "__main__":
    sys.exit(main())
