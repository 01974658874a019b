#!/usr/bin/env python3
"""What being watched costs: CPU of a server per GET while its metrics are fetched each second and while nobody asks, in
alternating rounds of the same load; and what one scrape takes of each thread.

    python3 Perf/scrapes.py --bin .build/release [--rounds 20] [--seconds 4]

The load is perf-driver's, which reads the server's CPU from /proc. The machine's noise is in each round; so the median
of the rounds' ratios counts, and what a scrape takes is counted by itself too: threads' own time over some hundred
scrapes of a server that does nothing else.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "Tests/Operations"))
from running import Programs, Server, get  # noqa: E402

# A report is used again for so long, so scrapes closer together cost less.
FRESH_SECONDS = 0.2
SCRAPES = 200
KEYS = 10_000


def thread_nanos(pid):
    """Of each thread: its name and its time on a processor."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm", encoding="ascii") as file:
            name = file.read().strip()
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            found[f"{name} {thread}"] = int(file.read().split()[0])
    return found


def of_one_scrape(server):
    def over(seconds_each, act):
        before, began = thread_nanos(server.process.pid), time.monotonic()
        for _ in range(SCRAPES):
            act()
            time.sleep(seconds_each)
        after, took = thread_nanos(server.process.pid), time.monotonic() - began
        return {name: after[name] - before.get(name, 0) for name in after}, took

    idle, idle_seconds = over(FRESH_SECONDS + 0.01, lambda: None)
    scraped, seconds = over(FRESH_SECONDS + 0.01, lambda: get(server.metrics, "/metrics"))
    print(f"one scrape, of {SCRAPES}, without what the same time takes when nobody asks:")
    total = 0
    for name in sorted(scraped):
        micros = (scraped[name] - idle.get(name, 0) * seconds / idle_seconds) / SCRAPES / 1000
        total += micros
        if abs(micros) >= 1:
            print(f"  {name}: {micros:.0f} us")
    print(f"  together: {total:.0f} us")
    return total


class Scraper(threading.Thread):
    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.isOver, self.count = port, threading.Event(), 0

    def run(self):
        while not self.isOver.wait(1):
            get(self.port, "/metrics")
            self.count += 1

    def end(self):
        self.isOver.set()
        self.join()
        return self.count


def round_of(options, server, is_watched):
    """Microseconds of the server's CPU per GET, its processors in use, and how many scrapes there were."""
    scraper = Scraper(server.metrics) if is_watched else None
    if scraper:
        scraper.start()
    out = os.path.join(options.folder, "round.json")
    subprocess.run([f"{options.bin}/perf-driver", "--server", f"127.0.0.1:{server.client}", "--server-pid",
                    str(server.process.pid), "--keys", str(KEYS), "--connections", "20", "--pipeline", "10",
                    "--duration", str(options.seconds), "--json", out], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    scrapes = scraper.end() if scraper else 0
    with open(out, encoding="utf-8") as file:
        found = json.load(file)["servers"][0]
    return found["cpuMicrosPerRequest"], found["cpuCores"], scrapes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder with kvd and perf-driver")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4, help="of one round")
    options = parser.parse_args()
    with Programs() as programs:
        options.folder = programs.folder
        server = Server(programs, options.bin, "one")
        subprocess.run([f"{options.bin}/perf-driver", "--server", f"127.0.0.1:{server.client}", "--keys", str(KEYS),
                        "--load", "--requests", "1"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        scrape = of_one_scrape(server)
        if options.rounds > 0:
            compare(options, server, scrape)


def compare(options, server, scrape):
    ratios, cores, alone, scrapes = [], [], [], 0
    for number in range(options.rounds):
        # Each first in half of the rounds: what changes in between is in both.
        found = {}
        for is_watched in ((False, True) if number % 2 == 0 else (True, False)):
            found[is_watched], busy, count = round_of(options, server, is_watched)
            cores.append(busy)
            scrapes += count
        ratios.append(found[True] / found[False])
        alone.append(found[False])
    ratios.sort()
    print(f"CPU per GET: {statistics.median(alone):.3f} us when nobody asks; watched over not, median of {len(ratios)} "
          f"rounds: {statistics.median(ratios):.4f} (quartiles {ratios[len(ratios) // 4]:.4f} and "
          f"{ratios[len(ratios) * 3 // 4]:.4f}), {scrapes} scrapes")
    busy = statistics.median(cores)
    print(f"by one scrape a second beside {busy:.2f} processors of GETs: {1 + scrape / 1e6 / busy:.4f}")


if __name__ == "__main__":
    main()
