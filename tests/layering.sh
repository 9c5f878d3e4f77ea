#!/bin/sh
# The dependency direction of the parts, held by a test (make check). Looks at
#  1. each #include between directories of src/ and preload/,
#  2. each undefined name of the built objects under src/ (but cli/, which no program loads): none may be one
#     that preload/calls.def intercepts, or the engine's own call would come back to our wrapper,
#  3. the undefined names of the pure parts: no memory, clock, output or errno of libc's,
#  4. the map in src/README.md: it has a row for every room,
#  5. who names the process's engine: below the functions that the shim calls, nobody may.
# Before it judges the tree it proves on a sample tree that it sees one violation of every kind.
# Usage: layering.sh [--self-test]    with srcdir and builddir as automake sets them (default: .)
set -u
LC_ALL=C
export LC_ALL

problems=

problem() {
	problems="$problems$1
"
}

# What a directory may include from others, as patterns. Everything may include base/ and its own files.
allowed() {
	case $1 in
	base) ;;
	wire) ;;
	tcp) echo 'wire/*' ;;
	steer) echo 'tcp/close_policy.h' ;;
	link) ;;
	ip) echo 'wire/* link/link.h' ;;
	kernel) echo 'wire/* tcp/snapshot.h' ;; # snapshot.h: what a handover takes; wire/: the FIN that it injects
	drive) ;;
	socket) echo 'drive/* tcp/* steer/* ip/* link/* kernel/* wire/*' ;;
	ready) echo 'drive/* socket/*' ;;
	process) echo 'drive/* socket/* link/* kernel/* wire/*' ;;
	cli) echo 'kernel/* process/broker.h' ;;
	preload) echo 'ready/* process/* socket/* drive/inside.h' ;;
	esac
}

# check_includes SOURCE-ROOT
check_includes() {
	for file in "$1"/src/*/*.[ch] "$1"/src/*/*.def "$1"/preload/*.[ch] "$1"/preload/*.def; do
		[ -f "$file" ] || continue
		from=$(basename "$(dirname "$file")")
		for what in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file"); do
			to=${what%%/*}
			# A name without a directory is a file beside this one, or the configuration.
			[ "$to" = "$what" ] && continue
			[ "$to" = "$from" ] || [ "$to" = base ] && continue
			[ -f "$1/include/$what" ] && continue # what we export, anybody may use
			ok=
			set -f
			for pattern in $(allowed "$from"); do
				# shellcheck disable=SC2254
				case $what in $pattern) ok=1 ;; esac
			done
			set +f
			[ "$ok" ] || problem "include: ${file#"$1"/} includes $what"
		done
	done
}

# check_map SOURCE-ROOT
check_map() {
	for room in "$1"/src/*/; do
		room=$(basename "$room")
		grep -q "^| \`$room\` |" "$1/src/README.md" || problem "map: src/README.md does not know the room $room"
	done
}

# The files that have functions for the shim to call without a socket. All else knows its engine from a socket, an epoll set or a parameter.
edges='socket/engine.[ch] socket/sock.h socket/listen.c socket/connect.c socket/fork.c socket/handover.c socket/service.c socket/admit.c socket/fallback.c socket/taken_ports.c
	ready/epset.c ready/mark.c ready/poll.c process/claim.c'

# check_engine SOURCE-ROOT
check_engine() {
	for file in "$1"/src/*/*.[ch] "$1"/preload/*.[ch]; do
		[ -f "$file" ] || continue
		name=${file#"$1"/src/}
		[ "$name" = socket/engine.c ] && continue
		grep -qE '^(extern +)?struct engine [a-z_]+ *[;=]' "$file" && problem "engine: ${file#"$1"/} names an engine object"
		ok=
		set -f
		for pattern in $edges "$1/preload/*"; do
			# shellcheck disable=SC2254
			case $name in $pattern) ok=1 ;; esac
		done
		set +f
		[ "$ok" ] || ! grep -q 'engine_of_process' "$file" || problem "engine: ${file#"$1"/} asks for the process's engine"
	done
}

# undefined OBJECT-DIR: "object name" for each undefined name of each object
undefined() {
	find "$1" -name '*.o' -exec nm -A -u {} + | sed 's/^\(.*\):[[:space:]]*[Uw] \([^@]*\).*/\1 \2/'
}

