#!/bin/sh
# An exec that fails changes nothing: connections of before and after it go on, and what they have not sent when the program ends is sent. In two ways of failing (nothing
# of that name, no program), and two ways of ending (exit, a signal), natively and under finesse.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3
pair_up

cat >"$scratch/program.py" <<'END'
import ctypes, os, signal, socket, sys
address, port, name, ending = sys.argv[1:5]
early = socket.create_connection((address, int(port)))
libc = ctypes.CDLL(None, use_errno=True)
argv = (ctypes.c_char_p * 2)(b"x", None)
call = libc.execv if "/" in name else libc.execvp  # which hands what is no program to the shell
if call(name.encode(), argv) != -1:
    sys.exit("the exec did not fail")
late = socket.create_connection((address, int(port)))
sent = []
for s in early, late:
    s.setblocking(False)
    sent.append(s.send(bytes(200000)))
print(*sent, flush=True)
if ending == "exit":
    os._exit(3)
os.kill(os.getpid(), signal.SIGTERM)
END
printf '\177ELFjunk' >"$scratch/junk"
chmod +x "$scratch/junk"

# The peer reads when the program is gone. What it says: how many connections gave all that was sent, and then the end of file.
cat >"$scratch/peer.py" <<'END'
import socket, subprocess, sys
address, namespace, *command = sys.argv[1:]
l = socket.socket()
l.bind((address, 0))
l.listen(8)
p = subprocess.Popen(["nsenter", "--net=" + namespace, *command[:-2], address, str(l.getsockname()[1]), *command[-2:]], stdout=subprocess.PIPE)
sent = [int(n) for n in p.stdout.readline().split()]
p.wait(30)
good = 0
for n in sent:
    c = l.accept()[0]
    c.settimeout(20)
    got = 0
    try:
        while data := c.recv(65536):
            got += len(data)
    except OSError as e:
        print(repr(e), "after", got, "of", n, file=sys.stderr)
        continue
    good += got == n and n > 20000
print(good, p.returncode)
END

one() { # HOW NAME ENDING STATUS
	how=$1 name=$2 ending=$3 status=$4
	shift 4
	said=$(in_client timeout 60 python3 "$scratch/peer.py" $CLIENT_IP "/proc/$SERVER_NS/ns/net" "$@" python3 "$scratch/program.py" "$name" "$ending")
	if [ "$said" = "2 $status" ]; then
		pass "$how: exec of ${name##*/} fails, then $ending"
	else
		fail "$how: exec of ${name##*/} fails, then $ending: $said"
	fi
}

for name in no-such-program "$scratch/junk"; do
	for ending in exit signal; do
		[ $ending = exit ] && status=3 || status=-15
		one natively "$name" $ending $status
		one finesse "$name" $ending $status "$FINESSE_BUILD_DIR/finesse" run --strict --interface server0 --
	done
done
finish
