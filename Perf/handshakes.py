#!/usr/bin/env python3
"""Certificates that change under load, and a storm of handshakes, each beside 64 clients that go on.

    KVD_PERF_FIRST=1 python3 Perf/handshakes.py [reloads] [storm] [--backend io_uring]

reloads: 100 in 60 s, two certificates of one authority in turn, 200 new connections a second with a PING each. Nothing
may fail, nobody may be dropped.

storm: for 20 s connections that send a ClientHello and nothing more come three times as fast as the server can take
handshakes; each stays for a second. A client does whole handshakes meanwhile, one after the other, and gives one up after half a second. Told are p99 of the 64
before and meanwhile, how many handshakes that client had done a second before and meanwhile, and the longest turn.
KVD_PERF_FIRST=1: see lab.py. What goes first is put aside for 50 ms of each second nevertheless where others want the
core, and the storm keeps both busy: how long the server and the 64 were put aside is told, and the GETs beside what could
be asked in the time without the longer of the two.
"""
import argparse
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from driver import SERVER_CPU
from intruders import PASSWORD, Good, client_hello, first, trusting
from lab import FIRST, KVD, Server, need

CLIENTS = 64
RELOADS, RELOAD_SECONDS, RECONNECTS = 100, 60, 200
STORM_SECONDS = 20
LOGIN = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(PASSWORD), PASSWORD)


class Many(Good):
    """64 connections that ask in turn, 2,000 GETs a second in all."""

    @staticmethod
    def run(pipe, port, authority):
        first()
        if FIRST:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
        clients, took, dropped = [], [], 0
        for _ in range(CLIENTS):
            client = trusting(authority).wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(LOGIN + b"SET k v\r\n")
            got = b""
            while got.count(b"\n") < 2:
                got += client.recv(100)
            clients.append(client)
        due, at = time.monotonic(), 0
        while True:
            began, client = time.monotonic(), clients[at % CLIENTS]
            at += 1
            try:
                client.sendall(b"GET k\r\n")
                if not client.recv(100):
                    raise OSError("closed")
                took.append(time.monotonic() - began)
            except OSError:
                dropped += 1
            due = max(due + 0.0005, time.monotonic() - 0.01)
            time.sleep(max(0, due - time.monotonic()))
            if pipe.poll():
                pipe.recv()
                took.sort()
                pipe.send((took[int(len(took) * 0.99)] * 1000, len(took), dropped))
                took = []


def ask(context, port, *words):
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20))
    client.sendall(LOGIN + b"".join(word + b"\r\n" for word in words) + b"QUIT\r\n")
    text = b""
    while piece := client.recv(65536):
        text += piece
    return text.decode()


def stats(context, port):
    return dict(line.split(":", 1) for line in ask(context, port, b"INFO stats").splitlines() if ":" in line)


def reloads(server, many, context, pairs, live):
    port, failed, done, changed, began = server.port + 1, 0, 0, 0, time.monotonic()
    before, drops = stats(context, port), many.p99()[2]
    while (elapsed := time.monotonic() - began) < RELOAD_SECONDS:
        if changed < RELOADS and elapsed >= changed * RELOAD_SECONDS / RELOADS:
            changed += 1
            for name, path in zip(pairs[changed % 2], live):
                shutil.copy(name, path + ".new")
                os.rename(path + ".new", path)
            server.process.send_signal(signal.SIGHUP)
        try:
            with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
                client.sendall(b"PING\r\n")
                failed += b"NOAUTH" not in client.recv(100)
        except OSError:
            failed += 1
        done += 1
        time.sleep(max(0, began + done / RECONNECTS - time.monotonic()))
    after, (p99, asked, dropped) = stats(context, port), many.p99()
    count = lambda name: int(after[name]) - int(before[name])
    print("reloads: %d done, %d failed; %d new connections (%.0f/s), %d failed; of 64 standing ones %d dropped, %d GETs, p99 %.2f ms; tls_failures +%d" % (
        count("tls_reloads"), count("tls_reload_failures"), done, done / (time.monotonic() - began), failed, dropped - drops, asked, p99,
        count("tls_failures")), flush=True)


def handshakes_a_second(context, port, seconds):
    """Of a client that gives one up after half a second and tries again; and the share of those it gave up."""
    began, done, given_up = time.monotonic(), 0, 0
    while time.monotonic() - began < seconds:
        try:
            with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=0.5)) as client:
                client.sendall(b"PING\r\n")
                client.recv(100)
            done += 1
        except OSError:
            given_up += 1
    return done / (time.monotonic() - began), given_up / max(1, done + given_up)


