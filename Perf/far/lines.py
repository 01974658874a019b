"""Rows of "Long and thin links" beside joins: visibility under load, large values, backlogs, lossy paths."""
import time

from .cluster import Cluster, all_up, equal, fill
from .joins import finish
from .probes import Control, LivePuts, Load, StreamControl, latency
from .report import Row

# TCP's slow start and the first frames of a load.
COLD_SECONDS = 5


def pair(cluster, within=30):
    """Two servers that know each other, and are past the first exchanges."""
    servers = [cluster.start(0)]
    servers.append(cluster.start(1, [0]))
    if all_up(servers, within) is None or equal(servers, within) is None:
        raise SystemExit("two servers did not find each other:\n" + servers[1].log())
    time.sleep(1)
    return servers


def visible(options):
    """Until a Put is visible under --loads (1,000, 5,000, 20,000) SET/s of 50 B at --delay."""
    rows = []
    for load in options.loads or [1000, 5000, 20000]:
        row = Row("visible at %d SET/s" % load, "%d SET/s of 50 B at %d ms one way: p99 in one-way + 350 ms, all in 2 s"
                  % (load, options.delay * 1000))
        found, cold, steady, late, control, messages, lost = [], [], [], [], [], [], []
        for _ in range(options.runs):
            with Cluster(2, delay=options.delay) as c:
                old, other = pair(c)
                # A message each 105 ms, with what is put in that time.
                plain = StreamControl(c, 70 * load * 0.105, 0.105, options.seconds)
                loading = Load(c, old, load)
                live = LivePuts(c, old, other, every=0.025)
                time.sleep(options.seconds)
                loading.stop()
                found.append(live.stop(within=15))
                cold.append(live.seen_times(before=live.begin + COLD_SECONDS))
                steady.append(live.seen_times(after=live.begin + COLD_SECONDS))
                late.append(loading.late.value)
                control.append(plain.wait())
                messages.append(c.messages_a_second())
                lost.append(old.links_lost() + other.links_lost())
        row.figure("Puts until seen, median", [latency(times, 50) for times in steady])
        row.figure("Puts until seen, p99", [latency(times, 99) for times in steady], limit=options.delay + 0.35)
        row.figure("Puts until seen, greatest", [latency(times, 100) for times in steady], limit=2)
        # A line that was idle is in slow start: what TCP alone needs for the first messages is allowed.
        row.figure("in the first %d s of the load: p99" % COLD_SECONDS, [latency(times, 99) for times in cold])
        row.figure("in the first %d s of the load: greatest" % COLD_SECONDS, [latency(times, 100) for times in cold],
                   limit=max(2, max(took for run in control for at, took in run if at < COLD_SECONDS) + 0.35))
        for what, wanted in (("cold", lambda at: at < COLD_SECONDS), ("steady", lambda at: at >= COLD_SECONDS)):
            taken = [sorted(took for at, took in run if wanted(at)) for run in control]
            row.figure("control, %s: a message each 105 ms, p99" % what, [latency(t, 99) for t in taken])
            row.figure("control, %s: greatest" % what, [latency(t, 100) for t in taken])
        row.figure("Puts never seen", [unseen for _, unseen in found], "", limit=0, digits=0)
        row.figure("the load was late by at most", late)
        row.figure("links lost, by the logs", lost, "", limit=0, digits=0)
        finish(row, None, (max(m[0] for m in messages), sum(m[1] for m in messages)))
        rows.append(row)
    return rows


def beside(options):
    """A small Put each 100 ms beside a value of --value MiB (64) over 1 MB/s, at 50 and 250 ms."""
    rows = []
    for delay in options.delays or [0.05, 0.25]:
        for rate in options.rates or [1e6]:
            size = int(options.value * 2**20)
            ideal = size / rate + delay
            row = Row("beside a large value, %d ms" % (delay * 1000), "small Puts beside a value of %g MiB over %d kB/s "
                      "at %d ms one way: in one-way + 500 ms" % (options.value, rate / 1e3, delay * 1000))
            with Cluster(2, delay=delay, rate=rate) as c:
                old, other = pair(c)
                before, within = c.wire(), options.within or 2 * ideal + 20
                live = LivePuts(c, old, other)
                time.sleep(1)
                control = Control(c, size, within)
                begin, seconds = time.monotonic(), None
                old.ask("SET", "large", bytes(size))
                client = other.connect()
                while seconds is None and time.monotonic() - begin < within:
                    if client.call("STRLEN", "large") == size:
                        seconds = time.monotonic() - begin
                    time.sleep(0.02)
                wire = c.wire(before)
                times, unseen = live.stop()
                row.figure("the large value at the other server", seconds, limit=1.25 * ideal)
                row.figure("control: the same bytes over one TCP connection", control.wait(within)[0])
                row.figure("bytes sent / bytes of the value", wire[(0, 1)] / size, "x", limit=1.1)
                row.figure("small Puts until seen, median", latency(times, 50))
                row.figure("small Puts until seen, p99", latency(times, 99), limit=delay + 0.5)
                row.figure("small Puts until seen, greatest", times[-1] if times else None, limit=delay + 0.5)
                row.figure("small Puts never seen", unseen, "", limit=0, digits=0)
                row.figure("memory of both", [s.rss() / 2**20 for s in (old, other)], "MiB", digits=0)
                row.figure("links lost, by the logs", old.links_lost() + other.links_lost(), "", limit=0, digits=0)
                finish(row, c)
            rows.append(row)
    return rows


