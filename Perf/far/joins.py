"""Rows of "Join in one round trip", and joins over long and thin lines."""
import time

from .cluster import Cluster, Connection, all_up, equal, fill, options as used
from .probes import Control, LivePuts, latency
from .report import Row

LOOK_SECONDS = 0.002


class Newcomer:
    """Watches a server that was just started: when old data, an old server's Put of that moment and, at the old
    server, its own first Put are there. Seconds from the start of its process."""

    def __init__(self, old, newcomer, keys, within, tag="first"):
        begin = newcomer.begin
        old_client, new_client = old.connect(), None
        self.old_put = self.own_put = self.data = self.serves = None
        old_client.call("SET", tag + ":old", "put")
        while time.monotonic() - begin < within and None in (self.old_put, self.own_put, self.data):
            if new_client is None:
                try:
                    new_client = Connection(newcomer.wan, newcomer.host, newcomer.ip, newcomer.port + 1)
                except OSError:
                    time.sleep(0.001)
                    continue
                new_client.call("SET", tag + ":own", "put")
                self.serves = time.monotonic() - begin
            size, old_put = new_client.pipeline([("DBSIZE",), ("EXISTS", tag + ":old")])
            own_put = self.own_put is None and old_client.call("EXISTS", tag + ":own")
            seconds = time.monotonic() - begin
            if old_put and self.old_put is None:
                self.old_put = seconds
            if own_put:
                self.own_put = seconds
            if size - old_put - 1 >= keys and self.data is None:
                self.data = seconds
            time.sleep(LOOK_SECONDS)


def finish(row, cluster, messages=None):
    """What every row tells at its end: messages a second on the wire."""
    most, unread = cluster.messages_a_second() if messages is None else messages
    row.figure("messages of a pair in one second, on the wire", most, "", limit=10, digits=0)
    if unread:
        row.say("%d connections could not be read for messages" % unread)


def proof(delay):
    """What servers that prove themselves first may take longer: TLS's round trip, and 50 ms."""
    return 2 * delay + 0.05 if any(flag.startswith(("--cluster-key", "--peer-tls")) for flag in used["flags"]) else 0


def small(options):
    """1,000 keys at --delay: newcomer's start until old data, old Put and own Put are where they belong."""
    rows, delay = [], options.delay
    more = proof(delay)
    with_key = ", with 2 one-way + 50 ms more for the key" if more else ""
    for size in (8, 100):
        row = Row("join small %d B" % size, "newcomer to a server of 1,000 keys of %d B at %d ms one way: old data and old "
                  "Put there in 4 one-way + 100 ms; its own Put at the old server in 3 one-way + 100 ms%s"
                  % (size, delay * 1000, with_key))
        found, controls, messages = [], [], []
        for _ in range(options.runs):
            with Cluster(2, delay=delay) as c:
                old = c.start(0)
                data = fill(old, 1000, size)
                newcomer = c.start(1, [0], wait=False)
                found.append(Newcomer(old, newcomer, 1000, options.within or 30))
                controls.append(Control(c, data).wait()[0])
                messages.append(c.messages_a_second())
        # TCP begins with 14 kB: more than that takes its round trips, behind the one that asks.
        floor = max(4 * delay, max(controls) + delay)
        row.figure("old data at the newcomer", [f.data for f in found], limit=floor + 0.1 + more)
        row.figure("old server's Put at the newcomer", [f.old_put for f in found], limit=4 * delay + 0.1 + more)
        row.figure("newcomer's Put at the old server", [f.own_put for f in found], limit=3 * delay + 0.1 + more)
        row.figure("newcomer answers clients", [f.serves for f in found], digits=3)
        row.figure("control: the same %d kB over one TCP connection" % (data / 1000), controls)
        if floor > 4 * delay:
            row.say("old data: TCP's slow start of the control and a one-way for the question are allowed")
        finish(row, None, (max(m[0] for m in messages), sum(m[1] for m in messages)))
        rows.append(row)
    return rows


