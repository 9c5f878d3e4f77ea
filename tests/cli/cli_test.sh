#!/bin/sh
# The finesse command: exit statuses, errors by name, help, the environment that a program gets, stat against a fake engine.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
engines=
trap 'kill $engines 2>/dev/null; rm -rf "$dir"' EXIT
failures=0
checks=0
unset LD_PRELOAD
for v in $(env | sed -n 's/^\(FINESSE_[A-Z_]*\)=.*/\1/p'); do unset "$v"; done

# A copy beside a library of its own: the loader complains about an empty one and goes on.
cp ./finesse "$dir/finesse" || exit 99
: >"$dir/libfinesse.so"
finesse=$dir/finesse

fail() {
	failures=$((failures + 1))
	echo "FAIL: $*"
	sed 's/^/  out: /' "$dir/out"
	sed 's/^/  err: /' "$dir/err"
}

# expect STATUS PATTERN-IN-STDERR COMMAND...: '' for nothing special
expect() {
	want=$1 pattern=$2
	shift 2
	checks=$((checks + 1))
	"$@" >"$dir/out" 2>"$dir/err" </dev/null
	got=$?
	[ "$got" = "$want" ] || fail "$*: status $got, not $want"
	[ -z "$pattern" ] || grep -q -e "$pattern" "$dir/err" || fail "$*: no '$pattern' on standard error"
}

# stdout_has PATTERN: of the last expect
stdout_has() {
	checks=$((checks + 1))
	grep -q -e "$1" "$dir/out" || fail "no '$1' on standard output"
}

# version, help
expect 0 '' "$finesse" --version
stdout_has '^finesse [0-9]*\.[0-9]*\.[0-9]*$'
expect 2 "'run'" "$finesse" --version run
expect 0 '' "$finesse" --help
for command in $(sed -n 's/^ *{"\([a-z]*\)", cli_.*/\1/p' "$here/../../src/cli/main.c"); do
	stdout_has "^\\(usage:\\|      \\) finesse $command"
	stdout_has "^  $command "
done
expect 0 '' "$finesse" help run
cp "$dir/out" "$dir/help"
settings=$(sed -n 's/^SETTING([a-z_]*, "\([a-z-]*\)".*/\1/p' "$here/../../src/base/settings.def")
checks=$((checks + 1))
[ "$(printf '%s\n' $settings | wc -l)" -ge 16 ] || fail "settings.def has few settings: $settings"
for s in $settings config; do
	checks=$((checks + 1))
	grep -q -e "^  --$s" "$dir/help" || fail "help run does not know $s"
	if [ -f "$here/../../man/finesse.1" ]; then
		sed 's/\\-/-/g' "$here/../../man/finesse.1" | grep -q -e "^\.BI* --$s" || fail "the manual does not know $s"
	fi
done
# The README's table of settings, the manual's list and the help have the same names, and no others; so have the commands.
same() {
	checks=$((checks + 1))
	have=$(printf '%s\n' $3 | sort -u)
	want=$(printf '%s\n' $2 | sort -u)
	[ "$have" = "$want" ] || fail "$1: $(printf '%s\n%s\n' "$have" "$want" | sort | uniq -u | tr '\n' ' ')"
}
commands=$(sed -n 's/^ *{"\([a-z]*\)", cli_.*/\1/p' "$here/../../src/cli/main.c")
same "the help's settings" "$settings config" "$(sed -n 's/^  --\([a-z-]*\).*/\1/p' "$dir/help")"
if [ -f "$here/../../README.md" ]; then
	same "the README's settings" "$settings" "$(sed -n '/^## Settings/,/^## How/s/^| \(`[a-z`, -]*\) |.*/\1/p' "$here/../../README.md" | tr -d '`,')"
	same "the README's commands" "$commands" "$(sed -n '/^## Use/,/^## /s/^    \.\/finesse \([a-z]*\).*/\1/p' "$here/../../README.md")"
fi
if [ -f "$here/../../man/finesse.1" ]; then
	same "the manual's settings" "$settings config" "$(sed -n '/^\.SH SETTINGS/,/^\.SH [^S]/{ s/\\-/-/g; s/^\.BI* --\([a-z-]*\).*/\1/p; }' "$here/../../man/finesse.1")"
	same "the manual's commands" "$commands" "$(sed -n 's/^\.SS finesse \([a-z]*\)$/\1/p' "$here/../../man/finesse.1")"
