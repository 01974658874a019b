#!/usr/bin/env python3
"""Every expression of the dashboard and of the alarms, asked of a real Prometheus that scrapes real servers:
Tests/Operations/dashboards.py --bin FOLDER [DASHBOARD.json ...]

Two servers of kvd, Debian's exporter for Redis in front of one of them, and Prometheus. Of deploy/grafana/kvd.json
every expression has a value; every rule of deploy/prometheus can be evaluated and no alarm is on. Dashboards named on
the command line are those for the exporter: a real Redis with the same load has another exporter in front of it, and
what has a value there has one for kvd. Exit code 77 if a program is missing.
"""
import argparse
import json
import os
import shutil
import sys
import threading
import urllib.parse

from running import ROOT, Client, Programs, Server, eventually, free_ports, get

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: kvd
    static_configs: [{{targets: [{servers}]}}]
  - job_name: foreign
    static_configs: [{{targets: ['127.0.0.1:{foreign}'], labels: {{namespace: kvd}}}}]
  - job_name: redis
    static_configs: [{{targets: [{redis}], labels: {{namespace: redis}}}}]
"""


def expressions(tree):
    if isinstance(tree, dict):
        if isinstance(tree.get("expr"), str):
            yield " ".join(tree["expr"].split())
        for value in tree.values():
            yield from expressions(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from expressions(value)


def of_file(path):
    with open(path, encoding="utf-8") as file:
        return list(dict.fromkeys(expressions(json.load(file))))


def filled(expression, variables):
    for name in sorted(variables, key=len, reverse=True):
        expression = expression.replace("$" + name, variables[name]).replace("${" + name + "}", variables[name])
    return expression


class Load(threading.Thread):
    """Each command some hundred times a second, errors among them, until it is told to end."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client, self.isOver = Client(port), threading.Event()

    def run(self):
        number = 0
        while not self.isOver.wait(0.01):
            number += 1
            for words in (("SET", f"k{number % 100}", "v"), ("GET", f"k{number % 200}"), ("NOSUCH",),
                          ("PSETEX", f"soon{number % 10}", 50, "v"), ("DEL", f"k{number % 7}"), ("GET", "absent")):
                self.client(*words)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder with kvd")
    parser.add_argument("foreign", nargs="*", help="dashboards for the exporter")
    options = parser.parse_args()
    for tool in ("prometheus", "prometheus-redis-exporter", "redis-server"):
        if not shutil.which(tool):
            print(f"{tool} is not installed")
            sys.exit(77)
    with Programs() as programs:
        one = Server(programs, options.bin, "one", actors=2)
        two = Server(programs, options.bin, "two", arguments=["--join", f"127.0.0.1:{one.port}"])
        redis, port, foreign, real = (free_ports(1) for _ in range(4))
        programs.start("redis-server", "--port", str(redis), "--save", "", "--dir", programs.folder, "--maxmemory",
                       "100mb")
        for target, listen, log in ((one.client, foreign, "foreign.log"), (redis, real, "real.log")):
            programs.start("prometheus-redis-exporter", "-redis.addr", f"redis://127.0.0.1:{target}",
                           "-web.listen-address", f"127.0.0.1:{listen}", log=log)
        config = os.path.join(programs.folder, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(
                rules=os.path.join(ROOT, "deploy/prometheus/kvd.rules.yml"), foreign=foreign,
                servers=f"'127.0.0.1:{one.metrics}', '127.0.0.1:{two.metrics}'", redis=f"'127.0.0.1:{real}'"))
        programs.start("prometheus", f"--config.file={config}", f"--storage.tsdb.path={programs.folder}/data",
                       f"--web.listen-address=127.0.0.1:{port}", log="prometheus.log")
        eventually("Prometheus is ready", lambda: get(port, "/-/ready")[0] == 200)
        loads = [Load(server) for server in (one.client, redis)]
        for load in loads:
            load.start()
        failed = look(port, options.foreign)
        for load in loads:
            load.isOver.set()
        log = programs.log("foreign.log")
        if "level=error" in log or "level=warning" in log:
            print(log)
            failed += 1
    sys.exit(1 if failed else 0)


def look(port, foreign):
    def values(expression, **labels):
        variables = {"instance": ".*", "namespace": ".*", "job": ".*", "__interval": "1m", "__rate_interval": "1m",
                     **labels}
        text = urllib.parse.quote(filled(expression, variables))
        answer = json.loads(get(port, f"/api/v1/query?query={text}")[1])
        if answer["status"] != "success":
            raise SystemExit(f"{expression}: {answer}")
        return answer["data"]["result"]

    own = of_file(os.path.join(ROOT, "deploy/grafana/kvd.json"))
    missing = eventually("every expression has a value", lambda: all(values(each) for each in own) and [[]])[0]
    print(f"deploy/grafana/kvd.json: {len(own)} expressions, {len(missing)} without a value")
    failed = 0
    targets = {target["labels"]["job"]: target["discoveredLabels"]["__address__"]
               for target in json.loads(get(port, "/api/v1/targets")[1])["data"]["activeTargets"]}
    for job in ("redis", "foreign"):
        # Rates need a few looks.
        eventually(f"{job} was looked at", lambda: values(f'count_over_time(redis_up{{job="{job}"}}[1m]) > 4'))
    for path in foreign:
        all_of = of_file(path)
        at_redis = [each for each in all_of if values(each, instance=targets["redis"])]
        empty = eventually(path, lambda: [[each for each in at_redis if not values(each, instance=targets["foreign"])]])
        print(f"{os.path.basename(path)}: {len(all_of)} expressions, {len(at_redis)} with a value at a real Redis, "
              f"{len(at_redis) - len(empty[0])} of these at kvd")
        for each in empty[0]:
            failed += 1
            print(f"  no value: {each}")
        for each in all_of:
            if each not in at_redis:
                print(f"  none at Redis{'' if values(each, instance=targets['foreign']) else ' nor at kvd'}: {each}")
    groups = json.loads(get(port, "/api/v1/rules")[1])["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    ill = [rule["name"] for rule in rules if rule["health"] != "ok"]
    on = [rule["name"] for rule in rules if rule["state"] != "inactive"]
    print(f"alarms: {len(rules)} rules, {len(ill)} that cannot be evaluated {ill}, {len(on)} on {on}")
    return failed + len(ill) + len(on) + (0 if rules else 1)


if __name__ == "__main__":
    main()
