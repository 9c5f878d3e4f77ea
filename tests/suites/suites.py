"""Other people's tests natively and under finesse, in a host whose loopback is the wire: no test that passes on the kernel may fail, hang or crash.

    suites.py                  the short form: found.py and chosen modules of CPython's own tests (make check)
    suites.py MODULE…          these; MODULE+MODULE… in one process
    suites.py --plain …        the loopback stays loopback: listeners on wildcard addresses are the engine's, their clients the kernel's

Exit 77 where root or CPython's tests (libpython3.11-testsuite) are missing. mirrored.py says how the loopback becomes the wire.
"""
import argparse
import os
import signal
import subprocess
import sys
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import mirrored  # noqa: E402

PYTHON = os.environ.get("SUITES_PYTHON", "/usr/bin/python3.11")
PASSED = ("ok", "expected")
# A virtual machine's sockets, which hang natively where the host does not answer.
WITHOUT = "VSOCK"
SHORT = ["found"] + ["test." + name for name in """
    test_asyncore test_asynchat test_socketserver test_telnetlib test_httpservers test_smtplib test_wsgiref test_urllib2_localnet test_docxmlrpc
    test_epoll test_asyncio.test_server test_asyncio.test_streams test_asyncio.test_selector_events test_asyncio.test_sslproto
    test_socket.BasicTCPTest+test.test_socket.NonBlockingTCPTests+test.test_socket.FileObjectClassTestCase+test.test_socket.TCPCloserTest""".split()]
SHORT_LIMIT_S, LIMIT_S = 300, 600


class Run:
    """One module, natively or under finesse: outcomes by test, and how often the kernel opened and accepted connections."""

    def __init__(self, names, finesse, plain):
        self.names, self.finesse, self.plain = names.split("+"), finesse, plain
        self.outcomes, self.details, self.opens, self.status, self.tail = {}, {}, (0, 0), None, ""

    def start(self):
        self.lab = lab = mirrored.MirroredLab()
        os.chmod(lab.dir, 0o777)
        self.results, self.log = Path(lab.dir) / "results", Path(lab.dir) / "log"
        env = {"HOME": lab.dir, "TMPDIR": lab.dir, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(HERE), "SUITES_WITHOUT": WITHOUT}
        with open(self.log, "wb") as out:
            self.process = lab.start([PYTHON, "-X", "faulthandler", HERE / "results.py", self.results, *self.names], self.finesse,
                                     not self.plain, stdout=out, stderr=subprocess.STDOUT, env=env)

    def finish(self, limit_s):
        try:
            self.status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.status = "hangs"
            self.process.send_signal(signal.SIGABRT)  # faulthandler tells where
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        self.opens = self.lab.server.opens()
        self.lab.end(self.process)
        self.read(self.results)
        if self.status != 0:
            self.tail = self.log.read_text(errors="replace")[-3000:]
        self.lab.close()

    def read(self, results):
        running = None
        for line in results.read_text(errors="replace").splitlines() if results.exists() else ():
            word, name, detail = (line.split(" ", 2) + ["", ""])[:3]
            if word == "start":
                running = name
            elif name:
                self.outcomes[name], self.details[name], running = word, detail, None
        if running:
            self.outcomes[running] = "hangs" if self.status == "hangs" else "ends the process (status %s)" % self.status

    def passed(self):
        return sum(outcome in PASSED for outcome in self.outcomes.values())


def differences(native, finesse):
    """What passes natively and not under finesse: (test, outcome, detail)."""
    found = []
    for test, outcome in sorted(native.outcomes.items()):
        if outcome in PASSED and finesse.outcomes.get(test, "is not reached") not in PASSED:
            found.append((test, finesse.outcomes.get(test, "is not reached"), finesse.details.get(test, "")))
    if native.status == 0 and finesse.status != 0:
        found.append(("+".join(finesse.names), "the process: %s" % finesse.status, finesse.tail))
    return found


def compare(names, plain, limit_s, again=True):
    """Both runs at once; what differs is run again, because a busy machine fails tests of its own."""
    runs = [Run(names, finesse, plain) for finesse in (False, True)]
    for run in runs:
        run.start()
    for run in runs:
        run.finish(limit_s)
    found = differences(*runs)
    if found and again:
        second, other = compare(names, plain, limit_s, again=False)
        twice = {test for test, *_ in other}
        return second, [d for d in found if d[0] in twice]
    return runs, found


def missing():
    if os.getuid() != 0:
        return "root"
    if not os.path.exists(PYTHON):
        return PYTHON
    for module in ("test.test_socket", "test.test_asyncio.test_streams"):
        if subprocess.run([PYTHON, "-c", "import " + module], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return module + " (libpython3.11-testsuite)"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("modules", nargs="*")
    a = parser.parse_args()
    lacks = missing()
    if lacks:
        print("skipped: needs " + lacks)
        sys.exit(77)
    count = failures = 0
    kernels = [0, 0]
    for names in a.modules or SHORT:
        since = time.monotonic()
        runs, found = compare(names, a.plain, LIMIT_S if a.modules else SHORT_LIMIT_S)
        passed = [run.passed() for run in runs]
        count += passed[0]
        failures += len(found)
        for i, run in enumerate(runs):
            kernels[i] += run.opens[1]
        print("%-60.60s passed natively %d, under finesse %d; the kernel accepted %d, %d; %.0f s" %
              (names, *passed, runs[0].opens[1], runs[1].opens[1], time.monotonic() - since), flush=True)
        for test, outcome, detail in found:
            print("FAILED: %s %s %s" % (test, outcome, detail.replace("\\n", "\n    ")), flush=True)
    if not a.plain and not a.modules and kernels[1] * 5 > kernels[0]:
        print("FAILED: the kernel's TCP carried too much of it: it accepted %d connections of %d" % (kernels[1], kernels[0]))
        failures += 1
    if count < 400 and not a.modules:
        print("FAILED: only %d tests passed natively" % count)
        failures += 1
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (count - min(failures, count)) / max(count, 1), count, failures))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
