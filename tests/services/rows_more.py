"""More of Debian's servers, each with a small configuration of its own: who carries them, whether they are right, and their end. A row whose package is absent is skipped."""
import subprocess

from case import CLIENT_IP, SERVER_IP, expect, sha256
from row import Row, kill_all
from rows_other import inside
from rows_web import UPSTREAM_PORT, upstream

ALL = [("all -9", kill_all)]
AS_WWW = ("setpriv", "--reuid=www-data", "--regid=www-data", "--init-groups")


class Small(Row):
    """`files`: what is written into the box's /run."""

    files = {}
    events = ALL
    held = 2

    def configure(self, box):
        for name, text in self.files.items():
            inside(box, "/run/" + name).write_text(text)


# ---- web servers ----

class Webfs(Small):
    name, programs, comm = "webfs", "webfsd", "webfsd"
    start = ("webfsd", "-F", "-p", "80", "-r", "/var/www/html", "-u", "www-data", "-g", "www-data")


class MiniHttpd(Small):
    name, programs, comm = "mini-httpd", "mini_httpd", "mini_httpd"
    start = ("mini_httpd", "-D", "-p", "80", "-d", "/var/www/html", "-u", "www-data", "-l", "/dev/null", "-i", "/dev/null")
    kept = "http_part"
    by_design = "a process per connection"


class Php(Small):
    name, programs, comm, port = "php -S", "php", "php", 8000
    start = ("php", "-S", "0.0.0.0:8000", "-t", "/var/www/html")


class PhpWorkers(Small):
    name, programs, comm, port = "php -S, 4 workers", "php", "php", 8000
    start = ("env", "PHP_CLI_SERVER_WORKERS=4", "php", "-S", "0.0.0.0:8000", "-t", "/var/www/html")


class Webrick(Small):
    name, programs, comm, port = "ruby webrick", "ruby", "ruby", 8000
    start = ("ruby", "-run", "-e", "httpd", "/var/www/html", "-p", "8000")


class Puma(Small):
    name, programs, comm, port = "puma -w 2", "puma", "ruby", 8000
    start = ("puma", "-w", "2", "-t", "4:4", "-b", "tcp://0.0.0.0:8000", "/run/config.ru")
    files = {"config.ru": 'run ->(env) { b = File.binread("/var/www/html" + env["PATH_INFO"]); [200, {"Content-Length" => b.bytesize.to_s}, [b]] }\n'}


HTTP_DAEMON = """
use HTTP::Daemon; use HTTP::Status;
my $d = HTTP::Daemon->new(LocalAddr => "0.0.0.0", LocalPort => 8000, ReuseAddr => 1, Listen => 128) or die;
while (my $c = $d->accept) {
    while (my $r = $c->get_request) { $c->send_file_response("/var/www/html" . $r->uri->path); $c->force_last_request if ($r->header("Connection") || "") eq "close"; }
    $c->close;
}
"""


class PerlHttpDaemon(Small):
    name, programs, comm, port = "perl HTTP::Daemon", "perl", "perl", 8000
    start = ("perl", "/run/daemon.pl")
    files = {"daemon.pl": HTTP_DAEMON}
    kept, held = "http_part", 1


ERLANG = ('inets:start(), {ok, _} = inets:start(httpd, [{port, 8000}, {server_name, "box"}, {server_root, "/run"}, {document_root, "/var/www/html"}, '
          '{bind_address, any}]).')


class Erlang(Small):
    name, programs, comm, port = "erlang inets", "erl", "beam.smp", 8000
    start = ("env", "HOME=/run", "erl", "-noshell", "-eval", ERLANG)


class Icecast(Small):
    name, programs, comm, port = "icecast2", "icecast2", "icecast2", 8000
    start = (*AS_WWW, "icecast2", "-c", "/run/icecast.xml")
    files = {"icecast.xml": "<icecast><limits><clients>100</clients><sources>2</sources></limits><authentication><source-password>x</source-password>"
             "<admin-password>x</admin-password></authentication><hostname>box</hostname><listen-socket><port>8000</port></listen-socket>"
             "<paths><logdir>/tmp</logdir><webroot>/var/www/html</webroot><adminroot>/var/www/html</adminroot></paths>"
             "<logging><errorlog>-</errorlog><accesslog>-</accesslog></logging></icecast>\n"}
    kept = "http_part"
    clients = False

    def arguments(self, run):
        return ["/small", run.small_hash]

    def check(self, run):
        pass


