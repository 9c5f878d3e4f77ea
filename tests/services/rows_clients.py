"""Servers with all the client programs that there are for them: each must get what it gets natively. A client whose program is absent is left out."""
import re
import shutil

from case import PYTHON, SERVER_IP, expect, sha256
from row import Failed, LabError
from rows_more import Bind, Mariadb, Proftpd, Slapd, Small, Smbd
from rows_other import GitDaemon, Memcached, Mosquitto, PostgresDirect, Redis, Sshd, Vsftpd, inside
from rows_web import Nginx
from rows_wide import Postfix


class Many:
    """`clients`: name -> (argv, what it says: a regular expression; None: the file)."""

    events = ()
    programs = ""

    def clients_of(self, run):
        return {}

    def check(self, run):
        wrong = []
        words = {"@FILE": str(run.lab.www / "html/file"), "@OUT": str(run.lab.www / "out"), "@IP": SERVER_IP, "@URL": "http://%s/file" % SERVER_IP, "@SMALL": "http://%s/small" % SERVER_IP,
                 "@WWW": str(run.lab.www)}
        for name, (argv, want) in self.clients_of(run).items():
            if not shutil.which(argv[0]):
                continue
            for word, value in words.items():
                argv = [str(a).replace(word, value) for a in argv]
            try:
                got = run.ask(argv)
                if want is None and sha256(got) != run.file_hash:
                    wrong.append("%s: %d bytes, damaged" % (name, len(got)))
                elif want is not None and not re.search(want, got.decode(errors="replace"), re.M):
                    wrong.append("%s says %s" % (name, got[-500:]))
            except (Failed, LabError) as e:
                wrong.append("%s: %s" % (name, e))
        expect(not wrong, "; ".join(wrong))


def sh(line):
    return ["sh", "-c", line]


def py(code):
    return [PYTHON, "-c", code]


GET_FROM_PIPE = "(printf 'GET /file HTTP/1.0\\r\\n\\r\\n'; sleep 0.5) | %s | sed '1,/^\\r$/d'"
JAVA_GET = ("import java.net.*; import java.net.http.*;\npublic class Get { public static void main(String[] a) throws Exception {\n"
            " System.out.write(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofByteArray()).body()); System.out.flush(); } }\n")
