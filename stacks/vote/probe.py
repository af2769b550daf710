"""``probe.py PORT``: 0 when GET /health on this container's PORT answers 200. No imports that cost time: it runs often."""

import _socket
import sys

sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
sock.settimeout(3)
try:
    sock.connect(("127.0.0.1", int(sys.argv[1])))
    sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
    status = sock.recv(1024).split(b"\r\n")[0].decode()
except OSError as error:
    status = str(error)
print(status)
sys.exit(" 200 " not in status)