class Caddy(Small):
    name, programs, comm = "caddy (Go)", "caddy", "caddy"
    start = ("env", "HOME=/run", "caddy", "file-server", "--root", "/var/www/html", "--listen", ":80")
    by_design = "Go makes its system calls itself"


# ---- proxies: their own connections, too ----

class Proxy(Small):
    proxy = True

    def before(self, run):
        upstream(run)


class Tinyproxy(Proxy):
    name, programs, comm = "tinyproxy", "tinyproxy", "tinyproxy"
    start = ("tinyproxy", "-d", "-c", "/run/tinyproxy.conf")
    files = {"tinyproxy.conf": 'User www-data\nGroup www-data\nPort 80\nTimeout 20\nMaxClients 200\nReverseOnly Yes\nReversePath "/" "http://%s:%d/"\n' % (CLIENT_IP, UPSTREAM_PORT)}
    kept = "http_part"


class Varnish(Proxy):
    name, programs, comm = "varnish", "varnishd gcc", "varnishd"
    start = ("varnishd", "-F", "-a", ":80", "-f", "/run/box.vcl", "-n", "/run/varnish", "-s", "malloc,16m")
    files = {"box.vcl": 'vcl 4.0;\nbackend default { .host = "%s"; .port = "%d"; }\nsub vcl_recv { return (pass); }\n' % (CLIENT_IP, UPSTREAM_PORT)}


class Squid(Proxy):
    name, programs, comm = "squid", "squid", "squid"
    empty = ("/var/spool/squid",)
    folders = [("/run/squid", "proxy", 0o755), ("/var/log/squid", "proxy", 0o755)]
    start = ("squid", "-N", "-f", "/run/squid.conf")
    files = {"squid.conf": "http_port 80 accel defaultsite=box\ncache_peer %s parent %d 0 no-query originserver\nhttp_access allow all\ncache deny all\n"
             "pid_filename /run/squid/squid.pid\nshutdown_lifetime 0 seconds\n" % (CLIENT_IP, UPSTREAM_PORT)}


class Stunnel(Proxy):
    """TLS from the clients, plain TCP to the server behind it."""

    name, programs, comm, port, kind, kept = "stunnel4", "stunnel openssl", "stunnel4", 443, "https", "nothing"
    start = ("stunnel4", "/run/stunnel.conf")
    files = {"stunnel.conf": "foreground = yes\npid =\nsetuid = stunnel4\ncert = /run/box.pem\n[box]\naccept = 443\nconnect = %s:%d\n" % (CLIENT_IP, UPSTREAM_PORT)}
    clients = False

    def configure(self, box):
        super().configure(box)
        key, cert = box.dir / "key.pem", box.dir / "cert.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=box", "-days", "30", "-keyout", key, "-out", cert], check=True,
                       stderr=subprocess.DEVNULL)
        inside(box, "/run/box.pem").write_text(key.read_text() + cert.read_text())

    def arguments(self, run):
        return ["/small", run.small_hash]

    def check(self, run):
        got = run.ask(["curl", "-sSk", "--fail", "-m", "20", "https://%s/file" % SERVER_IP])
        expect(sha256(got) == run.file_hash, "%d bytes, damaged" % len(got))


# ---- mail, names, files, talk ----

class Exim(Small):
    name, programs, comm, port, kind, kept = "exim4", "exim4", "exim4", 25, "smtp", "smtp_kept"
    start = ("exim4", "-bdf", "-q30m", "-C", "/run/exim.conf")
    files = {"exim.conf": "primary_hostname = box\ndaemon_smtp_ports = 25\nlog_file_path = /var/log/exim4/%slog\nspool_directory = /run/spool\nkeep_environment =\nacl_smtp_rcpt = accept\n"
             "begin acl\naccept:\n accept\n"}
    folders = [("/var/log/exim4", "Debian-exim", 0o755), ("/run/spool", "Debian-exim", 0o755)]
    by_design = "a process per connection"
    clients = False

    def check(self, run):
        pass


