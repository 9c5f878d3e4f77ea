"""Servers of many kinds, most of them in one line of configuration, with whatever client programs there are for them. A row whose package is absent is skipped."""
import re
import subprocess

from case import CLIENT_IP, PYTHON, SERVER_IP, expect, sha256
from rows_more import AS_WWW, Proxy, Small, Squid
from rows_other import inside
from rows_web import APP, UPSTREAM_PORT, Apache

FORKS = "a process per connection"


def as_user(user):
    return ("setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups")


def make_certificate(box):
    key, cert = box.dir / "key.pem", box.dir / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=box", "-days", "30", "-keyout", key, "-out", cert], check=True,
                   stderr=subprocess.DEVNULL)
    inside(box, "/run/box.pem").write_text(key.read_text() + cert.read_text())


class Talk(Small):
    """A conversation: pairs of what the client says, and how the answer begins. `asks`: client programs, and what each must say (a regular expression)."""

    kind, kept = "talk", "talk"
    says, asks = (), ()

    def arguments(self, run):
        return [word for pair in self.says for word in pair]

    def kept_arguments(self, run):
        return self.arguments(run)[:2]

    def check(self, run):
        for argv, want in self.asks:
            got = run.ask([str(a) for a in argv]).decode(errors="replace")
            expect(re.search(want, got), "%s says %r" % (argv[0], got[-300:]))

    @property
    def clients(self):
        return bool(self.asks)


class Page(Talk):
    """A page of its own: the content is checked by a pattern."""

    path, want, version = "/", "200 OK", "HTTP/1.1"

    @property
    def says(self):
        return [("GET %s HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n" % (self.path, SERVER_IP), self.version + " " + self.want[:3])]

    @property
    def asks(self):
        return [(["curl", "-sSi", "-m", "20", "http://%s:%d%s" % (SERVER_IP, self.port, self.path)], self.want)]


# ---- web servers ----

class BusyboxHttpd(Small):
    name, programs, comm, kept = "busybox httpd", "busybox", "busybox", "http_part"
    start = ("busybox", "httpd", "-f", "-p", "80", "-h", "/var/www/html")
    by_design = FORKS

    def check(self, run):
        run.fetch_file()
        got = run.ask(["busybox", "wget", "-q", "-O", "-", "http://%s/file" % SERVER_IP])
        expect(sha256(got) == run.file_hash, "busybox wget: %d bytes, damaged" % len(got))


class H2o(Small):
    name, programs, comm = "h2o", "h2o", "h2o"
    start = ("h2o", "-c", "/run/h2o.conf", "-m", "master")
    files = {"h2o.conf": "user: www-data\nnum-threads: 2\nlisten: 80\nhosts:\n  default:\n    paths:\n      /:\n        file.dir: /var/www/html\n"}


class ApacheWorker(Apache):
    name, mpm = "apache2 worker", "worker"


class Yaws(Small):
    name, programs, comm, port = "yaws", "yaws", "beam.smp", 8000
    start, forks = ("env", "HOME=/run", "yaws", "--daemon", "--conf", "/run/yaws.conf"), True
    files = {"yaws.conf": "logdir = /tmp\n<server box>\n port = 8000\n listen = 0.0.0.0\n docroot = /var/www/html\n</server>\n"}


class Python(Small):
    port, comm = 8000, "python3"
    code = ""
    programs = "curl"

    @property
    def start(self):
        return (*AS_WWW, PYTHON, "-c", self.code)


class HttpServer(Python):
    name = "python http.server"
    start = (PYTHON, "-m", "http.server", "-d", "/var/www/html", "-p", "HTTP/1.1", "8000")


class Tornado(Python):
    name, modules = "tornado", "tornado"
    code = ("import tornado.web, tornado.ioloop\n"
            "tornado.web.Application([(r'/(.*)', tornado.web.StaticFileHandler, {'path': '/var/www/html'})]).listen(8000)\ntornado.ioloop.IOLoop.current().start()\n")


class TornadoFork(Python):
    name, modules = "tornado, 2 processes", "tornado"
    code = ("import tornado.web, tornado.ioloop, tornado.httpserver\n"
            "s = tornado.httpserver.HTTPServer(tornado.web.Application([(r'/(.*)', tornado.web.StaticFileHandler, {'path': '/var/www/html'})]))\n"
            "s.bind(8000)\ns.start(2)\ntornado.ioloop.IOLoop.current().start()\n")


class Twisted(Python):
    name, modules = "twisted web", "twisted"
    start = (*AS_WWW, PYTHON, "-m", "twisted", "web", "--path", "/var/www/html", "--listen", "tcp:8000")


class Aiohttp(Python):
    name, modules = "aiohttp", "aiohttp"
    code = "from aiohttp import web\na = web.Application()\na.add_routes([web.static('/', '/var/www/html')])\nweb.run_app(a, port=8000)\n"


ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http": return
    body = open("/var/www/html" + scope["path"], "rb").read()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