FETCHERS = {
    "wget": (["wget", "-q", "-O", "-", "@URL"], None),
    "aria2c": (["aria2c", "-q", "-x4", "-s4", "-k1M", "--allow-overwrite", "-d", "@WWW", "-o", "aria", "@URL"], ""),
    "aria2c's file": (["cat", "@WWW/aria"], None),
    "axel": (["axel", "-q", "-n", "4", "-o", "@WWW/axel", "@URL"], ""),
    "axel's file": (["cat", "@WWW/axel"], None),
    "lynx": (["lynx", "-source", "@URL"], None),
    "w3m": (["w3m", "-dump_source", "@URL"], None),
    "links": (["links", "-source", "@URL"], None),
    "elinks": (["elinks", "-source", "@URL"], None),
    "lftp": (["lftp", "-c", "cat @URL"], None),
    "tnftp": (["tnftp", "-V", "-o", "-", "@URL"], None),
    "busybox wget": (["busybox", "wget", "-q", "-O", "-", "@URL"], None),
    "apt": (sh("/usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file @URL @WWW/apt >/dev/null && cat @WWW/apt"), None),
    "python3 urllib": (py("import urllib.request, sys; sys.stdout.buffer.write(urllib.request.urlopen('@URL').read())"), None),
    "python3 requests": (py("import requests, sys; sys.stdout.buffer.write(requests.get('@URL').content)"), None),
    "python3 httpx": (py("import httpx, sys; sys.stdout.buffer.write(httpx.get('@URL').content)"), None),
    "python3 aiohttp": (py("import aiohttp, asyncio, sys\nasync def main():\n async with aiohttp.ClientSession() as s, s.get('@URL') as r: sys.stdout.buffer.write(await r.read())\nasyncio.run(main())"), None),
    "python3 pycurl": (py("import pycurl, sys; c = pycurl.Curl(); c.setopt(c.URL, '@URL'); c.setopt(c.WRITEDATA, sys.stdout.buffer); c.perform()"), None),
    "python3 tornado": (py("import sys; from tornado.simple_httpclient import SimpleAsyncHTTPClient as C; from tornado.ioloop import IOLoop\n"
                           "sys.stdout.buffer.write(IOLoop.current().run_sync(lambda: C().fetch('@URL')).body)"), None),
    "node fetch": (["node", "-e", "fetch('@URL').then(r => r.arrayBuffer()).then(b => process.stdout.write(Buffer.from(b)))"], None),
    "node http": (["node", "-e", "require('http').get('@URL', r => r.pipe(process.stdout))"], None),
    "perl LWP": (["perl", "-MLWP::UserAgent", "-e", "print LWP::UserAgent->new->get('@URL')->content"], None),
    "perl HTTP::Tiny": (["perl", "-MHTTP::Tiny", "-e", "print HTTP::Tiny->new->get('@URL')->{content}"], None),
    "ruby net/http": (["ruby", "-rnet/http", "-e", "$stdout.binmode; print Net::HTTP.get(URI('@URL'))"], None),
    "php stream": (["php", "-r", "fpassthru(fopen('@URL', 'r'));"], None),
    "php curl": (["php", "-r", "$c = curl_init('@URL'); curl_exec($c);"], None),
    "java": (["java", "-Xmx128m", "@WWW/Get.java", "@URL"], None),
    "erlang": (["erl", "-noshell", "-eval", "inets:start(), {ok, {_, _, B}} = httpc:request(get, {\"@URL\", []}, [], [{body_format, binary}]), file:write_file(\"@WWW/erl\", B), halt()."], ""),
    "erlang's file": (["cat", "@WWW/erl"], None),
    "bash": (["bash", "-c", "exec 3<>/dev/tcp/@IP/80; printf 'GET /file HTTP/1.0\\r\\n\\r\\n' >&3; sed '1,/^\\r$/d' <&3"], None),
    "nc": (sh(GET_FROM_PIPE % "nc @IP 80"), None),
    "ncat": (sh(GET_FROM_PIPE % "ncat @IP 80"), None),
    "socat": (sh(GET_FROM_PIPE % "socat -t 10 - TCP:@IP:80"), None),
    "curl, 20 at once": (["curl", "-sS", "-Z", "--parallel-max", "20", "-w", "%{http_code}\\n", *["@SMALL"] * 20, *["-o", "/dev/null"] * 20], r"\A(200\n){20}\Z"),
    "ab": (["ab", "-q", "-n", "500", "-c", "10", "@SMALL"], r"Failed requests:\s+0\b"),
    "ab -k": (["ab", "-q", "-k", "-n", "500", "-c", "10", "@SMALL"], r"Failed requests:\s+0\b"),
    "wrk": (["wrk", "-d", "1", "-c", "10", "@SMALL"], r"\A(?![\s\S]*(Socket errors|Non-2xx))[\s\S]*requests in"),
    "siege": (sh("HOME=@WWW siege -b -c 5 -r 50 @SMALL 2>&1"), r"[Ff]ailed.transactions\"?:\s+0\b"),
    "httperf": (["httperf", "--server", "@IP", "--uri", "/small", "--num-conns", "100", "--num-calls", "3"], r"Errors: total 0\b"),
    "h2load": (["h2load", "--h1", "-n", "300", "-c", "10", "-m", "2", "@SMALL"], r"300 succeeded, 0 failed"),
}


class WebClients(Many, Nginx):
    name, programs = "clients of nginx", "nginx"

    def clients_of(self, run):
        (run.lab.www / "Get.java").write_text(JAVA_GET)
        return FETCHERS


