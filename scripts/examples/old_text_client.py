#!/usr/bin/env python3
"""A host that speaks the text form of version 0.7, Python's standard library only.

New clients speak JSON, as old_client.py does: it can report results and be asked
whether it has received a number. python3 old_text_client.py --help
"""
import argparse, os, signal, socket, struct, subprocess, threading, time

flags = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
flags.add_argument("--listener", default="127.0.0.1:11451", help="where the heartbeats go, TCP")
flags.add_argument("--redis", default="127.0.0.1:6379", help="one that wants no password")
flags.add_argument("--udp-port", default=6655, type=int, help="where task numbers arrive")
args = flags.parse_args()
link, lock = None, threading.Lock()  # the connection to the listener; held to write a frame


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 5)


def zrevrange(key):
    """The commands of a task number, in the order in which they run."""
    with connect(args.redis) as conn, conn.makefile("rb") as reply:
        words = ["ZREVRANGE", key, "0", "-1"]
        conn.sendall(b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words))
        line = reply.readline()[:-2].decode()
        if line[:1] != "*":
            raise OSError("redis says: " + line)
        return [reply.read(int(reply.readline()[1:-2]) + 2)[:-2].decode() for _ in range(int(line[1:]))]


def send(*fields):
    """One frame: four bytes of length, little-endian, then the fields. str() of a list, a
    dict or None is its literal. What can't be sent is lost."""
    body = "/".join(str(f) for f in fields).encode()
    with lock:
        try:
            link.sendall(struct.pack("<i", len(body)) + body)
        except (OSError, AttributeError) as err:
            print(fields[0], "not sent:", err, flush=True)


def stay_online():
    """Connects, tells what this host is, and sends a heartbeat every five seconds."""
    global link
    while True:
        try:
            with connect(args.listener) as link:  # its timeout is 5 s
                send("ADH56", "keepRogerThat", {"hostname": socket.gethostname(),
                     "localAddrsIPV4": [link.getsockname()[0]], "MACAddress": ""})
                gone = None
                while gone is None:
                    send("ADH18", "keepAlive")
                    try:  # nothing ever comes: this waits five seconds, or for the end
                        gone = link.recv(1)
                    except socket.timeout:
                        pass
        except OSError as err:
            print("not connected:", err, flush=True)
        time.sleep(1)


def run(command, timeout=600):
    """Runs one command in a process group of its own, and waits for it."""
    child = subprocess.Popen(command, shell=True, start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def work(number):
    """Looks a task number up, runs its commands and reports each."""
    done, todo = [], zrevrange(number)
    if not todo:
        return
    send("ADH27I", "keepGotIt", number, None, done, todo)
    while todo:
        send("ADH27II", "keepGotIt", number, todo[0], done, todo)
        run(todo[0])
        done, todo = done + todo[:1], todo[1:]
        send("ADH27III", "keepGotIt", number, None, done, todo)


udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", args.udp_port))
threading.Thread(target=stay_online, daemon=True).start()
while True:
    text = udp.recv(2048).decode(errors="replace")
    if text[:2] != "AC" or not 3 <= len(text) <= 64 or not all(
            c.isascii() and c.isalnum() or c in "._-" for c in text):
        continue
    try:
        work(text)
    except OSError as err:  # Redis is away
        print(text, "not looked up:", err, flush=True)
