# tests/tcp
