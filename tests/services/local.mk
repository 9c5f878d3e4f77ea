# Debian's servers as their services start them: root, own network, mount and process namespaces.
EXTRA_DIST += tests/services/services.py tests/services/row.py tests/services/rows_web.py tests/services/rows_other.py tests/services/rows_more.py tests/services/rows_wide.py \
	tests/services/rows_clients.py tests/services/rows_units.py tests/services/box.py tests/services/box_init.py tests/services/load.py tests/services/expected
dist_check_SCRIPTS += tests/services/run.sh
TESTS += tests/services/run.sh

# The long form: every row and event, natively and under finesse, and the clients. SERVICES_FLAGS="--only nginx --events reload"
.PHONY: check-services
check-services: all
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/services/services.py $(SERVICES_FLAGS)