class Dovecot(Small):
    name, programs, comm, port, kind, kept = "dovecot", "dovecot doveadm", "dovecot", 143, "imap", "imap_kept"
    start = ("dovecot", "-F", "-c", "/run/dovecot.conf")
    files = {"dovecot.conf": "base_dir = /run/dovecot\nprotocols = imap\nssl = no\nlog_path = /dev/stderr\nmail_location = maildir:/run/mail/%u\ndisable_plaintext_auth = no\n"
             "passdb {\n driver = static\n args = password=x\n}\nuserdb {\n driver = static\n args = uid=mail gid=mail home=/run/mail/%u\n}\nfirst_valid_uid = 1\n"
             "service anvil {\n chroot =\n}\n"}
    folders = [("/run/mail", "mail", 0o755)]

    def check(self, run):
        got = run.ask(["curl", "-sS", "-m", "20", "-u", "box:x", "imap://%s/" % SERVER_IP])
        expect(b"INBOX" in got, "imap says %r" % got)


class Bind(Small):
    name, programs, comm, port, kind, kept = "bind9 over TCP", "named dig", "named", 53, "dns", "dns"
    folders = [("/run/named", "bind", 0o775)]
    start = ("named", "-f", "-u", "bind", "-c", "/run/named.conf")
    files = {"named.conf": 'options { directory "/run/named"; pid-file none; session-keyfile none; recursion no; listen-on-v6 { none; }; };\ncontrols { };\n'
             'zone "test" { type master; file "/run/box.zone"; };\n',
             "box.zone": "$TTL 60\n@ SOA a b 1 1 1 1 1\n@ NS a\na A 10.1.2.3\nbox A 10.1.2.3\n"}

    def check(self, run):
        for _ in range(5):
            got = run.ask(["dig", "+tcp", "+short", "+tries=1", "@" + SERVER_IP, "box.test"]).strip()
            expect(got == b"10.1.2.3", "dig +tcp says %r" % got)


class Unbound(Bind):
    name, programs, comm = "unbound over TCP", "unbound dig", "unbound"
    folders = [("/run/unbound", "unbound", 0o755)]
    start = ("unbound", "-d", "-p", "-c", "/run/unbound.conf")
    files = {"unbound.conf": 'server:\n interface: 0.0.0.0\n access-control: 0.0.0.0/0 allow\n username: unbound\n chroot: ""\n directory: "/run/unbound"\n use-syslog: no\n'
             ' num-threads: 2\n local-zone: "test." static\n local-data: "box.test. A 10.1.2.3"\n module-config: "iterator"\nremote-control:\n control-enable: no\n'}


