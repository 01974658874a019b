#!/usr/bin/env python3
"""Test suites of other people's libraries, from the package index's source archives, against a kvd of our own.

    python3 Tests/Libraries/libraries.py --kvd .build/debug/kvd [--only django]

Needs the package index; without one it says so and ends with 0. A failure ends it with 1. Everything is in a temporary directory and on a loopback port, and gone afterwards.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

SECONDS_MAX = 900

SETTINGS = """
from test_sqlite import *
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:%d"},
}
"""


class Skipped(Exception):
    pass


class Library:
    """A library's source archive, what else it needs, and how its tests are run."""

    def __init__(self, name, archive, needs, run, port=None):
        """`port`: the one that its tests look for a server at."""
        self.name, self.archive, self.needs, self.run, self.port = name, archive, needs, run, port


def django(root, python, port):
    with open(os.path.join(root, "tests", "kvd_settings.py"), "w") as file:
        file.write(SETTINGS % port)
    suites = ["cache.tests.RedisCacheTests", "sessions_tests"]
    return [python, "runtests.py", "--settings=kvd_settings", "--parallel=1", "-v", "1"] + suites, "tests", {}


def dogpile(root, python, port):
    # Its distributed locks are released by a script, which kvd does not have: they would wait for ever.
    command = [
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cache/test_redis_backend.py", "-k",
        "not Mutex and not distributed"]
    return command, ".", {"DOGPILE_REDIS_PORT": str(port)}


def cachelib(root, python, port):
    # As in its CI the server is there already.
    return [python, "-m", "pytest", "-q", "tests/test_redis_cache.py"], ".", {"CI": "true"}


def flask_caching(root, python, port):
    return [python, "-m", "pytest", "-q", "tests/test_backend_cache.py", "-k", "TestRedisCache"], ".", {"CI": "true"}


LIBRARIES = [
    Library("django", "django==5.2.*", ["redis==5.*", "asgiref", "sqlparse"], django),
    Library(
        "dogpile", "dogpile.cache==1.*",
        ["redis==5.*", "pytest", "stevedore", "decorator", "typing_extensions", "mako"], dogpile),
    Library("cachelib", "cachelib==0.*", ["redis==5.*", "pytest", "pytest-xprocess"], cachelib, port=6360),
    Library(
        "flask-caching", "flask-caching==2.*", ["redis==5.*", "pytest", "pytest-xprocess", "flask", "cachelib"],
        flask_caching, port=6360),
]


def call(arguments, seconds=300, **options):
    return subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, text=True, **options)


def fetch(library, directory):
    """The unpacked source archive and the Python that has what it needs."""
    python = os.path.join(directory, "venv", "bin", "python")
    got = call([sys.executable, "-m", "venv", os.path.join(directory, "venv")])
    if got.returncode != 0:
        raise Skipped("there is no venv: " + got.stdout.strip()[-200:])
    downloads = os.path.join(directory, "archive")
    name = re.split("[=<>]", library.archive)[0]
    for arguments in [
        ["download", "-q", "--no-deps", "--no-binary", name, "-d", downloads, library.archive],
        ["install", "-q"] + library.needs,
    ]:
        got = call([python, "-m", "pip", "--disable-pip-version-check"] + arguments)
        if got.returncode != 0:
            raise Skipped("the package index does not answer: " + got.stdout.strip()[-200:])
    archive = os.path.join(downloads, os.listdir(downloads)[0])
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    (root,) = [entry for entry in os.listdir(directory) if entry not in ("venv", "archive")]
    root = os.path.join(directory, root)
    got = call([python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", root])
    if got.returncode != 0:
        raise Skipped("it cannot be installed: " + got.stdout.strip()[-200:])
    return root, python, os.path.basename(archive)


def free_ports(count):
    """The first of `count` ports in a row that nobody uses now."""
    for base in range(21000, 60000, count + 7):
        sockets = []
        try:
            for port in range(base, base + count):
                each = socket.socket()
                sockets.append(each)
                each.bind(("127.0.0.1", port))
            return base
        except OSError:
            pass
        finally:
            for each in sockets:
                each.close()
    raise Skipped("no free ports")


def start(kvd, wanted):
    port = wanted - 1 if wanted else free_ports(3)
    if wanted:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", wanted)) == 0:
                raise Skipped(f"somebody else listens on port {wanted}")
    process = subprocess.Popen(
        [kvd, "--port", str(port), "--actors", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port + 1), timeout=1).close()
            return process, port + 1
        except OSError:
            time.sleep(0.02)
    process.kill()
    raise SystemExit("kvd did not start")


def failures(text):
    """Names of the tests that failed, as unittest and pytest print them."""
    return set(re.findall(r"^(?:FAIL|ERROR): (\w+) ", text, re.M)) | set(
        re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)", text, re.M))


def verdict(text):
    lines = [line for line in text.splitlines() if re.search(r"^(Ran \d+|FAILED|OK)|\d+ passed", line)]
    return "; ".join(lines)


def test(library, kvd):
    with tempfile.TemporaryDirectory() as directory:
        root, python, archive = fetch(library, directory)
        process, port = start(kvd, library.port)
        try:
            command, place, environment = library.run(root, python, port)
            got = call(command, SECONDS_MAX, cwd=os.path.join(root, place), env=dict(os.environ, **environment))
        finally:
            process.terminate()
            process.wait(20)
    failed = failures(got.stdout)
    print(f"{archive}: {verdict(got.stdout)}")
    for name in sorted(failed):
        print(f"    {name} failed")
    if not verdict(got.stdout) or failed or got.returncode != 0:
        print(got.stdout[-6000:])
        return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kvd", default=".build/debug/kvd")
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    isGood = True
    for library in LIBRARIES:
        if options.only and library.name not in options.only:
            continue
        try:
            isGood = test(library, os.path.abspath(options.kvd)) and isGood
        except (Skipped, subprocess.TimeoutExpired) as reason:
            print(f"{library.name}: skipped: {reason}")
    sys.exit(0 if isGood else 1)


if __name__ == "__main__":
    main()
