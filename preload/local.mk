# the shim: libfinesse.so
