"""Web servers and what stands behind them, as Debian's units start them."""
import os
import re
import signal
import subprocess

from pathlib import Path

from box import wait_until
from case import CLIENT_IP, PYTHON, SERVER_IP, expect
from row import Row, graceful_end, kill_all, master_kill, reload_by, reload_twice, worker_kill


def change(path, *pairs):
    """Replaces in a configuration file; what is to be replaced must be there."""
    path = Path(path)
    text = path.read_text()
    for old, new in pairs:
        expect(re.search(old, text, re.M), "%s has no %s" % (path, old))
        text = re.sub(old, new, text, count=1, flags=re.M)
    path.write_text(text)


def nginx_upgrade(run):
    """A binary upgrade: USR2, and when the new master's workers run, QUIT for the old."""
    old = run.box.master("nginx")
    old_family = {p.pid for p in run.box.processes("nginx")}
    download = run.begin_download()

    def upgrade():
        os.kill(old.pid, signal.SIGUSR2)
        wait_until("the new master has workers", lambda: len(run.box.processes("nginx")) >= len(old_family) * 2)
        os.kill(old.pid, signal.SIGQUIT)
    run.under_load("upgrade", upgrade)
    run.end_download(download)
    wait_until("the old processes end", lambda: not old_family & {p.pid for p in run.box.processes("nginx")}, 15)
    expect(run.answers(), "no answer after the upgrade")


class Nginx(Row):
    name, programs, comm = "nginx", "nginx", "nginx"
    empty, copied = ("/var/lib/nginx",), ("/etc/nginx",)
    folders = [("/var/log/nginx", "www-data", 0o755)]
    start, forks = ("/usr/sbin/nginx", "-g", "daemon on; master_process on;"), True
    events = [reload_twice(signal.SIGHUP), ("upgrade", nginx_upgrade), ("worker -9", worker_kill), ("master -9", master_kill), graceful_end(signal.SIGQUIT),
              ("all -9", kill_all)]

    def configure(self, box):
        change(box.copy("/etc/nginx") / "nginx.conf", ("worker_processes auto", "worker_processes 2"))


class NginxRoot(Nginx):
    """Its workers keep their privilege, and the process that listened is gone before they accept."""

    name = "nginx, workers as root"
    events = [reload_twice(signal.SIGHUP), ("upgrade", nginx_upgrade), ("worker -9", worker_kill), graceful_end(signal.SIGQUIT), ("all -9", kill_all)]

    def configure(self, box):
        super().configure(box)
        change(box.copy("/etc/nginx") / "nginx.conf", ("user www-data", "user root"))


class NginxReuseport(Nginx):
    name = "nginx reuseport"

    def configure(self, box):
        super().configure(box)
        change(box.copy("/etc/nginx") / "sites-available/default", (r"listen 80 default_server", "listen 80 default_server reuseport"),
               (r"listen \[::\]:80 default_server", "listen [::]:80 default_server reuseport"))


class Apache(Row):
    name, programs, comm = "apache2 event", "apache2", "apache2"
    copied = ("/etc/apache2",)
    folders = [("/var/log/apache2", None, 0o755), ("/run/lock", None, 0o1777)]
    start, forks = ("env", "APACHE_STARTED_BY_SYSTEMD=true", "/usr/sbin/apachectl", "start"), True
    # What apachectl graceful and graceful-stop send.
    events = [reload_by(signal.SIGUSR1), ("worker -9", worker_kill), graceful_end(signal.SIGWINCH), ("all -9", kill_all)]
    mpm = "event"

    def configure(self, box):
        enabled = box.copy("/etc/apache2") / "mods-enabled"
        for old in [*enabled.glob("mpm_*"), *enabled.glob("php*")]:  # its PHP knows no threads
            old.unlink()
        for kind in ("load", "conf"):
            (enabled / ("mpm_%s.%s" % (self.mpm, kind))).symlink_to("../mods-available/mpm_%s.%s" % (self.mpm, kind))
        (box.copy("/etc/apache2") / "conf-enabled/box.conf").write_text("ServerName box\n")


