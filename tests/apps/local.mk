# Unmodified programs in network namespaces: root; the demonstration lives on the same harness (tests/net/lab.py).
EXTRA_DIST += tests/apps/apps.py tests/apps/plain.py tests/demo/demo.py tests/net/lab.py tests/net/capture.py tests/net/lib.sh
dist_check_SCRIPTS += tests/apps/run.sh
TESTS += tests/apps/run.sh
