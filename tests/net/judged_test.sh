#!/bin/sh
# The host's firewall judges who may connect to a server that finesse serves: SYNs pass every rule of the host, the engine answers those that all accepted, and what a
# rule could do to later packets keeps the listener with the kernel. shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft curl python3 nstat nginx
pair_up
in_client ip addr add 10.78.0.3/24 dev client0
mkdir "$scratch/www"
head -c 3000000 /dev/urandom >"$scratch/www/file"

start() { # PORT
	finesse_server python3 -u -m http.server --directory "$scratch/www" "$1" >"$scratch/server.log" 2>&1 9>&- &
	server=$!
	wait_until 10 sh -c "in=\$(nsenter --net=/proc/$SERVER_NS/ns/net ss -ltnH sport = :$1); [ -n \"\$in\" ]"
	wait_until 10 grep -q Serving "$scratch/server.log"
}

stop() {
	kill "$server" 2>/dev/null
	wait "$server" 2>/dev/null || true
}

rules() {
	in_server nft flush ruleset
	in_server nft -f - <<RULES
add table inet t
add chain inet t in { type filter hook input priority 0; }
add chain inet t out { type filter hook output priority 0; }
add chain inet t pre { type nat hook prerouting priority -100; }
$1
RULES
}

# Who is to be served may have to wait for the machine; who is not is asked for 2 s.
fetch() { # ADDRESS PORT RESULT, which is expected: how curl ended: 0, 7 (refused), 28 (nothing came)
	in_client curl -s -m $([ "$3" = 28 ] && echo 2 || echo 60) --interface "$1" -o "$scratch/got" "http://$SERVER_IP:$2/file" && cmp -s "$scratch/got" "$scratch/www/file"
	echo $?
}

counter() { # NAME of the engine's counters
	"$FINESSE_BUILD_DIR/finesse" stat --json "$server" | python3 -c "
import json, sys
def find(o):
    if isinstance(o, dict):
        for k, v in o.items():
            if k == '$1' and isinstance(v, int): yield v
            else: yield from find(v)
    elif isinstance(o, list):
        for v in o: yield from find(v)
print(sum(find(json.load(sys.stdin))))"
}