class Uvicorn(Python):
    name, modules, files = "uvicorn, 2 workers", "uvicorn", {"app.py": ASGI}
    start = (*AS_WWW, PYTHON, "-m", "uvicorn", "--app-dir", "/run", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "app:app")


class Hypercorn(Python):
    name, modules, files = "hypercorn", "hypercorn", {"app.py": ASGI}
    start = (*AS_WWW, "env", "PYTHONPATH=/run", PYTHON, "-m", "hypercorn", "-b", "0.0.0.0:8000", "-w", "2", "app:app")


class Waitress(Python):
    name, modules, files = "waitress", "waitress", {"app.py": APP}
    start = (*AS_WWW, "env", "PYTHONPATH=/run", PYTHON, "-m", "waitress", "--listen=0.0.0.0:8000", "app:app")
    kept = "http_part"


class GunicornThreads(Python):
    name, programs, files = "gunicorn, threads", "gunicorn", {"app.py": APP}
    start = (*AS_WWW, "gunicorn", "-w", "2", "-k", "gthread", "--threads", "4", "-b", "0.0.0.0:8000", "--chdir", "/run", "app:app")
    comm = "gunicorn"
    kept = "http_part"


class UwsgiHttp(Small):
    """The router that listens, and workers behind it."""

    name, programs, comm, port, inner = "uwsgi --http", "uwsgi", "uwsgi", 8000, True
    start = ("uwsgi", "--master", "--workers", "2", "--uid", "www-data", "--gid", "www-data", "--plugin", "python3,http", "--http", "0.0.0.0:8000", "--wsgi-file", "/run/app.py")
    files = {"app.py": APP}
    kept = "http_part"


class Thin(Small):
    name, programs, comm, port = "thin", "thin", "ruby", 8000
    start = (*AS_WWW, "thin", "start", "-R", "/run/config.ru", "-a", "0.0.0.0", "-p", "8000")
    files = {"config.ru": 'run ->(env) { b = File.binread("/var/www/html" + env["PATH_INFO"]); [200, {"Content-Length" => b.bytesize.to_s}, [b]] }\n'}


class Node(Small):
    name, programs, comm, port = "node", "node", "node", 8000
    start = (*AS_WWW, "node", "/run/server.js")
    files = {"server.js": "const http = require('http'), fs = require('fs');\nhttp.createServer((q, r) => { const p = '/var/www/html' + q.url; r.setHeader('Content-Length', fs.statSync(p).size);\n"
             " fs.createReadStream(p).pipe(r); }).listen(8000);\n"}


JAVA = """
import com.sun.net.httpserver.*; import java.net.*; import java.nio.file.*; import java.util.concurrent.*;
public class Main { public static void main(String[] a) throws Exception {
  HttpServer s = HttpServer.create(new InetSocketAddress(8000), 128);
  s.setExecutor(Executors.newFixedThreadPool(4));
  s.createContext("/", x -> { byte[] b = Files.readAllBytes(Paths.get("/var/www/html" + x.getRequestURI().getPath())); x.sendResponseHeaders(200, b.length); x.getResponseBody().write(b); x.close(); });
  s.start(); } }
"""


class Java(Small):
    name, programs, comm, port, files = "java HttpServer", "java javac", "java", 8000, {"Main.java": JAVA}
    start = (*AS_WWW, "java", "-Xmx128m", "/run/Main.java")


# ---- proxies ----

class Forward(Proxy):
    """A forward proxy: asked for a whole address."""

    port, kept = 8118, "http_part"
    url = "http://%s:%d" % (CLIENT_IP, UPSTREAM_PORT)
    curl = ("-x", "http://%s:%d")

    def arguments(self, run):
        return [self.url + "/small", run.small_hash]

    def check(self, run):
        got = run.ask(["curl", "-sS", "--fail", "-m", "20", self.curl[0], self.curl[1] % (SERVER_IP, self.port), self.url + "/file"])
        expect(sha256(got) == run.file_hash, "%d bytes, damaged" % len(got))


class Privoxy(Forward):
    name, programs, comm = "privoxy", "privoxy", "privoxy"
    start, forks = ("/usr/sbin/privoxy", "--pidfile", "/run/privoxy.pid", "--user", "privoxy", "/run/privoxy.conf"), True
    files = {"privoxy.conf": "confdir /etc/privoxy\nlogdir /var/log\nlisten-address 0.0.0.0:8118\n"}


class SquidUnit(Forward):
    """As its unit starts it: the worker is a child of the master's."""

    name, programs, comm, port = "squid, as its unit", "squid", "squid", 3128
    empty, folders = Squid.empty, Squid.folders
    start = ("/usr/sbin/squid", "--foreground", "-YC", "-f", "/run/squid.conf")
    files = {"squid.conf": "http_port 3128\nhttp_access allow all\ncache deny all\npid_filename /run/squid/squid.pid\nshutdown_lifetime 0 seconds\nvisible_hostname box\n"}


