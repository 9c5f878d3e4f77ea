"""finesse trace: what it says of openings and closings, line by line, and that it never harms the program."""
import os
import re
import select
import socket
import subprocess

from case import PYTHON, SERVER_IP, Case, expect, finesse_command
from web import nginx

STAMP = r"\+\d+\.\d{6} finesse\[\d+\] "
OPENED = (r" opened: ISN \d+, theirs \d+; MSS \d+ announced, \d+ sent at most; window scale \d+, theirs \d+; SACK, timestamps, (close request, )?"
          r"handshake [\d.]+ (us|ms|s)")
BYTES = r"; \d+ bytes in, \d+ out; "
SERVER6, CLIENT6 = "fd00:77::1", "fd00:77::2"


def trace(host, *options):
    return finesse_command() + ["trace", *options, "--interface", host.interface, "--"]


def expect_lines(path, *patterns):
    """The file's lines, all of them, in order."""
    lines = path.read_text().splitlines()
    expect(len(lines) == len(patterns), "%s has %d lines, not %d:\n%s" % (path.name, len(lines), len(patterns), "\n".join(lines)))
    for line, pattern in zip(lines, patterns):
        expect(re.fullmatch(STAMP + pattern, line), "%r does not match %r" % (line, pattern))


def flow(case, server, server_ip=SERVER_IP, client=r"10\.77\.0\.2"):
    ends = re.escape("%s:%d" % (server_ip, case.port)), client + r":\d+"
    return ends[0] + " <- " + ends[1] if server else ends[1] + " -> " + ends[0]


def python_server(case, after_accept, family="AF_INET", settings=()):
    """A server of one connection, traced; `after_accept` is what it does with it."""
    code = ("import socket, struct, sys\ns = socket.socket(socket.%s)\ns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
            "s.bind(('', %d)); s.listen()\nc, _ = s.accept()\n%s" % (family, case.port, after_accept))
    case.settings = ("--trace", str(case.dir / "trace-server"), *settings)
    case.start([PYTHON, "-c", code])


def python_client(case, then, ip=SERVER_IP, family="AF_INET", file="trace-client"):
    code = "import socket\nc = socket.socket(socket.%s)\nc.connect(('%s', %d))\n%s" % (family, ip, case.port, then)
    argv = trace(case.lab.client, "-o", case.dir / file) if file else []
    case.lab.client.run(argv + [PYTHON, "-c", code])


def begin(lab):
    case = Case(lab, True, False)
    for name in ("trace-server", "trace-client"):
        (case.dir / name).unlink(missing_ok=True)
    return case, case.dir / "trace-server", case.dir / "trace-client"


def trace_web(lab):
    """nginx and curl, both traced: the client closes first."""
    if not finesse_command():
        return
    case, server, client = begin(lab)
    case.settings = ("--trace", str(server))
    nginx(case)
    lab.client.run(trace(lab.client, "-o", client) + ["curl", "-sS", "--fail", "-o", "/dev/null", case.url("small")])
    case.end()
    us, they = flow(case, False), flow(case, True)
    expect_lines(client, us + OPENED, us + r" closing: our FIN follows the data", *(
        [us + r" FIN: ours is the first"] if "FIN: ours" in client.read_text() else []),
        us + r" (closed|handed over): (first FIN by us, the client|no FIN from either side)" + BYTES + "(TIME-WAIT is ours|goes on in the kernel, in [A-Z0-9-]+)")
    expect_lines(server, they + OPENED, they + r" FIN: the client's is the first",
                 they + r" closing: our FIN follows the data \(the peer had closed before\)",
                 they + r" (closed|handed over): first FIN by the client \(the peer had closed before\)" + BYTES
                 + r"(TIME-WAIT is the client's|goes on in the kernel, in LAST-ACK)")  # the server may end before the client's last ACK


def trace_refused(lab):
    """Nobody listens: no FIN, no TIME-WAIT, and why."""
    if not finesse_command():
        return
    case, _, client = begin(lab)
    lab.client.run(trace(lab.client, "-o", client) + ["curl", "-sS", "http://%s:%d/" % (SERVER_IP, case.port)], check=False)
    expect_lines(client, flow(case, False) + " closed: no FIN from either side; 0 bytes in, 0 out; no TIME-WAIT: Connection refused")


def trace_server_first(lab):
    """The policy is off: the server's FIN is the first, and the TIME-WAIT its own. A kernel client."""
    if not finesse_command():
        return
    case, server, _ = begin(lab)
    python_server(case, "c.sendall(b'x'); c.shutdown(socket.SHUT_WR); c.recv(1); c.close()", settings=("--close-policy", "off"))
    python_client(case, "while c.recv(9): pass\nc.close()", file=None)
    case.wait_end()
    they = flow(case, True)
    expect_lines(server, they + OPENED, they + r" closing: our FIN follows the data \(the close policy is off\)",
                 they + r" FIN: ours is the first \(the close policy is off\)",
                 they + r" closed: first FIN by us, the server \(the close policy is off\)" + BYTES + "TIME-WAIT is ours")


