"""Paths and peers as bad as they get: memory stays bounded, the others are served, and it ends well when they mend."""
import contextlib
import time

from .cluster import PORT, Cluster, all_up, equal, fill
from .faults import resets
from .joins import finish
from .probes import LivePuts, Load, child, latency
from .report import Row

MEMORY_MIB = 64
KEYS, SIZE, RATE = 20000, 1000, 2000


def holding(wan, host, trickles):
    """A peer that accepts and never answers; or reads one byte a second."""
    listener, held = wan.listen(host, PORT), []
    listener.settimeout(1)
    while True:
        with contextlib.suppress(OSError):
            accepted, _ = listener.accept()
            accepted.settimeout(0)
            held.append(accepted)
        for connection in held if trickles else []:
            with contextlib.suppress(OSError):
                connection.recv(1)


def beside_bad(row, options, spoil, mend, peers=()):
    """Server 0 takes 2,000 SET/s of 1 kB; server 1 is behind the bad path, server 2 is well."""
    with Cluster(5, delay=0.05) as c:
        for host, trickles in peers:
            child(c, holding, c.wan, host, trickles)
        one = c.start(0, [host for host, _ in peers])
        bad, well = c.start(1, [0]), c.start(2, [0])
        fill(one, KEYS, SIZE, tag="load")
        if equal([one, bad, well], 30) is None:
            raise SystemExit("three servers did not become equal on a good path")
        loading = Load(c, one, RATE, SIZE, KEYS)
        live = LivePuts(c, one, well)
        time.sleep(5)
        before, peak = one.rss(), 0
        end = time.monotonic() + max(options.seconds, 20) * 2
        step = spoil(c)
        while time.monotonic() < end:
            if step:
                step()
            peak = max(peak, one.rss())
            time.sleep(0.1)
        others, unseen = live.seen_times(), 0
        mend(c)
        loading.stop()
        live.stop_writing()
        healed = equal([one, bad, well], options.within or 60)
        others, unseen = live.stop()
        row.figure("memory of the sender: growth at most", (peak - before) / 2**20, "MiB", limit=MEMORY_MIB, digits=1)
        row.figure("Puts until seen at the healthy server, p99", latency(others, 99), limit=2)
        row.figure("Puts until seen at the healthy server, greatest", latency(others, 100))
        row.figure("Puts never seen there", unseen, "", limit=0, digits=0)
        row.figure("equal after it is mended", healed, limit=30)
        row.say("links lost, by the logs: %s" % [s.links_lost() for s in (one, bad, well)])
        finish(row, c)


def trickle(options):
    """A path that delivers one byte a second, and a peer that reads one."""
    row = Row("bad: one byte a second", "memory + %d MiB, the others are served, equal when mended" % MEMORY_MIB)
    beside_bad(row, options, lambda c: c.wan.pair(0, 1, rate=1), lambda c: c.wan.pair(0, 1, rate=0), [(3, True)])
    return row


def unacknowledged(options):
    """A path on which acknowledgements vanish, and a peer that accepts and never answers."""
    row = Row("bad: accepts and never acknowledges", "memory + %d MiB, the others are served, equal when mended" % MEMORY_MIB)
    beside_bad(row, options, lambda c: c.wan.one_way(1, 0, down=1), lambda c: c.wan.one_way(1, 0, down=0), [(3, False)])
    return row


def dying(options):
    """A path on which every connection dies each 5 s."""
    row = Row("bad: dies each 5 s", "memory + %d MiB, the others are served, equal when mended" % MEMORY_MIB)
    beside_bad(row, options, lambda c: lambda: resets(c, 4.9, every=5), lambda c: c.wan.pair(0, 1, kill=0))
    return row


def falling(options):
    """Bandwidth that falls from 100 MB/s to 50 kB/s in the middle of a join."""
    keys = options.keys[0] if options.keys else 500000
    row = Row("bad: bandwidth falls in a join", "%d keys of 100 B; when a quarter is there 100 MB/s become 50 kB/s: memory + %d MiB, Puts "
              "seen in one-way + the path's queue of 2 s + 500 ms; it ends when mended" % (keys, MEMORY_MIB))
    with Cluster(2, delay=0.05, rate=100e6) as c:
        old = c.start(0)
        data = fill(old, keys, 100)
        before, peak = old.rss(), 0
        newcomer = c.start(1, [0], wait=False)
        client = newcomer.connect()
        fall = time.monotonic() + 10
        # In the middle: when a quarter is there.
        while client.call("DBSIZE") < keys / 4 and time.monotonic() < fall:
            time.sleep(0.005)
        c.path(rate=50e3)
        wire = c.wire()
        row.say("%.0f %% of the keys were there" % (100 * client.call("DBSIZE") / keys))
        live = LivePuts(c, old, newcomer)
        end = time.monotonic() + max(options.seconds, 20) * 2
        while time.monotonic() < end:
            peak = max(peak, old.rss(), newcomer.rss())
            time.sleep(0.1)
        wire = c.wire(wire)
        settled = live.seen_times(after=live.begin + 15)
        waiting = live.count.value - live.seen_count.value
        share = wire[(0, 1)] / (50e3 * (time.monotonic() - live.begin))
        c.path(rate=100e6)
        live.stop_writing()
        mended = equal([old, newcomer], options.within or 60)
        times, unseen = live.stop()
        row.figure("memory of the larger one: growth at most", (peak - before) / 2**20, "MiB", digits=1,
                   limit=MEMORY_MIB)
        row.figure("bytes sent at 50 kB/s / what it carries", share, "x", limit=1.5)
        row.figure("Puts of the first 15 s until seen, greatest", latency(live.seen_times(before=live.begin + 15), 100))
        row.figure("Puts after that until seen, p99", latency(settled, 99), limit=2.55)
        row.figure("Puts not yet seen as it was mended", waiting, "", digits=0, limit=30)
        row.figure("Puts never seen", unseen, "", limit=0, digits=0)
        row.figure("equal after it is mended", mended, limit=1 + 3 * data / 100e6 + 10)
        row.say("links lost, by the logs: %s" % [s.links_lost() for s in (old, newcomer)])
        finish(row, c)
    return row
