#!/usr/bin/env python3
"""Measures links between servers over wide-area paths that TCP itself sees: network namespaces, TUN devices and a program
between them (Tests/WAN). One subcommand per row of the table; each prints what is asked, what was measured (median
[least greatest] of the runs) and one plain TCP connection over the same path in the same run.

Needs root, iproute2, g++ and a release build: swift build -c release --product kvd
"""
import argparse
import datetime
import os
import signal
import sys

from far import cluster, faults, hostile, joins, leaving, lines
from far.report import Copy, store
from wan import Wan, refusal

ROWS = {
    "join-small": joins.small,
    "join-three": joins.three,
    "join-chain": joins.chain,
    "join-large": joins.large,
    "join-thin": joins.thin,
    "join-few": joins.few,
    "visible": lines.visible,
    "beside": lines.beside,
    "backlog": lines.backlog,
    "lossy": lines.lossy,
    "leave": leaving.leave,
    "newcomer-leaves": leaving.newcomer_leaves,
    "faults": faults.faults,
    "cycles": faults.cycles,
    "bad-trickle": hostile.trickle,
    "bad-silent": hostile.unacknowledged,
    "bad-dying": hostile.dying,
    "bad-falling": hostile.falling,
}


def numbers(kind, scale=1):
    return lambda text: [kind(float(part) * scale) for part in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__ + "\n" + "\n".join("  %-14s %s" % (n, f.__doc__.splitlines()[0]) for n, f in ROWS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="ROW", choices=list(ROWS) + ["all"], help="rows, or all")
    parser.add_argument("--bin", default=cluster.options["bin"], metavar="DIR", help="where kvd is (.build/release)")
    parser.add_argument("--runs", type=int, default=5, help="of rows whose times vary (5)")
    parser.add_argument("--all-runs", action="store_true", help="also of joins that take half a minute and more")
    parser.add_argument("--delay", type=float, default=0.25, metavar="S", help="one way, where the row leaves it open (0.25)")
    parser.add_argument("--delays", type=numbers(float), metavar="S,…", help="of the rows over several delays")
    parser.add_argument("--rates", type=numbers(float, 1e3), metavar="KB/S,…", help="of the rows over thin lines")
    parser.add_argument("--keys", type=numbers(int), metavar="N,…", help="instead of a row's numbers of keys")
    parser.add_argument("--loads", type=numbers(int), metavar="N,…", help="SET/s of the row visible")
    parser.add_argument("--seconds", type=float, default=15, help="of load, where a row has one (15)")
    parser.add_argument("--value", type=float, default=64, metavar="MIB", help="of the row beside (64)")
    parser.add_argument("--only", metavar="TEXT", help="of the row faults: those with this in their name")
    parser.add_argument("--within", type=float, metavar="S", help="give up a run after this time")
    parser.add_argument("--flag", action="append", default=[], metavar="FLAG", help="one more flag for every server, as "
                        "--flag=--name; repeatable")
    parser.add_argument("--congestion", metavar="NAME", help="TCP's congestion control on every host: cubic, bbr, reno "
                        "(the machine's); bbr halts a stream each 10 s, to measure the round trip")
    parser.add_argument("--keep-logs", action="store_true", help="leave the servers' logs in the folder for temporary files")
    parser.add_argument("--json", metavar="FILE", help="the figures as data")
    parser.add_argument("--write", action="store_true", help="to Perf/results/DATE/links.txt and .json")
    return parser.parse_args()


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster.options.update(bin=options.bin, flags=options.flag, keep_logs=options.keep_logs, congestion=options.congestion)
    if not os.path.exists(os.path.join(options.bin, "kvd")):
        raise SystemExit("no %s/kvd: swift build -c release --product kvd" % options.bin)
    if why := refusal():
        raise SystemExit(why)
    copy = sys.stdout = Copy()
    try:
        with Wan(1, congestion=options.congestion) as wan:
            print("TCP's congestion control: %s" % wan.congestion())
    except RuntimeError as problem:
        raise SystemExit(str(problem)) from None
    found = []
    for name in ROWS if "all" in options.rows else options.rows:
        made = ROWS[name](options)
        found += made if isinstance(made, list) else [made]
    failed = [row.name for row in found if not row.holds()]
    print("\n%d rows, %d hold%s" % (len(found), len(found) - len(failed), "; not: " + ", ".join(failed) if failed else ""))
    if options.json:
        store(found, options.json)
    if options.write:
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", str(datetime.date.today()))
        os.makedirs(folder, exist_ok=True)
        store(found, os.path.join(folder, "links.json"))
        with open(os.path.join(folder, "links.txt"), "w") as out:
            out.write(copy.text().lstrip())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
