"""The little of HTTP that the three services share: answer GET requests from a function, and count the health probes."""

import http.server
import signal
import sys
import threading


def serve(answer, health=lambda probes: 200):
    """Answer every path with `answer(path)` -> (status, text), and /health with `health(number of this probe)`."""
    probes = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            nonlocal probes
            if self.path == "/health":
                probes += 1
                status, text = health(probes), ""
            else:
                status, text = answer(self.path)
                print(f"{self.path} -> {status}")
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("listening")
    server.serve_forever()
    print("goodbye")
    sys.exit(0)


def first_time(name):
    """True in the first run of this container only. A restart keeps the container's files, so a marker remembers."""
    try:
        open(f"/tmp/{name}", "x").close()
    except FileExistsError:
        return False
    return True