# match NAMES-FILE: of "object name" lines on stdin, those whose name is in the file
match() {
	awk -v names="$1" 'BEGIN { while ((getline n < names) > 0) bad[n] = 1 } $2 in bad'
}

report() { # KIND BUILD-ROOT
	while read -r object name; do
		echo "$1: ${object#"$2"/} refers to $name"
	done
}

# forbidden DIRECTORY: names of libc that its objects may not use
forbidden() {
	pure='clock_gettime gettimeofday time printf fprintf vprintf vfprintf dprintf puts putchar perror
		__printf_chk __fprintf_chk __vfprintf_chk __errno_location'
	heap='malloc calloc realloc reallocarray free'
	case $1 in
	tcp | wire | ip) echo "$pure $heap" ;;
	steer) echo "$pure" ;;
	esac
}

# check_objects SOURCE-ROOT BUILD-ROOT SCRATCH
check_objects() {
	: >"$3/intercepted"
	for file in "$1"/preload/*.[ch] "$1"/preload/calls.def; do
		[ -f "$file" ] || continue # no shim yet
		sed -n 's/^[A-Z_]*(\([A-Za-z_0-9]*\)[,)].*/\1/p' "$1/preload/calls.def" | sort -u >"$3/intercepted"
		[ -s "$3/intercepted" ] || problem "objects: no names in preload/calls.def"
		break
	done
	for dir in "$1"/src/*/; do
		part=$(basename "$dir")
		[ "$part" = cli ] && continue
		[ -n "$(find "$2/src/$part" -name '*.o' 2>/dev/null)" ] || {
			problem "objects: nothing built in src/$part"
			continue
		}
		undefined "$2/src/$part" >"$3/undefined"
		# The shim's wrappers of these know the engine's calls by its lock (preload/uring.c).
		[ "$part" = link ] && sed -i '/packet_tx\.o io_uring_\(queue_init_params\|queue_exit\|submit\|register_files\|register_files_update\)$/d' "$3/undefined"
		match "$3/intercepted" <"$3/undefined" | report intercepted "$2" >"$3/found"
		# The table of flows is the one place of ip/ with a heap.
		[ "$part" = ip ] && sed -i '/demux\.o \(malloc\|calloc\|free\)$/d' "$3/undefined"
		forbidden "$part" | tr -s ' \t' '\n' >"$3/forbidden"
		match "$3/forbidden" <"$3/undefined" | report impure "$2" >>"$3/found"
		while IFS= read -r line; do problem "$line"; done <"$3/found"
	done
}

# expect TEXT: the sample must have shown it
map_rooms() {
	for room in "$1"/src/*/; do
		echo "| \`$(basename "$room")\` | |"
	done >"$1/src/README.md"
}

expect() {
	case $problems in
	*"$1"*) ;;
	*)
		printf 'layering: self-test: not seen: %s\n' "$1"
		exit 1
		;;
	esac
}

compile() { # ROOT PART FILE, C on stdin
	mkdir -p "$1/src/$2"
	cat >"$1/src/$2/$3.c"
	${CC:-cc} -O0 -w -I"$1/src" -c -o "$1/src/$2/$3.o" "$1/src/$2/$3.c" || exit 1
}

