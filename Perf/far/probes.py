"""What runs beside a measurement, each in a process of its own: live Puts and who waits for them, load, the control."""
import ctypes
import multiprocessing
import time

import lab
from wan import stream, transfer

context = multiprocessing.get_context("fork")
LOOK_SECONDS = 0.002


def child(cluster, body, *arguments):
    process = context.Process(target=body, args=arguments, daemon=True)
    process.start()
    cluster.children.append(process)
    return process


class LivePuts:
    """A Put at `source` each `every` seconds, whatever the ones before do; a reader asks `target` each 2 ms for every
    one that is not there yet. All clients are on the host of their server."""

    def __init__(self, cluster, source, target, every=0.1, size=50, tag="live", most=20000):
        self.made = context.RawArray(ctypes.c_double, most)
        self.acknowledged = context.RawArray(ctypes.c_double, most)
        self.seen = context.RawArray(ctypes.c_double, most)
        self.count = context.RawValue(ctypes.c_int, 0)
        self.seen_count = context.RawValue(ctypes.c_int, 0)
        self.refused = context.RawValue(ctypes.c_int, 0)
        self.errors = context.RawValue(ctypes.c_int, 0)
        self.stopping = context.Event()
        self.begin = time.monotonic()
        self.writer = child(cluster, self.write, source, every, size, tag, most)
        self.reader = child(cluster, self.read, target, tag)

    def write(self, source, every, size, tag, most):
        connection, value, due = source.connect(within=60), b"v" * size, time.monotonic()
        while not self.stopping.is_set() and self.count.value < most:
            i = self.count.value
            self.made[i] = time.monotonic()
            self.count.value = i + 1
            if isinstance(connection.call("SET", "%s:%d" % (tag, i), value), RuntimeError):
                self.refused.value += 1
            self.acknowledged[i] = time.monotonic()
            due += every
            time.sleep(max(0, due - time.monotonic()))

    def read(self, target, tag):
        connection, waiting, next_one = None, [], 0
        while True:
            try:
                connection = connection or target.connect(within=60)
                while next_one < self.count.value:
                    waiting.append(next_one)
                    next_one += 1
                if waiting:
                    found = connection.call("MGET", *["%s:%d" % (tag, i) for i in waiting[:500]])
                    time_of_look = time.monotonic()
                    if isinstance(found, RuntimeError):
                        self.errors.value += 1
                        found = []
                    gone = {i for i, value in zip(waiting, found) if value is not None}
                    for i in gone:
                        self.seen[i] = time_of_look
                    self.seen_count.value += len(gone)
                    waiting = [i for i in waiting if i not in gone]
                time.sleep(LOOK_SECONDS)
            except (OSError, ConnectionError):
                connection = None
                time.sleep(0.05)

    def stop(self, within=5, after=0.0):
        """Sorted seconds from each Put made `after` this moment until it was seen, and how many of all were not seen
        `within` seconds of the end."""
        self.stop_writing()
        deadline = time.monotonic() + within
        while self.seen_count.value < self.count.value and time.monotonic() < deadline:
            time.sleep(0.02)
        # Else what was not seen would say nothing of the server.
        if not self.reader.is_alive() or self.errors.value:
            print("the probe: reader %s, %d of its looks answered by an error" % (
                "alive" if self.reader.is_alive() else "ended", self.errors.value), flush=True)
        self.writer.kill()
        self.reader.kill()
        return self.seen_times(after), sum(not self.seen[i] for i in range(self.count.value))

    def stop_writing(self):
        self.stopping.set()
        self.writer.join(5)

    def seen_times(self, after=0.0, before=float("inf")):
        chosen = (i for i in range(self.count.value) if self.seen[i] and after <= self.made[i] < before)
        return sorted(self.seen[i] - self.made[i] for i in chosen)


