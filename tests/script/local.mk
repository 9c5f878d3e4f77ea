# What a peer sees of the engine's TCP, segment by segment, compared with the kernel's: scripts played over TUN. Root, network namespaces.
dist_check_SCRIPTS += tests/script/run.sh tests/script/info.sh
TESTS += tests/script/run.sh tests/script/info.sh
EXTRA_DIST += tests/script/script.py tests/script/info.py tests/script/cookie.py tests/script/segment.py tests/script/subject.py tests/script/expected tests/script/scripts
