"""Power cuts on a real ext4 image, under load: what was acknowledged is there again.

    python3 Tests/Disk/powercut.py FOLDER-OF-KVD [--cycles N] [--seconds S] [--policy always|everysec] [--sync-takes S]

With --sync-takes each sync of a log takes so much longer, by strace.

With `always` nothing that was answered may be lost; with `everysec` nothing that was answered more than 1.1 s before
what every actor was asked and answered last: a disk that takes longer has writers wait. (A DEL is in the log of its
key's home, so who asked whom does not tell which log has it.)
Each cycle: mount, start, check what the last cycle left, write with several clients, cut, kill, unmount.
"""

import argparse
import os
import random
import sys
import threading
import time

from images import Image
from servers import Client, Folder, RESPError, Server, expect

LOST_SECONDS_MAX = 1.1


class Writer(threading.Thread):
    """Keys of its own. Of each, what was sent, and when it was acknowledged."""

    def __init__(self, name, seed):
        super().__init__(daemon=True)
        self.name, self.random = name, random.Random(seed)
        self.sent = {}
        self.counter = self.acknowledged = self.gone = 0
        # When the last request was sent that was answered.
        self.last = 0.0
        self.isStopping = False

    def begin(self, port):
        """One more life: the thread is a new one, the keys are the same."""
        threading.Thread.__init__(self, daemon=True)
        self.port, self.last = port, 0.0
        self.start()

    def run(self):
        try:
            client = Client(self.port, seconds=60)
            pipeline = self.random.choice([1, 1, 4, 16])
            while not self.isStopping:
                under_way, sent = [], time.monotonic()
                for _ in range(pipeline):
                    key = f"{self.name}:{self.random.randrange(50)}"
                    self.counter += 1
                    # Now and then one that a log takes in over several turns.
                    length = 1_500_000 if self.random.random() < 0.002 else self.random.randrange(400)
                    value = None if self.random.random() < 0.2 else (f"{self.counter} " + "v" * length).encode()
                    entry = [value, None]
                    self.sent.setdefault(key, [[None, 0.0]]).append(entry)
                    under_way.append(entry)
                    client.send(*(("SET", key, value) if value is not None else ("DEL", key)))
                for entry in under_way:
                    answer = client.reply()
                    if isinstance(answer, RESPError):
                        return
                    entry[1] = time.monotonic()
                    self.acknowledged += 1
                    self.last = sent
        except (OSError, EOFError):
            pass

    def faults(self, client, before):
        """What is lost that was acknowledged before that time. What is there counts from now on."""
        found = []
        for key, entries in self.sent.items():
            value = client("GET", key)
            last = max(i for i, entry in enumerate(entries) if entry[1] is not None and entry[1] <= before)
            if not any(entry[0] == value for entry in entries[last:]):
                found.append(f"{key} is {value and value[:20]}, not {entries[last][0] and entries[last][0][:20]}")
            newest = max(i for i, entry in enumerate(entries) if entry[1] is not None)
            self.gone += not any(entry[0] == value for entry in entries[newest:])
            self.sent[key] = [[value, 0.0]]
        return found


def cycles(kvd, policy, count, seconds, seed):
    drawn = random.Random(seed)
    writers = [Writer(f"w{i}", seed * 10 + i) for i in range(4)]
    acknowledged = lost = 0
    with Folder() as folder:
        image = Image(folder("image"), folder("mnt"), 256)
        cut_at = None
        for cycle in range(count + 1):
            with image:
                server = Server(kvd, "--dir", folder("mnt/data"), "--appendfsync", policy, actors=2)
                try:
                    client = server.client()
                    if cut_at is not None:
                        faults = [fault for writer in writers for fault in writer.faults(client, kept)]
                        lost += len(faults)
                        for fault in faults[:5]:
                            print(f"cycle {cycle}, seed {seed}, {policy}: {fault}")
                        if "damaged" in server.text():
                            lost += 1
                            print(server.text())
                    if cycle == count:
                        break
                    first = drawn.randrange(2)
                    for place, writer in enumerate(writers):
                        writer.begin(server.port + 1 + (first + place) % 2)
                    if drawn.random() < 0.3:
                        client("BGSAVE")
                    time.sleep(seconds * (0.5 + drawn.random()))
                    # What was acknowledged before the cut began must be there; the cut itself takes a moment.
                    cut_at = time.monotonic()
                    image.cut()
                finally:
                    server.end()
                for writer in writers:
                    writer.join(30)
                kept = cut_at
                if policy == "everysec":
                    lasts = [max(w.last for w in writers if w.port == port) for port in {w.port for w in writers}]
                    kept = max(0, min(cut_at, *lasts) - LOST_SECONDS_MAX)
                acknowledged += sum(writer.acknowledged for writer in writers)
                for writer in writers:
                    writer.acknowledged = 0
    gone = sum(writer.gone for writer in writers)
    print(f"{policy}: {count} power cuts, {acknowledged} writes acknowledged, {lost} lost that may not be, "
          f"{gone} keys lost what was answered last (seed {seed})")
    # Else nothing was cut.
    expect(policy == "always" or count < 3 or gone > 0, "the cuts took nothing: they are none")
    return lost


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--policy", choices=["always", "everysec"])
    parser.add_argument("--sync-takes", type=float, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    kvd = os.path.abspath(os.path.join(given.folder, "kvd"))
    with Folder() as folder:
        if given.sync_takes:
            kvd = slow(folder("kvd"), kvd, given.sync_takes)
        lost = policies(given, kvd)
    expect(lost == 0, f"{lost} acknowledged writes are lost")


def slow(path, kvd, seconds):
    """A kvd whose syncs take longer: strace stands beside it, so that a signal to the process is kvd's."""
    with open(path, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nexec strace -D -f -qq -o /dev/null -e trace=fdatasync "
                   f"-e inject=fdatasync:delay_enter={int(seconds * 1e6)} {kvd} \"$@\"\n")
    os.chmod(path, 0o755)
    return path


def policies(given, kvd):
    lost = 0
    for policy in [given.policy] if given.policy else ["always", "everysec"]:
        # With `everysec` a shorter load would have nothing that may not be lost.
        seconds = given.seconds or (0.3 if policy == "always" else 1.8)
        lost += cycles(kvd, policy, given.cycles, seconds, given.seed)
    return lost


try:
    main()
except AssertionError as error:
    print(f"FAILED: {error}")
    sys.exit(1)