class Load:
    """SETs at `rate` a second through one connection, 50 batches a second, over a ring of `keys`; rate 0: as many as the
    server takes. Remembers the last acknowledged number of each key."""

    def __init__(self, cluster, server, rate, size=50, keys=100000, tag="load", actor=0, batch=400):
        self.acknowledged = context.RawValue(ctypes.c_longlong, 0)
        self.late = context.RawValue(ctypes.c_double, 0)
        self.refused = context.RawValue(ctypes.c_longlong, 0)
        self.last = context.RawArray(ctypes.c_longlong, keys)
        self.last_time = context.RawArray(ctypes.c_double, keys)
        self.stopping = context.Event()
        self.tag, self.keys, self.size = tag, keys, size
        self.process = child(cluster, self.run, server, rate, actor, batch)

    def value(self, number):
        return b"%d:" % number + b"v" * (self.size - len(b"%d:" % number))

    def key(self, i):
        return b"%s:%d" % (self.tag.encode(), i)

    def command(self, number):
        key, value = self.key(number % self.keys), self.value(number)
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value)

    def run(self, server, rate, actor, batch):
        connection, number, due = server.connect(actor, within=60), 1, time.monotonic()
        whole = rate / 50
        owed = 0.0
        while not self.stopping.is_set():
            if rate:
                owed += whole
                batch, owed = int(owed), owed - int(owed)
            sent_at = time.monotonic()
            if batch:
                try:
                    connection.socket.sendall(b"".join(self.command(n) for n in range(number, number + batch)))
                    for n in range(number, number + batch):
                        if isinstance(connection.read(), RuntimeError):
                            self.refused.value += 1
                            continue
                        self.last[n % self.keys] = n
                        self.last_time[n % self.keys] = time.monotonic() if self.keys <= 20000 else sent_at
                        self.acknowledged.value += 1
                except (OSError, ConnectionError):
                    return
                number += batch
            due += 0.02
            if rate:
                self.late.value = max(self.late.value, time.monotonic() - due)
                time.sleep(max(0, due - time.monotonic()))

    def stop(self):
        self.stopping.set()
        self.process.join(5)
        self.process.kill()

    def missing(self, server, signalled):
        """Acknowledged writes that `server` does not have, of how many keys: a key counts when it holds an older number
        than the last acknowledged one. How many of them were acknowledged before `signalled`, the oldest by how much."""
        connection, missing, before, oldest = server.connect(), 0, 0, 0.0
        written = [i for i in range(self.keys) if self.last[i]]
        for at in range(0, len(written), 1000):
            part = written[at:at + 1000]
            for i, value in zip(part, connection.call("MGET", *[self.key(i) for i in part])):
                if value is None or int(value.split(b":", 1)[0]) < self.last[i]:
                    missing += 1
                    before += self.last_time[i] < signalled
                    oldest = max(oldest, signalled - self.last_time[i])
        return missing, len(written), before, oldest


class Control:
    """One plain TCP connection for `count` bytes between the two hosts of the control."""

    def __init__(self, cluster, count, within=600):
        self.seconds = context.RawValue(ctypes.c_double, -1)
        self.cluster = cluster
        self.process = child(cluster, self.run, cluster.wan, cluster.control, int(count), within)

    def run(self, wan, hosts, count, within):
        seconds = transfer(wan, hosts[0], hosts[1], count, within=within)
        self.seconds.value = -1 if seconds is None else seconds

    def wait(self, within=600):
        """Seconds; None: not in time. IP bytes sent."""
        self.process.join(within)
        seconds = self.seconds.value
        return (seconds if seconds >= 0 else None), self.cluster.wan.wire_bytes(*self.cluster.control)


class StreamControl:
    """Messages of one size at one pace over a plain TCP connection between the two hosts of the control."""

    def __init__(self, cluster, size, every, seconds):
        self.results = context.SimpleQueue()
        self.process = child(cluster, self.run, cluster.wan, cluster.control, int(size), every, seconds)

    def run(self, wan, hosts, *how):
        self.results.put(stream(wan, *hosts, *how))

    def wait(self):
        """Pairs of seconds: sent since the begin, until arrived."""
        return self.results.get()


def latency(times, p):
    return lab.percentile(times, p) if times else None
