"""A disk that hangs: readers go on, only who writes waits. Real processes on a real ext4 image.

    python3 Tests/Disk/slow.py .build/debug
"""

import threading
import time

from images import Image
from servers import Client, Folder, RESPError, Server, expect, programs, run_all, until

KVD, _ = programs()
FROZEN_SECONDS = 3
# Of a reader; the disk is frozen for much longer.
WAIT_SECONDS_MAX = 0.5


class Loop(threading.Thread):
    """Sends one command after the other, and notes how long each took and what was answered last."""

    def __init__(self, port, words):
        super().__init__(daemon=True)
        self.words, self.client = words, Client(port, seconds=60)
        self.longest = self.count = 0
        self.bad, self.isStopping, self.ended = [], False, None
        self.acknowledged = 0

    def run(self):
        try:
            while not self.isStopping:
                began = time.monotonic()
                answer = self.client(*self.words(self.count))
                self.longest = max(self.longest, time.monotonic() - began)
                self.count += 1
                if isinstance(answer, RESPError):
                    self.bad.append(answer)
                else:
                    self.acknowledged = self.count
        except (OSError, EOFError) as error:
            self.ended = error

    def measure(self, seconds):
        self.longest, before = 0, self.count
        time.sleep(seconds)
        return self.count - before, self.longest


def frozen(policy):
    with Folder() as folder, Image(folder("image"), folder("mnt"), 128) as image:
        with Server(KVD, "--dir", folder("mnt/data"), "--appendfsync", policy, actors=2) as server:
            server.client()("SET", "read", "value")
            readers = [Loop(server.port + 1 + i, lambda n: ("GET", "read")) for i in range(2)]
            writers = [Loop(server.port + 1 + i, lambda n, i=i: ("SET", f"w{i}", n)) for i in range(2)]
            for one in readers + writers:
                one.start()
            until("all go", 10, lambda: all(one.count > 20 for one in readers + writers))
            image.freeze()
            try:
                time.sleep(0.2)
                written = [one.count for one in writers]
                reads = [one.measure(FROZEN_SECONDS / 2) for one in readers]
                expect([one.count for one in writers] == written, "a write was answered that is in no log")
                late = Client(server.port + 1)
                began = time.monotonic()
                expect(late("GET", "read") == b"value" and late("PING") == "PONG", "a new client reads")
                expect(time.monotonic() - began < WAIT_SECONDS_MAX, "a new client waits")
            finally:
                image.thaw()
            for count, longest in reads:
                expect(count > 100 and longest < WAIT_SECONDS_MAX,
                       f"{count} reads, the longest took {longest:.3f} s")
            until("writes go on", 20, lambda: all(one.count > before + 20 for one, before in zip(writers, written)))
            for one in readers + writers:
                one.isStopping = True
            for one in readers + writers:
                one.join(20)
                expect(not one.bad and one.ended is None, f"{one.bad[:1]} {one.ended}")
            last = [one.count - 1 for one in writers]
            server.end()
            with Server(KVD, "--dir", folder("mnt/data"), actors=1) as again:
                client = again.client()
                for i, number in enumerate(last):
                    expect(client("GET", f"w{i}") == b"%d" % number, "what was answered is there")
            print(f"  {policy}: reads while frozen {reads}")


def a_frozen_disk_holds_writers_only_everysec():
    frozen("everysec")


def a_frozen_disk_holds_writers_only_always():
    frozen("always")


def a_large_value_holds_nobody_else():
    with Folder() as folder, Server(KVD, "--dir", folder("data")) as server:
        client = server.client()
        value = b"x" * (32 << 20)
        for i in range(3):
            expect(client("SET", f"large{i}", value) == "OK", "SET")
        expect(client("SET", "small", "1") == "OK", "SET")
        server.end()
        with Server(KVD, "--dir", folder("data")) as again:
            one = again.client()
            for i in range(3):
                expect(one("STRLEN", f"large{i}") == len(value), "it is there")
            expect(one("GET", "large2") == value and one("GET", "small") == b"1", "as it was")


run_all([
    a_frozen_disk_holds_writers_only_everysec, a_frozen_disk_holds_writers_only_always,
    a_large_value_holds_nobody_else,
])