fi
expect 0 '' "$finesse" run --help
expect 0 '' "$finesse" trace --help
stdout_has 'TIME-WAIT'
expect 2 'finesse trace: -o needs a file' "$finesse" trace -o
expect 2 "finesse trace: trace: $dir/no/such/file: No such file" "$finesse" trace -o "$dir/no/such/file" -- true
# The reader of a named pipe does not meet the end of file before the program writes.
mkfifo "$dir/pipe"
! command -v python3 >/dev/null || expect 0 '' python3 -c '
import os, select, subprocess, sys
p = select.poll()
p.register(os.open(sys.argv[2], os.O_RDONLY | os.O_NONBLOCK), select.POLLIN)
status = subprocess.call([sys.argv[1], "trace", "-o", sys.argv[2], "true"])
sys.exit(status or (3 if p.poll(0) else 0))' "$finesse" "$dir/pipe"
chmod 0 "$dir/pipe"
[ "$(id -u)" = 0 ] || expect 2 'trace: .*/pipe: Permission denied' "$finesse" trace -o "$dir/pipe" true
expect 0 '' "$finesse" stat --help
stdout_has 'json'
expect 0 '' "$finesse" doctor -h
stdout_has 'interface'
expect 2 'usage' "$finesse"
expect 2 "'walk'" "$finesse" walk
expect 2 "'walk'" "$finesse" help walk
expect 2 "'stat'" "$finesse" help run stat

# What cannot be written is an error, not a success with half of the text.
full() {
	checks=$((checks + 1))
	"$@" >/dev/full 2>"$dir/err" </dev/null
	got=$?
	[ "$got" != 0 ] || fail "$*: status 0 though standard output is full"
	grep -q '^finesse.*: No space left' "$dir/err" || fail "$*: no word of the full disk"
}
full "$finesse" --version
full "$finesse" --help
full "$finesse" run --help
full "$finesse" run --spin 3 --help
full "$finesse" doctor --interface lo
full "$finesse" doctor --interface lo --json
checks=$((checks + 2))
"$finesse" --version >&- 2>"$dir/err" && fail "status 0 without a standard output"
"$finesse" doctor --interface lo >&- 2>"$dir/err" && fail "doctor: status 0 without a standard output"

# each component that a line of the log can have, and no other
components=$(sed -n 's/^#define LOG_COMPONENTS "\(.*\)"/\1/p' "$here/../../src/base/log.h" | tr -d ' ' | tr ',' '\n')
used=$(grep -rhoE 'log_(error|warn|notice|info|debug|line)\([^"]*"[a-z-]+"' "$here/../../src" "$here/../../preload" --include='*.c' --include='*.h' |
	sed 's/.*"\(.*\)"/\1/' | sort -u)
checks=$((checks + 1))
[ "$used" = "$components" ] || fail "the log's components are not those of log.h: $(printf '%s\n' $used $components | sort | uniq -u)"
for c in $components; do
	expect 0 '' "$finesse" run --log "debug,$c" true
	if [ -f "$here/../../man/finesse.1" ]; then
		checks=$((checks + 1))
		grep -q "^\.BR* $c" "$here/../../man/finesse.1" || fail "the manual does not know the log's component $c"
	fi
done

# bad settings, by name, before anything runs
expect 2 "components are .*engine.*, not 'engin'" "$finesse" run --log debug,engin -- touch "$dir/ran"
expect 2 '--interface needs a value' "$finesse" run --interface -- touch "$dir/ran"
expect 2 'interface: each interface once' "$finesse" run --interface a,b,a -- touch "$dir/ran"
expect 2 "interface: auto stands alone, not 'a,auto'" "$finesse" run --interface a,auto -- touch "$dir/ran"
expect 2 'interface: at most 16' "$finesse" run --interface "i$(seq -s ,i 17)" -- touch "$dir/ran"
expect 2 'interface takes' "$finesse" run --interface sixteen-letters-x -- touch "$dir/ran"
expect 2 'interface takes' "$finesse" run --interface a/b -- touch "$dir/ran"
expect 2 'gateway 10.0.0.1: there is no address' "$finesse" run --gateway 10.0.0.1 -- touch "$dir/ran"
expect 2 'gateway 10.1.0.1: no prefix' "$finesse" run --address 10.0.0.9/24 --gateway 10.1.0.1 -- touch "$dir/ran"
expect 2 'gateway 10.1.0.1: no prefix' env FINESSE_ADDRESS=10.0.0.9/24 "$finesse" run --gateway 10.1.0.1 -- touch "$dir/ran"
for a in 224.0.0.1/24 255.255.255.255/32 10.0.0.255/24 10.0.0.0/24 0.0.0.0/8 ::/64 ff02::1/64; do
	expect 2 "address: .*${a%/*}" "$finesse" run --address "$a" -- touch "$dir/ran"