def backlog(options):
    """A cut of 15 s in which 10 MB are written, over 100 kB/s; then until equal, at 50 and 250 ms."""
    rows = []
    for delay in options.delays or [0.05, 0.25]:
        for rate in options.rates or [100e3]:
            keys = options.keys[0] if options.keys else 91000
            row = Row("backlog over %d kB/s, %d ms" % (rate / 1e3, delay * 1000), "%d keys of 100 B written in a cut of "
                      "15 s: equal in 1.25 x the ideal time, no reconnect but for the cut" % keys)
            with Cluster(2, delay=delay, rate=rate) as c:
                old, other = pair(c)
                c.path(down=1)
                begin = time.monotonic()
                data = fill(old, keys, 100)
                time.sleep(max(0, 15 - (time.monotonic() - begin)))
                lost_by_cut = [s.links_lost() for s in (old, other)]
                before = c.wire()
                ideal = data / rate + delay
                within = options.within or 3 * ideal + 20
                control = Control(c, data, within)
                c.path(down=0)
                healed = time.monotonic()
                live = LivePuts(c, old, other)
                client, seconds = other.connect(), None
                while seconds is None and time.monotonic() - healed < within:
                    if client.call("DBSIZE") - live.seen_count.value >= keys:
                        seconds = time.monotonic() - healed
                    time.sleep(0.02)
                wire = c.wire(before)
                times, unseen = live.stop(within=10)
                lost = [s.links_lost() for s in (old, other)]
                row.figure("all keys at the other server after the heal", seconds, limit=1.25 * ideal)
                if seconds is None:
                    row.say("%d of %d keys were there" % (client.call("DBSIZE"), keys))
                row.say("ideal %.1f s; TCP itself asks again up to some seconds after the heal" % ideal)
                row.figure("control: the same bytes over one TCP connection", control.wait(within)[0])
                row.figure("bytes sent / bytes of data", wire[(0, 1)] / data, "x", limit=1.1)
                row.figure("links lost in the cut, by the logs", sum(lost_by_cut), "", digits=0)
                # One more of each side may tell of the cut late.
                row.figure("links lost after the heal, by the logs", sum(lost) - sum(lost_by_cut), "", limit=0, digits=0)
                row.figure("live Puts until seen, p99", latency(times, 99))
                row.figure("live Puts never seen", unseen, "", digits=0)
                finish(row, c)
            rows.append(row)
    return rows


def lossy(options):
    """5 % loss, reordering and duplication at --delay: 2,000 SET/s for --seconds, then a join."""
    row = Row("lossy", "5 %% loss, reordering, duplication at %d ms one way: no reconnect by our own doing, no full resend"
              % (options.delay * 1000))
    bad = dict(loss=0.05, reorder=0.05, dup=0.05)
    with Cluster(3, delay=options.delay) as c:
        old, other = pair(c)
        c.wan.all(**bad)
        before = c.wire()
        loading, live = Load(c, old, 2000), LivePuts(c, old, other)
        time.sleep(options.seconds)
        loading.stop()
        times, unseen = live.stop(within=20)
        same = equal([old, other], 60)
        wire = c.wire(before)
        written = loading.acknowledged.value * 62
        row.figure("2,000 SET/s: Puts until seen, median", latency(times, 50))
        row.figure("2,000 SET/s: Puts until seen, p99", latency(times, 99))
        row.figure("2,000 SET/s: Puts until seen, greatest", times[-1] if times else None)
        row.figure("Puts never seen", unseen, "", limit=0, digits=0)
        row.figure("equal after the load", same, limit=10)
        row.figure("control: the same bytes over one TCP connection", Control(c, written, 300).wait()[0])
        row.figure("bytes sent / bytes written", wire[(0, 1)] / written, "x", limit=1.6)
        count, before = old.ask("DBSIZE"), c.wire()
        newcomer = c.start(2, [0], wait=False)
        client, seconds = newcomer.connect(), None
        while seconds is None and time.monotonic() - newcomer.begin < 120:
            if client.call("DBSIZE") >= count:
                seconds = time.monotonic() - newcomer.begin
            time.sleep(0.02)
        wire = c.wire(before)
        row.figure("a newcomer has all %d keys" % count, seconds, limit=120)
        row.figure("control: the same bytes over one TCP connection", Control(c, count * 62, 300).wait()[0])
        row.figure("bytes sent to it / bytes of data", (wire[(0, 2)] + wire[(1, 2)]) / (count * 62), "x", limit=1.6)
        row.figure("links lost, by the logs", sum(s.links_lost() for s in (old, other, newcomer)), "", limit=0, digits=0)
        finish(row, c)
    return row
