"""Runs test modules of unittest and writes a line for each test: results.py FILE MODULE…

A line "start NAME" when a test starts and "OUTCOME NAME" when it ends (ok, fail, error, skip, expected, unexpected), written at once, so that a test
that hangs or kills the process is the one that started and did not end.
"""
import os
import sys
import time
import unittest


class Result(unittest.TestResult):
    def __init__(self, file):
        super().__init__()
        self.file, self.outcome = file, None

    def say(self, word, test, detail=""):
        self.file.write(("%s %s %s" % (word, test.id(), detail)).strip().replace("\n", "\\n") + "\n")
        self.file.flush()

    def startTest(self, test):
        super().startTest(test)
        self.outcome, self.detail, self.since = "ok", "", time.monotonic()
        self.say("start", test)

    def stopTest(self, test):
        super().stopTest(test)
        self.say(self.outcome, test, "%.2f s %s" % (time.monotonic() - self.since, self.detail[-1500:]))
        self.outcome = None

    def mark(self, outcome, test, detail):
        if self.outcome is None:  # a class or module that cannot be set up is no test that started
            self.say(outcome, test, detail[-1500:])
        elif self.outcome in ("ok", "skip"):
            self.outcome, self.detail = outcome, detail

    def addError(self, test, err):
        super().addError(test, err)
        self.mark("error", test, self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.mark("fail", test, self.failures[-1][1])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.mark("skip", test, reason)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.mark("fail", test, (self.failures + self.errors)[-1][1] if self.failures or self.errors else repr(err))

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.mark("expected", test, "")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.mark("unexpected", test, "")


def without(suite, names):
    """The tests of a suite whose name has none of `names` in it."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from without(test, names)
        elif not any(name in test.id() for name in names):
            yield test


def main():
    from test import support
    support.use_resources = ["cpu", "walltime", "subprocess", "network"]
    support.verbose = False
    sys.argv, arguments = sys.argv[:1], sys.argv[1:]
    with open(arguments[0], "w") as file:
        suite = unittest.TestLoader().loadTestsFromNames(arguments[1:])
        left_out = os.environ.get("SUITES_WITHOUT", "").split()
        (unittest.TestSuite(without(suite, left_out)) if left_out else suite).run(Result(file))
        file.write("end\n")
    sys.stdout.flush()
    os._exit(0)  # threads that a failed test left do not keep us


if __name__ == "__main__":
    main()