class TinyproxyForks(Forward):
    name, programs, comm = "tinyproxy, daemonized", "tinyproxy", "tinyproxy"
    start, forks, port = ("tinyproxy", "-c", "/run/tinyproxy.conf"), True, 8888
    files = {"tinyproxy.conf": "User www-data\nGroup www-data\nPort 8888\nTimeout 20\nMaxClients 200\nAllow 10.0.0.0/8\n"}


class Socks(Forward):
    kind, kept, port, curl = "socks", "nothing", 1080, ("--socks5", "%s:%d")

    def arguments(self, run):
        return [CLIENT_IP, str(UPSTREAM_PORT), "/small", run.small_hash]


class Danted(Socks):
    name, programs, comm = "danted", "danted", "danted"
    start = ("danted", "-f", "/run/danted.conf")
    files = {"danted.conf": "logoutput: stderr\ninternal: 0.0.0.0 port = 1080\nexternal: %s\nsocksmethod: none\nclientmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n"
             "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\nsocks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n" % SERVER_IP}


class Microsocks(Socks):
    name, programs, comm = "microsocks", "microsocks", "microsocks"
    start = (*AS_WWW, "microsocks")


class Hitch(Proxy):
    """TLS from the clients, plain TCP to the server behind it."""

    name, programs, comm, port, kind, kept = "hitch", "hitch openssl", "hitch", 443, "https", "nothing"
    start = ("hitch", "--user", "_hitch", "--group", "_hitch", "--config", "/run/hitch.conf")
    files = {"hitch.conf": 'frontend = "[*]:443"\nbackend = "[%s]:%d"\npem-file = "/run/box.pem"\nworkers = 2\n' % (CLIENT_IP, UPSTREAM_PORT)}

    def configure(self, box):
        super().configure(box)
        make_certificate(box)

    def arguments(self, run):
        return ["/small", run.small_hash]

    def check(self, run):
        got = run.ask(["curl", "-sSk", "--fail", "-m", "20", "https://%s/file" % SERVER_IP])
        expect(sha256(got) == run.file_hash, "%d bytes, damaged" % len(got))


class Sslh(Proxy):
    """On the kernel's TCP, too, it now and then ends an answer before it is whole, where many ask at once."""

    name, programs, comm = "sslh-select", "sslh-select", "sslh-select"
    threads = 1
    start = ("sslh-select", "-f", "-n", "-u", "www-data", "-p", "0.0.0.0:80", "--http", "%s:%d" % (CLIENT_IP, UPSTREAM_PORT))
    kept = "http_kept"


class SslhFork(Sslh):
    name, programs, comm = "sslh", "sslh", "sslh"
    start = ("sslh", *Sslh.start[1:])
    by_design = FORKS


class Pen(Proxy):
    name, programs, comm = "pen", "pen", "pen"
    start = ("pen", "-f", "-u", "www-data", "80", "%s:%d" % (CLIENT_IP, UPSTREAM_PORT))


class Rinetd(Proxy):
    name, programs, comm = "rinetd", "rinetd", "rinetd"
    start = ("rinetd", "-f", "-c", "/run/rinetd.conf")
    files = {"rinetd.conf": "0.0.0.0 80 %s %d\n" % (CLIENT_IP, UPSTREAM_PORT)}


class Redir(Proxy):
    name, programs, comm = "redir", "redir", "redir"
    start = ("redir", "-n", ":80", "%s:%d" % (CLIENT_IP, UPSTREAM_PORT))
    by_design = FORKS


# ---- data ----

class Gearmand(Talk):
    name, programs, comm, port = "gearmand", "gearmand", "gearmand", 4730
    start = (*as_user("gearman"), "gearmand", "--listen=0.0.0.0", "--log-file=stderr")
    says = [("version\\n", "OK ")]
    asks = [(["gearadmin", "-h", SERVER_IP, "--server-version"], "1\\.")]


class Rabbit(Talk):
    name, programs, comm, port = "rabbitmq", "rabbitmq-server", "beam.smp", 5672
    empty, folders = ("/var/lib/rabbitmq",), [("/var/lib/rabbitmq", "rabbitmq", 0o755), ("/var/log/rabbitmq", "rabbitmq", 0o755), ("/run/rabbitmq", "rabbitmq", 0o755)]
    start = (*as_user("rabbitmq"), "env", "HOME=/var/lib/rabbitmq", "RABBITMQ_NODENAME=box@localhost", "/usr/lib/rabbitmq/bin/rabbitmq-server")
    says = [("AMQP\\0\\0\\x09\\x01", "\\x01\\0\\0")]


class Etcd(Page):
    name, programs, comm, port = "etcd (Go)", "etcd", "etcd", 2379
    start = ("etcd", "--data-dir", "/run/etcd", "--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", "http://%s:2379" % SERVER_IP)
    path, want = "/version", "200 OK[^$]*etcdserver"
    by_design = "Go makes its system calls itself"


