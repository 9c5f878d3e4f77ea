"""Web servers and their clients."""
import signal

from case import CLIENT_IP, PYTHON, SERVER_IP, expect, file_sha256, sha256
from nginx import nginx_argv

URLLIB = """
import hashlib, sys, urllib.request
h = hashlib.sha256()
with urllib.request.urlopen(sys.argv[1], timeout=30) as r:
    while True:
        b = r.read(65536)
        if not b: break
        h.update(b)
print(h.hexdigest())
"""


def nginx(case):
    case.start(nginx_argv(case.dir, case.port, http="client_max_body_size 100m;",
                          server="location /put/ { dav_methods PUT; create_full_put_path on; }"))


def http_server(case):
    case.start([PYTHON, "-u", "-m", "http.server", "--bind", SERVER_IP, "-d", case.dir / "www", case.port])


def nginx_curl(case):
    nginx(case)
    got = case.run(["curl", "-sS", "--fail", case.url("file")]).stdout
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))
    case.end()


def nginx_curl_keepalive(case):
    """Five files over one connection."""
    nginx(case)
    got = case.run(["curl", "-sS", "--fail"] + [case.url("small")] * 5).stdout
    expect(got == (case.dir / "www/small").read_bytes() * 5, "%d bytes, damaged" % len(got))
    case.end()


def nginx_curl_upload(case):
    nginx(case)
    case.run(["curl", "-sS", "--fail", "-T", case.dir / "www/file", case.url("put/got")])
    expect(file_sha256(case.dir / "www/put/got") == file_sha256(case.dir / "www/file"), "the upload is damaged")
    case.end()


def nginx_curl_parallel(case):
    """300 files, 50 connections at a time."""
    nginx(case)
    config = case.dir / "curl.conf"
    config.write_text("next\n".join("url = %s\noutput = %s/out-%d\n" % (case.url("small"), case.dir, i) for i in range(300)))
    case.run(["curl", "-sS", "--no-progress-meter", "--fail", "-Z", "--parallel-max", "50", "-K", config])
    want = (case.dir / "www/small").read_bytes()
    for i in range(300):
        out = case.dir / ("out-%d" % i)
        expect(out.read_bytes() == want, "file %d is damaged" % i)
        out.unlink()
    case.end()


def nginx_urllib(case):
    nginx(case)
    got = case.run([PYTHON, "-c", URLLIB, case.url("file")]).stdout.decode().strip()
    expect(got == file_sha256(case.dir / "www/file"), "damaged")
    case.end()


def nginx_ncat(case):
    nginx(case)
    request = b"GET /file HTTP/1.0\r\nHost: x\r\n\r\n"
    got = case.run(["ncat", "--no-shutdown", SERVER_IP, case.port], input=request).stdout
    expect(sha256(got.partition(b"\r\n\r\n")[2]) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))
    case.end()


def http_server_curl(case):
    http_server(case)
    got = case.run(["curl", "-sS", "--fail", case.url("file")]).stdout
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))
    case.end(signal.SIGINT)


def http_server_urllib(case):
    http_server(case)
    got = case.run([PYTHON, "-c", URLLIB, case.url("file")]).stdout.decode().strip()
    expect(got == file_sha256(case.dir / "www/file"), "damaged")
    case.end(signal.SIGINT)


# ---- more servers ----

LIGHTTPD = """
server.document-root = "{dir}/www"
server.port = {port}
server.bind = "{ip}"
server.errorlog = "{dir}/lighttpd.log"
"""
APACHE = """
ServerRoot "{dir}"
ServerName x
Listen {ip}:{port}
PidFile {dir}/apache2.pid
ErrorLog {dir}/apache2.log
Mutex posixsem
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
DocumentRoot "{dir}/www"
<Directory "{dir}/www">
Require all granted
</Directory>
"""
HAPROXY = """
global
    nbthread 2
    noreuseport
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend f
    bind {ip}:{port}
    default_backend b
backend b
    server s {backend}:{backend_port}
"""
NODE_SERVER = """
const http = require('http'), fs = require('fs');
const [dir, host, port] = process.argv.slice(2);
http.createServer((q, r) => fs.createReadStream(dir + q.url).pipe(r)).listen(port, host);
process.on('SIGTERM', () => process.exit(0));
"""
NODE_CLIENT = """
const http = require('http'), crypto = require('crypto');
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
let left = 8;
for (let i = 0; i < 8; i++)
    http.get(process.argv[2], {agent}, r => {
        const h = crypto.createHash('sha256');
        r.on('data', b => h.update(b)).on('end', () => { console.log(h.digest('hex')); if (!--left) agent.destroy(); });
    });
"""
JAVA_SERVER = """
import com.sun.net.httpserver.*;
import java.net.*;
import java.nio.file.*;
import java.util.concurrent.*;
public class Serve {
    public static void main(String[] a) throws Exception {
        HttpServer s = HttpServer.create(new InetSocketAddress(a[1], Integer.parseInt(a[2])), 64);
        s.setExecutor(Executors.newFixedThreadPool(4));
        s.createContext("/", e -> {
            byte[] b = Files.readAllBytes(Path.of(a[0] + e.getRequestURI().getPath()));
            e.sendResponseHeaders(200, b.length);
            e.getResponseBody().write(b);
            e.close();
        });
        s.start();
    }
}
"""
JAVA_CLIENT = """
import java.net.URI;
import java.net.http.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
public class Get {
    public static void main(String[] a) throws Exception {
        HttpClient c = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        List<CompletableFuture<HttpResponse<byte[]>>> all = new ArrayList<>();
        for (int i = 0; i < 4; i++)
            all.add(c.sendAsync(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofByteArray()));
        for (var f : all)
            System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(f.get().body())));
        System.exit(0);
    }
}
"""