done
for a in 10.0.0.1/0 10.0.0.1/33 fd00::1/129 10.0.0.1; do
	expect 2 "address takes .*prefix" "$finesse" run --address "$a" -- touch "$dir/ran"
done
expect 2 "trace: $dir/no/such/file: No such file" "$finesse" run --trace "$dir/no/such/file" touch "$dir/ran"
expect 2 "trace: $dir: Is a directory" env FINESSE_TRACE="$dir" "$finesse" run touch "$dir/ran"
expect 2 'finesse trace: which program' "$finesse" trace --spin 3
expect 2 'finesse trace: spin takes' "$finesse" trace -o "$dir/trace" --spin x touch "$dir/ran"
expect 2 'trace -o FILE comes before' "$finesse" trace --spin 3 -o "$dir/trace" touch "$dir/ran"
expect 2 "'-'" "$finesse" run - touch "$dir/ran"
expect 0 '' "$finesse" run --spin 3 --help
stdout_has '^usage: finesse run'
expect 2 'close-policy.*hodl' "$finesse" run --close-policy hodl -- touch "$dir/ran"
expect 2 'close-policy.*hodl' "$finesse" run --close-policy=hodl -- touch "$dir/ran"
expect 2 'congestion takes system, cubic, reno, newreno, dctcp or bbr' "$finesse" run --congestion vegas -- touch "$dir/ran"
expect 2 'no-such' "$finesse" run --no-such 3 -- touch "$dir/ran"
expect 2 "'-x'" "$finesse" run -x touch "$dir/ran"
expect 2 'close-hold-max' "$finesse" run --close-policy hold:2000 -- touch "$dir/ran"
expect 2 '--spin needs a value' "$finesse" run --spin
expect 2 'which program' "$finesse" run --strict
expect 2 'which program' "$finesse" run --
expect 2 'strict takes on or off' "$finesse" run --strict=maybe touch "$dir/ran"
expect 2 'only:.*sever' "$finesse" run --only 'sever *:80' touch "$dir/ran"
expect 2 'FINESSE_SPIN takes' env FINESSE_SPIN=fast "$finesse" run touch "$dir/ran"
expect 2 'FINESSE_SPINN' env FINESSE_SPINN=1 "$finesse" run touch "$dir/ran"
printf 'spin = 3\nclose-policy = never\n' >"$dir/config"
expect 2 'config:2: close-policy takes' "$finesse" run --config "$dir/config" touch "$dir/ran"
expect 2 'missing.*No such file' "$finesse" run --config "$dir/missing" touch "$dir/ran"
expect 2 ': Is a directory' "$finesse" run --config "$dir" touch "$dir/ran"
expect 2 '--config needs a value' "$finesse" run --config= touch "$dir/ran"
printf 'spin = 3\r\nspinn = 3' >"$dir/config"
expect 2 "config:2: there is no setting 'spinn'" "$finesse" run --config "$dir/config" touch "$dir/ran"
printf 'spin = 3\nlog = info\nspin = 4\n' >"$dir/config"
expect 2 'config:3: spin is set in line 1 already' "$finesse" run --config "$dir/config" touch "$dir/ran"
head -c 70000 /dev/zero | tr '\0' '#' >"$dir/config"
expect 2 'config: a settings file has less than 65536 bytes' "$finesse" run --config "$dir/config" touch "$dir/ran"
checks=$((checks + 1))
[ ! -e "$dir/ran" ] || fail "a program ran in spite of a bad setting"

# what the program gets
cat >"$dir/config" <<'END'
# weaker than the environment
spin = 10
log = info
close-policy = off
except = server *:22
strict = off
END
expect 0 '' env FINESSE_LOG=debug "$finesse" run --config "$dir/config" --close-policy hold:5 \
	sh -c 'env | grep -a "^FINESSE_\|^LD_PRELOAD" | sort; echo pid $$'