class NbdServer(Talk):
    name, programs, comm, port = "nbd-server", "nbd-server", "nbd-server", 10809
    start, forks = ("nbd-server", "-C", "/run/nbd.conf"), True
    files = {"nbd.conf": "[generic]\n user = nbd\n group = nbd\n[box]\n exportname = /var/www/html/file\n readonly = true\n"}
    says = [("", "NBDMAGICIHAVEOPT")]
    by_design = FORKS


# ---- mail, names, talk ----

class Postfix(Small):
    name, programs, comm, port, kind, kept = "postfix", "postfix postconf", "master", 25, "smtp", "smtp_kept"
    copied = ("/etc/postfix", "/var/spool/postfix", "/var/lib/postfix")
    start = ("/usr/lib/postfix/sbin/master", "-d")
    clients = False

    def configure(self, box):
        (box.copy("/etc/postfix") / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = box.test\ninet_interfaces = all\ninet_protocols = ipv4\nmaillog_file = /dev/stdout\n"
                                                         "smtpd_recipient_restrictions = permit\nalias_maps =\nsmtpd_client_connection_rate_limit = 0\n")

    def check(self, run):
        pass


class PostfixMail(Postfix):
    """A whole message, sent by swaks."""

    name, programs, clients = "postfix, swaks", "postfix swaks", True

    def check(self, run):
        got = run.ask(["swaks", "--server", SERVER_IP, "--to", "nobody@box.test", "--from", "a@b.test", "--helo", "client", "--body", "@" + str(run.lab.www / "html/small")])
        expect(b"250 2.0.0 Ok: queued" in got, "swaks says %r" % got[-300:])


class DovecotPool(Small):
    """Debian's high-performance form: login processes that serve many, and hand over what has logged in."""

    name, programs, comm, port, kind, kept = "dovecot, its package's files", "dovecot doveadm", "dovecot", 143, "imap", "imap_kept"
    copied = ("/etc/dovecot",)
    start = ("/usr/sbin/dovecot", "-F")

    def configure(self, box):
        (box.copy("/etc/dovecot") / "local.conf").write_text("ssl = no\nprotocols = imap\nlog_path = /dev/stderr\ndisable_plaintext_auth = no\nmail_location = maildir:/run/mail/%u\n")

    clients = False

    def check(self, run):
        pass


class PureFtpd(Small):
    name, programs, comm, port, kind, kept = "pure-ftpd", "pure-ftpd curl", "pure-ftpd", 21, "ftp", "ftp_kept"
    start = ("pure-ftpd", "-e", "-4", "-H", "-c", "200", "-C", "200")
    by_design = FORKS
    clients = False

    def check(self, run):
        pass


class Knot(Small):
    name, programs, comm, port, kind, kept = "knot over TCP", "knotd kdig", "knotd", 53, "dns", "dns"
    folders = [("/run/knot", "knot", 0o755)]
    start = ("knotd", "-c", "/run/knot.conf")
    files = {"knot.conf": "server:\n  rundir: /run/knot\n  user: knot:knot\n  listen: 0.0.0.0@53\n  tcp-workers: 2\ndatabase:\n  storage: /run/knot\nlog:\n  - target: stderr\n    any: warning\n"
             "zone:\n  - domain: test\n    storage: /run\n    file: box.zone\n    zonefile-sync: -1\n    journal-content: none\n",
             "box.zone": "$ORIGIN test.\n$TTL 60\n@ SOA a b 1 1 1 1 1\n@ NS a\na A 10.1.2.3\nbox A 10.1.2.3\n"}

    def check(self, run):
        for argv in (["kdig", "+tcp", "+short", "@" + SERVER_IP, "box.test"], ["host", "-T", "box.test", SERVER_IP]):
            got = run.ask(argv)
            expect(b"10.1.2.3" in got, "%s says %r" % (argv[0], got))


class Nsd(Knot):
    name, programs, comm = "nsd over TCP", "nsd kdig", "nsd"
    folders = [("/run/nsd", "nsd", 0o755)]
    start = ("nsd", "-d", "-c", "/run/nsd.conf")
    files = {"nsd.conf": 'server:\n server-count: 2\n ip-address: 0.0.0.0\n username: nsd\n zonesdir: "/run"\n database: ""\n pidfile: ""\n xfrdir: "/run/nsd"\n xfrdfile: ""\n'
             ' zonelistfile: "/run/nsd/list"\nremote-control:\n control-enable: no\nzone:\n name: test\n zonefile: box.zone\n', "box.zone": Knot.files["box.zone"]}


class Pdns(Knot):
    name, programs, comm = "pdns over TCP", "pdns_server kdig", "pdns_server"
    folders = [("/run/pdns", "pdns", 0o755)]
    start = (*as_user("pdns"), "--bounding-set=-all,+net_bind_service,+chown", "--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service", "--no-new-privs",
             "pdns_server", "--guardian=no", "--daemon=no", "--disable-syslog", "--write-pid=no", "--config-dir=/run", "--socket-dir=/run/pdns", "--launch=bind",
             "--bind-config=/run/named.conf", "--local-address=0.0.0.0")
    files = {"named.conf": 'zone "test" { type master; file "/run/box.zone"; };\n', "pdns.conf": "", "box.zone": Knot.files["box.zone"]}


