"""The API: takes votes into Redis, reads results from PostgreSQL.

POST /vote/CHOICE   202 and the vote's number once Redis has it; 503 when Redis is away
GET  /results       {"tabs": 3, "spaces": 4} as counted in PostgreSQL; 503 when it is away
GET  /health        200: this process answers. Redis and PostgreSQL have health checks of their own: a restart of the API
                    would not bring them back.
"""

import http.server
import json
import os
import signal
import threading
import uuid

import psycopg2
import redis

CHOICES = ("tabs", "spaces")
QUEUE = "votes"

queue = redis.Redis(host=os.environ["REDIS_HOST"], socket_timeout=3, socket_connect_timeout=3)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        choice = self.path.removeprefix("/vote/")
        if choice not in CHOICES:
            return self.reply(404, {"error": f"vote for one of {', '.join(CHOICES)}"})
        vote = {"id": str(uuid.uuid4()), "choice": choice}
        try:
            queue.lpush(QUEUE, json.dumps(vote))
        except redis.RedisError as error:
            return self.reply(503, {"error": f"the queue does not answer: {error}"})
        self.reply(202, vote)

    def do_GET(self):
        if self.path == "/health":
            return self.reply(200, {})
        if self.path != "/results":
            return self.reply(404, {"error": "there are /vote/CHOICE, /results and /health"})
        try:
            # PGHOST and the rest of the environment say where and who (libpq-envars).
            connection = psycopg2.connect(connect_timeout=3)
            try:
                with connection, connection.cursor() as cursor:
                    cursor.execute("SELECT choice, count(*) FROM votes GROUP BY choice ORDER BY choice")
                    results = dict(cursor.fetchall())
            finally:
                connection.close()
        except psycopg2.Error as error:
            return self.reply(503, {"error": f"the database does not answer: {error}"})
        self.reply(200, results)

    def reply(self, status, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        if self.path != "/health":
            print(format % args)


server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening on 8080")
server.serve_forever()