def honest(pipe, authority, port):
    first()
    while True:
        pipe.send(handshakes_a_second(trusting(authority), port, pipe.recv()))


def nanos(pid):
    return sum(int(open("/proc/%d/task/%s/schedstat" % (pid, task)).read().split()[0]) for task in os.listdir("/proc/%d/task" % pid))


def put_aside(server, many):
    """Milliseconds in which the server's loop and the 64 were ready to run and others ran."""
    with open("/proc/%d/schedstat" % many.process.pid) as fields:
        return server.put_aside()[1], int(fields.read().split()[1]) / 1e6


def storm(server, many, context, authority):
    port = server.port + 1
    pipe, theirs = multiprocessing.Pipe()
    other = multiprocessing.Process(target=honest, args=(theirs, authority, port), daemon=True)
    other.start()
    quiet = many.p99()
    # One at a time, beside the 64: what a handshake takes of the processor.
    pipe.send(5)
    begun = nanos(server.pid)
    rate, _ = pipe.recv()
    busy = (nanos(server.pid) - begun) / 5e9
    quiet = many.p99()
    time.sleep(5)
    idle = nanos(server.pid)
    time.sleep(2)
    share = (nanos(server.pid) - idle) / 2e9
    capacity = rate / max(busy - share, 0.01)
    many.p99()
    hello, links, sent, lost, began = client_hello(), [], 0, 0, time.monotonic()
    before, aside = stats(context, port), put_aside(server, many)
    pipe.send(STORM_SECONDS)
    while (elapsed := time.monotonic() - began) < STORM_SECONDS:
        for _ in range(min(200, max(0, int(elapsed * 3 * capacity) - sent))):
            sent += 1
            link = socket.socket()
            link.setblocking(False)
            try:
                link.bind(("127.0.0.2", 0))
                link.connect(("127.0.0.1", port))
            except BlockingIOError:
                pass
            except OSError:
                lost += 1
                continue
            try:
                link.send(hello)
            except OSError:
                lost += 1
            links.append((time.monotonic(), link))
        while links and time.monotonic() - links[0][0] > 1:
            links.pop(0)[1].close()
        time.sleep(0.0005)
    p99, asked, dropped = many.p99()
    lost_millis = [then - now for then, now in zip(put_aside(server, many), aside)]
    theirs = STORM_SECONDS - max(lost_millis) / 1000
    meanwhile, given_up = pipe.recv()
    after = stats(context, port)
    print("storm: a handshake takes %.0f µs, so the server can take %.0f/s; offered %.0f/s for %d s (%d not taken by the kernel)" % (
        1e6 / capacity, capacity, sent / STORM_SECONDS, STORM_SECONDS, lost))
    print("storm: p99 of 64 clients %.2f ms before, %.2f ms meanwhile (%d GETs, %.1f%% of before; put aside: server %.0f ms, clients"
          " %.0f ms, of the rest %.1f%%), %d dropped; whole handshakes of one client %.0f/s before,"
          " %.0f/s meanwhile, %.0f%% given up; longest turn by the processor %s µs (%s); over 1 ms %d" % (
              quiet[0], p99, asked, 100 * asked / STORM_SECONDS / 2000, *lost_millis, 100 * asked / theirs / 2000, dropped, rate, meanwhile, 100 * given_up,
              after["max_turn_cpu_micros"], after["max_turn_cpu_work"], int(after["turns_over_1ms"]) - int(before["turns_over_1ms"])), flush=True)
    for _, link in links:
        link.close()
    other.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["reloads", "storm"])
    parser.add_argument("--backend", default="io_uring")
    options = parser.parse_args()
    need(KVD)
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        for words in (["ca"], ["server", "one"], ["server", "two"]):
            subprocess.run([KVD, "cert", *words, "--dir", folder], check=True)
        pairs, live = [[path(name + ".pem"), path(name + ".key")] for name in ("one", "two")], [path("live.pem"), path("live.key")]
        for name, place in zip(pairs[0], live):
            shutil.copy(name, place)
        with open(path("password"), "wb") as file:
            file.write(PASSWORD + b"\n")
        os.chmod(path("password"), 0o600)
        server = Server(1, cpu=SERVER_CPU, arguments=[
            "--io", options.backend, "--tls-cert-file", live[0], "--tls-key-file", live[1], "--requirepass-file", path("password")])
        many, context = Many(server.port + 1, path("ca.pem")), trusting(path("ca.pem"))
        first()
        time.sleep(3)
        for what in options.what:
            if what == "reloads":
                reloads(server, many, context, pairs, live)
            else:
                storm(server, many, context, path("ca.pem"))
        many.process.kill()
        server.stop()


if __name__ == "__main__":
    main()