class SshClients(Many, Sshd):
    name, programs = "clients of sshd", "sshd ssh"

    def clients_of(self, run):
        o, there = " ".join(self.options(run)), "root@" + SERVER_IP
        git = "git -c safe.directory=* -c user.name=b -c user.email=b@b"
        GitDaemon.configure(self, run.box)
        return {
            "ssh": (sh("ssh %s %s cat /var/www/html/file" % (o, there)), None),
            "ssh, upload": (sh("ssh %s %s sha256sum <@FILE" % (o, there)), run.file_hash),
            "scp -O": (sh("scp -q -O %s %s:/var/www/html/file @OUT && cat @OUT" % (o, there)), None),
            "sftp": (sh("sftp -q %s %s:/var/www/html/file @OUT2 >/dev/null && cat @OUT2" % (o, there)), None),
            "sftp put": (sh("echo put @FILE /run/up | sftp -q -b - %s %s >/dev/null; ssh %s %s cat /run/up" % (o, there, o, there)), None),
            "rsync up": (sh("rsync -e 'ssh %s' @FILE %s:/run/up2 && ssh %s %s cat /run/up2" % (o, there, o, there)), None),
            "git": (sh("GIT_SSH_COMMAND='ssh %s' %s clone -q %s:/var/www/repo.git @WWW/git1 && cat @WWW/git1/file" % (o, git, there)), None),
            "paramiko": (py("import paramiko, sys; c = paramiko.SSHClient(); c.set_missing_host_key_policy(paramiko.AutoAddPolicy())\nc.connect('@IP', username='root', key_filename='%s')\n"
                            "sys.stdout.buffer.write(c.exec_command('cat /var/www/html/file')[1].read())" % (run.box.dir / "key")), None),
            "a tunnel": (sh("ssh %s -W 127.0.0.1:22 %s </dev/null | head -c 8" % (o, there)), "SSH-2.0-"),
            "a shared connection": (sh("ssh %s -M -S @WWW/ctl -fN %s >/dev/null 2>&1; ssh -S @WWW/ctl %s cat /var/www/html/file; ssh -q -S @WWW/ctl -O exit %s" % (o, there, there, there)), None),
        }

    identity = GitDaemon.identity


class RedisClients(Many, Redis):
    name, programs = "clients of redis", "redis-server redis-cli"

    def clients_of(self, run):
        return {
            "redis-cli -x": (sh("redis-cli -h @IP -x set big <@FILE"), "OK"),
            "redis-cli": (sh("redis-cli -h @IP --raw get big | head -c -1"), None),
            "redis-cli --pipe": (sh("for i in $(seq 2000); do printf '*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$3\\r\\nabc\\r\\n'; done | redis-cli -h @IP --pipe"), "errors: 0, replies: 2000"),
            "redis-benchmark": (["redis-benchmark", "-h", "@IP", "-n", "2000", "-q", "-t", "set,get,lrange_600"], r"GET: .*requests per second"),
            "redis-benchmark -P --threads": (["redis-benchmark", "-h", "@IP", "-n", "2000", "-q", "-P", "16", "--threads", "2", "-t", "set"], r"SET: .*requests per second"),
            "python3": (py("import redis, sys; sys.stdout.buffer.write(redis.Redis('@IP').get('big'))"), None),
            "ruby": (["ruby", "-rredis", "-e", "$stdout.binmode; print Redis.new(host: '@IP').get('big')"], None),
            "php": (["php", "-r", "$r = new Redis(); $r->connect('@IP'); echo $r->get('big');"], None),
            "publish": (py("import redis; a, b = redis.Redis('@IP'), redis.Redis('@IP'); p = b.pubsub(); p.subscribe('c'); p.get_message(timeout=5); a.publish('c', 'hello'); print(p.get_message(timeout=5))"), "hello"),
        }


