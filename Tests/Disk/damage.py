"""Damaged files: with other servers set aside and fetched again, alone refused, with --repair what is intact.

    python3 Tests/Disk/damage.py .build/debug
"""

import os

from servers import Folder, Server, expect, programs, run, run_all, until

KVD, KV = programs()


def flip(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def files(folder, start):
    return sorted(name for name in os.listdir(folder) if name.startswith(start))


def two(folder, seed):
    """A server with a snapshot and a log, which has ended, and one that has the same."""
    other = Server(KVD, "--dir", folder("other"), "--name", "other")
    words = ["--dir", folder("data"), "--name", "hurt", "--appendfsync", "always", "--join", f"127.0.0.1:{other.port}"]
    with Server(KVD, *words) as server:
        client = server.client()
        for i in range(200):
            client("SET", f"k{i}", f"value {i} {seed}")
        client("DEL", "k7")
        expect(client("SAVE") == "OK", "SAVE")
        for i in range(100, 300):
            client("SET", f"k{i}", f"later {i} {seed}")
        client("DEL", "k9")
        wanted = digest(client)
        until("the other one has it", 20, lambda: digest(other.client()) == wanted)
        port = server.port
        server.end()
    return other, words, port, wanted


def digest(client):
    return client("KVD", "DIGEST")


def hurt(path):
    """In its middle: what is behind is intact."""
    with open(path, "rb") as file:
        used = len(file.read().rstrip(b"\0"))
    flip(path, 4096 + (used - 4096) // 2)


def come_back(kind, seed):
    with Folder() as folder:
        other, words, port, wanted = two(folder, seed)
        try:
            for name in files(folder("data"), kind):
                hurt(folder("data/" + name))
            with Server(KVD, *words, port=port) as server:
                expect("set aside" in server.text(), server.text())
                until("all is there again", 30, lambda: digest(server.client()) == wanted)
                expect(int(server.info("quarantined_bytes")) > 4096, "nothing is set aside")
                names = files(folder("data"), "damaged-" + kind)
                expect(names, "nothing is set aside")
                doctor = run(KV, "--server", f"127.0.0.1:{server.port + 1}", "doctor", ok=False)[1]
                expect("damaged" in doctor, doctor)
                until("what is kept is whole", 30, lambda: run(KV, "check", folder("data"), ok=False)[0] == 0)
                server.end()
            with Server(KVD, *words, port=port) as again:
                expect("damaged at" not in again.text(), again.text())
                until("all is there", 30, lambda: digest(again.client()) == wanted)
                for name in names:
                    os.unlink(folder("data/" + name))
                again.end()
            with Server(KVD, *words, port=port) as last:
                expect(last.info("quarantined_bytes") == "0", "removed is removed")
            expect(digest(other.client()) == wanted, "the other one believed something")
        finally:
            other.end()


def a_damaged_log_is_fetched_again():
    come_back("log-", 1)


def a_damaged_snapshot_is_fetched_again():
    come_back("snapshot-", 2)


def alone_it_is_refused_and_repaired_on_demand():
    for kind in ("snapshot-", "log-"):
        with Folder() as folder:
            words = ["--dir", folder("data"), "--appendfsync", "always"]
            with Server(KVD, *words) as server:
                client = server.client()
                for i in range(50):
                    client("SET", f"k{i}", "v" * 20_000)
                port = server.port
                server.end()
            with Server(KVD, *words, port=port) as server:
                # From here on the logs of the first life are not needed.
                client = server.client()
                expect(client("SAVE") == "OK", "SAVE")
                for i in range(50):
                    client("SET", f"l{i}", "w" * 100)
                server.end()
            name = files(folder("data"), kind)[-1]
            before = {one: os.stat(folder("data/" + one)).st_mtime_ns for one in files(folder("data"), "")}
            hurt(folder("data/" + name))
            before[name] = os.stat(folder("data/" + name)).st_mtime_ns
            code, output, errors = run(KVD, "--port", port, "--actors", 1, *words, ok=False)
            expect(code == 1 and output == "" and f"{name}: " in errors and "--repair" in errors, errors)
            after = {one: os.stat(folder("data/" + one)).st_mtime_ns for one in files(folder("data"), "")}
            before.pop("LOCK")
            after.pop("LOCK")
            expect(after == before, "something was changed")
            with Server(KVD, *words, "--repair", port=port) as server:
                client = server.client()
                kept = client("DBSIZE")
                expect(50 <= kept < 100, f"{kept} keys are left")
                until("a whole snapshot", 20, lambda: run(KV, "check", folder("data"), ok=False)[0] == 0)
                server.end()
            with Server(KVD, *words, port=port) as again:
                expect(again.client()("DBSIZE") == kept, "it is kept")


run_all([
    a_damaged_log_is_fetched_again, a_damaged_snapshot_is_fetched_again, alone_it_is_refused_and_repaired_on_demand,
])
