#!/usr/bin/env python3
"""Runs deploy/systemd-three-hosts.md as it stands, on three hosts made of namespaces:
Tests/Hosts/three.py --bin FOLDER --within 3

Each host has a network and folders of its own; systemctl is a stand-in that starts what the unit starts, tells it of a
notify socket and waits until it is ready. Prints the seconds from the last start until all three hold the same. Exit code
77 where namespaces are not allowed.
"""
import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ["one", "two", "three"]
SYSTEMCTL = """#!/bin/sh
[ "$1 $2 $3" = "enable --now kvd" ] || exit 1
exec python3 {here} --start "$HERE_HOST"
"""
INSTALL = """#!/bin/sh
# Without the group, which only the package makes.
exec /usr/bin/install -o root -g root -m 0640 cluster.key password /etc/kvd/
"""


class Host:
    """A network namespace and a mount namespace, kept by a process that sleeps."""

    def __init__(self, name, address=None):
        self.name, self.address = name, address
        self.keeper = subprocess.Popen(["unshare", "--net", "--mount", "--fork", "--kill-child", "sleep", "600"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        own = os.readlink("/proc/self/ns/net")
        self.pid = None
        while self.pid is None and time.monotonic() < deadline and self.keeper.poll() is None:
            children = f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children"
            with open(children, encoding="ascii") as file:
                found = file.read().split()
            if found and os.readlink(f"/proc/{found[0]}/ns/net") != own:
                self.pid = int(found[0])
            time.sleep(0.01)
        if self.pid is None:
            self.end()
            print("namespaces are not allowed here")
            sys.exit(77)

    def command(self, *words):
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", *words]

    def run(self, *words, check=True, **more):
        return subprocess.run(self.command(*words), check=check, text=True, capture_output=True, **more)

    def end(self):
        self.keeper.kill()
        self.keeper.wait()


def blocks():
    with open(os.path.join(ROOT, "deploy/systemd-three-hosts.md"), encoding="utf-8") as file:
        return re.findall(r"```sh\n(.*?)```", file.read(), re.S)


def start(host):
    """What systemctl does in a host: the unit's command, and waiting for READY."""
    path = f"/run/kvd-notify-{host}"
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    listener.settimeout(30)
    with open(os.path.join(ROOT, "deploy/systemd/kvd.service"), encoding="utf-8") as file:
        command = re.search(r"^ExecStart=(.*)$", file.read(), re.M)[1].split()
    command[0] = os.path.join(os.environ["HERE_BIN"], "kvd")
    log = open(f"/tmp/kvd-{host}.log", "wb")
    server = subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": path}, stdout=log, stderr=log,
                              start_new_session=True)
    with open(f"{os.environ['HERE_PIDS']}/{host}", "w", encoding="ascii") as file:
        file.write(str(server.pid))
    while not listener.recv(4096).startswith(b"READY=1"):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", help="folder with kvd and kv")
    parser.add_argument("--within", type=float, help="fail if all three hold the same only later; seconds")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        return start(options.start)
    # Hosts end also when somebody ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    with tempfile.TemporaryDirectory() as folder:
        tools = os.path.join(folder, "bin")
        os.makedirs(tools)
        for name, text in (("systemctl", SYSTEMCTL.format(here=os.path.abspath(__file__))), ("install", INSTALL)):
            with open(os.path.join(tools, name), "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(os.path.join(tools, name), 0o755)
        hosts, switch = [], None
        try:
            switch = Host("switch")
            switch.run("ip", "link", "add", "br0", "type", "bridge")
            switch.run("ip", "link", "set", "br0", "up")
            hosts = [Host(name, f"10.77.0.{i + 1}") for i, name in enumerate(NAMES)]
            took = run(hosts, switch, folder, tools, os.path.abspath(options.bin))
            if options.within is not None and took > options.within:
                sys.exit(f"more than {options.within} s")
        finally:
            for name in os.listdir(folder):
                if name.startswith("pid-"):
                    stop(folder, name)
            for host in [*hosts, *([switch] if switch else [])]:
                host.end()


def stop(folder, name):
    for pid in os.listdir(os.path.join(folder, name)):
        with open(os.path.join(folder, name, pid), encoding="ascii") as file:
            try:
                os.kill(int(file.read()), signal.SIGTERM)
            except ProcessLookupError:
                pass


def prepare(host, switch, folder):
    """An interface on the switch, folders of its own, and the names of all hosts."""
    switch.run("ip", "link", "add", f"to-{host.name}", "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
    switch.run("ip", "link", "set", f"to-{host.name}", "master", "br0", "up")
    host.run("ip", "link", "set", "lo", "up")
    host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
    host.run("ip", "link", "set", "eth0", "up")
    own = os.path.join(folder, host.name)
    os.makedirs(os.path.join(own, "etc"))
    with open(os.path.join(own, "hosts"), "w", encoding="ascii") as file:
        file.write("127.0.0.1 localhost\n")
        for i, name in enumerate(NAMES):
            file.write(f"10.77.0.{i + 1} {name}.example\n")
    os.makedirs("/etc/kvd", exist_ok=True)
    host.run("mount", "--make-rprivate", "/")
    host.run("mount", "--bind", os.path.join(own, "etc"), "/etc/kvd")
    host.run("mount", "--bind", os.path.join(own, "hosts"), "/etc/hosts")


def run(hosts, switch, folder, tools, programs):
    pids = os.path.join(folder, "pid-all")
    os.makedirs(pids)
    secrets, copy, settings, begin, look = blocks()[:5]

    def environment(host):
        return {**os.environ, "PATH": f"{tools}:{programs}:{os.environ['PATH']}", "HERE_HOST": host.name,
                "HERE_BIN": programs, "HERE_PIDS": pids}

    def shell(host, text):
        done = host.run("sh", "-ec", text, check=False, cwd=folder, env=environment(host))
        if done.returncode != 0:
            sys.exit(f"{host.name}: {text}\n{done.stdout}{done.stderr}")
        return done.stdout

    for host in hosts:
        prepare(host, switch, folder)
    shell(hosts[0], secrets)
    for host in hosts:
        shell(host, copy)
        shell(host, settings)
    for host in hosts:
        shell(host, begin)
    started = time.monotonic()
    # One write before all have met shows that the data is there too.
    password = "export KV_PASSWORD=$(cat /etc/kvd/password)\n"
    deadline = started + 30
    while time.monotonic() < deadline:
        reports = [json.loads(shell(host, password + "kv status --json")) for host in hosts]
        if all(report["ready"] and [peer["state"] for peer in report["peers"]] == ["up", "up"] for report in reports):
            break
        time.sleep(0.05)
    took = time.monotonic() - started
    print(shell(hosts[0], look))
    while time.monotonic() < deadline:
        if all(shell(host, password + "kv get greeting || true") == "hello" for host in hosts):
            break
        time.sleep(0.05)
    else:
        sys.exit("the servers do not hold the same")
    print(f"converged {took:.1f} s after the last start")
    return took


if __name__ == "__main__":
    main()
