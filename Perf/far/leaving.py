"""Rows of "Leaving": what an ended server had acknowledged and nobody else has."""
import time

from .cluster import Cluster, all_up, equal, fill
from .joins import finish
from .probes import Load
from .report import Row

KEYS, SIZE = 20000, 50
# Key, value, version and what frames them.
WIRE_BYTES = 90

PATHS = [
    ("250 ms", dict(delay=0.25)),
    ("250 ms, 1 % loss", dict(delay=0.25, loss=0.01)),
    ("250 ms, 1 MB/s", dict(delay=0.25, rate=1e6)),
    ("LAN", dict(delay=0.0002)),
]


def leave(options):
    """SIGTERM under full load: acknowledged writes missing at the others, exit code, time."""
    rows = []
    for name, path in PATHS:
        backlog = KEYS * WIRE_BYTES / path["rate"] if "rate" in path else 0
        limit = 2 * path["delay"] + backlog + 1
        row = Row("leave, " + name, "SIGTERM under full load, three servers: no acknowledged write missing at the others; "
                  "exit 0 in 2 one-way + backlog / bandwidth + 1 s")
        missing, seconds, messages, left = [], [], [], []
        for run in range(options.runs):
            with Cluster(3, **path) as c:
                leaving = c.start(0)
                others = [c.start(1, [0]), c.start(2, [0])]
                if all_up([leaving] + others) is None:
                    raise SystemExit("three servers did not find each other")
                loading = Load(c, leaving, 0, SIZE, KEYS)
                time.sleep(options.seconds / 3)
                signalled = time.monotonic()
                code, took = leaving.terminate(60)
                loading.stop()
                # What was on its way arrives; what the others have of it they give each other.
                equal(others, 15)
                time.sleep(1)
                found = [loading.missing(o, signalled) for o in others]
                missing.append(max(f[0] for f in found))
                seconds.append(took)
                messages.append(c.messages_a_second())
                left.append("exit %s after %.2f s, %d writes acknowledged, %d refused; of %d keys %s missing at the others%s" % (
                    code, took, loading.acknowledged.value, loading.refused.value, found[0][1],
                    " and ".join(str(f[0]) for f in found),
                    "; %d of them acknowledged before the signal, the oldest by %.1f s" % max(f[2:] for f in found)
                    if missing[-1] else ""))
                row.say(left[-1])
        row.figure("acknowledged writes missing at the others", missing, "", limit=0, digits=0)
        row.figure("SIGTERM until the end", seconds, limit=limit)
        finish(row, None, (max(m[0] for m in messages), sum(m[1] for m in messages)))
        rows.append(row)
    return rows


def newcomer_leaves(options):
    """A newcomer is told to stop right after its first acknowledged SET."""
    rows = []
    for delay in options.delays or [0.0002, 0.25]:
        row = Row("newcomer leaves, %g ms" % (delay * 1000), "SIGTERM so many seconds after the first acknowledged SET of a "
                  "server just started: the write is at the one it joins")
        for wait in (0, 0.1, 0.5, 1.2):
            missing, seconds, codes = [], [], []
            for _ in range(options.runs):
                with Cluster(2, delay=delay) as c:
                    old = c.start(0)
                    fill(old, 1000, 100)
                    newcomer = c.start(1, [0], wait=False)
                    client = newcomer.connect()
                    if client.call("SET", "first", "put") != b"OK":
                        raise SystemExit("a newcomer refused a write")
                    # A client that stays holds some servers back; this one is gone.
                    client.close()
                    time.sleep(wait)
                    code, took = newcomer.terminate(60)
                    codes.append(code)
                    seconds.append(took)
                    time.sleep(delay + 0.5)
                    missing.append(0 if old.ask("GET", "first") == b"put" else 1)
            row.figure("after %.1f s: the write is missing (runs of %d)" % (wait, options.runs), sum(missing), "", limit=0,
                       digits=0)
            row.figure("after %.1f s: SIGTERM until the end" % wait, seconds)
            row.say("exit codes %s" % codes)
        rows.append(row)
    return rows