stdout_has '^FINESSE_SPIN=10$'
stdout_has '^FINESSE_LOG=debug$'
stdout_has '^FINESSE_CLOSE_POLICY=hold:5$'
stdout_has '^FINESSE_ONLY=except server \*:22$'
stdout_has "^LD_PRELOAD=$dir/libfinesse.so\$"
expect 0 '' env FINESSE_EXCEPT='client *:1' FINESSE_STRICT=off "$finesse" run --config "$dir/config" \
	--only 'server *:80, except server *:81' --except 'server *:82' -- env
stdout_has '^FINESSE_ONLY=only server \*:80,except server \*:81,except server \*:82$'
checks=$((checks + 1))
! grep -q '^FINESSE_EXCEPT' "$dir/out" || fail "weaker rules survived"
expect 0 '' env LD_PRELOAD=/nonexistent.so "$finesse" run env
stdout_has "^LD_PRELOAD=/nonexistent.so:$dir/libfinesse.so\$"
expect 0 '' env LD_PRELOAD="$dir/libfinesse.so" "$finesse" run env
stdout_has "^LD_PRELOAD=$dir/libfinesse.so\$"

# the last word counts; a relative trace is of the directory in which finesse was started
expect 0 '' "$finesse" run --spin 3 --spin=4 env
stdout_has '^FINESSE_SPIN=4$'
expect 0 '' env -C "$dir" "$finesse" run --trace lines sh -c 'cd / && env'
stdout_has "^FINESSE_TRACE=$dir/lines\$"
expect 0 '' env -C "$dir" FINESSE_TRACE=lines "$finesse" run env
stdout_has "^FINESSE_TRACE=$dir/lines\$"
expect 0 '' "$finesse" trace env
stdout_has '^FINESSE_TRACE=/dev/stderr$'

# its own pid, its own status
checks=$((checks + 1))
sh -c 'echo $$; exec "$1" run sh -c '\''echo $$'\' sh "$finesse" 2>/dev/null >"$dir/out"
[ "$(wc -l <"$dir/out")" = 2 ] && [ "$(sort -u "$dir/out" | wc -l)" = 1 ] || fail "run changed the pid"
expect 7 '' "$finesse" run sh -c 'exit 7'
expect 137 '' "$finesse" run sh -c 'kill -9 $$'
expect 143 '' "$finesse" run sh -c 'kill -TERM $$'
expect 7 '' "$finesse" run "$finesse" run sh -c 'echo $LD_PRELOAD; exit 7'
stdout_has "^$dir/libfinesse.so\$"
expect 0 '' "$finesse" run -- sh -c 'echo "$*"' sh -- --spin -- x
stdout_has '^-- --spin -- x$'
expect 0 '' "$finesse" run env -i env
checks=$((checks + 1))
[ ! -s "$dir/out" ] || fail "env -i left something to its program"

# 126 and 127
expect 127 'not found' "$finesse" run no-such-program-anywhere
expect 127 'not found' "$finesse" run /no/such/program
: >"$dir/plain"
expect 126 'cannot be executed' "$finesse" run "$dir/plain"
expect 126 'cannot be executed: it is a directory' "$finesse" run "$dir"
printf '#!/no/such/interpreter\n' >"$dir/uninterpreted"
chmod +x "$dir/uninterpreted"
expect 127 'interpreter .* does not exist' "$finesse" run "$dir/uninterpreted"
printf 'echo said; exit 3\n' >"$dir/headless"
chmod +x "$dir/headless"
expect 3 '' "$finesse" run "$dir/headless"
stdout_has '^said$'
expect 126 'cannot be executed' env PATH="$dir:$PATH" "$finesse" run plain

