"""Runs perf-driver for the measuring scripts and reads what it found."""
import argparse
import json
import statistics
import subprocess
import tempfile

from lab import FIRST, PERF_DRIVER, Server

SERVER_CPU, LOAD_CPU = 0, 1


def address(server):
    return "127.0.0.1:%d" % (server.port + 1 if isinstance(server, Server) else server.port)


def compare(targets, options, *arguments, load=False):
    """perf-driver compare over `targets` [(name, url, pid)]; rows by name."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = FIRST + [PERF_DRIVER, "compare", "--quiet", "--json", out.name, "--cpu", str(LOAD_CPU), "--rounds", str(options.rounds),
                   "--duration", str(options.seconds), "--warmup", "0.5", "--keys", str(options.keys)]
        for name, url, pid in targets:
            command += ["--target", "%s=%s,pid=%d" % (name, url, pid)]
        command += list(arguments) + (["--load"] if load else [])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {row["name"]: row for row in json.load(open(out.name))["rows"]}


def run(url, pid, options, *arguments, cpu=LOAD_CPU):
    """One perf-driver run as its JSON."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [PERF_DRIVER, "--server", url, "--server-pid", str(pid), "--quiet", "--json", out.name, "--warmup", "0.5",
                   "--duration", str(options.seconds), "--keys", str(options.keys)] + list(arguments)
        if cpu is not None:
            command += ["--cpu", str(cpu)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.load(open(out.name))


def grow(server, keys):
    """Inserts every key, as fast as the server takes them."""
    run(address(server), server.pid, argparse.Namespace(seconds=0.1, keys=keys), "--load")


def microseconds(row):
    """Server CPU per request of one row of a comparison."""
    return row["cpuMicrosPerRequest"]["median"]


def ratios(rows, name, base):
    """CPU per request of `name` over that of `base`, round by round."""
    return [a / b for a, b in zip(rows[name]["cpuMicrosByRound"], rows[base]["cpuMicrosByRound"])]


def ratio(rows, name, base):
    return statistics.median(ratios(rows, name, base))


def middle(values, digits=2):
    """Median [least greatest]."""
    return "%.*f [%.*f %.*f]" % (digits, statistics.median(values), digits, min(values), digits, max(values))


def cpu_micros(result):
    """Server CPU per request of one perf-driver run."""
    return median_of(find(result, "cpuMicrosPerRequest"))


def median_of(figure):
    """perf-driver gives a spread where it ran several rounds."""
    return figure["median"] if isinstance(figure, dict) else figure


def find(tree, name):
    if isinstance(tree, dict):
        if name in tree:
            return tree[name]
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            found = find(item, name)
            if found is not None:
                return found
    return None