def three(options):
    """Three newcomers at the same moment on one seed address."""
    delay = options.delay
    row = Row("join three", "three servers started at the same moment on one seed at %d ms one way: all converge in 3 s"
              % (delay * 1000))
    up, same, messages = [], [], []
    for _ in range(options.runs):
        with Cluster(4, delay=delay) as c:
            seed = c.start(0)
            fill(seed, 1000, 100)
            newcomers = [c.start(i, [0], wait=False) for i in (1, 2, 3)]
            begin = newcomers[0].begin
            for n in newcomers:
                n.connect().call("SET", "own:%d" % n.host, "put")
            within = options.within or 30
            # Four empty servers are equal too.
            while time.monotonic() - begin < within and any(s.ask("DBSIZE") != 1003 for s in [seed] + newcomers):
                time.sleep(0.01)
            together = equal([seed] + newcomers, within)
            same.append(together and time.monotonic() - begin)
            up.append(all_up([seed] + newcomers, within) and time.monotonic() - begin)
            messages.append(c.messages_a_second())
    row.figure("all four equal, with each newcomer's Put", same, limit=3)
    row.figure("all four say of all others that they have caught up", up)
    finish(row, None, (max(m[0] for m in messages), sum(m[1] for m in messages)))
    return row


def chain(options):
    """Sixteen servers, each joins the one before it."""
    row = Row("join chain", "16 servers of one actor started within a second, each joins the one before it, 20 ms one "
              "way: all up in 3 s")
    up, same, messages = [], [], []
    for _ in range(options.runs):
        with Cluster(16, delay=0.02) as c:
            servers = []
            for i in range(16):
                servers.append(c.start(i, [i - 1] if i else [], wait=False))
                time.sleep(0.03)
            begin = servers[0].begin
            last_start = servers[-1].begin - begin
            within = options.within or 60
            up.append(all_up(servers, within) and time.monotonic() - begin)
            servers[0].ask("SET", "one", "put")
            same.append(equal(servers, within))
            messages.append(c.messages_a_second())
    row.say("the last one was started after %.2f s" % last_start)
    row.figure("all 16 see 15 others up", up, limit=3)
    row.figure("then one Put on all of them", same)
    finish(row, None, (max(m[0] for m in messages), sum(m[1] for m in messages)))
    return row


def one_bulk_join(keys, size, delay, rate, within, live_every=0.1):
    """One join with live Puts meanwhile, and the control over a path of its own: beside it where the line is what is
    slow, after it where the processor is."""
    with Cluster(2, delay=delay, rate=rate) as c:
        old = c.start(0)
        data = fill(old, keys, size)
        control = Control(c, data, within) if rate else None
        before = c.wire()
        newcomer = c.start(1, [0], wait=False)
        live = LivePuts(c, old, newcomer, every=live_every)
        back = LivePuts(c, newcomer, old, every=live_every, tag="back")
        client, seconds, rss = newcomer.connect(), None, 0
        while seconds is None and time.monotonic() - newcomer.begin < within:
            # Young keys are not counted: right to a key or two that come between two looks.
            if client.call("DBSIZE") - back.count.value - live.seen_count.value >= keys:
                seconds = time.monotonic() - newcomer.begin
            rss = max(rss, old.rss())
            time.sleep(0.01)
        wire = c.wire(before)
        there = old_keys_at(client, keys)
        # What is put before the servers are connected waits for that: the rows of small joins tell how long.
        connected = newcomer.begin + 4 * delay + 0.1
        times, unseen = live.stop(after=connected)
        back_times, back_unseen = back.stop(after=connected)
        if seconds is not None and there < keys:
            there = equal([old, newcomer], 5) and old_keys_at(client, keys)
            if there != keys:
                raise SystemExit("%s of %d keys are there" % (there, keys))
        messages, lost = c.messages_a_second(), old.links_lost() + newcomer.links_lost()
        if not control:
            old.kill()
            newcomer.kill()
            control = Control(c, data, 3 * within)
        control_seconds, control_bytes = control.wait()
        return {
            "data": data, "seconds": seconds, "there": there, "control": control_seconds,
            "control_bytes": control_bytes, "out": wire[(0, 1)], "back": wire[(1, 0)], "live": times,
            "unseen": unseen + back_unseen, "live_back": back_times, "messages": messages, "lost": lost, "rss": rss,
        }