# programs that cannot be preloaded: an ELF header with one segment that names no interpreter, and a set-user-ID copy
printf '\177ELF\002\001\001\000\000\000\000\000\000\000\000\000\002\000\076\000' >"$dir/static"
head -c 100 /dev/zero >>"$dir/static"
chmod +x "$dir/static"
# … and one with an interpreter, and the note that Go's linker leaves
zeros() {
	head -c "$1" /dev/zero
}
{
	printf '\177ELF\002\001\001' && zeros 9 && printf '\002\000\076\000' && zeros 12
	printf '\100' && zeros 21 && printf '\070\000\002\000' && zeros 6 # two segments of 56 bytes each, at 64
	printf '\003' && zeros 55                                            # PT_INTERP
	printf '\004' && zeros 7 && printf '\260' && zeros 23 && printf '\024' && zeros 23 # PT_NOTE: 20 bytes at 176
	printf '\004\000\000\000\004\000\000\000\004\000\000\000Go\000\000text'
} >"$dir/go"
chmod +x "$dir/go"
if [ "$(uname -m)" = x86_64 ]; then
	expect 126 'statically linked.*strict forbids' "$finesse" run --strict "$dir/static"
	expect 126 'go is a Go program.*strict forbids' "$finesse" run --strict "$dir/go"
	printf '#!%s\n' "$dir/static" >"$dir/script"
	chmod +x "$dir/script"
	expect 126 'script is statically linked' "$finesse" run --strict "$dir/script"
	# The dynamic linker, executed as a program, has no interpreter either, and preloads.
	linker=/lib64/ld-linux-x86-64.so.2
	if [ -x $linker ]; then
		expect 0 '' "$finesse" run $linker /bin/sh -c 'echo $LD_PRELOAD'
		stdout_has libfinesse.so
		checks=$((checks + 1))
		! grep -q linked "$dir/err" || fail "the dynamic linker is said to be statically linked"
	fi
	# … nor those that a program of the tree starts: exec after exec
	for how in 'exec "$1"' 'os=posix; $1; :' '($1; :); ($1; :); (exec "$1")' 'x=$($1 2>&1); $1; :' '$1 2>/dev/null; $1; :'; do
		./finesse run sh -c "$how" sh "$dir/static" >"$dir/out" 2>"$dir/err"
		checks=$((checks + 1))
		n=$(grep -c "$dir/static is statically linked: its TCP is the kernel's" "$dir/err")
		[ "$n" = 1 ] || fail "of a static program it was said $n times that it is one ($how)"
	done
fi
expect 0 '' "$finesse" run true
if [ "$(id -u)" != 0 ]; then
	expect 126 'strict forbids' "$finesse" run --strict true
	expect 0 '' "$finesse" run true
else
	cp "$(command -v env)" "$dir/suid"
	chown 65534 "$dir/suid"
	chmod 4755 "$dir/suid"
	expect 126 'set-user-ID' "$finesse" run --strict "$dir/suid"
	expect 126 'nosuchif0 does not exist' "$finesse" run --strict --interface nosuchif0 true
	expect 0 'set-user-ID.*on the kernel' "$finesse" run "$dir/suid"
fi
mv "$dir/libfinesse.so" "$dir/aside.so"
# unless one is installed
if "$finesse" doctor --interface lo | grep -q '^missing *libfinesse.so'; then
	expect 126 'libfinesse.so' "$finesse" run true
fi
mv "$dir/aside.so" "$dir/libfinesse.so"

# An installed tree finds its own library wherever it stands, but for a path that LD_PRELOAD cannot name.
mkdir -p "$dir/tree/bin" "$dir/tree/lib/finesse" "$dir/a tree"
cp "$dir/finesse" "$dir/tree/bin/" && cp "$dir/libfinesse.so" "$dir/tree/lib/finesse/"
expect 0 '' "$dir/tree/bin/finesse" run env
stdout_has "^LD_PRELOAD=$dir/tree/lib/finesse/libfinesse.so\$"
cp "$dir/finesse" "$dir/libfinesse.so" "$dir/a tree/"
expect 2 'a colon or a space; install finesse elsewhere' "$dir/a tree/finesse" run true
expect 1 '' "$dir/a tree/finesse" doctor --interface lo
stdout_has '^missing *libfinesse.so .*a colon or a space'

# stat
expect 2 "'-j'" "$finesse" stat -j
expect 2 'PID' "$finesse" stat twelve
expect 2 'one PID' "$finesse" stat 1 2
for p in 0 -1 +5 ' 5' 5x '' 99999999999999999999; do
	expect 2 "'$p'" "$finesse" stat "$p"
done
expect 1 'no such process' "$finesse" stat -- 4194305
expect 1 'does not run under finesse' "$finesse" stat $$
expect 1 'no such process' "$finesse" stat 4194305
if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null; then
	expect 1 'no program runs under finesse' unshare -n "$finesse" stat
	expect 1 'no program runs under finesse' unshare -n "$finesse" stat --json
	stdout_has '^\[\]$'