class MariadbClients(Many, Mariadb):
    name, programs = "clients of mariadb", "mariadbd mariadb-install-db mariadb"

    def clients_of(self, run):
        big = "select repeat('x', 1000000)"
        return {
            "mariadb": (["mariadb", "--no-defaults", "-h", "@IP", "-NBe", big], r"\Ax{1000000}$"),
            "mariadb, in": (sh("(echo 'create database b; use b; create table t(x longtext);'; for i in $(seq 100); do echo \"insert into t values(repeat('$i',1000));\"; done) | mariadb --no-defaults -h @IP"), ""),
            "mariadb-dump": (sh("mariadb-dump --no-defaults -h @IP b | md5sum; mariadb-dump --no-defaults -h @IP b | tail -1"), "Dump completed"),
            "mariadb-slap": (["mariadb-slap", "--no-defaults", "-h", "@IP", "-a", "--auto-generate-sql-load-type=mixed", "-c", "4", "-i", "2", "--number-of-queries=100"], "Average number of seconds"),
            "pymysql": (py("import pymysql; c = pymysql.connect(host='@IP').cursor(); c.execute(\"%s\"); print(c.fetchone()[0])" % big), r"\Ax{1000000}$"),
            "php": (["php", "-r", "$m = new mysqli('@IP', 'root'); echo $m->query(\"%s\")->fetch_row()[0];" % big], r"\Ax{1000000}$"),
            "perl": (["perl", "-MDBI", "-e", "print DBI->connect('dbi:mysql:host=@IP', 'root', '')->selectrow_array(\"%s\")" % big], r"\Ax{1000000}$"),
        }


class PostgresClients(Many, PostgresDirect):
    name, programs = "clients of postgres", "pg_ctlcluster psql pgbench"

    def clients_of(self, run):
        big = "select repeat('x', 1000000)"
        there = "-h @IP -U postgres"
        return {
            "psql": (sh("psql %s -Atc \"%s\"" % (there, big)), r"\Ax{1000000}$"),
            "copy in": (sh("psql %s -qc 'create table t(x text)'; seq 200000 | psql %s -qc 'copy t from stdin'; psql %s -Atc 'select sum(x::bigint) from t'" % (there, there, there)), "20000100000"),
            "copy out": (sh("psql %s -qc 'copy t to stdout' | awk '{s += $1} END {printf \"%%d\\n\", s}'" % there), "20000100000"),
            "pg_dump": (sh("pg_dump %s -t t postgres | wc -l" % there), "^2000[0-9][0-9]$"),
            "pgbench": (sh("pgbench %s -q -i -s 1 postgres 2>&1; pgbench %s -c 4 -j 2 -t 50 postgres" % (there, there)), "actually processed: 200/200"),
            "psycopg2": (py("import psycopg2; c = psycopg2.connect(host='@IP', user='postgres').cursor(); c.execute(\"%s\"); print(c.fetchone()[0])" % big), r"\Ax{1000000}$"),
            "perl": (["perl", "-MDBI", "-e", "print DBI->connect('dbi:Pg:host=@IP', 'postgres', '')->selectrow_array(\"%s\")" % big], r"\Ax{1000000}$"),
        }


FTP_CLIENTS = {
    "wget": (["wget", "-q", "-O", "-", "ftp://@IP/file"], None),
    "wget, active": (["wget", "-q", "--no-passive-ftp", "-O", "-", "ftp://@IP/file"], None),
    "lftp": (["lftp", "-c", "open @IP; cat file"], None),
    "lftp pget": (sh("lftp -c 'open @IP; pget -n 4 file -o @WWW/pget' && cat @WWW/pget"), None),
    "lftp mirror": (sh("lftp -c 'open @IP; mirror --parallel=4 / @WWW/mirror' && cat @WWW/mirror/file"), None),
    "tnftp": (["tnftp", "-V", "-o", "-", "ftp://@IP/file"], None),
    "tnftp, active": (["tnftp", "-A", "-V", "-o", "-", "ftp://@IP/file"], None),
    "ncftpget": (["ncftpget", "-V", "-c", "ftp://@IP/file"], None),
    "busybox": (["busybox", "wget", "-q", "-O", "-", "ftp://@IP/file"], None),
    "python3": (py("import ftplib, sys; f = ftplib.FTP('@IP'); f.login(); f.retrbinary('RETR file', sys.stdout.buffer.write)"), None),
    "python3, active": (py("import ftplib, sys; f = ftplib.FTP('@IP'); f.set_pasv(False); f.login(); f.retrbinary('RETR file', sys.stdout.buffer.write)"), None),
    "perl": (["perl", "-MNet::FTP", "-e", "my $f = Net::FTP->new('@IP', Passive => 1); $f->login('anonymous', 'a@b'); $f->binary; binmode STDOUT; $f->get('file', \\*STDOUT)"], None),
    "php": (["php", "-r", "fpassthru(fopen('ftp://@IP/file', 'r'));"], None),
}


