#!/usr/bin/python3
"""
A listener whose SYNs the host judges has a filter of the engine's on the kernel's socket, of which the program knows nothing. It reads that there is none, has none to
take away, and once it sets or locks one itself the listener is the kernel's. Nor is there one on what it accepts from the kernel's queue: here, who came to another port.
Natively and under finesse: what the program sees and who serves those that come to its own port.

own_filter.py
"""
import subprocess
import sys

from lab import Lab, LabError, SERVER_IP, finesse_command, read_all, tally

PORT, REDIRECTED, PATIENCE = 7100, 100, 60  # the last ends what hangs
RULES = """table inet t {
	chain in {
		type filter hook input priority 0; policy drop
		ct state established,related accept
		tcp sport 9 drop
		tcp dport 7100-7199 accept
	}
	chain pre { type nat hook prerouting priority -100; }
}
"""
SERVER = """
import ctypes, errno, socket, struct, sys
FILTERS, LOCK, DETACH = 26, 44, 27
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFFFFFF))  # lets all pass
def tried(f, *a):
    try:
        r = f(socket.SOL_SOCKET, *a)
        return len(r) if isinstance(r, bytes) else r
    except OSError as e:
        return errno.errorcode[e.errno]
def state(s):
    return tried(s.getsockopt, FILTERS, 64), tried(s.getsockopt, LOCK)
ACTS = {
    "nothing": lambda s: None,
    "detach": lambda s: tried(s.setsockopt, DETACH, 0),
    "detach by no number": lambda s: tried(s.setsockopt, DETACH, b""),
    "lock": lambda s: tried(s.setsockopt, LOCK, 1),
    "attach": lambda s: tried(s.setsockopt, FILTERS, struct.pack("HL", 1, ctypes.addressof(code))),
}
s = socket.create_server(("", int(sys.argv[1])))
seen = []
for acts in ([], sys.argv[2].split(", ")):
    seen += [ACTS[a](s) for a in acts] + [state(s)]
    for way in "direct", "redirected":
        print(way, flush=True)
        c = s.accept()[0]
        seen.append(state(c))
        c.sendall(b"hello")
        c.close()
print(seen, flush=True)
sys.stdin.readline()
"""
# The acts of the program after its first client; is its second one the kernel's?
CASES = [("nothing", 0), ("detach", 0), ("detach by no number", 0), ("lock", 1), ("lock, detach", 1), ("lock, attach", 1), ("attach", 1), ("attach, detach", 1), ("attach, lock, detach", 1)]


def once(lab, acts, port, finesse):
    """What the program saw; how many of the two clients that came to its own port were the kernel's. A redirected one always is."""
    lab.server.run(["nft", "add rule inet t pre tcp dport %d redirect to :%d" % (port + REDIRECTED, port)])
    before = lab.server.opens()[1]
    p = lab.server.spawn([sys.executable, "-c", SERVER, str(port), acts], finesse=finesse, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lab.server.wait_listening(p, port, finesse=finesse)
    for way, to in 2 * (("direct", port), ("redirected", port + REDIRECTED)):
        if p.stdout.readline().decode().strip() != way or read_all(lab.client.connect(SERVER_IP, to, PATIENCE)) != b"hello":
            raise LabError("a client was not served: %s" % way)
    seen = p.stdout.readline().decode().strip()
    p.stdin.close()
    p.wait()
    return seen, lab.server.opens()[1] - before - 2


def main():
    failed = 0
    with Lab() as lab:
        lab.server.run(["nft", "-f", "-"], input=RULES.encode())
        for i, (acts, kernels) in enumerate(CASES):
            native, of_two = once(lab, acts, PORT + 2 * i, False)
            seen, by_kernel = once(lab, acts, PORT + 2 * i + 1, True)
            ok = of_two == 2 and seen == native and by_kernel == (kernels if finesse_command() else 2)
            failed += not ok
            print("%s: %s%s" % ("ok" if ok else "FAILED", acts, "" if ok else ": %s, natively %s; %d of 2 clients were the kernel's" % (seen, native, by_kernel)), flush=True)
    return tally(len(CASES), failed)


if __name__ == "__main__":
    sys.exit(main())
