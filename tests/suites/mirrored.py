"""A host whose loopback is the wire (mirror.c): a namespace for the programs, and one that sends back what it gets.

    mirrored.py [--native] [--plain] [--timeout S] COMMAND…      runs a command there: under finesse, or (--native) on the kernel's TCP;
                                                                 --plain: the loopback stays loopback

What the host HOME sends to MIRROR comes back to it as if ECHO had sent it; what it sends to ECHO, as if from MIRROR. So a connection to MIRROR
reaches HOME's own listener, the ports unchanged, and each segment crosses the interface twice.
"""
import argparse
import os
import subprocess
import sys
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
import lab as laboratory  # noqa: E402

TOP = laboratory.TOP
MIRROR_OBJECT = TOP / "tests/suites/mirror.so"

RULES = """
table ip mirror {
    chain reflect {
        type filter hook prerouting priority raw;
        ip saddr 10.77.0.1 ip daddr 10.79.0.2 ip saddr set 10.79.0.3 ip daddr set 10.77.0.1 accept
        ip saddr 10.77.0.1 ip daddr 10.79.0.3 ip saddr set 10.79.0.2 ip daddr set 10.77.0.1 accept
    }
}
table ip6 mirror {
    chain reflect {
        type filter hook prerouting priority raw;
        ip6 saddr fd77::1 ip6 daddr fd79::2 ip6 saddr set fd79::3 ip6 daddr set fd77::1 accept
        ip6 saddr fd77::1 ip6 daddr fd79::3 ip6 saddr set fd79::2 ip6 daddr set fd77::1 accept
    }
    chain quiet {
        type filter hook output priority 0;
        icmpv6 type nd-redirect drop
    }
}
"""
SETTINGS = """
cd /proc/sys/net
echo 1 >ipv4/ip_forward
echo 1 >ipv6/conf/all/forwarding
for i in all client0; do
    echo 0 >ipv4/conf/$i/send_redirects
    echo 0 >ipv4/conf/$i/rp_filter
done
"""


class MirroredLab(laboratory.Lab):
    def __init__(self):
        super().__init__()
        home, mirror = self.server, self.client
        for host, address in ((home, "fd77::1/64"), (mirror, "fd77::ffff/64")):
            host.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/%s/accept_dad" % host.interface])
            host.run(["ip", "-6", "addr", "add", address, "dev", host.interface, "nodad"])
        mirror.run(["sh", "-ec", SETTINGS])
        mirror.run(["nft", "-f", "-"], input=RULES.encode())
        # What the rules write into a frame whose checksum is still to be made must not count twice.
        home.run(["ethtool", "-K", home.interface, "tx", "off", "gso", "off", "tso", "off", "gro", "off"])
        home.run(["ip", "route", "add", "default", "via", laboratory.CLIENT_IP])
        home.run(["ip", "-6", "route", "add", "default", "via", "fd77::ffff"])

    def start(self, argv, finesse, mirrored=True, **kw):
        """A program in the mirrored host, in a process group of its own."""
        env = laboratory.clean_environment()
        env.update(kw.pop("env", {}))
        if mirrored:
            env["LD_PRELOAD"] = str(MIRROR_OBJECT)
        return self.server.spawn(argv, finesse, env=env, start_new_session=True, **kw)

    def end(self, p):
        """Ends a program and all that is left in its namespace but the holder."""
        here = os.readlink("/proc/%d/ns/net" % self.server.holder.pid)
        for _ in range(20):
            left = [int(d) for d in os.listdir("/proc") if d.isdigit() and int(d) != self.server.holder.pid and namespace(d) == here]
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        p.wait()
        if p in self.processes:
            self.processes.remove(p)


def namespace(pid):
    try:
        return os.readlink("/proc/%s/ns/net" % pid)
    except OSError:
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--native", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--strace")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    a = parser.parse_args()
    with MirroredLab() as lab:
        os.chmod(lab.dir, 0o777)
        p = lab.start(a.command, not a.native, not a.plain, cwd=os.getcwd())
        try:
            status = p.wait(a.timeout)
        except subprocess.TimeoutExpired:
            print("mirrored: did not end within %g s" % a.timeout, file=sys.stderr)
            status = 124
        print("mirrored: the kernel opened, accepted:", *lab.server.opens(), file=sys.stderr)
        lab.end(p)
        sys.exit(status & 255)


if __name__ == "__main__":
    main()