class VsftpdClients(Many, Vsftpd):
    name, programs = "clients of vsftpd", "vsftpd"

    def clients_of(self, run):
        return FTP_CLIENTS


class ProftpdClients(Many, Proftpd):
    name, programs = "clients of proftpd", "proftpd"

    def clients_of(self, run):
        return FTP_CLIENTS


class BindClients(Many, Bind):
    name, programs = "clients of bind9 over TCP", "named dig"

    def configure(self, box):
        super().configure(box)
        with inside(box, "/run/box.zone").open("a") as f:
            f.write("".join("h%d A 10.1.%d.%d\n" % (i, i // 250, i % 250) for i in range(20000)))

    def clients_of(self, run):
        return {
            "dig axfr": (sh("dig +noall +answer @@IP test axfr | grep -c '^h'"), "^20000$"),
            "host -l": (sh("host -T -l test @IP | grep -c '^h'"), "^20000$"),
            "kdig axfr": (sh("kdig @@IP test axfr | grep -c '^h'"), "^20000$"),
            "kdig, one connection": (["kdig", "+tcp", "+keepopen", "+short", "@@IP", "h1.test", "h2.test", "h3.test"], r"10\.1\.0\.1\n10\.1\.0\.2\n10\.1\.0\.3"),
            "delv": (["delv", "+tcp", "+noroot", "-i", "@@IP", "h7.test"], r"10\.1\.0\.7"),
            "nslookup": (["nslookup", "-vc", "h7.test", "@IP"], r"10\.1\.0\.7"),
        }


class MemcachedClients(Many, Memcached):
    name, programs = "clients of memcached", "memcached"

    def clients_of(self, run):
        return {
            "memccp": (sh("head -c 500000 @FILE >@WWW/half; memccp --servers=@IP @WWW/half && memccat --servers=@IP half | head -c 500000 | cmp - @WWW/half && echo same"), "same"),
            "memcslap": (["memcslap", "--servers=@IP", "--concurrency=5", "--execute-number=200", "--test=set"], "Time total"),
            "memcstat": (["memcstat", "--servers=@IP"], "cmd_set: [1-9]"),
        }


class MosquittoClients(Many, Mosquitto):
    name, programs = "clients of mosquitto", "mosquitto"

    def clients_of(self, run):
        return {
            "pub": (["mosquitto_pub", "-h", "@IP", "-r", "-q", "2", "-t", "big", "-f", "@FILE"], ""),
            "sub": (["mosquitto_sub", "-h", "@IP", "-t", "big", "-C", "1", "-N", "-q", "2", "-W", "10"], None),
            "pub, lines": (sh("mosquitto_sub -h @IP -t l -q 1 -C 500 -W 10 >@WWW/lines & sleep 0.5; seq 500 | mosquitto_pub -h @IP -q 1 -t l -l; wait; tail -1 @WWW/lines"), "^500$"),
            "paho": (py("import paho.mqtt.subscribe as s, sys; sys.stdout.buffer.write(s.simple('big', hostname='@IP').payload)"), None),
        }


class SlapdClients(Many, Slapd):
    name, programs = "clients of slapd", "slapd"

    def clients_of(self, run):
        return {
            "ldapsearch": (["ldapsearch", "-x", "-H", "ldap://@IP", "-s", "base", "-b", "", "+"], "supportedLDAPVersion: 3"),
            "ldapwhoami": (["ldapwhoami", "-x", "-H", "ldap://@IP"], "anonymous"),
            "python3": (py("import ldap3; print(ldap3.Connection(ldap3.Server('@IP', get_info='ALL'), auto_bind=True).server.info)"), "Supported LDAP versions: 3"),
            "curl": (["curl", "-sS", "ldap://@IP/?supportedLDAPVersion?base"], "supportedLDAPVersion: 3"),
        }


class SmbClients(Many, Smbd):
    name, programs = "clients of smbd", "smbd smbclient"

    def clients_of(self, run):
        return {
            "smbclient": (sh("smbclient -N -s /dev/null //@IP/www -c 'get file @OUT' >/dev/null 2>&1; cat @OUT"), None),
            "smbclient, -m": (sh("smbclient -N -s /dev/null -m NT1 --option='client min protocol=NT1' //@IP/www -c 'get file @OUT' >/dev/null 2>&1; cat @OUT"), None),
            "smbget": (sh("smbget -q -a -o @WWW/smbget smb://@IP/www/file && cat @WWW/smbget"), None),
        }


class MailClients(Many, Postfix):
    name, programs, clients = "clients of postfix", "postfix", True

    def clients_of(self, run):
        (run.lab.www / "mail").write_text("From: a@b.test\nTo: nobody@box.test\nSubject: x\n\n" + "0123456789\n" * 20000)
        return {
            "swaks": (["swaks", "--server", "@IP", "--to", "nobody@box.test", "--from", "a@b.test", "--helo", "c", "--body", "@@WWW/mail"], "250 2.0.0 Ok: queued"),
            "msmtp": (sh("msmtp --host=@IP --from=a@b.test --domain=c nobody@box.test <@WWW/mail && echo sent"), "sent"),
            "curl": (sh("curl -sS --url smtp://@IP/c --mail-from a@b.test --mail-rcpt nobody@box.test -T @WWW/mail && echo sent"), "sent"),
            "python3": (py("import smtplib; s = smtplib.SMTP('@IP', local_hostname='c'); print(s.sendmail('a@b.test', ['nobody@box.test'], open('@WWW/mail').read()), s.quit())"), r"\{\} \(221"),
            "perl": (["perl", "-MNet::SMTP", "-e", "my $s = Net::SMTP->new('@IP', Hello => 'c'); $s->mail('a@b.test'); $s->to('nobody@box.test'); $s->data; $s->datasend('x' x 100000); "
                      "print $s->dataend ? 'sent' : 'no', $s->quit"], "sent"),
        }


class Svnserve(Many, Small):
    name, programs, comm, port, kind, kept = "svnserve", "svnserve svn svnadmin", "svnserve", 3690, "svn", "svn"
    start = ("svnserve", "-d", "--foreground", "-r", "/run")
    by_design = "a process per connection"

    def configure(self, box):
        box.run(["svnadmin", "create", "/run/repo"], finesse=False)
        box.run(["svn", "import", "-q", "-m", "x", "/var/www/html", "file:///run/repo"], finesse=False)

    def clients_of(self, run):
        return {"svn": (sh("svn checkout -q svn://@IP/repo @WWW/svn && cat @WWW/svn/file"), None)}


class SvnserveThreads(Svnserve):
    name, by_design = "svnserve -T", ""
    start = (*Svnserve.start, "-T")


class Hg(Many, Small):
    name, programs, comm, port, kind = "hg serve", "hg", "hg", 8000, "http"
    start = ("env", "HGUSER=b", "hg", "serve", "-R", "/run/repo", "-p", "8000", "-a", "0.0.0.0")

    def arguments(self, run):
        return ["/?cmd=capabilities", ""]

    def kept_arguments(self, run):
        return []

    kept = "http_part"

    def configure(self, box):
        box.run(["sh", "-c", "HGUSER=b; export HGUSER; hg init /run/repo && cp /var/www/html/file /run/repo && cd /run/repo && hg commit -q -A -m x"], finesse=False)

    def clients_of(self, run):
        return {"hg": (sh("hg clone -q http://@IP:8000/ @WWW/hg && cat @WWW/hg/file"), None)}


ROWS = [WebClients(), SshClients(), RedisClients(), MariadbClients(), PostgresClients(), VsftpdClients(), ProftpdClients(), BindClients(), MemcachedClients(), MosquittoClients(), SlapdClients(),
        SmbClients(), MailClients(), Svnserve(), SvnserveThreads(), Hg()]