class Inspircd(Small):
    name, programs, comm, port, kind, kept = "inspircd", "inspircd", "inspircd", 6667, "irc", "irc"
    start = (*as_user("irc"), "inspircd", "--nofork", "--nopid", "--config", "/run/inspircd.conf")
    files = {"inspircd.conf": '<server name="box.test" description="b" network="b" id="97K"><admin name="a" nick="a" email="a@b"><bind address="" port="6667" type="clients">\n'
             '<connect name="main" allow="*" timeout="60" localmax="10000" globalmax="10000" resolvehostnames="no" maxconnwarn="no" threshold="1000" commandrate="100000">\n'
             '<performance softlimit="10000"><dns timeout="1">\n'}
    folders = [("/run/inspircd", "irc", 0o755), ("/var/log/inspircd", "irc", 0o755)]
    clients = False

    def check(self, run):
        pass


XMPP = ("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>", "<?xml version='1.0'?>")


class Prosody(Talk):
    name, programs, comm, port = "prosody", "prosody", "lua5.4", 5222
    folders = [("/run/prosody", "prosody", 0o755), ("/run/prosody/data", "prosody", 0o755)]
    start = (*as_user("prosody"), "prosody", "-F", "--config", "/run/prosody.cfg.lua")
    files = {"prosody.cfg.lua": 'data_path = "/run/prosody/data"\nlog = { info = "*console" }\nmodules_disabled = { "tls", "s2s" }\nc2s_require_encryption = false\npidfile = "/run/prosody/pid"\n'
             'interfaces = { "0.0.0.0" }\nVirtualHost "localhost"\n'}
    says = [XMPP]


class Ejabberd(Talk):
    name, programs, comm, port = "ejabberd", "ejabberdctl", "beam.smp", 5222
    empty, folders = ("/var/lib/ejabberd",), [("/var/lib/ejabberd", "ejabberd", 0o755), ("/var/log/ejabberd", "ejabberd", 0o755), ("/run/ejabberd", "ejabberd", 0o755)]
    start = (*as_user("ejabberd"), "env", "HOME=/var/lib/ejabberd", "ERLANG_NODE=box@localhost", "/usr/sbin/ejabberdctl", "foreground")
    says = [XMPP]


class Bitlbee(Talk):
    name, programs, comm, port = "bitlbee", "bitlbee", "bitlbee", 6667
    folders = [("/run/bitlbee", "bitlbee", 0o755)]
    start = (*as_user("bitlbee"), "bitlbee", "-D", "-n", "-v", "-p", "6667", "-i", "0.0.0.0", "-c", "/run/bitlbee.conf", "-d", "/run/bitlbee")
    files = {"bitlbee.conf": "[settings]\nRunMode = Daemon\n"}
    says = [("NICK b\\r\\nUSER b 0 * :b\\r\\n", ":")]


class BitlbeeForks(Bitlbee):
    """As its unit starts it."""

    name = "bitlbee -F"
    start = tuple("-F" if a == "-D" else a for a in Bitlbee.start)
    by_design = FORKS


class Znc(Talk):
    name, programs, comm, port = "znc", "znc", "znc", 6667
    folders = [("/run/znc", "_znc", 0o755), ("/run/znc/configs", "_znc", 0o755)]
    start = (*as_user("_znc"), "znc", "-f", "--datadir=/run/znc")
    says = [("NICK b\\r\\nUSER b 0 * :b\\r\\n", ":irc.znc.in")]

    def configure(self, box):
        inside(box, "/run/znc/configs/znc.conf").write_text("Version = 1.8.2\nAnonIPLimit = 10000\n<Listener l>\n Port = 6667\n IPv4 = true\n IPv6 = false\n SSL = false\n</Listener>\n<User b>\n"
                                                           " Pass = plain#x\n Admin = true\n</User>\n")
        subprocess.run(["chown", "-R", "_znc:_znc", str(inside(box, "/run/znc"))], check=True)


# ---- superservers and tools ----

class Echo(Talk):
    port, says = 7000, [("hello\\n", "hello\\n")]

    def check(self, run):
        pass

    clients = False


class Xinetd(Echo):
    name, programs, comm = "xinetd", "xinetd", "xinetd"
    start = ("xinetd", "-dontfork", "-f", "/run/xinetd.conf")
    files = {"xinetd.conf": "service box\n{\n type = UNLISTED\n port = 7000\n socket_type = stream\n protocol = tcp\n wait = no\n user = root\n server = /bin/cat\n instances = UNLIMITED\n"
             " cps = 100000 1\n}\n"}
    by_design = FORKS


class XinetdInternal(Echo):
    name, programs, comm = "xinetd's own echo", "xinetd", "xinetd"
    start = Xinetd.start
    files = {"xinetd.conf": "service echo\n{\n type = INTERNAL UNLISTED\n id = echo-stream\n port = 7000\n socket_type = stream\n protocol = tcp\n wait = no\n user = root\n"
             " instances = UNLIMITED\n cps = 100000 1\n}\n"}
    by_design = FORKS


