#!/usr/bin/env python3
"""Whose are the long turns of a loop: kvd's, another program's, or the machine's?

Traces the loop of a server (`perf record`, as root or with kernel.perf_event_paranoid <= -1) while it grows, answers
LIST of everything, is joined by another server (donor), or joins one (joiner, from its second second on). A turn is the time between two waits for the kernel (io_uring_enter).
Meanwhile a timer of the kernel interrupts the loop's core 5,000 times a second and notes who runs. Of each turn above
1 ms are told:

  stood still   times without an interrupt: the core itself was taken away, or held up by the hypervisor
  others        interrupts that met another thread on the core
  kvd           the rest, what the turn took on a core that ran: the hypervisor's page faults below 0.3 ms included

  python3 Perf/turns.py grow --rounds 5
  python3 Perf/turns.py joiner --keys 5000000
"""
import argparse
import bisect
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time

from driver import LOAD_CPU, SERVER_CPU, grow
from lab import KVD, PERF_DRIVER, Server, need, spawn, stolen_millis

TICKS_A_SECOND = 5000
TICK = 1 / TICKS_A_SECOND
# From here on an interrupt is not late but missing.
GAP_MIN = 2.5 * TICK
IO_URING_ENTER = 426


class Trace:
    """Of one loop's thread and its core, from when it is made to `stop`."""

    def __init__(self, thread, core, folder):
        self.thread = thread
        self.waits, self.ticks = (os.path.join(folder, name) for name in ("waits.data", "ticks.data"))
        calls = "raw_syscalls:sys_%s"
        self.programs = [
            self.record(self.waits, "-t", str(thread), "-e", calls % "enter", "--filter", "id == %d" % IO_URING_ENTER,
                        "-e", calls % "exit", "--filter", "id == %d" % IO_URING_ENTER),
            self.record(self.ticks, "-C", str(core), "-e", "cpu-clock", "-F", str(TICKS_A_SECOND))]
        time.sleep(1)
        for program in self.programs:
            if program.poll() is not None:
                raise SystemExit("perf record ended: " + program.stderr.read().decode().strip())

    @staticmethod
    def record(file, *arguments):
        return spawn(["perf", "record", "-q", "-o", file, *arguments], cpu=LOAD_CPU,
                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def stop(self):
        for program in self.programs:
            program.send_signal(signal.SIGINT)
        for program in self.programs:
            program.wait(60)

    @staticmethod
    def read(file, fields, pattern):
        lines = subprocess.run(["perf", "script", "-i", file, "-F", fields], capture_output=True, text=True).stdout
        return re.findall(pattern, lines, re.MULTILINE)

    def turns(self):
        """[(seconds, of which stood still, of others)] of every turn."""
        ticks = sorted((float(when), int(thread)) for thread, when in
                       self.read(self.ticks, "tid,time", r"^\s*(\d+)\s+([\d.]+):"))
        times = [when for when, _ in ticks]
        turns, began = [], None
        for when, kind in self.read(self.waits, "time,event", r"^\s*([\d.]+):\s+raw_syscalls:sys_(enter|exit)"):
            if kind == "exit":
                began = float(when)
            elif began is not None:
                turns.append(self.turn(began, float(when), ticks, times))
                began = None
        return turns

    def turn(self, begin, end, ticks, times):
        first, last = bisect.bisect_left(times, begin), bisect.bisect_right(times, end)
        # Also the gap that began before the turn, or ends after it.
        around = times[max(first - 1, 0):last + 1]
        still = sum(min(b, end) - max(a, begin) - TICK for a, b in zip(around, around[1:])
                    if b - a > GAP_MIN and min(b, end) - max(a, begin) > GAP_MIN)
        others = TICK * sum(thread != self.thread for _, thread in ticks[first:last])
        return end - begin, still, others


def join(server, keys):
    joiner = Server(1, join=[server.address], cpu=LOAD_CPU)
    joiner.await_keys(keys)
    joiner.stop()


def on_first_core(cores, **options):
    """A server whose loop goes to the first core by itself; all else has the second, its warmer included."""
    os.sched_setaffinity(0, cores)
    server = Server(1, **options)
    os.sched_setaffinity(0, {LOAD_CPU})
    return server


def measure(work, keys, cores):
    """The turns of one run, and the milliseconds that the hypervisor says it took from the core."""
    if work == "joiner":
        donor = Server(1, cpu=LOAD_CPU)
        grow(donor, keys)
        server = on_first_core(cores, join=[donor.address])
    else:
        donor, server = None, on_first_core(cores)
        if work != "grow":
            grow(server, keys)
    with tempfile.TemporaryDirectory() as folder:
        trace = Trace(server.loop_thread(), SERVER_CPU, folder)
        stolen = stolen_millis(SERVER_CPU)
        if work == "grow":
            grow(server, keys)
        elif work == "list":
            server.connect().list_everything()
        elif work == "donor":
            join(server, keys)
        else:
            server.await_keys(keys)
        stolen = stolen_millis(SERVER_CPU) - stolen
        trace.stop()
        for each in filter(None, (server, donor)):
            each.stop()
        return trace.turns(), stolen


def millis(seconds):
    return "%.2f" % (seconds * 1000)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["grow", "list", "donor", "joiner"])
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    need(KVD, PERF_DRIVER, "perf")
    cores = os.sched_getaffinity(0)
    longest = []
    for _ in range(options.rounds):
        turns, stolen = measure(options.work, options.keys, cores)
        long = sorted((turn for turn in turns if turn[0] > 0.001), reverse=True)
        own = [length - still - others for length, still, others in turns]
        longest.append(max(own))
        print("%d turns; longest %s ms, %d above 1 ms; kvd's longest %s ms, %d above 1 ms; stolen from the core %d ms" % (
            len(turns), millis(max(turns)[0]), len(long), millis(max(own)), sum(each > 0.001 for each in own), stolen))
        for length, still, others in long[:12]:
            print("  %8s ms: stood still %s, others %s, kvd %s" % tuple(
                map(millis, (length, still, others, length - still - others))))
    print("kvd's longest turn, %d rounds: %s ms [%s %s]" % (
        options.rounds, millis(statistics.median(longest)), millis(min(longest)), millis(max(longest))))


if __name__ == "__main__":
    main()
