#!/usr/bin/env python3
"""Dispatches from Python, waits for the end and prints what became of it:

    python3 dispatch.py '{"uptime": 10, "df -h": 5}' web-1 web-2

The commands are a JSON object of command and priority; the highest priority runs first.
Without a host every one that is online is meant. REDIS_URL names the Redis.
Status: 0 every host is done, 1 some host is not, or there is none, 2 the request was
rejected.

It needs the Redis client: apt install python3-redis, or pip install redis.
"""
import json
import os
import sys

import redis

EVENTS = "{muster}:events"

db = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), decode_responses=True)


def dispatch(commands, hosts):
    """Asks for a dispatch. Returns the request's id and where its events begin."""
    newest = db.xrevrange(EVENTS, count=1)
    fields = {"commands": json.dumps(commands)}
    if hosts:
        fields["hosts"] = json.dumps(hosts)
    return db.xadd("muster:requests", fields), newest[0][0] if newest else "0"


def wait(request, after):
    """Follows the events until the set of the request is closed; returns that event."""
    while True:
        for _, entries in db.xread({EVENTS: after}, count=100, block=1000) or []:
            for after, event in entries:
                if event.get("request") != request:
                    continue
                if event["type"] == "request.rejected":
                    print("rejected:", event["reason"], file=sys.stderr)
                    sys.exit(2)
                if event["type"] == "task.closed":
                    return event


end = wait(*dispatch(json.loads(sys.argv[1]), sys.argv[2:]))
number = end["key"]  # none was named, so it is AC and the request's id
print(number, "is closed")
for host, state in db.hscan_iter("{%s}:hosts" % number):
    print(host, state, sep="\t")
for _, r in db.xrange("{%s}:results" % number):
    print("%s  exit %s  %s" % (r["host"], r["exit_code"], r["command"]))
    print(r["stdout"] + r["stderr"], end="")
sys.exit(0 if end["done"] == end["total"] != "0" else 1)