def trace_held(lab):
    """A held FIN: waits for the client's, which comes. A second connection says when the first is closed."""
    if not finesse_command():
        return
    case, server, _ = begin(lab)
    python_server(case, "c.sendall(b'x'); c.close(); d = s.accept()[0]; d.sendall(b'x'); d.recv(1)", settings=("--close-policy", "hold:60000", "--close-hold-max", "60000"))
    python_client(case, "c.recv(9); d = socket.create_connection(('%s', %d)); d.recv(1); c.close(); d.close()" % (SERVER_IP, case.port), file=None)
    case.wait_end()
    they = flow(case, True)
    lines = [line for line in server.read_text().splitlines() if "hold" in line or "held" in line or "had waited" in line]
    expect(len(lines) == 3, server.read_text())
    for line, pattern in zip(lines, (r" closing: our FIN waits at most 60\.0 s \(held for the client\)", r" FIN: the client's is the first, ours had waited for it",
                                     r" closed: first FIN by the client \(held for the client\)" + BYTES + r"TIME-WAIT is the client's")):
        expect(re.fullmatch(STAMP + they + pattern, line), "%r does not match %r" % (line, pattern))


def trace_reset(lab):
    """Unread data: the server resets, and both ends say so."""
    if not finesse_command():
        return
    case, server, client = begin(lab)
    python_server(case, "c.recv(1, socket.MSG_PEEK); c.close()")
    python_client(case, "c.sendall(b'never read')\ntry: c.recv(1)\nexcept ConnectionResetError: pass")
    case.wait_end()
    us, they = flow(case, False), flow(case, True)
    expect_lines(server, they + OPENED, they + r" closing: RST at once \(unread data: RST, as Linux\)",
                 they + " closed: no FIN from either side" + BYTES + "no TIME-WAIT: reset by us, the server")
    expect_lines(client, us + OPENED, us + " closed: no FIN from either side" + BYTES + "no TIME-WAIT: reset by the server")


def trace_ipv6(lab):
    """Brackets, and the words are the same."""
    if not finesse_command():
        return
    case, server, client = begin(lab)
    for host, address in ((lab.server, SERVER6), (lab.client, CLIENT6)):
        host.run(["ip", "addr", "replace", address + "/64", "dev", host.interface, "nodad"])
    python_server(case, "c.recv(9); c.close()", family="AF_INET6")
    python_client(case, "c.shutdown(socket.SHUT_WR); c.recv(1)", ip=SERVER6, family="AF_INET6")
    case.wait_end()
    for path, server_side in ((server, True), (client, False)):
        first = path.read_text().splitlines()[0]
        pattern = STAMP + flow(case, server_side, "[%s]" % SERVER6, r"\[fd00:77::2\]") + OPENED
        expect(re.fullmatch(pattern, first), "%r does not match %r" % (first, pattern))
    they = flow(case, True, "[%s]" % SERVER6, r"\[fd00:77::2\]")
    expect(re.search("(?m)^" + STAMP + they + r" FIN: the client's is the first$", server.read_text()), server.read_text())


def trace_handed_over(lab):
    """A live connection goes on in the kernel (exec), and a socket that never was ours says why."""
    if not finesse_command():
        return
    case, _, client = begin(lab)
    python_server(case, "c.recv(9); c.close()")
    python_client(case, "import os, sys\nos.set_inheritable(c.fileno(), True)\n"
                  "os.execv(sys.executable, [sys.executable, '-c', 'import socket; socket.socket(fileno=%d).sendall(b\"x\")' % c.fileno()])")
    case.wait_end()
    us = flow(case, False)
    expect_lines(client, us + OPENED, "a connection stays with the kernel's TCP: exec",
                 us + " handed over: no FIN from either side" + BYTES + "goes on in the kernel, in ESTABLISHED")
    fallback = case.dir / "trace-fallback"
    lab.client.run(finesse_command() + ["trace", "-o", fallback, "--interface", "nosuch0", "--", "curl", "-sS", "http://%s:%d/" % (SERVER_IP, case.port)], check=False)
    expect_lines(fallback, r".* stays with the kernel's TCP: interface nosuch0 does not exist")
    policy = case.dir / "trace-policy"
    lab.client.run(["ip", "addr", "replace", "10.66.0.1/32", "dev", "lo"])
    lab.client.run(trace(lab.client, "-o", policy, "--except", "client any:7") + [
        PYTHON, "-c", "import socket\ns = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(s.getsockname())\n"
        "for port in 7, 8, 9:\n    c = socket.socket(); c.settimeout(9 * (port != 9))\n    if port == 9: c.bind(('10.66.0.1', 0))\n"
        "    c.connect_ex((('%s', '10.77.0.2')[port == 8], port))" % SERVER_IP])
    lab.client.run(["ip", "addr", "del", "10.66.0.1/32", "dev", "lo"])
    expect_lines(policy, r"listen 127\.0\.0\.1:\d+ stays with the kernel's TCP: loopback is the kernel's",
                 r"connect 127\.0\.0\.1:\d+ stays with the kernel's TCP: loopback is the kernel's",
                 r"connect .*:7 stays with the kernel's TCP: the rules of only and except leave it there",
                 r"connect 10\.77\.0\.2:8 stays with the kernel's TCP: its way leads to this host itself, or over an interface that is not served",
                 r"connect .*:9 stays with the kernel's TCP: it is bound to an address that no interface which is served has")


