#!/usr/bin/env python3
"""The short part of Perf/links.py that the test suite runs: correct over a path that TCP itself sees, with generous
deadlines. check.py --bin DIR [NAME…]; exit code 0: holds, 1: does not, 77: there can be no such network here, and
why.
"""
import argparse
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "Perf"))

from far import cluster  # noqa: E402
from far.cluster import Cluster, all_up, equal, fill  # noqa: E402
from far.joins import Newcomer, one_bulk_join  # noqa: E402
from far.probes import LivePuts  # noqa: E402
from wan import refusal  # noqa: E402


class Failed(Exception):
    pass


def expect(condition, text):
    print("  %s %s" % ("ok " if condition else "NOT", text), flush=True)
    if not condition:
        raise Failed(text)


def join():
    """A newcomer at 250 ms to a server of 1,000 keys."""
    with Cluster(2, delay=0.25) as c:
        old = c.start(0)
        fill(old, 1000, 100)
        newcomer = c.start(1, [0], wait=False)
        found = Newcomer(old, newcomer, 1000, 15)
        print("  seconds: data %s, old Put %s, own Put %s" % (found.data, found.old_put, found.own_put))
        expect(found.own_put, "the newcomer's Put is at the old server")
        expect(found.old_put, "the old server's Put is at the newcomer")
        expect(found.data and equal([old, newcomer], 10) is not None, "all data is there, both are equal")


def thin():
    """5 MB to a newcomer over 400 kB/s at 50 ms: 12.5 s."""
    result = one_bulk_join(45000, 100, 0.05, 400e3, 40)
    expect(result["seconds"], "all keys are there (%s s, one TCP connection %s s)" % (result["seconds"], result["control"]))
    sent = result["out"] / result["data"]
    expect(sent < 1.5, "nothing large is sent twice (%.2f bytes sent for each of data)" % sent)
    expect(not result["unseen"], "every Put of the meantime is at the other server")
    for name in ("live", "live_back"):
        expect(result[name] and result[name][-1] < 5, "no Put waits for the join (%.2f s)" % max(result[name] + [0]))


def beside():
    """Small Puts beside a value of 4 MiB over 500 kB/s at 50 ms: 8.4 s."""
    size = 4 << 20
    with Cluster(2, delay=0.05, rate=500e3) as c:
        servers = [c.start(0)]
        servers.append(c.start(1, [0]))
        expect(all_up(servers, 20) is not None, "two servers find each other")
        live = LivePuts(c, *servers)
        servers[0].ask("SET", "large", bytes(size))
        client, begin = servers[1].connect(), time.monotonic()
        while client.call("STRLEN", "large") != size and time.monotonic() - begin < 40:
            time.sleep(0.02)
        times, unseen = live.stop(within=10)
        expect(client.call("STRLEN", "large") == size, "the large value is there (%.1f s)" % (time.monotonic() - begin))
        expect(not unseen and times and times[-1] < 4, "no small Put waits for it (%.2f s)" % max(times + [0]))
        expect(equal(servers, 10) is not None, "both are equal")


def peers(server):
    """KVD PEERS: {address: state}."""
    lines = [line.decode().split() for line in server.ask("KVD", "PEERS")]
    return {words[1]: words[2] for words in lines}


def until(condition, within):
    begin = time.monotonic()
    while time.monotonic() - begin < within:
        if condition():
            return time.monotonic() - begin
        time.sleep(0.01)
    return None


def names():
    """A host that is cut off without a word: its server starts again, by its name, on another host."""
    with Cluster(3, delay=0.02) as c:
        first = c.start(0, arguments=["--name", "first"])
        old = c.start(1, [0], arguments=["--name", "second"])
        expect(all_up([first, old], 20) is not None, "two servers find each other")
        c.wan.pair(0, 1, down=1)
        new = c.start(2, [0], arguments=["--name", "second"])
        at = {n: "%s:%d" % (c.wan.ip(n), first.port) for n in range(3)}
        took = until(lambda: peers(first).get(at[2]) == "up", 15)
        expect(took and took < 8, "the name is at the new address (%s s)" % took)
        expect(peers(first).get(at[1], "down") == "down", "the old id is down at once: %s" % peers(first))
        c.wan.pair(0, 1, down=0)
        refused = "the name second belongs to the server at %s" % at[2]
        took = until(lambda: refused in old.log(), 15)
        expect(took, "the old one is told so when it is back (%s s)" % took)
        expect(until(lambda: peers(first) == {at[2]: "up"}, 40), "and is removed")
        expect(peers(first).get(at[1]) != "up" and peers(new).get(at[0]) == "up", "the new one stays")


def wildcard():
    """Servers bound to all addresses, one of them beside one that is on loopback alone."""
    with Cluster(2, delay=0.02) as c:
        bound = ["--host", "0.0.0.0"]
        first = c.start(0, arguments=bound)
        near = c.start(0, ["127.0.0.1:%d" % first.port], arguments=["--host", "127.0.0.1"], port=first.port + 100)
        near.ip = "127.0.0.1"
        expect(all_up([first, near], 20) is not None, "two servers of one machine find each other")
        expect(first.info()["address"] == "127.0.0.1:%d" % first.port, "on loopback")
        # A server of another machine has the same loopback address, and is none of theirs.
        other = c.start(1, arguments=["--host", "127.0.0.1"], port=near.port)
        other.ip = "127.0.0.1"
        far = c.start(1, [0], arguments=bound)
        expect(all_up([first, near, far], 20) is not None, "three servers find each other")
        own = {s: "%s:%d" % (s.wan.ip(s.host), s.port) for s in (first, far)}
        for server, address in own.items():
            expect(until(lambda: server.info()["address"] == address, 5), "announces %s" % address)
        expect(until(lambda: peers(near).get(own[far]) == "up" and peers(far).get(own[first]) == "up", 10),
               "all have each other's: %s, %s" % (peers(near), peers(far)))
        far.ask("SET", "k", "v")
        expect(until(lambda: near.ask("GET", "k") == b"v", 5), "they sync")
        expect(other.ask("KVD", "PEERS") == [] and other.info()["servers"] == "1", "nobody takes the stranger for one")


CHECKS = {"join": join, "thin": thin, "beside": beside, "names": names, "wildcard": wildcard}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=", ".join(CHECKS))
    parser.add_argument("--bin", default=cluster.options["bin"], metavar="DIR", help="where kvd is")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster.options["bin"] = options.bin
    if why := refusal():
        print(why)
        return 77
    failed = 0
    for name in options.names or CHECKS:
        print("%s: %s" % (name, CHECKS[name].__doc__), flush=True)
        try:
            CHECKS[name]()
        except Failed:
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
