# tests/probes
