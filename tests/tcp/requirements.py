#!/usr/bin/python3
"""
The table requirement, test, result, from the labels in the tests.

A label is an RFC's and a requirement's name (MUST-13, SHLD-14; RFC 9293's), or a paragraph's as in RFC6298_5_7, in a comment inside or right above a test
of tests/tcp or tests/unit, in the test's name, or after `label` in a script of tests/script. `requirements` lists what RFC 9293 asks for. Results come
from the tests' last logs (make check), where there are any.

--check: an error where a requirement has neither a test nor a reason, or a label names none.
"""
import argparse
import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
LABEL = re.compile(r"(?:\b|_)(MUST|SHLD)[-_](\d+)(?:/(\d+))?(?![0-9])")


def requirements():
    """{number: (what, reason or "")}"""
    found = {}
    with open(os.path.join(HERE, "requirements")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                text, _, reason = line.strip().partition(" | ")
                number, _, what = text.partition(" ")
                found[number] = (what, reason)
    return found


def labels(text):
    for kind, number, other in LABEL.findall(text):
        yield "%s-%s" % (kind, number)
        if other:
            yield "%s-%s" % (kind, other)


def labels_of_program(path):
    """(label, test): those between two tests are the next one's."""
    waiting, name = [], None
    with open(path) as f:
        for line in f:
            start = re.match(r"START_TEST\((\w+)\)", line)
            if start:
                name = start[1]
                for label in waiting:
                    yield label, name
                waiting = []
            for label in labels("" if "tcase_add" in line else line):
                if name:
                    yield label, name
                else:
                    waiting.append(label)
            if line.startswith("END_TEST"):
                name = None
    if waiting:
        raise SystemExit("%s: labels of no test: %s" % (path, " ".join(waiting)))


def result_of(program, name, build):
    """By the log of the program's last run: what failed is named in it."""
    try:
        with open(os.path.join(build, os.path.relpath(program, os.path.dirname(TESTS)) + ".log")) as f:
            text = f.read()
    except OSError:
        return "not run"
    if re.search(r":[FE]:[^:]*:%s:" % name, text):
        return "fails"
    return "passes" if "\nPASS " in text or "\nFAIL " in text else "not run"


def rows(build):
    """{label: [(test, result)]}"""
    found = {}
    for path in sorted(glob.glob(os.path.join(TESTS, "tcp", "*_test.c")) + glob.glob(os.path.join(TESTS, "unit", "*_test.c"))):
        program = path[:-2]
        for label, name in labels_of_program(path):
            row = (os.path.basename(program) + "/" + name, result_of(program, name, build))
            if row not in found.setdefault(label, []):
                found[label].append(row)
    for path in sorted(glob.glob(os.path.join(TESTS, "script", "scripts", "*.seg"))):
        with open(path) as f:
            for line in f:
                if line.startswith("label "):
                    for label in labels(line):
                        found.setdefault(label, []).append(("script/" + os.path.basename(path)[:-4], "against Linux"))
    return found


def faults(asked, found):
    for label in sorted(found):
        if label not in asked:
            yield "%s is no requirement: %s" % (label, found[label][0][0])
    for number, (what, reason) in asked.items():
        if number not in found and not reason:
            yield "%s has no test: %s" % (number, what)
        for path in re.findall(r"\b(?:src|tests)/[\w./-]+", reason):
            script = path.replace("tests/script/", "tests/script/scripts/") + ".seg"
            if not any(os.path.exists(os.path.join(os.path.dirname(TESTS), name)) for name in (path, script)):
                yield "%s names what is not there: %s" % (number, path)


def main():
    parser = argparse.ArgumentParser(description="Requirement, test, result.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--build", default=".", help="where make check ran")
    args = parser.parse_args()
    asked, found = requirements(), rows(args.build)
    if args.check:
        wrong = list(faults(asked, found))
        print("\n".join(wrong) or "%d requirements: %d with tests" % (len(asked), len(found)))
        return 1 if wrong else 0
    for number, (what, reason) in asked.items():
        for test, result in found.get(number, []) or [("-", reason)]:
            print("| %s | %s | %s | %s |" % (number, what, test, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
