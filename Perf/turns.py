#!/usr/bin/env python3
"""Whose are the long turns of a loop: kvd's, another program's, or the machine's?

Traces the loop of a server (`perf record`, as root or with kernel.perf_event_paranoid <= -1) while it grows, answers
LIST of everything, is joined by another server (donor), or joins one (joiner, from its second second on). A turn is the
time between two waits for the kernel (io_uring_enter).

`machine` does the same to a program that reads memory at random, 10,000 reads (0.1 ms) between two system calls, while a
thread on the other core takes as much fresh memory as a server that is joining (`kvd-micro machine stalls`): what the
machine does to whoever uses memory.

Meanwhile a timer of the kernel interrupts the loop's core 5,000 times a second and notes who runs. Of the longest turns
are told:

  stood still   times without an interrupt: the core itself was taken away
  held          interrupts that found the loop where the one before had, at the same instruction of its program and with
                the same content of all registers: one access to memory that it had used before, for which the
                hypervisor let it wait (1.6 ms, once)
  others        interrupts that met another thread on the core
  itself        the rest, what the turn took on a core that ran; waiting for the kernel, for memory never used before and
                for other processors included

  python3 Perf/turns.py grow --rounds 5
  python3 Perf/turns.py joiner --keys 5000000
"""
import argparse
import bisect
import collections
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time

from driver import LOAD_CPU, SERVER_CPU, grow
from lab import KVD, KVD_MICRO, PERF_DRIVER, Server, need, spawn, stolen_millis

TICKS_A_SECOND = 5000
TICK = 1 / TICKS_A_SECOND
# From here on an interrupt is not late but missing.
GAP_MIN = 2.5 * TICK
# Of system calls: what a turn ends with and the next begins after.
IO_URING_ENTER = 426
CLOCK_GETTIME = {"x86_64": 228, "aarch64": 113}
# What a server of 10 M keys holds, how much more of it each second as it joins.
MACHINE_MIB, MACHINE_SECONDS, MACHINE_FRESH_MIB, MACHINE_READS = 1200, 30, 40, 10_000


class Trace:
    """Of one loop's thread and its core, from when it is made to `stop`."""

    def __init__(self, thread, core, folder, call=IO_URING_ENTER):
        self.thread = thread
        self.waits, self.ticks = (os.path.join(folder, name) for name in ("waits.data", "ticks.data"))
        calls = "raw_syscalls:sys_%s"
        self.programs = [
            self.record(self.waits, "-t", str(thread), "-e", calls % "enter", "--filter", "id == %d" % call,
                        "-e", calls % "exit", "--filter", "id == %d" % call),
            self.record(self.ticks, "-C", str(core), "-e", "cpu-clock", "-I", "-F", str(TICKS_A_SECOND))]
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

    def read_ticks(self):
        """[(when, thread, whether it was the loop, held)], in order."""
        ticks, before = [], None
        for thread, when, registers in sorted(
                self.read(self.ticks, "tid,time,iregs", r"^\s*(\d+)\s+([\d.]+):\s+(.*)$"), key=lambda tick: float(tick[1])):
            counter = re.search(r"\b(?:IP|PC):0x([0-9a-f]+)", registers, re.IGNORECASE)
            is_program = counter is not None and int(counter[1], 16) < 1 << 63
            is_held = is_program and int(thread) == self.thread and (thread, registers) == before
            ticks.append((float(when), int(thread), is_held))
            before = (thread, registers)
        return ticks

    def turns(self):
        """A `Turn` for every turn."""
        ticks = self.read_ticks()
        times = [when for when, _, _ in ticks]
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
        # The first one of the turn may have been found there before it began.
        held = TICK * sum(is_held for _, _, is_held in ticks[first + 1:last])
        others = TICK * sum(thread != self.thread for _, thread, _ in ticks[first:last])
        return Turn(end - begin, still, held, others)


class Turn(collections.namedtuple("Turn", "seconds still held others")):
    """Lengths in seconds."""

    @property
    def own(self):
        return self.seconds - self.still - self.held - self.others


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


def measure_machine():
    """As `measure`, of a program that only reads memory."""
    program = spawn([KVD_MICRO, "machine", "stalls", *map(str, (
        MACHINE_MIB, MACHINE_SECONDS, MACHINE_FRESH_MIB, MACHINE_READS))], stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        trace = Trace(program.pid, SERVER_CPU, folder, CLOCK_GETTIME[os.uname().machine])
        stolen = stolen_millis(SERVER_CPU)
        program.wait()
        stolen = stolen_millis(SERVER_CPU) - stolen
        trace.stop()
        return trace.turns(), stolen


def millis(seconds):
    return "%.2f" % (seconds * 1000)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["grow", "list", "donor", "joiner", "machine"])
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    need(KVD, PERF_DRIVER, "perf")
    cores = os.sched_getaffinity(0)
    longest = []
    for _ in range(options.rounds):
        if options.work == "machine":
            turns, stolen = measure_machine()
        else:
            turns, stolen = measure(options.work, options.keys, cores)
        own = [turn.own for turn in turns]
        longest.append(max(own))
        print("%d turns; longest %s ms, %d above 1 ms; by itself longest %s ms, %d above 1 ms; stolen from the core %d ms" % (
            len(turns), millis(max(turns).seconds), sum(turn.seconds > 0.001 for turn in turns),
            millis(max(own)), sum(each > 0.001 for each in own), stolen))
        shown = sorted(turns, reverse=True)[:8] + sorted(turns, key=lambda turn: turn.own, reverse=True)[:4]
        for turn in sorted(set(shown), reverse=True):
            print("  %8s ms: stood still %s, held %s, others %s, itself %s" % tuple(map(millis, (*turn, turn.own))))
    print("longest turn by itself, %d rounds: %s ms [%s %s]" % (
        options.rounds, millis(statistics.median(longest)), millis(min(longest)), millis(max(longest))))


if __name__ == "__main__":
    main()