fi
# A process of the tree that the preload does not reach is listed when it has TCP sockets, and why it is not reached.
if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null && command -v python3 >/dev/null; then
	unreached() {
		cat >"$dir/unreached" <<'END'
finesse=$1 here=$2 dir=$3 way=$4
rm -f "$dir/fifo" "$dir/said"
mkfifo "$dir/fifo"
ip link set lo up
"$finesse" run python3 "$here/unreached.py" "$way" <"$dir/fifo" >"$dir/said" 2>"$dir/told" &
exec 9>"$dir/fifo"
until grep -q listening "$dir/said"; do kill -0 $! || exit 3; sleep 0.02; done
"$finesse" stat
"$finesse" stat --json >"$dir/json"
exec 9>&-
wait
END
		expect "$1" '' unshare -n sh "$dir/unreached" ./finesse "$here" "$dir" "$2"
	}
	unreached 0 users
	stdout_has 'is not reached by finesse: it was executed .* by a process whose real and effective users differ'
	stdout_has 'LISTEN .*127.0.0.1'
	stdout_has 'carried by the kernel: finesse does not reach this process'
	checks=$((checks + 2))
	grep -q 'real and effective users .*differ.*its TCP is the kernel' "$dir/told" || fail "nobody said that a program with two users is not reached"
	grep -q '"unreached"' "$dir/json" || fail "the document does not say that it is unreached"
	unreached 0 environment
	stdout_has 'is not reached by finesse: it was executed without libfinesse.so in LD_PRELOAD'
	unreached 0 reached
	checks=$((checks + 2))
	! grep -q 'not reach' "$dir/out" || fail "a process that is reached is told as one that is not"
	! grep -q 'its TCP is the kernel' "$dir/told" || fail "something was told of a program that is reached"
