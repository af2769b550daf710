"""Moves votes from Redis to PostgreSQL, each exactly once.

A vote is first moved to a second list, then inserted, then removed from there. If this process dies in between, the vote
is found in the second list at the next start, and the insert does nothing when the vote's id is there already.
"""

import json
import os
import pathlib
import signal
import sys
import time

import psycopg2
import redis

QUEUE, IN_HAND = "votes", "votes:in-hand"
ALIVE = pathlib.Path("/tmp/alive")

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def move_votes(queue, connection):
    """Until Redis or PostgreSQL fails."""
    for text in queue.lrange(IN_HAND, 0, -1):
        count(queue, connection, text)
    while True:
        ALIVE.touch()
        text = queue.brpoplpush(QUEUE, IN_HAND, timeout=1)
        if text is not None:
            count(queue, connection, text)


def count(queue, connection, text):
    vote = json.loads(text)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO votes (id, choice) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING", (vote["id"], vote["choice"])
        )
    queue.lrem(IN_HAND, 1, text)
    print(f"counted {vote['id']}: {vote['choice']}")


while True:
    ALIVE.touch()
    try:
        connection = psycopg2.connect(connect_timeout=3)
        try:
            print("waiting for votes")
            move_votes(redis.Redis(host=os.environ["REDIS_HOST"], socket_timeout=5, socket_connect_timeout=3), connection)
        finally:
            connection.close()
    except (redis.RedisError, psycopg2.Error) as error:
        print(f"trying again in half a second: {error}".strip())
        time.sleep(0.5)
