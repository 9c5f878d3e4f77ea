"""An engine's side of `finesse stat`: answers with the text on standard input, whoever asks, until it is killed.
With the argument `leave` the process ends, and a child of it keeps the socket without an answer: its pid goes to descriptor 3."""
import os
import signal
import socket
import sys

document = sys.stdin.buffer.read()
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(b"\0finesse/stat/%d" % os.getpid())
listener.listen()
print(os.getpid(), flush=True)
if sys.argv[1:] == ["leave"]:
    child = os.fork()
    if child:
        os._exit(0)
    os.close(1)
    os.write(3, b"%d" % os.getpid())
    os.close(3)
    signal.pause()
while True:
    client, _ = listener.accept()
    client.sendall(document)
    client.close()