fi
if command -v python3 >/dev/null; then
	cat >"$dir/document" <<'END'
{"version":"0.1.0","pid":1234,"comm":"nginx","interface":"veth0","classifier":"ebpf-tcx","tx":"io_uring",
"listeners":[{"address":"0.0.0.0","port":80,"backlog":511,"accept_queue":1,"syn_queue":2,
"steering":{"policy":"adaptive","closes":200,"client_first":150,"server_first":{"learned-off":48,"idle":2},"held":152,"held_now":1,
"hold_client_fin":150,"hold_expired":2,"hold_us":4096,"learned_off":false},
"group":{"engineless":true,"members":[{"pid":17,"accepting":true,"waiting":true,"queue":0},{"pid":18,"accepting":true,"waiting":false,"queue":2},
{"pid":19,"accepting":false,"waiting":false,"queue":0}]}}],
"connections":[{"local":"10.0.0.1:80","remote":"10.0.0.2:4711","role":"server","state":"FIN-WAIT-1","held":true,"first_fin":"none",
"close_reason":"held","rtt_us":85,"rttvar_us":1500,"handshake_rtt_us":90,"rto_us":200000,"cwnd_bytes":14480,"mss":1448,"bytes_in":80,
"bytes_out":123456789,"unread_bytes":3,"unsent_bytes":4,"in_flight_bytes":5,"cc":"newreno","future":[1]}],
"time_wait":7,"totals":{"connections_accepted":200,"first_fin_us":50,"first_fin_peer":150,"fallbacks":1},
"fallbacks":[{"what":"listen 127.0.0.1:81","why":"loopback","count":2}],"counters":{"tcp":{"SegsIn":9,"Nothing":0},"ip":{}}}
END
	python3 "$here/fake_engine.py" <"$dir/document" >"$dir/pid" &
	engines=$!
	until [ -s "$dir/pid" ]; do sleep 0.02; done
	pid=$(cat "$dir/pid")
	expect 0 '' "$finesse" stat "$pid"
	stdout_has '^nginx, pid 1234, finesse 0.1.0 on veth0'
	stdout_has 'LISTEN .* 1 *511  0.0.0.0:80'
	stdout_has '200 closes, the client first in 150 (75.0 %).*4.096 ms'
	stdout_has '48 learned-off, 2 idle'
	stdout_has 'shared by 3 processes:  17 waits  18 accepts, queue 2  19 is busy  and some without an engine'
	stdout_has 'FIN-WAIT-1 .* 3 *9  10.0.0.1:80 *10.0.0.2:4711'
	stdout_has 'first FIN none yet: held'
	stdout_has 'FIN HELD'
	stdout_has '123.5M'
	stdout_has 'listen 127.0.0.1:81: loopback (2 times)'
	stdout_has 'SegsIn 9'
	full "$finesse" stat "$pid"
	full "$finesse" stat "$pid" --json
	expect 0 '' "$finesse" stat "$pid" --json
	stdout_has '"comm": "nginx"'
	stdout_has '"future"'
	checks=$((checks + 1))
	python3 -c 'import json, sys; (d,) = json.load(sys.stdin); assert d["pid"] == 1234' <"$dir/out" || fail "not an array of one"

	# The manual's examples for stat, as they stand there, with the command of this test.
	if [ -f "$here/../../man/finesse.1" ] && command -v jq >/dev/null; then
		sed -n '/^\.SH EXAMPLES/,/^\.SH SEE/{ s/\\-/-/g; s/\\e/\\/g; /^finesse stat/p; }' "$here/../../man/finesse.1" >"$dir/examples"
		checks=$((checks + 1))
		[ "$(wc -l <"$dir/examples")" -ge 3 ] || fail "the manual has no examples of stat"
		while read -r example; do
			expect 0 '' env PATH="$dir:$PATH" PID="$pid" sh -c "set -e; $example"
			checks=$((checks + 1))
			[ -s "$dir/out" ] || fail "an example prints nothing: $example"
		done <"$dir/examples"
	fi
	python3 "$here/fake_engine.py" <"$dir/plain" >"$dir/pid2" &
	engines="$engines $!"
	echo '{}' | python3 "$here/fake_engine.py" >"$dir/pid3" &
	engines="$engines $!"
	until [ -s "$dir/pid2" ] && [ -s "$dir/pid3" ]; do sleep 0.02; done
	expect 1 'another user' "$finesse" stat "$(cat "$dir/pid2")"
	expect 0 '' "$finesse" stat "$(cat "$dir/pid3")"
	# A process that has exited, and whose socket a child has: not one that does not answer.
	python3 "$here/fake_engine.py" leave <"$dir/document" >"$dir/pid4" 3>"$dir/child"
	until [ -s "$dir/child" ]; do sleep 0.02; done
	engines="$engines $(cat "$dir/child")"
	expect 1 'no such process' "$finesse" stat "$(cat "$dir/pid4")"
	expect 1 '' "$finesse" stat --json
	checks=$((checks + 2))
	! grep -q "pid $(cat "$dir/pid4")" "$dir/err" || fail "a process that has exited is listed"
	python3 -c 'import json, sys; assert len(json.load(sys.stdin)) >= 2' <"$dir/out" || fail "not an array of both"
fi

# doctor: which lines, not what they find
expect 2 "'-i'" "$finesse" doctor -i
expect 2 "'0'" "$finesse" doctor --server 0
expect 2 "'10.0.0.1:x'" "$finesse" doctor --client 10.0.0.1:x
expect 2 "'10.0.0:1'" "$finesse" doctor --server=10.0.0:1
"$finesse" doctor --interface lo >"$dir/out" 2>"$dir/err"
for what in libfinesse.so kernel CAP_NET_RAW CAP_NET_ADMIN CAP_BPF AF_PACKET io_uring TCP_REPAIR interface RLIMIT_NOFILE net.ipv4; do
	stdout_has "^[a-z]* *$what "
done
expect 1 '' "$finesse" doctor --interface lo --server 127.0.0.1:80 --client '[::1]:81' --client 127.9.9.9:82
for what in 'server 127.0.0.1:80' 'client \[::1\]:81' 'client 127.9.9.9:82'; do
	stdout_has "^missing *$what *the kernel.s: finesse serves no loopback"
done
expect 2 'address takes' "$finesse" doctor --address 10.0.0.9
expect 2 'address: .*loopback' "$finesse" run --address 127.0.0.2/8 -- true
expect 1 '' "$finesse" doctor --interface nosuchif0
stdout_has '^missing *interface *nosuchif0'
stdout_has 'kernel.s TCP$'

echo "$checks checks, $failures failures"
[ "$failures" = 0 ]