class ApachePrefork(Apache):
    name, mpm = "apache2 prefork", "prefork"


class Lighttpd(Row):
    name, programs, comm = "lighttpd max-worker", "lighttpd", "lighttpd"
    empty, copied = ("/var/cache/lighttpd",), ("/etc/lighttpd",)
    folders = [("/var/cache/lighttpd/uploads", "www-data", 0o755), ("/var/log/lighttpd", "www-data", 0o755)]
    start = ("/usr/sbin/lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf")
    events = [("worker -9", worker_kill), graceful_end(signal.SIGTERM, finishes=False), ("all -9", kill_all)]

    def configure(self, box):
        (box.copy("/etc/lighttpd") / "conf-enabled/99-box.conf").write_text("server.max-worker = 2\n")


UPSTREAM = """
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
handler = lambda *a: Handler(*a, directory=sys.argv[3])
Server((sys.argv[1], int(sys.argv[2])), handler).serve_forever()
"""
UPSTREAM_PORT = 8090


def upstream(run):
    """A plain server at the client's host, on the kernel's TCP."""
    p = run.lab.client.spawn([PYTHON, "-c", UPSTREAM, CLIENT_IP, UPSTREAM_PORT, run.lab.www / "html"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run.lab.client.wait_listening(p, UPSTREAM_PORT)


class Haproxy(Row):
    name, programs, comm, proxy = "haproxy -Ws", "haproxy", "haproxy", True
    copied = ("/etc/haproxy",)
    folders = [("/run/haproxy", "haproxy", 0o2775)]
    start = ("/usr/sbin/haproxy", "-Ws", "-f", "/etc/haproxy/haproxy.cfg", "-p", "/run/haproxy.pid", "-S", "/run/haproxy-master.sock")
    events = [reload_by(signal.SIGUSR2), graceful_end(signal.SIGUSR1), ("all -9", kill_all)]

    def configure(self, box):
        config = box.copy("/etc/haproxy") / "haproxy.cfg"
        change(config, (r"^\tdaemon$", "\tdaemon\n\tnbthread 2"))
        with config.open("a") as f:
            f.write("frontend box\n\tbind :80\n\tdefault_backend behind\nbackend behind\n\tserver s %s:%d\n" % (CLIENT_IP, UPSTREAM_PORT))

    def before(self, run):
        upstream(run)


class NginxProxy(Nginx):
    name, proxy = "nginx as a proxy", True
    events = [reload_by(signal.SIGHUP), graceful_end(signal.SIGQUIT)]

    def configure(self, box):
        super().configure(box)
        change(box.copy("/etc/nginx") / "sites-available/default", (r"try_files .*;", "proxy_pass http://%s:%d;" % (CLIENT_IP, UPSTREAM_PORT)))

    def before(self, run):
        upstream(run)


PHP = '<?php $f = "/var/www/html" . $_SERVER["REQUEST_URI"]; header("Content-Length: " . filesize($f)); readfile($f);\n'


class PhpFpm(Row):
    """Behind nginx, which is at the client's host and on the kernel's TCP."""

    name, programs, comm, port, address = "php-fpm", "php-fpm8.2 nginx", "php-fpm8.2", 8081, CLIENT_IP
    copied = ("/etc/php/8.2/fpm",)
    folders = [("/run/php", "www-data", 0o755)]
    start = ("/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf")
    fpm_port = served = 9000
    held, clients = 0, False
    events = [reload_by(signal.SIGUSR2, finishes=False), ("worker -9", worker_kill), ("master -9", master_kill), ("all -9", kill_all)]

    def configure(self, box):
        change(box.copy("/etc/php/8.2/fpm") / "pool.d/www.conf", (r"^listen = .*", "listen = %s:%d" % (SERVER_IP, self.fpm_port)))

    def before(self, run):
        (run.lab.www / "html/get.php").write_text(PHP)
        import nginx
        server = ("location / { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME /var/www/html/get.php; fastcgi_pass %s:%d; }"
                  % (SERVER_IP, self.fpm_port))
        p = run.lab.client.spawn(nginx.nginx_argv(run.lab.dir, "%s:%d" % (CLIENT_IP, self.port), server=server), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run.lab.client.wait_listening(p, self.port)


APP = """
def app(environ, start_response):
    body = open("/var/www/html" + environ["PATH_INFO"], "rb").read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
application = app
"""


class Gunicorn(Row):
    name, programs, comm, port = "gunicorn -w 4", "gunicorn", "python3", 8000
    start = ("setpriv", "--reuid=www-data", "--regid=www-data", "--init-groups", PYTHON, "/usr/bin/gunicorn", "-w", "4", "-b", "0.0.0.0:8000", "--chdir", "/run/app",
             "app:app")
    folders = [("/run/app", "www-data", 0o755)]
    kept, held = "http_part", 1  # a worker serves one connection at a time
    events = [reload_by(signal.SIGHUP), ("worker -9", worker_kill), graceful_end(signal.SIGTERM, finishes=False), ("all -9", kill_all)]

    def configure(self, box):
        Path("/proc/%d/root/run/app/app.py" % box.init).write_text(APP)


class Uwsgi(Row):
    name, programs, comm, port = "uwsgi", "uwsgi", "uwsgi", 8000
    # What Debian's default.ini says, and a port.
    start = ("uwsgi", "--master", "--workers", "4", "--no-orphans", "--uid", "www-data", "--gid", "www-data", "--plugin", "python3", "--http-socket", "0.0.0.0:8000",
             "--wsgi-file", "/run/app/app.py")
    folders = [("/run/app", "www-data", 0o755)]
    kept, held = "http_part", 1

    events = [reload_by(signal.SIGHUP, finishes=False), ("worker -9", worker_kill), ("all -9", kill_all)]

    def configure(self, box):
        Path("/proc/%d/root/run/app/app.py" % box.init).write_text(APP)


NODE_CLUSTER = """
const cluster = require('cluster'), http = require('http'), fs = require('fs');
if (process.argv[2] == 'none') cluster.schedulingPolicy = cluster.SCHED_NONE;
if (cluster.isPrimary) {
    for (let i = 0; i < 2; i++) cluster.fork();
    cluster.on('exit', () => cluster.fork());
    process.on('SIGTERM', () => { cluster.removeAllListeners('exit'); cluster.disconnect(() => process.exit(0)); });
} else
    http.createServer((q, r) => {
        const path = '/var/www/html' + q.url;
        r.setHeader('Content-Length', fs.statSync(path).size);
        fs.createReadStream(path).pipe(r);
    }).listen(8000);
"""


class NodeCluster(Row):
    name, programs, comm, port = "node cluster", "node", "node", 8000
    start = ("setpriv", "--reuid=www-data", "--regid=www-data", "--init-groups", "node", "/run/app/cluster.js", "rr")
    folders = [("/run/app", "www-data", 0o755)]
    events = [("worker -9", worker_kill), graceful_end(signal.SIGTERM), ("all -9", kill_all)]

    def configure(self, box):
        Path("/proc/%d/root/run/app/cluster.js" % box.init).write_text(NODE_CLUSTER)


class NodeClusterShared(NodeCluster):
    name = "node cluster, shared handle"
    start = (*NodeCluster.start[:-1], "none")


ROWS = [Nginx(), NginxRoot(), NginxReuseport(), NginxProxy(), Apache(), ApachePrefork(), Lighttpd(), Haproxy(), PhpFpm(), Gunicorn(), Uwsgi(), NodeCluster(), NodeClusterShared()]
