#!/bin/sh
# Debian's nginx (its own configuration, workers as www-data) on hosts with the rule sets that packages make: ufw, firewalld, Docker. It is carried by the engine, and
# a ban as fail2ban's works in mid-transfer. The tools run in a mount namespace with copies of their configuration. shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft iptables ip6tables iptables-restore nginx curl python3 nstat
[ -e /etc/nginx/sites-enabled/default ] || { echo "skipped: needs Debian's nginx configuration"; exit 77; }
pair_up
in_client ip addr add 10.78.0.3/24 dev client0
SERVER_IP6=fd78::1
in_server ip addr add $SERVER_IP6/64 dev server0 nodad
in_client ip addr add fd78::2/64 dev client0 nodad
mkdir "$scratch/www" "$scratch/run" "$scratch/log" "$scratch/etc"
chmod 755 "$scratch" "$scratch/www"
head -c 40000000 /dev/urandom >"$scratch/www/file"

# Becomes a command in the server's network, with private copies of what it writes to; for a subshell of its own, or &.
exec_in_host() {
	exec nsenter --net="/proc/$SERVER_NS/ns/net" unshare --mount sh -ec '
		scratch=$1; shift
		mount --bind "$scratch/run" /run
		mount --bind "$scratch/log" /var/log
		for dir in ufw firewalld; do
			[ -d /etc/$dir ] || continue
			[ -d "$scratch/etc/$dir" ] || cp -a /etc/$dir "$scratch/etc/$dir"
			mount --bind "$scratch/etc/$dir" /etc/$dir
		done
		mkdir -p /var/log/nginx
		mount --bind "$scratch/www" /var/www/html
		exec "$@"' sh "$scratch" "$@"
}

in_host() {
	(exec_in_host "$@")
}

flush() {
	in_server nft flush ruleset
}

ufw_rules() {
	flush
	for rule in 22/tcp 80/tcp 443/tcp; do in_host ufw allow $rule; done
	in_host ufw --force enable
}

firewalld_rules() {
	flush
	dbus-daemon --system --nofork --nopidfile --address="unix:path=$scratch/bus" 9>&- &
	bus=$!
	wait_until 5 test -S "$scratch/bus"
	exec_in_host env DBUS_SYSTEM_BUS_ADDRESS="unix:path=$scratch/bus" firewalld --nofork --nopid 9>&- &
	daemon=$!
	client="in_host env DBUS_SYSTEM_BUS_ADDRESS=unix:path=$scratch/bus firewall-cmd"
	wait_until 20 sh -c "DBUS_SYSTEM_BUS_ADDRESS=unix:path=$scratch/bus firewall-cmd --state"
	$client --zone=public --add-service=http
	$client --zone=public --change-interface=server0
	kill -9 $daemon # its rules stay
	kill $bus
	wait $daemon $bus || true
}

# As dockerd 27 makes them, with a published port.
docker_rules() {
	flush
	in_server ip link add docker0 type bridge
	in_server ip addr add 172.17.0.1/16 dev docker0
	in_server iptables-restore <<-RULES
	*nat
	:PREROUTING ACCEPT [0:0]
	:INPUT ACCEPT [0:0]
	:OUTPUT ACCEPT [0:0]
	:POSTROUTING ACCEPT [0:0]
	:DOCKER - [0:0]
	-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
	-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
	-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
	-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 8000 -j MASQUERADE
	-A DOCKER -i docker0 -j RETURN
	-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8000 -j DNAT --to-destination 172.17.0.2:8000
	COMMIT
	*filter
	:INPUT ACCEPT [0:0]
	:FORWARD DROP [0:0]
	:OUTPUT ACCEPT [0:0]
	:DOCKER - [0:0]
	:DOCKER-ISOLATION-STAGE-1 - [0:0]
	:DOCKER-ISOLATION-STAGE-2 - [0:0]
	:DOCKER-USER - [0:0]
	-A FORWARD -j DOCKER-USER
	-A FORWARD -j DOCKER-ISOLATION-STAGE-1
	-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	-A FORWARD -o docker0 -j DOCKER
	-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
	-A FORWARD -i docker0 -o docker0 -j ACCEPT
	-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 8000 -j ACCEPT
	-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
	-A DOCKER-ISOLATION-STAGE-1 -j RETURN
	-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
	-A DOCKER-ISOLATION-STAGE-2 -j RETURN
	-A DOCKER-USER -j RETURN
	COMMIT
	RULES
}

