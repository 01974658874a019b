"""Faults on the path between two servers under load, and partitions: replicas become equal, Puts are seen in time."""
import random
import time

from .cluster import Cluster, all_up, equal
from .joins import finish
from .probes import LivePuts, Load, latency
from .report import Row

CONTRACT_SECONDS = 2.0
QUIET_SECONDS = 1.0


class Fault:
    """`path`: properties all the time. `does(cluster)`: what happens meanwhile, for two thirds of the load's time; it
    leaves the path as `path` says. `contract`: Puts must be seen within it."""

    def __init__(self, name, path, does=None, contract=True):
        self.name, self.path, self.does, self.contract = name, path, does, contract


def cut(cluster, seconds, a, b, both=True):
    cluster.wan.one_way(a, b, down=1)
    if both:
        cluster.wan.one_way(b, a, down=1)
    time.sleep(seconds)
    cluster.wan.pair(a, b, down=0)


def flapping(cluster, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cut(cluster, 0.5, 0, 1)
        time.sleep(1.5)


def resets(cluster, seconds, every=3):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cluster.wan.pair(0, 1, kill=1)
        time.sleep(0.3)
        cluster.wan.pair(0, 1, kill=0)
        time.sleep(every - 0.3)


def shrinking(cluster, seconds):
    for mtu in (1400, 1280, 800, 576):
        cluster.wan.pair(0, 1, mtu=mtu)
        time.sleep(seconds / 4)


FAULTS = [
    Fault("delay 50 ms", dict(delay=0.05)),
    Fault("delay 250 ms", dict(delay=0.25)),
    Fault("jitter 60 ms at 150 ms", dict(delay=0.15, jitter=0.06)),
    Fault("loss 1 % at 50 ms", dict(delay=0.05, loss=0.01)),
    Fault("loss 1 % at 250 ms", dict(delay=0.25, loss=0.01)),
    Fault("loss 5 % at 100 ms", dict(delay=0.1, loss=0.05), contract=False),
    Fault("reordering 10 % at 100 ms", dict(delay=0.1, reorder=0.1)),
    Fault("duplication 10 % at 100 ms", dict(delay=0.1, dup=0.1)),
    Fault("corruption 1 % at 100 ms", dict(delay=0.1, corrupt=0.01)),
    Fault("corruption 2 % with mended checksums", dict(delay=0.1, corruptfix=0.02), contract=False),
    Fault("one-way cut there", dict(delay=0.05), lambda c, s: cut(c, s, 0, 1, False), contract=False),
    Fault("one-way cut back", dict(delay=0.05), lambda c, s: cut(c, s, 1, 0, False), contract=False),
    Fault("cut", dict(delay=0.05), lambda c, s: cut(c, s, 0, 1), contract=False),
    Fault("MTU 576", dict(delay=0.05, mtu=576)),
    Fault("MTU that shrinks", dict(delay=0.05), shrinking),
    Fault("flapping, 0.5 of 2 s", dict(delay=0.05), flapping, contract=False),
    Fault("resets each 3 s", dict(delay=0.05), resets, contract=False),
    Fault("200 kB/s there, 2 MB/s back, 250 ms", dict(delay=0.25), lambda c, s: c.wan.one_way(0, 1, rate=2e5)),
    Fault("all at once", dict(delay=0.15, jitter=0.04, loss=0.02, reorder=0.05, dup=0.05, corrupt=0.005,
                              corruptfix=0.002, mtu=900, rate=2e6), flapping, contract=False),
]


def under_fault(row, cluster, options, does, contract):
    servers = [cluster.start(0)]
    servers.append(cluster.start(1, [0]))
    if all_up(servers, 60) is None:
        row.figure("the servers find each other", None, limit=60)
        return
    # 300 SET/s each way: every path here carries that.
    loads = [Load(cluster, s, 300, tag="load%d" % s.host) for s in servers]
    puts = [LivePuts(cluster, *servers), LivePuts(cluster, *reversed(servers), tag="back")]
    time.sleep(1)
    begin, seconds = time.monotonic(), options.seconds
    if does:
        does(cluster, seconds * 2 / 3)
    time.sleep(max(0, seconds - (time.monotonic() - begin)))
    for load in loads:
        load.stop()
    for put in puts:
        put.stop_writing()
    row.figure("equal after the load's end", equal(servers, options.within or 60), limit=QUIET_SECONDS)
    ended = [put.stop(within=10) for put in puts]
    times = sorted(ended[0][0] + ended[1][0])
    row.figure("Puts until seen, both ways, median", latency(times, 50))
    row.figure("Puts until seen, both ways, p99", latency(times, 99), limit=CONTRACT_SECONDS if contract else None)
    row.figure("Puts until seen, both ways, greatest", times[-1] if times else None)
    row.figure("Puts never seen", ended[0][1] + ended[1][1], "", limit=0, digits=0)
    rows = [r for r in cluster.wan.stats()["pairs"] if r[0] < 2 and r[1] < 2]
    row.say("packets: %d, lost %d, duplicated %d, corrupted %d, too big %d, reordered %d"
            % tuple(sum(r[i] for r in rows) for i in (2, 4, 5, 6, 7, 8)))
    row.figure("links lost, by the logs", sum(s.links_lost() for s in servers), "", digits=0)
    finish(row, cluster)


def faults(options):
    """19 kinds of faults on the path, 300 SET/s each way: equal 1 s after the load, Puts seen within the contract."""
    rows = []
    for fault in FAULTS:
        if options.only and options.only not in fault.name:
            continue
        row = Row("fault: " + fault.name, "equal within 1 s of the load's end, nothing lost" +
                  (", p99 until seen 2 s" if fault.contract else ""))
        with Cluster(2, **fault.path) as c:
            under_fault(row, c, options, fault.does, fault.contract)
        rows.append(row)
    return rows


def cycles(options):
    """40 partitions of up to 2 s, some one-way, at 50 ms: equal 1 s after the load."""
    row = Row("40 partition cycles", "equal within 1 s of the load's end, nothing lost")
    draw = random.Random(40)

    def partitions(cluster, _):
        for _ in range(40):
            there = draw.random() < 0.5
            cut(cluster, draw.uniform(0.2, 2), int(there), int(not there), both=draw.random() < 0.6)
            time.sleep(draw.uniform(0.2, 2))
        time.sleep(3)

    with Cluster(2, delay=0.05) as c:
        under_fault(row, c, options, partitions, False)
    return row