self_test() {
	tree=$1/tree
	mkdir -p "$tree/preload" "$tree/src/tcp" "$tree/src/socket"
	printf 'CALL(read, ssize_t, int fd)\nALIAS(__read, read)\n' >"$tree/preload/calls.def"
	: >"$tree/src/tcp/snapshot.h"
	: >"$tree/src/tcp/close_policy.h"
	: >"$tree/src/socket/sock.h"
	compile "$tree" tcp good <<-'C'
		#include "tcp/snapshot.h"
		void *memcpy(void *, const void *, unsigned long);
		void f(char *a, char *b, unsigned long n) { memcpy(a, b, n); }
	C
	compile "$tree" steer good <<-'C'
		#include "tcp/close_policy.h"
		void *malloc(unsigned long);
		void *f(void) { return malloc(1); }
	C
	compile "$tree" ip demux <<-'C'
		void *calloc(unsigned long, unsigned long);
		void *f(void) { return calloc(1, 1); }
	C
	compile "$tree" socket good <<-'C'
		#include "tcp/snapshot.h"
		int sys_read(void);
		int f(void) { return sys_read(); }
	C
	printf 'struct engine *engine_of_process(void);\n' >"$tree/src/socket/sock.h"
	printf 'void f(struct engine *engine) { g(engine, &engine_other); }\n' >"$tree/src/socket/turn.c"
	printf 'struct engine *e = engine_of_process();\n' | tee "$tree/src/socket/admit.c" >"$tree/preload/fds.c"
	map_rooms "$tree"
	check_includes "$tree"
	check_map "$tree"
	check_engine "$tree"
	check_objects "$tree" "$tree" "$1"
	if [ "$problems" ]; then
		printf 'layering: self-test: a clean tree is blamed:\n%s' "$problems"
		exit 1
	fi

	compile "$tree" tcp bad <<-'C'
		#include "socket/sock.h"
		void free(void *);
		int *__errno_location(void);
		int clock_gettime(int, void *), printf(const char *, ...);
		void g(void *p) { free(p); *__errno_location() = 0; clock_gettime(1, 0); printf("x%d", 1); }
	C
	compile "$tree" steer bad <<-'C'
		#  include   "tcp/snapshot.h"
		long read(int, void *, unsigned long);
		long g(void) { return read(0, 0, 0); }
	C
	compile "$tree" ip bad <<-'C'
		void *malloc(unsigned long);
		void *g(void) { return malloc(1); }
	C
	compile "$tree" kernel bad <<-'C'
		long __read(int, void *, unsigned long);
		long (*g)(int, void *, unsigned long) = __read;
	C
	mkdir -p "$tree/src/link"
	map_rooms "$tree"
	sed -i '/`ip`/d' "$tree/src/README.md"
	printf 'extern struct engine engine;\n' >"$tree/src/socket/turn.h"
	printf 'struct engine second = {0};\n' >"$tree/preload/io.c"
	printf 'struct engine *e = engine_of_process();\n' >"$tree/src/socket/turn.c"
	check_includes "$tree"
	check_map "$tree"
	check_engine "$tree"
	check_objects "$tree" "$tree" "$1"
	expect 'include: src/tcp/bad.c includes socket/sock.h'
	expect 'include: src/steer/bad.c includes tcp/snapshot.h'
	expect 'intercepted: src/steer/bad.o refers to read'
	expect 'intercepted: src/kernel/bad.o refers to __read'
	expect 'impure: src/tcp/bad.o refers to free'
	expect 'impure: src/tcp/bad.o refers to __errno_location'
	expect 'impure: src/tcp/bad.o refers to clock_gettime'
	expect 'impure: src/tcp/bad.o refers to printf'
	expect 'impure: src/ip/bad.o refers to malloc'
	expect 'objects: nothing built in src/link'
	expect 'map: src/README.md does not know the room ip'
	expect 'engine: src/socket/turn.h names an engine object'
	expect 'engine: preload/io.c names an engine object'
	expect "engine: src/socket/turn.c asks for the process's engine"
	[ "$(printf %s "$problems" | wc -l)" -eq 14 ] || {
		printf 'layering: self-test: more than the fourteen violations:\n%s' "$problems"
		exit 1
	}
	problems=
}

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
self_test "$scratch"
if [ "${1-}" = --self-test ]; then
	echo "layering: self-test passed"
	exit 0
fi
srcdir=${srcdir:-.}
builddir=${builddir:-.}
check_includes "$srcdir"
check_map "$srcdir"
check_engine "$srcdir"
check_objects "$srcdir" "$builddir" "$scratch"
[ -z "$problems" ] || {
	printf 'layering: forbidden:\n%s' "$problems"
	exit 1
}
echo "layering: includes and objects keep the direction of src/README.md"
