#!/usr/bin/python3
"""Runs one test program with a bound on its time, so that a test that hangs is a failure that names itself, and not a run without an end.

    bounded.py [--seconds N] PROGRAM [ARGUMENT ...]

PROGRAM's standard input is /dev/null. When it has not ended after N seconds (TEST_SECONDS in the environment, else 1800), what it and its
descendants are waiting for is printed (state, kernel function, command line; a stack from gdb where it is installed), all of them are killed, and
the exit status is 124. Otherwise the exit status is PROGRAM's; one that a signal ended gives 128 + the signal's number.

A descendant is found by its parents or, when it has lost them, by a word that every program started here has in its environment.
"""
import os
import shutil
import signal
import subprocess
import sys
import time


def fields_of(pid):
    """The state and the parent of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            words = f.read().rpartition(b")")[2].split()
        return words[0].decode(), int(words[1])
    except OSError:
        return None


def marked(pid, mark):
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            return mark in f.read().split(b"\0")
    except OSError:
        return False


def descendants(root, mark):
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            fields = fields_of(name)
            if fields and fields[0] != "Z":
                parents[int(name)] = fields[1]
    found = {pid for pid in parents if pid == root or marked(pid, mark)}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found)


def text_of(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "?"


def describe(pid):
    fields = fields_of(pid)
    if not fields:
        return
    print(f"bounded: {pid} (parent {fields[1]}, state {fields[0]}): {text_of(pid, 'cmdline')[:200]}")
    try:
        threads = sorted(os.listdir(f"/proc/{pid}/task"), key=int)[:16]
    except OSError:
        return
    for tid in threads:
        print(f"bounded:   {tid} {text_of(pid, f'task/{tid}/comm')}: {text_of(pid, f'task/{tid}/wchan')}, "
              f"system call {text_of(pid, f'task/{tid}/syscall')[:80]}")
    if shutil.which("gdb"):
        try:
            stack = subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "set pagination off", "-ex", "thread apply all bt 20"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False)
            for line in stack.stdout.decode(errors="replace").splitlines():
                if line.startswith(("#", "Thread")):
                    print(f"bounded:     {line[:160]}")
        except subprocess.TimeoutExpired:
            print("bounded:     gdb did not end")


def end_all(root, mark):
    """Kills until nobody is left: a process that is just forking has a child that the first look did not see."""
    for _ in range(20):
        left = descendants(root, mark)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def main():
    words = sys.argv[1:]
    seconds = float(os.environ.get("TEST_SECONDS", "1800"))
    if words[:1] == ["--seconds"]:
        seconds = float(words[1])
        words = words[2:]
    if not words:
        sys.exit(__doc__)
    mark = f"BOUNDED_TEST_{os.getpid()}=1"
    name, value = mark.split("=")
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, env={**os.environ, name: value})
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: (end_all(child.pid, mark.encode()), os._exit(128 + n)))
    try:
        status = child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"bounded: {' '.join(words)} has not ended after {seconds:.0f} s; what it waits for:")
        for pid in descendants(child.pid, mark.encode()):
            describe(pid)
        sys.stdout.flush()
        end_all(child.pid, mark.encode())
        return 124
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
