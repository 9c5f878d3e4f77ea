"""Servers with what their unit files take from them before they start: user, bounding set, ambient capabilities, NoNewPrivileges; and reloads by the unit's ExecReload.
A row whose package is absent is skipped."""
import signal

from box import wait_until
from case import CLIENT_IP, SERVER_IP
from row import graceful_end, kill_all, reload_by
from rows_more import Bind, Proxy
from rows_other import inside
from rows_web import UPSTREAM_PORT
from rows_wide import Page, Talk, as_user


def unit(user="", bounding=(), ambient=(), no_new=False):
    """The unit's User=, CapabilityBoundingSet=, AmbientCapabilities= and NoNewPrivileges=, with setpriv(1)."""
    argv = ["setpriv"]
    if user:
        argv += as_user(user)[1:]
    if bounding:
        argv.append("--bounding-set=-all," + ",".join("+" + c for c in bounding))
    if ambient:
        argv += ["--inh-caps=-all," + ",".join("+" + c for c in ambient), "--ambient-caps=-all," + ",".join("+" + c for c in ambient)]
    if no_new:
        argv.append("--no-new-privs")
    return tuple(argv)


def life(reload=signal.SIGHUP, end=signal.SIGTERM):
    return ([reload_by(reload, workers_change=False, finishes=False)] if reload else []) + [graceful_end(end, finishes=False), ("all -9", kill_all)]


class Dnsdist(Bind):
    """It answers by itself."""

    name, programs, comm = "dnsdist over TCP", "dnsdist dig", "dnsdist"
    folders = ()
    start = (*unit("_dnsdist", ["net_bind_service"], ["net_bind_service"], True), "dnsdist", "--supervised", "--disable-syslog", "-C", "/run/dnsdist.conf")
    files = {"dnsdist.conf": 'setLocal("0.0.0.0:53")\nsetACL("0.0.0.0/0")\nsetSecurityPollSuffix("")\naddAction("test.", SpoofAction("10.1.2.3"))\n'}
    events = life(None)


class Recursor(Bind):
    name, programs, comm = "pdns-recursor over TCP", "pdns_recursor dig", "pdns_recursor"
    folders = [("/run/rec", "pdns", 0o755)]
    start = (*unit("pdns", ["net_bind_service", "chown"], ["net_bind_service", "chown"], True), "pdns_recursor", "--daemon=no", "--write-pid=no", "--disable-syslog",
             "--log-timestamp=no", "--config-dir=/run/rec", "--socket-dir=/run/rec", "--local-address=0.0.0.0", "--allow-from=0.0.0.0/0", "--auth-zones=test=/run/box.zone",
             "--security-poll-suffix=", "--max-tcp-per-client=0", "--threads=2")
    files = {"box.zone": "$ORIGIN test.\n$TTL 60\n@ SOA a.test. b.test. 1 1 1 1 1\n@ NS a.test.\na A 10.1.2.3\nbox A 10.1.2.3\n"}
    events = life(None)


class Tor(Talk):
    """Its control port. The network is not there."""

    name, programs, comm, port = "tor", "tor", "tor", 9051
    folders = [("/run/tor", "debian-tor", 0o2755), ("/run/tor-data", "debian-tor", 0o700)]
    start = (*unit("", ["setuid", "setgid", "net_bind_service", "dac_read_search"], (), True), "tor", "--defaults-torrc", "/usr/share/tor/tor-service-defaults-torrc", "-f", "/run/torrc",
             "--RunAsDaemon", "0", "DataDirectory", "/run/tor-data")
    files = {"torrc": "ControlPort 0.0.0.0:9051\nHashedControlPassword 16:98CECC23321363EC6045800CA403171893ACD95E01D8563602D1A7CD28\nDisableNetwork 1\nSocksPort 0\n"}
    says = [("PROTOCOLINFO 1\\r\\n", "250-PROTOCOLINFO 1\\r\\n")]
    events = life(signal.SIGHUP, signal.SIGINT)


class TorSandbox(Tor):
    """It sets its filter of system calls before it listens."""

    name = "tor, in its sandbox"
    files = {"torrc": Tor.files["torrc"] + "Sandbox 1\n"}
    by_design = "seccomp"


class Cups(Page):
    """Its pages are in another package. At SIGHUP it closes its listener and does not open it again for more than 20 s, on the kernel's TCP, too."""

    name, programs, comm, port = "cups", "cupsd", "cupsd", 631
    copied = ("/etc/cups",)
    folders = [("/run/cups", None, 0o755), ("/var/log/cups", None, 0o755)]
    start = ("cupsd", "-l", "-c", "/etc/cups/cupsd.conf")
    path, want = "/", "404 Not Found"
    events = life(None)

    def configure(self, box):
        super().configure(box)
        inside(box, "/etc/cups/cupsd.conf").write_text("Listen 0.0.0.0:631\nServerAlias *\nMaxClients 1000\nMaxClientsPerHost 1000\nBrowsing No\nIdleExitTimeout 0\nAccessLogLevel config\n"
                                                        "<Location />\n Order allow,deny\n Allow all\n</Location>\n")