class Ncat(Echo):
    name, programs, comm = "ncat -k", "ncat", "ncat"
    start = ("ncat", "-l", "-k", "7000", "--exec", "/bin/cat")
    by_design = FORKS


class NcatBroker(Echo):
    """One process for all."""

    name, programs, comm = "ncat --broker", "ncat", "ncat"
    start = ("ncat", "-l", "--broker", "-m", "200", "7000")
    says = [("hello\\n", "")]


class TcpServer(Echo):
    name, programs, comm = "tcpserver", "tcpserver", "tcpserver"
    start = ("tcpserver", "-HRl0", "0", "7000", "cat")
    by_design = FORKS


class TcpSvd(Echo):
    name, programs, comm = "tcpsvd", "tcpsvd", "tcpsvd"
    start = ("tcpsvd", "-l0", "0", "7000", "cat")
    by_design = FORKS


class Dropbear(Talk):
    name, programs, comm, port = "dropbear", "dropbear dropbearkey", "dropbear", 22
    start = ("dropbear", "-F", "-E", "-r", "/run/key", "-p", "22")
    says = [("SSH-2.0-load\\r\\n", "SSH-2.0-dropbear")]
    by_design = FORKS
    threads = 4

    def configure(self, box):
        box.run(["dropbearkey", "-t", "ed25519", "-f", "/run/key"], finesse=False)


class TinySshd(Talk):
    name, programs, comm, port = "tinysshd", "tinysshd tinysshd-makekey tcpserver", "tcpserver", 22
    start = ("tcpserver", "-HRl0", "0", "22", "tinysshd", "-v", "/run/keys")
    says = [("SSH-2.0-load\\r\\n", "SSH-2.0-tinyssh")]
    by_design = FORKS

    def configure(self, box):
        box.run(["tinysshd-makekey", "/run/keys"], finesse=False)


class Iperf3(Talk):
    """One test at a time, so its clients are told that it is busy."""

    name, programs, comm, port = "iperf3", "iperf3", "iperf3", 5201
    start = ("iperf3", "-s")
    threads = 1
    says, held = [("", "")], 0
    asks = [(["iperf3", "-c", SERVER_IP, "-n", "20M"], "iperf Done"), (["iperf3", "-c", SERVER_IP, "-n", "20M", "-R", "-P", "3"], "iperf Done"), (["iperf3", "-c", SERVER_IP, "-n", "20M", "--bidir"], "iperf Done")]


class Iperf(Talk):
    name, programs, comm, port = "iperf", "iperf", "iperf", 5001
    start = ("iperf", "-s")
    says = [("", "")]
    asks = [(["iperf", "-c", SERVER_IP, "-n", "20M"], "bits/sec"), (["iperf", "-c", SERVER_IP, "-n", "20M", "-d"], "bits/sec")]


class Sockperf(Talk):
    name, programs, comm, port = "sockperf", "sockperf", "sockperf", 11111
    start = ("sockperf", "sr", "--tcp", "-i", "0.0.0.0")
    says = [("", "")]
    asks = [(["sockperf", "pp", "--tcp", "-i", SERVER_IP, "-t", "1"], "Summary: Latency")]


class SockperfEpoll(Sockperf):
    name = "sockperf, epoll"
    files = {"feed": "T:0.0.0.0:11111\nT:0.0.0.0:11112\n"}
    start = ("sockperf", "sr", "-f", "/run/feed", "-F", "epoll")


class OpensslServer(Talk):
    name, programs, comm, port = "openssl s_server", "openssl", "openssl", 4433
    start = ("openssl", "s_server", "-accept", "4433", "-cert", "/run/box.pem", "-key", "/run/box.pem", "-WWW", "-quiet")
    threads = 1
    kind, kept, held = "nothing", "nothing", 0

    def configure(self, box):
        super().configure(box)
        make_certificate(box)

    def arguments(self, run):
        return []

    asks = [(["curl", "-sSki", "-m", "20", "https://%s:4433/proc/self/comm" % SERVER_IP], "openssl"),
            (["sh", "-c", "printf 'GET /proc/self/comm HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect %s:4433 2>/dev/null" % SERVER_IP], "openssl"),
            (["sh", "-c", "(printf 'GET /proc/self/comm HTTP/1.0\\r\\n\\r\\n'; sleep 0.5) | gnutls-cli --insecure -p 4433 %s 2>&1" % SERVER_IP], "openssl")]


# ---- the rest ----

class Transmission(Page):
    name, programs, comm, port = "transmission", "transmission-daemon", "transmission-da", 9091
    folders = [("/run/transmission", "debian-transmission", 0o755)]
    start = (*as_user("debian-transmission"), "transmission-daemon", "-f", "-g", "/run/transmission", "--allowed", "*.*.*.*", "-M", "--no-dht", "--no-lpd")
    path, want = "/transmission/rpc", "409 Conflict"

    @property
    def asks(self):
        return [*super().asks, (["transmission-remote", SERVER_IP, "-st"], "CURRENT")]


