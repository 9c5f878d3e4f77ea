"""Process 1 of a box (box.py): makes its file system as its plan says, and lives until the box ends. The plan is JSON on standard input."""
import ctypes
import json
import os
import shutil
import signal
import sys

MS_BIND = 4096
libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind, flags=0, data=None):
    if libc.mount(source.encode(), str(target).encode(), kind.encode(), flags, data and data.encode()):
        raise OSError(ctypes.get_errno(), "mount on %s" % target)


def owner_of(path, user):
    if user:
        shutil.chown(path, user)


def main():
    plan = json.load(sys.stdin)
    # Whoever is left without a parent is collected without a zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    mount("proc", "/proc", "proc")
    for path in ["/run"] + plan["empty"]:
        os.makedirs(path, exist_ok=True)
        mount("tmpfs", path, "tmpfs", 0, "mode=755")
    for path, copy in plan["bound"]:
        mount(copy, path, "", MS_BIND)
    for path, user, mode in plan["folders"]:
        os.makedirs(path, exist_ok=True)
        owner_of(path, user)
        os.chmod(path, mode)
    print("ready", flush=True)
    while True:
        signal.pause()


main()