class Mariadb(Small):
    name, programs, comm, port, kind, kept = "mariadb", "mariadbd mariadb-install-db mariadb", "mariadbd", 3306, "mysql", "mysql"
    folders = [("/run/mysqld", "mysql", 0o755), ("/run/data", "mysql", 0o700)]
    start = ("mariadbd", "--no-defaults", "--user=mysql", "--datadir=/run/data", "--socket=/run/mysqld/s", "--skip-grant-tables", "--skip-networking=0", "--bind-address=0.0.0.0",
             "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0", "--max-connect-errors=1000000", "--skip-name-resolve")

    def configure(self, box):
        box.run(["mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir=/run/data", "--skip-test-db", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=8M"],
                finesse=False, timeout=60)

    def check(self, run):
        got = run.ask(["mariadb", "--no-defaults", "-h", SERVER_IP, "-N", "-B", "-e", "select repeat('x', 100000)"])
        expect(got == b"x" * 100000 + b"\n", "mariadb got %d bytes" % len(got))


class Proftpd(Small):
    name, programs, comm, port, kind, kept = "proftpd", "proftpd curl", "proftpd", 21, "ftp", "ftp_kept"
    start = ("proftpd", "-n", "-q", "-c", "/run/proftpd.conf")
    folders = [("/run/proftpd", None, 0o755)]
    files = {"proftpd.conf": "ServerName box\nServerType standalone\nPort 21\nUseIPv6 off\nUser www-data\nGroup www-data\nScoreboardFile /run/proftpd/scoreboard\n"
             "PidFile /run/proftpd/pid\nDelayEngine off\nWtmpLog off\nTransferLog none\nMaxInstances none\n<Anonymous /var/www/html>\nUser www-data\nGroup www-data\n"
             "UserAlias anonymous www-data\nRequireValidShell off\nUseFtpUsers off\n</Anonymous>\n"}
    by_design = "a process per connection"

    def check(self, run):
        for how in ((), ("-P", "-")):
            got = run.ask(["curl", "-sS", "-m", "20", *how, "ftp://%s/file" % SERVER_IP])
            expect(sha256(got) == run.file_hash, "%s: %d bytes, damaged" % ("active" if how else "passive", len(got)))


class Smbd(Small):
    name, programs, comm, port, kind, kept = "smbd", "smbd smbclient", "smbd", 445, "smb", "smb"
    start = ("smbd", "-F", "--no-process-group", "-s", "/run/smb.conf", "-l", "/run/samba")
    folders = [("/run/samba", None, 0o755), ("/run/samba/private", None, 0o700)]
    files = {"smb.conf": "[global]\nserver role = standalone\nmap to guest = bad user\nguest account = nobody\nsmb ports = 445\nload printers = no\ndisable spoolss = yes\n"
             + "".join("%s = /run/samba\n" % d for d in ("lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"))
             + "private dir = /run/samba/private\n[www]\npath = /var/www/html\nguest ok = yes\n"}
    by_design = "a process per connection"

    def check(self, run):
        out = run.lab.www / "out"
        run.ask(["smbclient", "-N", "-s", "/dev/null", "//%s/www" % SERVER_IP, "-c", "get file %s" % out])
        expect(sha256(out.read_bytes()) == run.file_hash, "damaged")
        out.unlink()


class Slapd(Small):
    name, programs, comm, port, kind, kept = "slapd", "slapd ldapsearch", "slapd", 389, "ldap", "ldap"
    start = ("slapd", "-d", "0", "-h", "ldap://0.0.0.0/", "-u", "openldap", "-f", "/run/slapd.conf")
    files = {"slapd.conf": "pidfile /run/slapd/pid\nargsfile /run/slapd/args\n"}
    folders = [("/run/slapd", "openldap", 0o755)]

    def check(self, run):
        got = run.ask(["ldapsearch", "-x", "-H", "ldap://" + SERVER_IP, "-s", "base", "-b", "", "+"])
        expect(b"supportedLDAPVersion: 3" in got, "ldapsearch says %r" % got[-200:])


class Ngircd(Small):
    name, programs, comm, port, kind, kept = "ngircd", "ngircd", "ngircd", 6667, "irc", "irc"
    start = ("ngircd", "-n", "-f", "/run/ngircd.conf")
    files = {"ngircd.conf": "[Global]\nName = box.test\nInfo = box\nServerUID = irc\nServerGID = irc\n[Limits]\nMaxConnectionsIP = 0\n[Options]\nDNS = no\nIdent = no\nPAM = no\n"}
    clients = False

    def check(self, run):
        pass


class Beanstalkd(Small):
    name, programs, comm, port, kind, kept = "beanstalkd", "beanstalkd", "beanstalkd", 11300, "beanstalk", "beanstalk"
    start = ("beanstalkd", "-l", "0.0.0.0", "-p", "11300", "-u", "www-data")
    clients = False

    def check(self, run):
        pass


class Nats(Small):
    name, programs, comm, port, kind, kept = "nats-server (Go)", "nats-server", "nats-server", 4222, "nats", "nats"
    start = ("nats-server", "-a", "0.0.0.0")
    by_design = "Go makes its system calls itself"
    clients = False

    def check(self, run):
        pass


class Inetd(Small):
    name, programs, comm, port, kind, kept = "inetd", "inetd", "inetd", 7, "echo", "echo"
    start = ("inetd", "-i", "/run/inetd.conf")
    files = {"inetd.conf": "7 stream tcp nowait root /bin/cat cat\n"}
    clients = False
    by_design = "a process per connection"

    def check(self, run):
        pass


class Pgbouncer(Small):
    name, programs, comm, port, kind, kept = "pgbouncer", "pgbouncer", "pgbouncer", 6432, "pgbouncer", "pgbouncer"
    start = (*AS_WWW, "pgbouncer", "/run/pgbouncer.ini")
    files = {"pgbouncer.ini": "[databases]\n[pgbouncer]\nlisten_addr = 0.0.0.0\nlisten_port = 6432\nunix_socket_dir =\nauth_type = any\nadmin_users = box\n"}
    clients = False

    def check(self, run):
        pass


ROWS = [Webfs(), MiniHttpd(), Php(), PhpWorkers(), Webrick(), Puma(), PerlHttpDaemon(), Erlang(), Icecast(), Caddy(), Tinyproxy(), Varnish(), Squid(), Stunnel(), Exim(), Dovecot(),
        Bind(), Unbound(), Mariadb(), Proftpd(), Smbd(), Slapd(), Ngircd(), Beanstalkd(), Nats(), Inetd(), Pgbouncer()]