class Mpd(Talk):
    name, programs, comm, port = "mpd", "mpd", "mpd", 6600
    folders = [("/run/mpd", "mpd", 0o755)]
    start = ("mpd", "--no-daemon", "/run/mpd.conf")
    files = {"mpd.conf": 'user "mpd"\nbind_to_address "0.0.0.0"\nmax_connections "1000"\nmusic_directory "/run/mpd"\ndb_file "/run/mpd/db"\nlog_file "/dev/stderr"\naudio_output {\n type "null"\n name "n"\n}\n'}
    says = [("ping\\n", "OK MPD ")]
    asks = [(["mpc", "-h", SERVER_IP, "status"], "volume")]


class Distccd(Talk):
    name, programs, comm, port = "distccd", "distccd distcc gcc", "distccd", 3632
    start = ("distccd", "--no-detach", "--allow", "0.0.0.0/0", "--user", "distccd", "--enable-tcp-insecure", "-j", "2")
    says = [("BAD!", "")]

    def check(self, run):
        (run.lab.www / "x.c").write_text("int answer(void) { return 42; }\n")
        run.ask(["env", "DISTCC_HOSTS=" + SERVER_IP, "DISTCC_FALLBACK=0", "HOME=/tmp", "distcc", "gcc", "-c", run.lab.www / "x.c", "-o", run.lab.www / "x.o"])
        expect((run.lab.www / "x.o").stat().st_size > 500, "no object file")

    clients = True


class Monit(Page):
    name, programs, comm, port = "monit", "monit", "monit", 2812
    start = ("monit", "-I", "-c", "/run/monitrc")
    files = {"monitrc": "set daemon 60\nset httpd port 2812\n allow 0.0.0.0/0\nset idfile /run/id\nset statefile /run/state\nset pidfile /run/monit.pid\n"}
    path, version = "/_ping", "HTTP/1.0"

    def configure(self, box):
        super().configure(box)
        inside(box, "/run/monitrc").chmod(0o600)


class Zabbix(Talk):
    name, programs, comm, port = "zabbix_agentd", "zabbix_agentd", "zabbix_agentd", 10050
    folders = [("/run/zabbix", "zabbix", 0o755)]
    start = (*as_user("zabbix"), "zabbix_agentd", "--foreground", "-c", "/run/zabbix.conf")
    files = {"zabbix.conf": "LogType=console\nServer=0.0.0.0/0\nServerActive=\nHostname=box\nPidFile=/run/zabbix/pid\nListenIP=0.0.0.0\n"}
    says = [("ZBXD\\x01\\x0a\\0\\0\\0\\0\\0\\0\\0agent.ping", "ZBXD\\x01\\x01\\0\\0\\0\\0\\0\\0\\x001")]


class MuninNode(Talk):
    name, programs, comm, port = "munin-node", "munin-node", "munin-node", 4949
    start = ("munin-node", "--foreground", "--config", "/run/munin.conf")
    files = {"munin.conf": "log_level 1\nlog_file /dev/stderr\npid_file /run/munin.pid\nsetsid 0\nuser root\ngroup root\nhost 0.0.0.0\nport 4949\nallow .*\n"}
    says = [("version\\n", "# munin node at ")]
    by_design = FORKS


class Snmpd(Talk):
    name, programs, comm, port = "snmpd over TCP", "snmpd snmpget", "snmpd", 161
    start = ("snmpd", "-Le", "-u", "Debian-snmp", "-g", "Debian-snmp", "-f", "-C", "-c", "/run/snmpd.conf", "tcp:0.0.0.0:161")
    files = {"snmpd.conf": "rocommunity public\nsysName box\n"}
    # GetRequest of sysName.0
    says = [("\\x30\\x26\\x02\\x01\\x01\\x04\\x06public\\xa0\\x19\\x02\\x01\\x01\\x02\\x01\\0\\x02\\x01\\0\\x30\\x0e\\x30\\x0c\\x06\\x08\\x2b\\x06\\x01\\x02\\x01\\x01\\x05\\0\\x05\\0", "\\x30")]
    asks = [(["snmpget", "-v2c", "-cpublic", "-On", "tcp:%s:161" % SERVER_IP, ".1.3.6.1.2.1.1.5.0"], "STRING: \"?box")]


class Rpcbind(Talk):
    name, programs, comm, port = "rpcbind", "rpcbind rpcinfo", "rpcbind", 111
    start = ("rpcbind", "-f")
    # NULL of the portmapper, version 2
    says = [("\\x80\\0\\0\\x28\\0\\0\\0\\x07\\0\\0\\0\\0\\0\\0\\0\\x02\\0\\x01\\x86\\xa0\\0\\0\\0\\x02" + "\\0" * 20, "\\x80\\0\\0\\x18\\0\\0\\0\\x07\\0\\0\\0\\x01")]
    asks = [(["rpcinfo", "-p", SERVER_IP], "portmapper"), (["rpcinfo", "-T", "tcp", SERVER_IP, "100000"], "ready and waiting")]


