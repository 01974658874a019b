"""How a row says what was asked and what was measured: lines to read, and the same as data."""
import json
import statistics
import sys
import time


def spread(values, unit="s", digits=2):
    """Median [least greatest]; None among them means not in time."""
    if not values:
        return "nothing measured"
    got = [v for v in values if v is not None]
    never = len(values) - len(got)
    if not got:
        return "never" + (" (%d of %d)" % (never, len(values)) if len(values) > 1 else "")
    text = "%.*f %s" % (digits, statistics.median(got), unit)
    if len(got) > 1:
        text = "%.*f [%.*f %.*f] %s" % (digits, statistics.median(got), digits, min(got), digits, max(got), unit)
    return text + (", never in %d of %d" % (never, len(values)) if never else "")


def middle(values):
    got = [v for v in values if v is not None]
    return statistics.median(got) if got else None


def millis(seconds):
    return "%.0f ms" % (seconds * 1000)


class Row:
    """One row of the table: `ask` once, then figures, each perhaps with a limit that decides."""

    def __init__(self, name, asked):
        self.name, self.asked, self.figures, self.begin = name, asked, [], time.time()
        print("\n== %s\n   asked     %s" % (name, asked), flush=True)

    def figure(self, what, values, unit="s", limit=None, digits=2):
        """`values`: one per run. Holds when every run keeps `limit`; no limit: only told."""
        values = values if isinstance(values, list) else [values]
        holds = None if limit is None else bool(values) and all(v is not None and v <= limit for v in values)
        self.figures.append({"what": what, "values": values, "unit": unit, "limit": limit, "holds": holds})
        verdict = "" if holds is None else "   %s (limit %.*f)" % ("ok" if holds else "NOT MET", digits, limit)
        print("   %-44s %s%s" % (what, spread(values, unit, digits), verdict), flush=True)
        return holds

    def holds(self):
        return all(f["holds"] is not False for f in self.figures)

    def say(self, text):
        print("   " + text, flush=True)

    def data(self):
        return {"row": self.name, "asked": self.asked, "holds": self.holds(), "figures": self.figures,
                "took": time.time() - self.begin}


class Copy:
    """Standard output, also kept."""

    def __init__(self):
        self.kept, self.screen = [], sys.stdout

    def write(self, text):
        self.kept.append(text)
        self.screen.write(text)

    def flush(self):
        self.screen.flush()

    def text(self):
        return "".join(self.kept)


def store(rows, path):
    with open(path, "w") as out:
        json.dump([r.data() for r in rows], out, indent=1)
        out.write("\n")