class Trafficserver(Proxy):
    """Its manager's real and effective users differ, so the dynamic linker preloads nothing into the server that it starts."""

    name, programs, comm, port = "trafficserver", "traffic_manager", "traffic_manager", 8080
    copied = ("/etc/trafficserver",)
    folders = [("/run/trafficserver", "trafficserver", 0o755), ("/var/log/trafficserver", "trafficserver", 0o755)]
    start = ("traffic_manager",)
    events = [("all -9", kill_all)]

    def configure(self, box):
        super().configure(box)
        with open(inside(box, "/etc/trafficserver/remap.config"), "a") as f:
            f.write("map / http://%s:%d/\n" % (CLIENT_IP, UPSTREAM_PORT))
        with open(inside(box, "/etc/trafficserver/records.config"), "a") as f:
            f.write("CONFIG proxy.config.exec_thread.autoconfig INT 0\nCONFIG proxy.config.exec_thread.limit INT 2\nCONFIG proxy.config.http.cache.http INT 0\n")


class Upsd(Talk):
    name, programs, comm, port = "nut-server", "upsd", "upsd", 3493
    copied = ("/etc/nut",)
    folders = [("/run/nut", "nut", 0o770)]
    start = ("upsd", "-F")
    says = [("VER\\n", "Network UPS Tools upsd")]
    events = life(signal.SIGHUP)

    def configure(self, box):
        super().configure(box)
        for name, text in (("ups.conf", "[box]\n driver = dummy-ups\n port = none\n"), ("upsd.conf", "LISTEN 0.0.0.0 3493\nMAXCONN 900\n"), ("nut.conf", "MODE=netserver\n")):
            inside(box, "/etc/nut/" + name).write_text(text)


class Gpsd(Talk):
    name, programs, comm, port = "gpsd", "gpsd", "gpsd", 2947
    start, forks = ("gpsd", "-n", "-G", "-P", "/run/gpsd.pid", "-F", "/run/gpsd.sock"), True
    says = [("", '{"class":"VERSION"')]
    events = life(None)


class Postgrey(Talk):
    name, programs, comm, port = "postgrey", "postgrey", "postgrey", 10023
    folders = [("/run/postgrey", "postgrey", 0o755)]
    start = ("postgrey", "--pidfile=/run/postgrey/pid", "--inet=0.0.0.0:10023", "--dbdir=/run/postgrey", "--user=postgrey", "--group=postgrey")
    says = [("request=smtpd_access_policy\\nprotocol_state=RCPT\\nsender=a@b\\nrecipient=c@d\\nclient_address=10.0.0.1\\nclient_name=x\\n\\n", "action=")]
    events = life(None)


class Opendkim(Talk):
    """A milter: option negotiation."""

    name, programs, comm, port = "opendkim", "opendkim", "opendkim", 8891
    folders = [("/run/opendkim", "opendkim", 0o755)]
    start, forks = ("opendkim", "-x", "/run/opendkim.conf"), True
    files = {"opendkim.conf": "UserID opendkim\nSocket inet:8891\nMode v\nPidFile /run/opendkim/opendkim.pid\nSyslog no\n"}
    says = [("\\0\\0\\0\\x0dO\\0\\0\\0\\x06\\0\\0\\x01\\xff\\0\\x1f\\xff\\xff", "\\0\\0\\0\\x0dO")]
    events = life(signal.SIGUSR1)


class Rsyslog(Talk):
    """imtcp says nothing: a connection that takes a message is right, and the messages are counted in its file."""

    name, programs, comm, port = "rsyslog, imtcp", "rsyslogd logger", "rsyslogd", 514
    start = ("rsyslogd", "-n", "-iNONE", "-f", "/run/rsyslog.conf")
    files = {"rsyslog.conf": 'module(load="imtcp" maxSessions="2000")\ninput(type="imtcp" port="514")\naction(type="omfile" file="/run/got")\n'}
    says = [("<13>box: load\\n", "")]
    clients = True
    events = life(signal.SIGHUP)

    def check(self, run):
        for n in range(20):
            run.ask(["logger", "--tcp", "--server", SERVER_IP, "--port", "514", "--octet-count", "message %d of twenty" % n])
        wait_until("twenty messages", lambda: inside(run.box, "/run/got").read_text().count("of twenty") == 20)


ROWS = [Dnsdist(), Recursor(), Tor(), TorSandbox(), Cups(), Trafficserver(), Upsd(), Gpsd(), Postgrey(), Opendkim(), Rsyslog()]