# row NAME RULES ADDRESS PORT RESULT CARRIED(engine|kernel|none)
row() {
	rules "$2"
	start 8080
	before=$(in_server nstat -az TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
	result=$(fetch "$3" "$4" "$5")
	after=$(in_server nstat -az TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
	accepted=$(counter Accepted)
	by=none
	[ "$after" -gt 0 ] && [ "$after" != "$before" ] && by=kernel
	[ "$accepted" -gt 0 ] && by=engine
	if [ "$result/$by" = "$5/$6" ]; then
		pass "$1"
	else
		fail "$1: $result by $by, not $5 by $6"
		cat "$scratch/server.log"
	fi
	stop
}

EST="add rule inet t in iif lo accept
add rule inet t in ct state established,related accept"
# Of a port that is open to everybody, or to all but some addresses, nothing has to be judged: with this, the client's port decides.
ASKS="add rule inet t in tcp sport 9 drop"
row "no rule" "" 10.78.0.2 8080 0 engine
row "policy drop, the port is accepted" "$EST
add rule inet t in tcp dport 8080 ct state new accept
add rule inet t in drop" 10.78.0.2 8080 0 engine
row "policy drop, the port is accepted from all but one port" "$EST
$ASKS
add rule inet t in tcp dport 8080 ct state new accept
add rule inet t in drop" 10.78.0.2 8080 0 engine
row "policy drop without the port" "$EST
add rule inet t in tcp dport 22 accept
add rule inet t in drop" 10.78.0.2 8080 28 none
row "another port is rejected" "$EST
add rule inet t in tcp dport 22 reject" 10.78.0.2 8080 0 engine
row "rejected by a reset" "$EST
add rule inet t in tcp dport 8080 reject with tcp reset" 10.78.0.2 8080 7 none
row "the address is banned" "$EST
add rule inet t in ip saddr 10.78.0.2 drop" 10.78.0.2 8080 28 none
row "another address is banned" "$EST
add rule inet t in ip saddr 10.78.0.2 drop" 10.78.0.3 8080 0 engine
row "a set of addresses is let in" "$EST
add rule inet t in ip saddr { 10.78.0.3, 192.0.2.0/24 } accept
add rule inet t in drop" 10.78.0.3 8080 0 engine
row "redirected from another port" "$EST
add rule inet t pre tcp dport 81 redirect to :8080
add rule inet t in tcp dport 8080 accept
add rule inet t in drop" 10.78.0.2 81 0 kernel
row "a rule limits later packets" "add rule inet t in tcp dport 8080 limit rate 1000000/second accept
add rule inet t in drop" 10.78.0.2 8080 0 kernel
row "connections are counted" "add rule inet t in tcp dport 8080 ct count over 5 drop" 10.78.0.2 8080 0 kernel
row "answers pass an output rule" "add rule inet t out ct state established accept
add rule inet t out drop" 10.78.0.2 8080 0 engine
row "answers could be dropped" "add rule inet t out ip ttl 3 drop" 10.78.0.2 8080 0 kernel
row "a source port is refused" "add rule inet t in tcp sport 1-1023 drop" 10.78.0.2 8080 0 engine
row "new connections are limited" "$EST
add rule inet t in tcp dport 8080 limit rate 5/minute accept
add rule inet t in drop" 10.78.0.2 8080 0 engine

# A listener may be judged and one client's packets not: that client is the kernel's, which gets its SYN from the engine. The client sends one.
syn_repetitions() { in_client nstat -asz TcpExtTCPSynRetrans | awk '/SynRetrans/ {print $2}'; }
repeated=$(syn_repetitions)
row "answers to this client could be dropped" "$EST
add rule inet t in tcp dport 8080 accept
add rule inet t in drop
add rule inet t out ip daddr 10.78.0.2 meta mark set 1" 10.78.0.2 8080 0 kernel
again=$(syn_repetitions)
if [ "$again" = "$repeated" ]; then pass "its SYN came once"; else fail "its SYN came again: $repeated, then $again"; fi
row "answers to this client could be dropped, where all are let in" "add rule inet t out ip daddr 10.78.0.2 meta mark set 1" 10.78.0.2 8080 0 kernel
row "answers to another client could be dropped" "$EST
add rule inet t in tcp dport 8080 accept
add rule inet t in drop
add rule inet t out ip daddr 10.78.0.2 meta mark set 1" 10.78.0.3 8080 0 engine

# Clients of the host: the rules of output and postrouting are not passed.
nsenter --net="/proc/$CLIENT_NS/ns/net" python3 -u -m http.server --directory "$scratch/www" 8090 >"$scratch/peer.log" 2>&1 9>&- &
peer=$!
wait_until 10 grep -q Serving "$scratch/peer.log"
client_row() { # NAME RULES CARRIED
	rules "$2"
	opens=$(in_server nstat -asz TcpActiveOpens | awk '/TcpActiveOpens/ {print $2}')
	(finesse_server curl -s -m 60 -o "$scratch/got" "http://$CLIENT_IP:8090/file") || true
	cmp -s "$scratch/got" "$scratch/www/file" || fail "$1: not fetched"
	now=$(in_server nstat -asz TcpActiveOpens | awk '/TcpActiveOpens/ {print $2}')
	by=engine
	[ "$now" = "$opens" ] || by=kernel
	if [ $by = "$3" ]; then pass "client: $1"; else fail "client: $1: by $by, not $3"; fi
	rm -f "$scratch/got"
}
client_row "established is accepted" "$EST
add rule inet t in drop" engine
client_row "another address is refused" "add rule inet t out ip daddr 192.0.2.0/24 drop" engine
client_row "the address is marked" "add rule inet t out ip daddr 10.78.0.2 meta mark set 1" kernel
client_row "addresses are translated" "add chain inet t post { type nat hook postrouting priority 100; }
add rule inet t post ip saddr 10.78.0.0/24 masquerade" kernel
client_row "of others addresses are translated" "add chain inet t post { type nat hook postrouting priority 100; }
add rule inet t post ip saddr 172.17.0.0/16 oifname != docker0 masquerade" engine
kill $peer
wait $peer 2>/dev/null || true
# What doctor says of a program's sockets is what becomes of them.
doctor() { # WANTED ARGUMENTS
	wanted=$1
	shift
	said=$(in_server "$FINESSE_BUILD_DIR/finesse" doctor --interface server0 --json "$@")
	code=$?
	said=$(echo "$said" | python3 -c "
import json, sys
d = json.load(sys.stdin)
print(d['served'], *[c['text'].split()[0] + ' ' * ('judge' in c['text']) + 'judged' * ('judge' in c['text']) + ' ' * ('command' in c) + 'command' * ('command' in c)
      for c in d['checks'] if c['check'].startswith(('server ', 'client '))], sep='; ')")/$code
	if [ "$said" = "$wanted" ]; then pass "doctor $*"; else fail "doctor $*: $said, not $wanted"; fi
}
in_server ip route add 192.0.2.0/24 via $CLIENT_IP
in_server ip address add fd78::1/64 dev server0 nodad
in_server ip route add 2001:db8::/32 via fd78::2
rules "$EST
add rule inet t in tcp dport 8080 limit rate 9/second accept
add rule inet t in drop
add rule inet t out ip daddr 192.0.2.0/24 drop"
doctor "True; carried judged command/0" --server 8080
doctor "True; carried/0" --client $CLIENT_IP:80
doctor "False; the command/1" --client 192.0.2.1:80
rules "add rule inet t in tcp dport 8080 ct count over 5 drop"
doctor "False; the command/1" --server 8080
doctor "True; carried/0" --server 8081
rules ""
doctor "True; carried; carried/0" --server 8080 --client "[2001:db8::1]:443"
# Whose address decides is not asked about rules.
for client in 127.0.0.1 $SERVER_IP 198.51.100.1; do doctor "False; the/1" --client $client:80; done
for server in 127.0.0.1 10.9.9.9; do doctor "False; the/1" --server $server:8080; done
doctor "False; the; carried/1" --client 198.51.100.1:80 --client $CLIENT_IP:80
doctor "True; carried/0" --server $SERVER_IP:8080

# conntrack has seen the SYN of a connection that a cookie opens, and not the SYN-ACK: to it, the client's ACK is invalid. While cookies are out, strangers' ACKs are
# the host's all the same.
rules "$EST
add rule inet t in ip saddr 10.78.0.3 drop
add rule inet t in ct state invalid drop
add rule inet t in tcp dport 8080 accept
add rule inet t in drop"
echo 2 | in_server tee /proc/sys/net/ipv4/tcp_syncookies >/dev/null
start 8080
got="$(fetch 10.78.0.2 8080 0) $(fetch 10.78.0.2 8080 0) $(fetch 10.78.0.3 8080 28)"
said="$got, $(counter SyncookiesRecv) came back"
if [ "$said" = "0 0 28, 2 came back" ]; then pass "cookies, where what is invalid is dropped"; else fail "cookies, where what is invalid is dropped: $said"; fi
in_server nft -f - <<RULES
flush chain inet t in
add rule inet t in ip saddr 10.78.0.3 counter drop
RULES
cat >"$scratch/stray.py" <<-CLIENT
import socket, struct, sys
def checksum(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    s = (s & 0xffff) + (s >> 16)
    return ~(s + (s >> 16)) & 0xffff
src, dst = socket.inet_aton(sys.argv[1]), socket.inet_aton("$SERVER_IP")
seg = lambda c: struct.pack("!HHIIBBHHH", 7777, 8080, 1, 2, 0x50, 0x10, 1000, c, 0)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.bind((sys.argv[1], 0))
raw.settimeout(2)
for _ in range(3):
    raw.sendto(seg(checksum(src + dst + struct.pack("!HH", 6, 20) + seg(0))), ("$SERVER_IP", 0))
    try:
        while True:
            b = raw.recv(2000)
            if b[20:24] == struct.pack("!HH", 8080, 7777):
                print("reset" if b[33] & 4 else "answered")
                sys.exit()
    except TimeoutError:
        pass
print("silence")
CLIENT
said="$(in_client python3 "$scratch/stray.py" 10.78.0.2) $(in_client python3 "$scratch/stray.py" 10.78.0.3)"
if [ "$said" = "reset silence" ] && [ "$(counter JudgedStrays)" -ge 2 ]; then pass "strangers' ACKs are the host's"; else fail "strangers' ACKs: $said, $(counter JudgedStrays) strays"; fi
stop
echo 1 | in_server tee /proc/sys/net/ipv4/tcp_syncookies >/dev/null

# From the port of one in TIME-WAIT, too, a connection is carried.
rules "$EST
$ASKS
add rule inet t in tcp dport 8080 accept
add rule inet t in drop"
start 8080
cat >"$scratch/fetch.py" <<-CLIENT
import errno, socket, time
def connect(port, until):
    while True:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("10.78.0.2", port))
        s.settimeout(5)
        try:
            s.connect(("$SERVER_IP", 8080))
            return s
        except OSError as e:  # the last one's end is on its way
            if e.errno != errno.EADDRNOTAVAIL or time.monotonic() > until:
                raise
for i in range(300):
    s = connect(5555 if i >= 290 else 0, time.monotonic() + 5)
    s.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
    while s.recv(4096):
        pass
    s.close()
CLIENT
in_client python3 "$scratch/fetch.py" && pass "connections come, ten from one port" || fail "connections come, ten from one port"
[ "$(counter Accepted)" = 300 ] && pass "all are carried" || fail "$(counter Accepted) of 300 are carried"
stop

# All rules accept whoever comes to this port: nothing climbs. That is asked anew when the rules change, and then those that are there stay.
rules "$EST
add rule inet t in tcp dport 8080 accept
add rule inet t in drop"
start 8080
before=$(in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
in_client python3 "$scratch/fetch.py" && pass "an open port: connections come" || fail "an open port: connections come"
after=$(in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
said="$(counter Accepted) accepted, $(counter Judged) judged, $((after - before)) by the kernel"
if [ "$said" = "300 accepted, 0 judged, 0 by the kernel" ]; then pass "an open port is not judged"; else fail "an open port: $said"; fi
in_server nft insert rule inet t in ip saddr 10.78.0.3 drop
banned() { [ "$(fetch 10.78.0.3 8080 28)" = 28 ]; }
wait_until 10 banned && pass "an open port from which somebody is kept out"
before=$(in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
in_client python3 "$scratch/fetch.py" && pass "the others come" || fail "the others come"
after=$(in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
said="$(counter Judged) judged, $((after - before)) by the kernel"
if [ "$said" = "0 judged, 0 by the kernel" ]; then pass "and nobody asks about them"; else fail "and nobody asks about them: $said"; fi
in_server nft insert rule inet t in tcp sport 9 drop
judged() { [ "$(fetch 10.78.0.2 8080 0)" = 0 ] && [ "$(counter Judged)" -ge 1 ]; }
wait_until 10 judged && pass "an open port that is open no more is judged" || fail "an open port that is open no more is judged: $(counter Judged)"
rules "$EST
add rule inet t in tcp dport 8080 accept
add rule inet t in drop"
judged=$(counter Judged)
let_in() { [ "$(fetch 10.78.0.3 8080 0)" = 0 ] && [ "$(counter Judged)" = "$judged" ] || { judged=$(counter Judged); false; }; }
wait_until 20 let_in && pass "one that is open again is not"
stop

# The rules stay, and the interface gets the name that one of them refuses.
rename_to() { # FROM TO; kernels before 6.2 do that only while it is down
	in_server ip link set dev "$1" down
	in_server ip link set dev "$1" name "$2"
	in_server ip link set dev "$2" up
	wait_until 10 is_operational "$SERVER_NS" "$2"
}
rules "$EST
add rule inet t in iifname wan0 drop
add rule inet t in tcp dport 8080 accept
add rule inet t in drop"
start 8080
said="$(fetch 10.78.0.3 8080 0), $(counter Judged) judged"
rename_to server0 wan0
wait_until 10 banned && [ "$said" = "0, 0 judged" ] && pass "an open port: the interface's new name is refused" || fail "an open port and a new name: $said"
rename_to wan0 server0
stop

# Rules that change while connections live.
rules "$EST
add rule inet t in tcp dport 8080 ct state new accept
add rule inet t in drop"
head -c 60000000 /dev/urandom >"$scratch/www/big"
start 8080
slow() { # ADDRESS FILE
	as_client curl -s --limit-rate 4M --interface "$1" -o "$2" "http://$SERVER_IP:8080/big" 9>&- &
}
size() { stat -c %s "$1" 2>/dev/null || echo 0; }
received() { in_client ss -tinH state established src "$1" | sed -n 's/.*bytes_received:\([0-9]*\).*/\1/p'; } # by the client's kernel
grown() { [ "$(size "$1")" -gt "$2" ]; }
slow 10.78.0.2 "$scratch/banned"
banned=$!
slow 10.78.0.3 "$scratch/other"
other=$!
wait_until 10 grown "$scratch/banned" 4000000
wait_until 10 grown "$scratch/other" 4000000
[ "$(counter Accepted)" = 2 ] && pass "both transfers are carried" || fail "both transfers are carried"
"$FINESSE_BUILD_DIR/finesse" stat --json "$server" | tr -d ' \n' | grep -q '"firewall":"judges"' && pass "stat says who judges" || fail "stat says who judges"
in_server nft insert rule inet t in ip saddr 10.78.0.2 drop
handed() { [ "$(counter HandedOver)" -ge 1 ]; }
wait_until 5 handed
then=$(received 10.78.0.2)
wait_until 10 grown "$scratch/other" 16000000
now=$(received 10.78.0.2)
# What the kernel was handed may be under way.
if [ -n "$then" ] && [ $((now - then)) -le 65536 ]; then pass "a ban works on an established connection"; else fail "banned, and $((now - then)) bytes more"; fi
[ "$(counter HandedOver)" = 1 ] && pass "the other one stays" || fail "the other one stays"
# The ban is lifted: the kernel, who has the connection, goes on.
handle=$(in_server nft -a list chain inet t in | sed -n 's/.*saddr 10.78.0.2 drop # handle //p')
in_server nft delete rule inet t in handle "$handle"
wait "$other" && cmp -s "$scratch/other" "$scratch/www/big" && pass "the other one loses nothing" || fail "the other one loses nothing"
wait "$banned" && cmp -s "$scratch/banned" "$scratch/www/big" && pass "nor does who is not banned any more" || fail "nor does who is not banned any more"
stop

rules ""
start 8080
slow 10.78.0.2 "$scratch/banned"
banned=$!
wait_until 10 grown "$scratch/banned" 4000000
rules "$EST
$ASKS
add rule inet t in tcp dport 8080 accept
add rule inet t in drop"
judged() { fetch 10.78.0.3 8080 0 >/dev/null; [ "$(counter Judged)" -ge 1 ]; }
wait_until 10 judged
[ "$(counter HandedOver)" = 0 ] && pass "a firewall that comes up disturbs nobody whom it lets in" || fail "a firewall that comes up disturbs nobody whom it lets in"
rules "$EST
add rule inet t in drop"
kept_out() { [ "$(fetch 10.78.0.3 8080 28)" = 28 ]; }
wait_until 10 kept_out && pass "and keeps out whom it does not"
kill $banned
wait $banned 2>/dev/null || true
stop

# Several processes serve the port, which have dropped their privilege.
rules "$EST
add rule inet t in ip saddr 10.78.0.3 drop
add rule inet t in tcp dport 8080 ct state new counter accept
add rule inet t in drop"
chmod 755 "$scratch" "$scratch/www"
cat >"$scratch/nginx.conf" <<-CONF
	user www-data; worker_processes 2; daemon off; pid $scratch/pid; error_log $scratch/error.log;
	events { worker_connections 512; }
	http { access_log off; server { listen 8080; root $scratch/www; } }
CONF
finesse_server nginx -c "$scratch/nginx.conf" >"$scratch/server.log" 2>&1 9>&- &
server=$!
wait_until 10 sh -c "[ \"\$(nsenter --net=/proc/$CLIENT_NS/ns/net curl -s -m 10 -o /dev/null -w '%{http_code}' http://$SERVER_IP:8080/nothing)\" = 404 ]"
# Where no worker has waited for a while, a SYN is the kernel's queue's: a machine that lets none run may bring that about, now and then.
for try in 1 2 3 4; do
	before=$(in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
	got=$(in_client sh -c "seq 100 | xargs -P 4 -I{} curl -s -m 60 --interface 10.78.0.2 -o /dev/null -w '%{size_download}\n' http://$SERVER_IP:8080/file" | grep -c '^3000000$')
	after=$(in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}')
	[ "$got" = 100 ] || break
	[ $((after - before)) -gt 10 ] || break
done
[ "$got" = 100 ] && pass "two workers: all files come" || fail "two workers: $got of 100 files come"
[ $((after - before)) -le 10 ] && pass "two workers: nearly none is the kernel's" || fail "two workers: $((after - before)) of 100 are the kernel's, $try times"
shares=
for worker in $(pgrep -P "$server"); do
	server_of=$server
	server=$worker
	shares="$shares $(counter Judged)"
	server=$server_of
done
case $shares in
" 0 "* | *" 0") fail "two workers: both have judged ones:$shares" ;;
*) pass "two workers: both have judged ones" ;;
esac
[ "$(fetch 10.78.0.3 8080 28)" = 28 ] && pass "two workers: a ban holds" || fail "two workers: a ban holds"
stop
finish
