# Unmodified programs in network namespaces: root; the demonstration lives on the same harness (tests/net/lab.py).
EXTRA_DIST += tests/apps/apps.py tests/apps/case.py tests/apps/web.py tests/apps/stream.py tests/apps/traced.py tests/apps/unbroken.py tests/apps/plain.py tests/demo/demo.py tests/net/lab.py tests/net/nginx.py tests/net/capture.py tests/net/lib.sh tests/net/lab.sh
dist_check_SCRIPTS += tests/apps/run.sh
TESTS += tests/apps/run.sh

# The long form: ten times the data, connections and requests.
.PHONY: check-apps
check-apps: all
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/apps/apps.py --long
