# tests/cli: the finesse command, without engine and without privilege
dist_check_SCRIPTS += tests/cli/cli_test.sh
TESTS += tests/cli/cli_test.sh
EXTRA_DIST += tests/cli/fake_engine.py tests/cli/unreached.py
