# What paths and strangers do to connections: root, network namespaces.
EXTRA_DIST += tests/hostile/path.py tests/hostile/strangers.py
dist_check_SCRIPTS += tests/hostile/run.sh
TESTS += tests/hostile/run.sh