def lighttpd(case):
    config = case.dir / "lighttpd.conf"
    config.write_text(LIGHTTPD.format(dir=case.dir, ip=SERVER_IP, port=case.port))
    case.start(["lighttpd", "-D", "-f", config])


def apache(case):
    config = case.dir / "apache2.conf"
    config.write_text(APACHE.format(dir=case.dir, ip=SERVER_IP, port=case.port, modules="/usr/lib/apache2/modules"))
    case.start(["apache2", "-X", "-f", config])


def node(case):
    program = case.dir / "serve.js"
    program.write_text(NODE_SERVER)
    case.start(["node", program, case.dir / "www", SERVER_IP, case.port])


def java(case):
    program = case.dir / "Serve.java"
    program.write_text(JAVA_SERVER)
    case.start(["java", program, case.dir / "www", SERVER_IP, case.port], timeout=60)


# ---- more pairs ----

def wget(case):
    """The whole over one connection, kept alive."""
    case.run(["wget", "-q", "-P", case.dir / "wgot", case.url("file"), case.url("small")])
    for name in ("file", "small"):
        got = case.dir / "wgot" / name
        expect(file_sha256(got) == file_sha256(case.dir / "www" / name), "%s is damaged" % name)
        got.unlink()


def curl_parallel(case, name="small", n=40):
    """n files, ten connections at a time, each request on a connection of its own."""
    n *= case.scale
    config = case.dir / "curl.conf"
    config.write_text("next\n".join("url = %s\noutput = %s/out-%d\nheader = \"Connection: close\"\n" % (case.url(name), case.dir, i)
                                    for i in range(n)))
    case.run(["curl", "-sS", "--no-progress-meter", "--fail", "-Z", "--parallel-max", "10", "-K", config])
    for i in range(n):
        out = case.dir / ("out-%d" % i)
        expect(file_sha256(out) == file_sha256(case.dir / "www" / name), "file %d is damaged" % i)
        out.unlink()


def nginx_wget(case):
    nginx(case)
    wget(case)
    case.end()


def lighttpd_curl_wget(case):
    lighttpd(case)
    curl_parallel(case)
    wget(case)
    case.end()


def apache_curl_wget(case):
    apache(case)
    curl_parallel(case)
    wget(case)
    case.end()


def apache_urllib(case):
    apache(case)
    got = case.run([PYTHON, "-c", URLLIB, case.url("file")]).stdout.decode().strip()
    expect(got == file_sha256(case.dir / "www/file"), "damaged")
    case.end()


def haproxy_nginx(case):
    """A proxy is server and client at once: nginx, behind it, is at the client's host."""
    lab, backend_port = case.lab, case.port + 1000
    behind = lab.client.spawn(nginx_argv(case.dir, backend_port, name="nginx-behind"), case.client)
    lab.client.wait_listening(behind, backend_port, case.client)
    opened = lab.server.opens()[0]
    config = case.dir / "haproxy.conf"
    config.write_text(HAPROXY.format(ip=SERVER_IP, port=case.port, backend=CLIENT_IP, backend_port=backend_port))
    case.start(["haproxy", "-f", config])
    curl_parallel(case, n=100)
    curl_parallel(case, "file", 4)
    case.end(signal.SIGUSR1)
    expect(not case.server or lab.server.opens()[0] == opened, "the kernel opened the proxy's connections")
    lab.stop(behind)


def node_curl(case):
    node(case)
    curl_parallel(case)
    got = case.run(["curl", "-sS", "--fail", case.url("file")]).stdout
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))
    case.end()


def node_client(case):
    nginx(case)
    program = case.dir / "get.js"
    program.write_text(NODE_CLIENT)
    got = case.run(["node", program, case.url("file")]).stdout.decode().split()
    expect(got == [file_sha256(case.dir / "www/file")] * 8, "damaged: %s" % got)
    case.end()


def java_curl(case):
    java(case)
    curl_parallel(case)
    curl_parallel(case, "file", 4)
    case.end(status=(143,))


def java_client(case):
    nginx(case)
    program = case.dir / "Get.java"
    program.write_text(JAVA_CLIENT)
    got = case.run(["java", program, case.url("file")]).stdout.decode().split()
    expect(got == [file_sha256(case.dir / "www/file")] * 4, "damaged: %s" % got)
    case.end()


PAIRS = [
    (nginx_curl, "nginx curl"), (nginx_curl_keepalive, "nginx curl"), (nginx_curl_upload, "nginx curl"), (nginx_curl_parallel, "nginx curl"),
    (nginx_urllib, "nginx"), (nginx_ncat, "nginx ncat"), (nginx_wget, "nginx wget"), (http_server_curl, "curl"), (http_server_urllib, ""),
    (lighttpd_curl_wget, "lighttpd curl wget"), (apache_curl_wget, "apache2 curl wget"), (apache_urllib, "apache2"),
    (haproxy_nginx, "haproxy nginx curl"), (node_curl, "node curl"), (node_client, "node nginx"), (java_curl, "java curl"),
    (java_client, "java nginx"),
]