opens() { in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}'; }
serves() { [ "$(in_client curl -s -m 1 -o /dev/null -w '%{http_code}' http://$SERVER_IP/nothing)" = 404 ]; }
# Who comes before the first worker waits is the kernel's queue's.
carried() {
	before=$(opens)
	serves && [ "$(opens)" = "$before" ]
}
received() { in_client ss -tinH state established src "$1" | sed -n 's/.*bytes_received:\([0-9]*\).*/\1/p' | awk '{ n += $1 } END { if (NR) print n }'; }
longer() { [ "$(stat -c %s "$1")" -gt "$2" ]; }
beyond() { size=$(received "$1"); [ "${size:-0}" -gt "$2" ]; }

asked() { in_server "$FINESSE_BUILD_DIR/finesse" stat --json | sed -n 's/.*"Judged": *\([0-9]*\).*/\1/p' | awk '{ n += $1 } END { print n + 0 }'; }

start_nginx() {
	exec_in_host "$(realpath "$FINESSE_BUILD_DIR")/finesse" run --interface server0 -- nginx -g 'daemon off;' >"$scratch/nginx.log" 2>&1 9>&- &
	server=$!
	wait_until 15 carried
}

stop_nginx() {
	kill "$server"
	wait "$server" || true
}

# host NAME CHAIN: nginx on the host whose rules NAME_rules makes
host() {
	"$1_rules" >"$scratch/tool.log" 2>&1 || true
	in_server nft list ruleset | grep -q "chain $2" || { fail "$1: its rules could not be made"; cat "$scratch/tool.log"; return; }
	start_nginx
	before=$(opens)
	in_client curl -s -m 120 -o "$scratch/got" http://$SERVER_IP/file || true
	cmp -s "$scratch/got" "$scratch/www/file" && pass "$1: the file comes whole" || fail "$1: the file comes whole"
	[ "$(asked)" = 0 ] && pass "$1: an open port is not asked about" || fail "$1: the host was asked $(asked) times"
	in_client curl -s -m 120 -o "$scratch/got6" "http://[$SERVER_IP6]/file" || true
	cmp -s "$scratch/got6" "$scratch/www/file" && pass "$1: by IPv6, too" || fail "$1: by IPv6, too"
	[ "$(opens)" = "$before" ] && pass "$1: carried" || { fail "$1: the kernel carried $(($(opens) - before))"; cat "$scratch/nginx.log"; }
	said=$(in_server "$FINESSE_BUILD_DIR/finesse" doctor --interface server0 --server 80 --json) && echo "$said" | grep -q 'carried on server0' && pass "$1: doctor says so" || fail "$1: doctor says $said"
	ban "$1"
	stop_nginx
	flush
}

ban() {
	for from in 10.78.0.2 10.78.0.3; do
		as_client curl -s --limit-rate 3M --interface $from -o "$scratch/$from" http://$SERVER_IP/file 9>&- &
		eval "curl_${from##*.}=$!"
	done
	wait_until 10 beyond 10.78.0.2 3000000
	wait_until 10 beyond 10.78.0.3 3000000
	if [ "$1" = docker ]; then # as fail2ban's iptables-multiport
		in_server iptables -N f2b-nginx
		in_server iptables -A f2b-nginx -j RETURN
		in_server iptables -I INPUT -p tcp -m multiport --dports http,https -j f2b-nginx
		in_server iptables -I f2b-nginx 1 -s 10.78.0.2 -j DROP
	else # as its nftables-multiport
		in_server nft -f - <<-RULES
		add table inet f2b-table
		add chain inet f2b-table f2b-chain { type filter hook input priority -1; }
		add set inet f2b-table addr-set-nginx { type ipv4_addr; }
		add rule inet f2b-table f2b-chain tcp dport { 80,443 } ip saddr @addr-set-nginx drop
		add element inet f2b-table addr-set-nginx { 10.78.0.2 }
		RULES
	fi
	# The other's file grows by 3 MB a second.
	size=$(stat -c %s "$scratch/10.78.0.3")
	wait_until 10 longer "$scratch/10.78.0.3" $((size + 3000000))
	then=$(received 10.78.0.2)
	wait_until 20 longer "$scratch/10.78.0.3" $((size + 9000000))
	now=$(received 10.78.0.2)
	# What is sent again in vain may carry a segment that is new: the server hears nothing of what came.
	[ -n "$then" ] && [ "$((now - then))" -le 65536 ] && pass "$1: a ban works in mid-transfer" || fail "$1: banned at $then, then $now"
	wait "$curl_3" && cmp -s "$scratch/10.78.0.3" "$scratch/www/file" && pass "$1: the other loses nothing" || fail "$1: the other loses nothing"
	kill "$curl_2"
	wait "$curl_2" 2>/dev/null || true
}

if command -v ufw >/dev/null; then host ufw ufw-user-input; fi
if command -v firewalld >/dev/null && command -v dbus-daemon >/dev/null; then host firewalld filter_IN_public; fi
host docker DOCKER-USER
finish
