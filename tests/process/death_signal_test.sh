#!/bin/sh
# A process that a signal ends by its default action: what it had sent arrives, and who waits for it finds the signal, as with the kernel's TCP.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3
pair_up

if out=$(in_client timeout 150 python3 "$srcdir/tests/process/death_signal.py" rounds $SERVER_IP "/proc/$SERVER_NS/ns/net" "$FINESSE_BUILD_DIR/finesse"); then
	pass "$out, by signals and by the program itself"
else
	fail "$out"
fi

# The program sees its signals at their default, and process 1 of a container, which has no default actions, goes on.
cat >"$scratch/default.py" <<'ENDPY'
import os, signal, socket
a, b = socket.socket(), socket.socket()
wrong = [s for s in signal.Signals if s not in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ) and signal.getsignal(s) not in (signal.SIG_DFL, None)]
wrong += [s for s in (signal.SIGTERM, signal.SIGUSR1) if signal.signal(s, signal.SIG_IGN) != signal.SIG_DFL or signal.signal(s, signal.SIG_DFL) != signal.SIG_IGN]
import ctypes
libc = ctypes.CDLL(None)
mask = (ctypes.c_ubyte * 152)() # struct sigaction: what is blocked lies at 8
mask[8:16] = [0xff] * 8
libc.sigaction(signal.SIGTERM, mask, None)
libc.sigaction(signal.SIGTERM, None, mask)
wrong += [s for s in (signal.SIGKILL, signal.SIGSTOP) if mask[8 + (s - 1) // 8] & 1 << (s - 1) % 8]
if os.getpid() == 1:
    for s in signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV:
        os.kill(1, s)
print(wrong, os.getpid() == 1)
ENDPY
expected=$(in_server python3 "$scratch/default.py" 2>&1) # who started us may ignore some
expected_inner=$(in_server timeout 30 unshare --pid --fork python3 "$scratch/default.py" 2>&1)
seen=$(finesse_server python3 "$scratch/default.py" 2>&1)
inner=$(in_server timeout 30 unshare --pid --fork "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- python3 "$scratch/default.py" 2>&1)
if [ "$seen" = "$expected" ] && [ "$inner" = "$expected_inner" ]; then
	pass "sigaction tells the default action; process 1 does not die of it"
else
	fail "dispositions: $seen; as process 1: $inner"
fi
finish
