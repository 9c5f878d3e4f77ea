"""
many_rules.py serve PORT: says what it hears, to each client; prints `ready`.
many_rules.py ask ADDRESS PORT FROM PATIENCE: says a byte again and again. Prints `answered` at the first answer, and `silent` when there was none for PATIENCE seconds.
"""
import socket
import sys
import threading

def echo(s):
    while data := s.recv(100):
        s.sendall(data)


def serve(port):
    with socket.create_server(("", int(port))) as listener:
        print("ready", flush=True)
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


def ask(address, port, source, patience):
    with socket.create_connection((address, int(port)), 20, (source, 0)) as s:
        s.settimeout(int(patience))
        said = False
        while True:
            s.sendall(b"x")
            try:
                if not s.recv(1):
                    print("ended", flush=True)
                    return
            except TimeoutError:
                print("silent", flush=True)
                return
            if not said:
                print("answered", flush=True)
            said = True


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
