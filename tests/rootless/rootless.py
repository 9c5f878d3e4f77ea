#!/usr/bin/python3
"""finesse without root: a user's own namespaces, and a host where one privilege is missing.

  1. `unshare -Urnm`, as nobody where this runs as root: the demonstration and application tests, on the nftables classifier (bpf(2) is refused there).
  2. Each capability taken away in turn: `finesse doctor` names it in one line, and a server under finesse serves all the same, on the kernel's TCP
     where it must.

    rootless.py [--long]     the whole of the application tests

Ends with 77 where a user namespace cannot be had.
"""
import os
import re
import subprocess
import sys

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "apps"))
from case import SERVER_IP, Case, Failed, Lab, LabError, expect, finesse_command  # noqa: E402
from lab import TOP  # noqa: E402
from web import nginx  # noqa: E402

SHORT = "nginx_curl:,redis_benchmark,iperf3_eight:,ncat,forking_echo,memcached,kill_minus,kernel_conn,other_ports,clients_over,plain"
NOBODY = "65534"
# Who is taken away: what doctor must say, and who then serves.
PRIVILEGES = [
    ("net_raw", r"^missing +CAP_NET_RAW ", False),
    ("net_admin", r"^missing +CAP_NET_ADMIN ", False),
    ("bpf,-sys_admin", r"^note +CAP_BPF ", True),
]


def as_nobody():
    """A user without any privilege, where we can become one that reads the build tree."""
    prefix = ["setpriv", "--reuid=" + NOBODY, "--regid=" + NOBODY, "--clear-groups"]
    if os.geteuid() != 0:
        return []
    readable = subprocess.run(prefix + ["test", "-r", TOP / "libfinesse.so", "-a", "-x", TOP / "finesse", "-a", "-r", TESTS / "apps/apps.py"])
    return prefix if readable.returncode == 0 else []


def in_own_namespaces(argv, timeout):
    script = 'mount -t tmpfs none /run && exec "$@"'
    env = dict(os.environ, FINESSE_BUILD_DIR=str(TOP))
    p = subprocess.run(as_nobody() + ["unshare", "-Urnm", "sh", "-c", script, "sh", *argv], env=env, timeout=timeout, cwd="/",
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return p.returncode, p.stdout.decode(errors="replace")


def demonstration():
    status, out = in_own_namespaces(["/usr/bin/python3", TESTS / "demo/demo.py"], 120)
    expect(status == 0, out[-2000:])
    expect("All as it must be" in out, out[-2000:])


def applications(long):
    argv = ["/usr/bin/python3", TESTS / "apps/apps.py"] + ([] if long else ["--only", SHORT])
    status, out = in_own_namespaces(argv, 900)
    expect(status == 0, out[-3000:])
    print(re.search(r"^\d+%: Checks: .*", out, re.M).group(0).replace("Checks", "applications, rootless"))


def the_classifier_is_nftables():
    script = ("ip link add d0 type veth peer name d1 && ip addr add 10.5.0.1/24 dev d0 && ip link set d0 up && "
              "%s doctor --interface d0" % (TOP / "finesse"))
    status, out = in_own_namespaces(["sh", "-c", script], 30)
    expect(status == 0 and re.search(r"^note +classifier +nftables ", out, re.M), out)


def without(name, says, serves):
    drop = ["setpriv", "--bounding-set=-" + name, "--inh-caps=-" + name]
    with Lab() as lab:
        doctor = lab.server.run(drop + finesse_command() + ["doctor", "--interface", lab.server.interface], check=False).stdout.decode()
        expect(len(re.findall(says, doctor, re.M)) == 1, doctor)
        (Path(lab.dir) / "www").mkdir()
        (Path(lab.dir) / "www/file").write_bytes(os.urandom(1000000))
        case = Case(lab, False, False)
        spawn = lab.server.spawn
        lab.server.spawn = lambda argv, *_, **kw: spawn(
            drop + finesse_command() + ["run", "--interface", lab.server.interface, "--"] + [str(a) for a in argv], **kw)
        nginx(case)
        lab.server.spawn = spawn
        got = lab.client.run(["curl", "-sS", "--fail", "http://%s:%d/file" % (SERVER_IP, case.port)]).stdout
        expect(got == (Path(lab.dir) / "www/file").read_bytes(), "%d bytes, damaged" % len(got))
        by_the_kernel = lab.server.opens()[1]
        expect(by_the_kernel == (0 if serves else 1), "the kernel accepted %d" % by_the_kernel)
        said = (Path(lab.dir) / "server.err").read_text().splitlines()
        expect(serves or len([line for line in said if line.startswith("finesse: ")]) == 1, "one line, and not: %s" % said)
        case.end()


def main():
    if subprocess.run(as_nobody() + ["unshare", "-Urnm", "true"], cwd="/", stderr=subprocess.DEVNULL).returncode != 0:
        print("skipped: no user namespaces for this user")
        return 77
    checks = [("the classifier is nftables", the_classifier_is_nftables), ("the demonstration", demonstration),
              ("applications", lambda: applications("--long" in sys.argv[1:]))]
    if os.geteuid() == 0:
        checks += [("without CAP_" + p[0].upper(), lambda p=p: without(*p)) for p in PRIVILEGES]
    failed = 0
    for name, check in checks:
        try:
            check()
            print("ok: " + name, flush=True)
        except (Failed, LabError, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAILED: %s: %s" % (name, e), flush=True)
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (len(checks) - failed) // len(checks), len(checks), failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
