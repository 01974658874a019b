"""The tables that `make bench` writes into documents, one value a cell. Rows name their table and their cells; rows of one
table with the same first cell are one row."""
import os
import re
import textwrap

BEGIN, END = "<!-- make bench begins -->\n", "<!-- make bench ends -->"
REQUESTS, LATENCY, FIGURES, TURNS, MACHINE = (
    "Processor time of the server", "Latency", "Other figures", "Longest turns", "The machine itself")

# Columns of the first table; those of the others come as the rows have them.
COLUMNS = ["request", "µs", "of Redis", "goal of Redis", "of memcached", "goal of memcached", "of null", "goal of null"]

# What README shows: a name, the table, the row, the column of the figure and that of the ratio to Redis.
CHOSEN = [
    ("processor time of a GET, one at a time", REQUESTS, "GET, pipeline 1", "µs", "of Redis"),
    ("processor time of a GET, a hundred in a pipeline", REQUESTS, "GET, pipeline 100", "µs", "of Redis"),
    ("processor time of a LIST of 100 pairs among a million keys", REQUESTS, "LIST of 100, pipeline 1", "µs", "of Redis"),
    ("memory of a key of 16 bytes with a value of 64", FIGURES, "bytes per key, 1 M keys", "measured", None),
    ("GETs of two actors on two cores over one on one", FIGURES, "two actors over one, GET only", "measured", None),
    ("start of the process to its first reply", FIGURES, "start to the first reply", "measured", None),
]
UNITS = {"µs": "%s µs", "bytes per key, 1 M keys": "%s bytes", "two actors over one, GET only": "x %s",
         "start to the first reply": "%s ms"}


def collect(rows):
    """{table: ([column], {first cell: {column: value}})}, in the order of the rows."""
    tables = {}
    for row in rows:
        if not row.get("table"):
            continue
        columns, found = tables.setdefault(row["table"], ([], {}))
        cells = dict(row["cells"])
        first = next(iter(cells))
        for column in COLUMNS if first == COLUMNS[0] else cells:
            if column not in columns:
                columns.append(column)
        found.setdefault(cells[first], {}).update(cells)
    return tables


def text(table):
    """A table of Markdown."""
    columns, rows = table
    lines = ["| %s |" % " | ".join(columns), "|%s" % ("---|" * len(columns))]
    return lines + ["| %s |" % " | ".join(row.get(c, "") for c in columns) for row in rows.values()]


def replace(path, lines):
    """Puts `lines` between the two marks of a document. False if it has no marks."""
    with open(path, encoding="utf-8") as file:
        page = file.read()
    if BEGIN not in page or END not in page:
        return False
    page = page[:page.index(BEGIN) + len(BEGIN)] + "\n".join(lines) + "\n" + page[page.index(END):]
    with open(path, "w", encoding="utf-8") as file:
        file.write(page)
    return True


def write(root, date, facts, rows):
    """Writes README's six figures with the plot, and the tables of docs/PERFORMANCE.md."""
    tables = collect(rows)
    lines = ["| figure | kvd | of Redis 7 |", "|---|---|---|"]
    for name, table, key, column, ratio in CHOSEN:
        row = tables.get(table, ([], {}))[1].get(key, {})
        value = row.get(column, "")
        lines.append("| %s | %s | %s |" % (
            name, UNITS.get(column, UNITS.get(key, "%s")) % value if value else "", row.get(ratio, "") if ratio else ""))
    lines += ["", "![GET latency by percentile, 50 connections](Perf/results/%s.svg)" % date]
    replace(os.path.join(root, "README.md"), lines)

    lines = textwrap.wrap("Date: %s. Machine: %s, %d cores, Linux %s. Peers: %s." % (
        date, facts["cpu"], facts["cores"], facts["kernel"], ", ".join(facts["versions"][:2])), 120)
    for name in (REQUESTS, LATENCY, FIGURES, TURNS, MACHINE):
        if name in tables:
            lines += ["", "### " + name, ""] + text(tables[name])
    replace(os.path.join(root, "docs", "PERFORMANCE.md"), lines)


def turn(figures):
    """Milliseconds of `0.42 ms (grow)`."""
    return re.match(r"[\d.]+", figures).group(0)


def stalls(figures):
    """Of `average 0.034 ms, longest 0.35 ms, 0 above 1 ms, …`: the longest, and how many were above a millisecond."""
    longest = re.search(r"longest ([\d.]+) ms", figures)
    above = re.search(r"(\d+) above 1 ms", figures)
    return {"longest, ms": longest.group(1) if longest else "", "above 1 ms": above.group(1) if above else ""}