def old_keys_at(client, keys):
    batches = [range(at, min(at + 2000, keys)) for at in range(0, keys, 2000)]
    return sum(client.call("EXISTS", *["k:%08d" % i for i in batch]) for batch in batches)


def tell_bulk(row, results, time_limit, bytes_limit, live_limit):
    row.figure("all keys at the newcomer", [r["seconds"] for r in results], limit=time_limit)
    for r in results:
        if r["seconds"] is None:
            row.say("%d keys were there at the end" % r["there"])
    row.figure("control: the same bytes over one TCP connection", [r["control"] for r in results])
    row.figure("bytes sent to the newcomer / bytes of data", [r["out"] / r["data"] for r in results], "x",
               limit=bytes_limit)
    row.figure("bytes of the control / bytes of data", [r["control_bytes"] / r["data"] for r in results], "x")
    last = results[-1]
    row.say("the last run: %.2f MB of data, %.2f MB sent to the newcomer, %.2f MB from it"
            % (last["data"] / 1e6, last["out"] / 1e6, last["back"] / 1e6))
    for what, name in (("old server's", "live"), ("newcomer's", "live_back")):
        row.figure("%s live Puts until seen, p99" % what, [latency(r[name], 99) for r in results])
        row.figure("%s live Puts until seen, greatest" % what, [r[name][-1] if r[name] else None for r in results],
                   limit=live_limit)
    row.figure("live Puts never seen", [r["unseen"] for r in results], "", limit=0, digits=0)
    row.figure("links lost, by the logs", [r["lost"] for r in results], "", limit=0, digits=0)
    row.figure("old server's memory at most", [r["rss"] / 2**20 for r in results], "MiB", digits=0)
    finish(row, None, (max(r["messages"][0] for r in results), sum(r["messages"][1] for r in results)))


def large(options):
    """200,000 and 500,000 keys of 100 B at --delay, unlimited bandwidth."""
    rows = []
    for keys in options.keys or [200000, 500000]:
        row = Row("join large %d" % keys, "%d keys of 100 B at %d ms one way, unlimited: 1.3 x one TCP connection + 1 s, "
                  "bytes 1.1 x, live Puts in 2 s" % (keys, options.delay * 1000))
        results = [one_bulk_join(keys, 100, options.delay, 0, options.within or 60)
                   for _ in range(options.runs)]
        known = [r["control"] for r in results if r["control"]]
        tell_bulk(row, results, 1.3 * max(known) + 1 if known else None, 1.1, 2)
        rows.append(row)
    return rows


def thin(options):
    """10 MB over lines of --rates bytes a second, at 50 and 250 ms."""
    rows = []
    keys = options.keys[0] if options.keys else 91000
    for delay in options.delays or [0.05, 0.25]:
        for rate in options.rates or [100e3, 400e3, 1e6, 4e6]:
            ideal = keys * 110 / rate + delay
            row = Row("join thin %d kB/s %d ms" % (rate / 1e3, delay * 1000),
                      "10 MB of 100 B over %d kB/s at %d ms one way: 1.25 x the ideal %.1f s, bytes 1.1 x, "
                      "live Puts in one-way + 500 ms"
                      % (rate / 1e3, delay * 1000, ideal))
            within = options.within or 3 * ideal + 20
            results = [one_bulk_join(keys, 100, delay, rate, within)
                       for _ in range(options.runs if ideal < 30 or options.all_runs else 1)]
            tell_bulk(row, results, 1.25 * ideal, 1.1, delay + 0.5)
            rows.append(row)
    return rows


def few(options):
    """Joins of few large values, unlimited bandwidth, live Puts meanwhile."""
    rows = []
    for count, size in [(100, 1 << 20), (4000, 64 << 10), (8000, 32 << 10)]:
        row = Row("join of %d x %d KiB" % (count, size >> 10), "at %d ms one way: bytes 1.1 x data, a live Put in "
                  "one-way + 500 ms" % (options.delay * 1000))
        # A minute each: one run, except where more are asked for.
        results = [one_bulk_join(count, size, options.delay, 0, options.within or 150)
                   for _ in range(options.runs if options.all_runs else 1)]
        tell_bulk(row, results, None, 1.1, options.delay + 0.5)
        rows.append(row)
    return rows