def trace_standard_error(lab):
    """By default the lines go to standard error, whatever that is: a file keeps the program's own lines, too; a socket takes them."""
    if not finesse_command():
        return
    case = Case(lab, True, False)
    nginx(case)
    argv = trace(lab.client) + [PYTHON, "-c", "import os, socket\nos.write(2, b'before\\n'); c = socket.create_connection(('%s', %d)); c.close()\nos.write(2, b'after\\n')"
                                % (SERVER_IP, case.port)]
    path = case.dir / "stderr"
    with open(path, "wb") as f:
        lab.client.run(argv, stderr=f)
    ours, theirs = socket.socketpair()
    lab.client.run(argv, stderr=theirs)
    theirs.close()
    for text in path.read_bytes(), ours.recv(65536):
        lines = text.decode().splitlines()
        expect("before" in lines and "after" in lines, "the program's own lines are damaged: %s" % lines)
        expect([bool(re.match(STAMP + flow(case, False) + " (opened|closing): ", line)) for line in lines if " opened: " in line or " closing: " in line] == [True, True], lines)
    ours.close()
    case.end()


def trace_no_reader(lab):
    """The trace's reader goes away: no SIGPIPE reaches a program that would die of it."""
    if not finesse_command():
        return
    case = Case(lab, True, False)
    nginx(case)
    code = ("import signal, socket, sys\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "for i in range(2): socket.create_connection((%r, %d)).close(); print(i, flush=True); sys.stdin.readline()" % (SERVER_IP, case.port))
    p = lab.client.spawn(trace(lab.client) + [PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    expect(b" opened: " in p.stderr.readline(), "no trace to begin with")
    p.stderr.close()
    out, _ = p.communicate(b"\n\n", timeout=20)
    lab.processes.remove(p)
    expect(p.returncode == 0 and out == b"0\n1\n", "status %d, output %r" % (p.returncode, out))
    case.end()


def trace_lost_is_told(lab):
    """A pipe that nobody reads for long: the program goes on; what the queue could not hold is counted, and no line is cut."""
    if not finesse_command():
        return
    case, _, _ = begin(lab)
    case.settings = ()
    nginx(case)
    n = 2000
    code = ("import socket, sys\nfor i in range(%d):\n c = socket.socket(); c.connect((%r, %d)); c.close()\nprint('done', flush=True); sys.stdin.read()"
            % (n, SERVER_IP, case.port))
    p = lab.client.spawn(trace(lab.client) + [PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    expect(p.stdout.readline() == b"done\n", "the program did not come to its end while nobody read")
    err = b""
    while b" lines were lost here" not in err:  # all of it comes although the program has nothing more to say
        expect(select.select([p.stderr], [], [], 20)[0], "what is queued does not come while the program waits: %r" % err[-300:])
        err += os.read(p.stderr.fileno(), 65536)
    _, rest = p.communicate(timeout=30)
    err += rest
    lab.processes.remove(p)
    lines = err.decode().splitlines()
    lost = [int(m.group(1)) for line in lines if (m := re.fullmatch(STAMP + r"(\d+) lines were lost here: they were not read in time", line))]
    whole = [line for line in lines if re.fullmatch(STAMP + flow(case, False) + " (opened|closing|FIN|closed|handed over): .*", line)]
    expect(p.returncode == 0, "status %d" % p.returncode)
    expect(lost and len(whole) + len(lost) == len(lines), "%d lines, %d whole, lost %s" % (len(lines), len(whole), lost))
    expect(3 * n <= len(whole) + sum(lost) <= 4 * n, "%d told and %d lost of %d connections" % (len(whole), sum(lost), n))
    case.end()


OTHERS = [
    (trace_web, "nginx curl"), (trace_refused, "curl"), (trace_server_first, ""), (trace_held, ""), (trace_reset, ""), (trace_ipv6, ""),
    (trace_handed_over, "curl"), (trace_standard_error, "nginx"), (trace_no_reader, "nginx"), (trace_lost_is_told, "nginx"),
]
