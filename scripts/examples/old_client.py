#!/usr/bin/env python3
"""A host in one file, Python's standard library only: python3 old_client.py --help"""
import argparse, json, os, signal, socket, struct, subprocess, threading, time

flags = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
flags.add_argument("--listener", default="127.0.0.1:11451", help="where the heartbeats go, TCP")
flags.add_argument("--redis", default="127.0.0.1:6379", help="one that wants no password")
flags.add_argument("--udp-port", default=6655, type=int, help="where task numbers arrive")
args = flags.parse_args()
link, lock = None, threading.Lock()  # the connection to the listener; held to write a frame
ran = set()  # (task number, request): a number is run once for each request


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 5)


def redis(*words):
    """One command, in Redis's own protocol; returns text, None, a number or a list."""
    with connect(args.redis) as conn, conn.makefile("rb") as reply:
        conn.sendall(b"".join([b"*%d\r\n" % len(words)] + [
            b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words]))

        def value():
            line = reply.readline()[:-2].decode()
            if line[:1] == "$":
                return None if line == "$-1" else reply.read(int(line[1:]) + 2)[:-2].decode()
            if line[:1] == "*":
                return [value() for _ in range(int(line[1:]))]
            if line[:1] == ":":
                return int(line[1:])
            raise OSError("redis says: " + line)
        return value()


def send(flag, **members):
    """One frame: four bytes of length, little-endian, then JSON. What can't be sent is lost."""
    body = json.dumps({"flag": flag, **members}).encode()
    with lock:
        try:
            link.sendall(struct.pack("<i", len(body)) + body)
        except (OSError, AttributeError) as err:
            print(flag, "not sent:", err, flush=True)


def stay_online():
    """Connects, tells what this host is, and sends a heartbeat every five seconds."""
    global link
    while True:
        try:
            with connect(args.listener) as link:  # its timeout is 5 s
                send("ADH56", ACK="keepRogerThat", systemInfo={"hostname": socket.gethostname(),
                     "localAddrsIPV4": [link.getsockname()[0]], "MACAddress": ""})
                gone = None
                while gone is None:
                    send("ADH18", ACK="keepAlive", phase=1)
                    try:  # nothing ever comes: this waits five seconds, or for the end
                        gone = link.recv(1)
                    except socket.timeout:
                        pass
        except OSError as err:
            print("not connected:", err, flush=True)
        time.sleep(1)


def run(command, timeout):
    """Runs one command in a process group of its own and returns how it ended."""
    began, error, most = time.time(), "", 16 << 10  # so much output always fits in a frame
    child = subprocess.Popen(command, shell=True, start_new_session=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        error = "timed out"
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return {"command": command, "exit_code": code, "duration_ms": int(1000 * (time.time() - began)),
            "stdout": out[:most].decode(errors="replace"), "stdout_bytes": len(out),
            "stderr": err[:most].decode(errors="replace"), "stderr_bytes": len(err),
            "truncated": max(len(out), len(err)) > most, "error": error}


def work(number):
    """Looks a task number up, answers, runs its commands and reports each."""
    commands = redis("ZREVRANGE", number, "0", "-1")  # in the order in which they run
    request, timeout, deadline, cancelled = redis(
        "HMGET", "{%s}:meta" % number, "request", "timeout_s", "deadline_ms", "cancelled_ms")
    state = redis("HGET", "{%s}:hosts" % number, link.getsockname()[0]) if link else None
    send("ADH33", taskId=number, answerTime=time.time(), RCC=1 if commands and state else 2)
    if not commands or not state or cancelled or state == "cancelled" or (number, request) in ran:
        return
    ran.add((number, request))
    done, todo = [], commands
    send("ADH27", code=number, phase=1, working=None, complete=done, oncall=todo)
    while todo and 1000 * time.time() < int(deadline):
        send("ADH27", code=number, phase=2, working=todo[0], complete=done, oncall=todo)
        result = run(todo[0], int(timeout))
        done, todo = done + todo[:1], todo[1:]
        send("ADH27", code=number, phase=3, working=None, complete=done, oncall=todo, result=result)


udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", args.udp_port))
threading.Thread(target=stay_online, daemon=True).start()
while True:
    text = udp.recv(2048).decode(errors="replace")
    if text[:2] != "AC" or not 3 <= len(text) <= 64 or not all(
            c.isascii() and c.isalnum() or c in "._-" for c in text):
        send("ADH33", answerTime=time.time(), RCC=3)
        continue
    try:
        work(text)
    except OSError as err:  # Redis is away: that is no RCC 2
        print(text, "not looked up:", err, flush=True)