class Turn(Talk):
    name, programs, comm, port = "coturn over TCP", "turnserver", "turnserver", 3478
    folders = [("/run/turn", "turnserver", 0o755)]
    start = (*as_user("turnserver"), "turnserver", "-n", "--no-cli", "--no-dtls", "--no-tls", "--no-udp", "-L", "0.0.0.0", "-m", "2", "--pidfile=", "--log-file=stdout", "--userdb=/run/turn/db")
    # A binding request.
    says = [("\\0\\x01\\0\\0\\x21\\x12\\xa4\\x42abcdefghijkl", "\\x01\\x01")]


SIP = ("OPTIONS sip:box SIP/2.0\\r\\nVia: SIP/2.0/TCP 10.0.0.1:5060;branch=z9hG4bK1\\r\\nFrom: <sip:a@b>;tag=1\\r\\nTo: <sip:box>\\r\\nCall-ID: 1\\r\\nCSeq: 1 OPTIONS\\r\\n"
       "Max-Forwards: 5\\r\\nContent-Length: 0\\r\\n\\r\\n", "SIP/2.0 200")


class Kamailio(Talk):
    """Its connections go from the process that accepts to workers, by SCM_RIGHTS."""

    name, programs, comm, port = "kamailio over TCP", "kamailio", "kamailio", 5060
    folders = [("/run/kamailio", "kamailio", 0o755)]
    start = ("kamailio", "-DD", "-E", "-u", "kamailio", "-g", "kamailio", "-P", "/run/kamailio/pid", "-Y", "/run/kamailio", "-f", "/run/kamailio.cfg")
    files = {"kamailio.cfg": '#!KAMAILIO\nchildren=2\ntcp_children=2\nauto_aliases=no\nlisten=tcp:0.0.0.0:5060\nloadmodule "sl.so"\nrequest_route {\n sl_send_reply("200", "OK");\n}\n'}
    says = [SIP]
    by_design = "SCM_RIGHTS"


class Xvfb(Talk):
    name, programs, comm, port = "Xvfb over TCP", "Xvfb", "Xvfb", 6007
    start = ("Xvfb", ":7", "-listen", "tcp", "-ac", "-nolisten", "unix", "-nolisten", "local", "-maxclients", "2048", "-noreset", "-nolock")
    says = [("l\\0\\x0b\\0\\0\\0\\0\\0\\0\\0\\0\\0", "\\x01\\0\\x0b\\0")]


class Minidlna(Page):
    name, programs, comm, port = "minidlna", "minidlnad", "minidlnad", 8200
    start = ("minidlnad", "-S", "-f", "/run/minidlna.conf", "-P", "/run/minidlna.pid")
    files = {"minidlna.conf": "port=8200\nmedia_dir=/var/www\ndb_dir=/run/dlna\nlog_dir=/run/dlna\ninotify=no\nnetwork_interface=lo\n"}
    folders = [("/run/dlna", None, 0o755)]
    path = "/rootDesc.xml"


class AptCacherNg(Page):
    name, programs, comm, port = "apt-cacher-ng", "apt-cacher-ng", "apt-cacher-ng", 3142
    folders = [("/run/acng", None, 0o755)]
    start = ("apt-cacher-ng", "ForeGround=1", "CacheDir=/run/acng", "LogDir=/run/acng", "SocketPath=/run/acng/s", "-c", "/etc/apt-cacher-ng")
    path, want = "/acng-report.html", "200 OK"


ROWS = [BusyboxHttpd(), H2o(), ApacheWorker(), Yaws(), HttpServer(), Tornado(), TornadoFork(), Twisted(), Aiohttp(), Uvicorn(), Hypercorn(), Waitress(), GunicornThreads(), UwsgiHttp(),
        Thin(), Node(), Java(), Privoxy(), SquidUnit(), TinyproxyForks(), Danted(), Microsocks(), Hitch(), Sslh(), SslhFork(), Pen(), Rinetd(), Redir(), Gearmand(), Rabbit(), Etcd(),
        NbdServer(), Postfix(), PostfixMail(), DovecotPool(), PureFtpd(), Knot(), Nsd(), Pdns(), Inspircd(), Prosody(), Ejabberd(), Bitlbee(), BitlbeeForks(), Znc(), Xinetd(),
        XinetdInternal(), Ncat(), NcatBroker(), TcpServer(), TcpSvd(), Dropbear(), TinySshd(), Iperf3(), Iperf(), Sockperf(), SockperfEpoll(), OpensslServer(), Transmission(), Mpd(), Distccd(), Monit(), Zabbix(), MuninNode(), Snmpd(), Rpcbind(), Turn(), Kamailio(), Xvfb(), Minidlna(), AptCacherNg()]
