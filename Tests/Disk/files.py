"""Files of kv and of Redis: export, import, backup, restore in three modes, check. Real processes.

    python3 Tests/Disk/files.py .build/debug
"""

import json
import os
import random
import shutil
import time

from servers import Client, Folder, NOT_INSTALLED, RESPError, Redis, Server, expect, programs, run, run_all, skip, until

KVD, KV = programs()


def kv(server, *words, **options):
    return run(KV, "--server", f"127.0.0.1:{server.port + 1}", *words, **options)


def fill(client, count=300, seed=1):
    """Pairs of three databases, of every length that has a form of its own; what was written."""
    drawn = random.Random(seed)
    wanted = {}
    for database in (0, 3, 15):
        client("SELECT", database)
        for i in range(count):
            key = b"k%d" % i if i % 7 else bytes([255, i % 256, 0]) + b"%d" % i
            size = drawn.choice([0, 1, 5, 63, 64, 300, 16383, 16384]) if i % 50 == 0 else drawn.randrange(80)
            value = bytes(drawn.randrange(256) for _ in range(size))
            if i % 10 == 3:
                value = b"%d" % drawn.choice([0, -1, 127, -128, 32767, 65536, -2147483648, 2147483648, 10 ** 17])
            if i % 10 == 4:
                value = b"abc" * 200
            deadline = 4_000_000_000_000 + i if i % 5 == 0 else None
            extra = ("PXAT", deadline) if deadline else ()
            answer = client("SET", key, value, *extra)
            expect(answer == "OK", f"{answer} {key}")
            wanted[database, key] = (value, deadline)
    client("SELECT", 0)
    return wanted


def content(client):
    """Everything that a server, kvd or Redis, has."""
    found = {}
    for database in range(16):
        client("SELECT", database)
        for key in client("KEYS", "*"):
            deadline = client("PEXPIRETIME", key)
            found[database, key] = (client("GET", key), deadline if deadline > 0 else None)
    client("SELECT", 0)
    return found


def same(found, wanted, what):
    missing = [key for key in wanted if key not in found]
    other = [key for key in wanted if key in found and found[key] != wanted[key]]
    more = [key for key in found if key not in wanted]
    expect(not missing and not other and not more,
           f"{what}: missing {missing[:3]}, different {other[:3]}, more {more[:3]}")


def an_export_is_loaded_by_redis():
    if not shutil.which("redis-check-rdb"):
        skip("redis-check-rdb is not installed", NOT_INSTALLED)
    with Folder() as folder, Server(KVD, actors=2) as server:
        client = server.client()
        wanted = fill(client)
        client("INCRBY", "counter", 41)
        client("INCR", "counter")
        wanted[0, b"counter"] = (b"42", None)
        kv(server, "export", "--rdb", folder("dump.rdb"))
        code, output, errors = run("redis-check-rdb", folder("dump.rdb"))
        expect("Checksum OK" in output and "RDB looks OK" in output, output + errors)
        with Redis(folder.path, "--dbfilename", "dump.rdb") as redis:
            same(content(redis.client()), wanted, "an RDB file in Redis")
        run("sh", "-c", f"'{KV}' --server 127.0.0.1:{server.port + 1} export - > '{folder('commands')}'")
        os.mkdir(folder("other"))
        with Redis(folder("other")) as redis:
            code, output, errors = run("sh", "-c", f"redis-cli -p {redis.port} --pipe < '{folder('commands')}'")
            expect("errors: 0" in output, output + errors)
            same(content(redis.client()), wanted, "commands in Redis")


def what_redis_wrote_is_imported():
    with Folder() as folder, Redis(folder.path, "--appendonly", "no", "--rdbcompression", "yes") as redis:
        client = redis.client()
        wanted = fill(client, seed=2)
        client("SELECT", 0)
        client("RPUSH", "list", *range(200))
        client("SADD", "set", "a", "b")
        client("HSET", "hash", "f", "v")
        client("ZADD", "zset", 1.5, "m")
        client("XADD", "stream", "*", "f", "v")
        client("SET", "soon", "gone", "PX", 1)
        until("it has expired", 5, lambda: client("EXISTS", "soon") == 0)
        expect(client("SAVE") == "OK", "SAVE")
        for version, part in (("all", folder("dump.rdb")),):
            with Server(KVD) as server:
                _, output, _ = kv(server, "--json", "import", part)
                told = json.loads(output)
                expect(told["written"] == len(wanted), f"{version}: {told}")
                left = {f"keys of type {name}": 1 for name in ("list", "set", "hash", "zset", "stream")}
                expect(told["left_out"] == left, f"{told}")
                same(content(server.client()), wanted, "an RDB file of Redis in kvd")
                # Again changes nothing.
                kv(server, "import", part)
                same(content(server.client()), wanted, "the same again")


def an_append_only_file_of_redis_is_imported():
    with Folder() as folder, Redis(folder.path, "--appendonly", "yes", "--aof-timestamp-enabled", "yes") as redis:
        client = redis.client()
        client("SET", "flushed", "v")
        client("FLUSHALL")
        client("SET", "n", "1")
        client("BGREWRITEAOF")
        until("it is rewritten", 10, lambda: b"aof_last_rewrite_time_sec:-1" not in client("INFO", "persistence"))
        for _ in range(5):
            client("INCR", "n")
        client("MULTI")
        client("SET", "a", "1")
        client("SET", "b", "2", "EX", 100000)
        client("EXEC")
        client("SELECT", 2)
        client("SET", "c", "3")
        client("EXPIRE", "c", 50000)
        client("RPUSH", "list", "x")
        client("DEL", "nothing")
        client("SELECT", 0)
        wanted = content_of_strings(client)
        with Server(KVD) as server:
            server.client()("SET", "mine", "stays")
            _, output, _ = kv(server, "import", folder("appendonlydir"))
            expect("left out, RPUSH commands: 1" in output, output)
            found = content(server.client())
            expect(found.pop((0, b"mine"), None) == (b"stays", None), "what was there stays")
            same(found, wanted, "an append-only file in kvd")


def content_of_strings(client):
    found = {}
    for database in range(16):
        client("SELECT", database)
        for key in client("KEYS", "*"):
            if client("TYPE", key) == "string":
                deadline = client("PEXPIRETIME", key)
                found[database, key] = (client("GET", key), deadline if deadline > 0 else None)
    client("SELECT", 0)
    return found


def a_damaged_file_changes_nothing():
    with Folder() as folder, Server(KVD) as server:
        client = server.client()
        fill(client, 50)
        kv(server, "export", "--rdb", folder("dump.rdb"))
        with open(folder("dump.rdb"), "rb") as file:
            good = file.read()
        with Server(KVD) as other:
            for place in (len(good) // 2, len(good) - 3):
                with open(folder("bad.rdb"), "wb") as file:
                    file.write(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
                code, output, errors = kv(other, "import", folder("bad.rdb"), ok=False)
                expect(code == 1 and "bad.rdb at offset" in errors and errors.count("\n") == 1, output + errors)
                expect(other.client()("DBSIZE") == 0, "something was written")
            code, _, errors = kv(other, "import", folder("nothing"), ok=False)
            expect(code == 1 and "No such file" in errors, errors)
        with Server(KVD) as other:
            start = time.monotonic()
            kv(other, "import", "--rate", "100", folder("dump.rdb"))
            expect(other.info("db0").startswith("keys=50,"), "all is there")


def backups_are_made_while_the_server_runs():
    with Folder() as folder, Server(KVD, "--dir", folder("data"), actors=2) as server:
        client = server.client()
        wanted = fill(client)
        kv(server, "backup", folder("one"))
        kv(server, "backup", folder("dir/"))
        code, _, errors = kv(server, "backup", folder("data"), ok=False)
        expect(code == 1 and "it holds" in errors, errors)
        run(KV, "check", folder("one"))
        run(KV, "check", folder("dir"))
        run(KV, "check", folder("data"))
        client("SET", "after", "the backup")
        with Server(KVD, "--dir", folder("dir"), actors=3) as other:
            same(content(other.client(3)), wanted, "a directory that kv backup made")
        # Pieces: more than one, and a newer snapshot meanwhile takes nothing away.
        big = b"x" * 500_000
        for i in range(10):
            client("SET", f"big{i}", big)
        number, size, cluster = client("KVD", "BACKUP", "BEGIN")
        expect(size > 5_000_000 and cluster == b"kvd", f"{size} {cluster}")
        first = client("KVD", "BACKUP", "READ", number, 0)
        expect(client("SAVE") == "OK" and client("SAVE") == "OK", "SAVE")
        rest, at = [first], len(first)
        while at < size:
            rest.append(client("KVD", "BACKUP", "READ", number, at))
            at += len(rest[-1])
        with open(folder("pieces"), "wb") as file:
            file.write(b"".join(rest))
        run(KV, "check", folder("pieces"))
        expect(client("KVD", "BACKUP", "END", number) == "OK", "END")
        until("it is gone", 5, lambda: isinstance(client("KVD", "BACKUP", "READ", number, 0), RESPError))
        with Server(KVD) as memory:
            code, _, errors = kv(memory, "backup", folder("none"), ok=False)
            expect(code == 1 and "keeps nothing on disk" in errors, errors)
            # Into one that runs, as new writes.
            _, output, _ = kv(memory, "restore", folder("one"))
            same(content(memory.client()), wanted, "a backup in a server that runs")


def check_finds_every_damage():
    with Folder() as folder, Server(KVD, "--dir", folder("data"), "--appendfsync", "always") as server:
        client = server.client()
        for i in range(20):
            client("SET", f"k{i}", "v" * i)
        client("SAVE")
        for i in range(20):
            client("SET", f"k{i}", "w" * i)
        server.end()
        run(KV, "check", folder("data"))
        drawn = random.Random(3)
        for name in sorted(os.listdir(folder("data"))):
            if name == "LOCK":
                continue
            with open(folder("data/" + name), "rb") as file:
                good = file.read()
            used = len(good.rstrip(b"\0"))
            for place in [0, 8, used // 2] + [drawn.randrange(min(used, 4096 if "log" in name else used)) for _ in range(5)]:
                # The rest of the first page is nothing.
                if name != "MANIFEST" and 200 < place < 4096:
                    continue
                with open(folder("data/" + name), "wb") as file:
                    file.write(good[:place] + bytes([good[place] ^ 16]) + good[place + 1:])
                code, output, errors = run(KV, "check", folder("data"), ok=False)
                expect(code == 1 and name in errors, f"{name} {place}: {output}{errors}")
            with open(folder("data/" + name), "wb") as file:
                file.write(good)
        code, _, errors = run(KV, "check", folder("nothing"), ok=False)
        expect(code == 1 and "No such file" in errors, errors)
        run(KV, "check", folder("data"))


def restored(folder, mode, *words, **options):
    return Server(KVD, "--dir", folder(mode), "--restore", folder("backup"), "--mode", mode, *words, **options)


def a_backup_rejoins_and_newer_writes_win():
    with Folder() as folder, Server(KVD, "--dir", folder("a"), "--name", "a") as first:
        client = first.client()
        client("SET", "old", "1")
        client("SET", "both", "1")
        client("SET", "deleted", "1")
        kv(first, "backup", folder("backup"))
        client("SET", "both", "2")
        client("DEL", "deleted")
        join = f"127.0.0.1:{first.port}"
        with restored(folder, "rejoin", "--join", join, "--name", "b") as second:
            client("SET", "marker", "1")
            other = second.client()
            until("they have met", 20, lambda: other("GET", "marker") == b"1")
            until("newer wins", 20, lambda: other("GET", "both") == b"2" and other("GET", "deleted") is None)
            expect(client("GET", "deleted") is None and client("GET", "both") == b"2", "the backup won")
            port = second.port
            second.end(15)
            # The same flags again: it goes on with what it has.
            with restored(folder, "rejoin", "--join", join, "--name", "b", port=port) as again:
                expect("--restore was done before" in again.text(), again.text())


def an_imported_backup_is_new():
    with Folder() as folder, Server(KVD, "--dir", folder("a"), "--name", "a") as first:
        client = first.client()
        client("SET", "both", "1")
        client("SET", "deleted", "1", "PXAT", 4_000_000_000_000)
        client("INCRBY", "counter", 7)
        kv(first, "backup", folder("backup"))
        client("SET", "both", "2")
        client("DEL", "deleted")
        client("INCRBY", "counter", 100)
        time.sleep(0.05)
        with restored(folder, "import", "--join", f"127.0.0.1:{first.port}", "--name", "b") as second:
            other = second.client()
            for one in (client, other):
                until("the backup is newer", 20, lambda: one("GET", "both") == b"1")
                # A value that is written without having seen what was added since: that counts on top.
                until("counters add up", 20, lambda: one("GET", "counter") == b"114")
                until("deletes too", 20, lambda: one("PEXPIRETIME", "deleted") == 4_000_000_000_000)
            second.end()
        with restored(folder, "import") as again:
            expect(again.client()("GET", "both") == b"1", "it is kept")


def after_a_new_epoch_older_servers_are_refused():
    with Folder() as folder, Server(KVD, "--dir", folder("a"), "--name", "a") as first:
        client = first.client()
        client("SET", "both", "1")
        kv(first, "backup", folder("backup"))
        client("SET", "both", "2")
        client("SET", "lost", "1")
        join = f"127.0.0.1:{first.port}"
        with restored(folder, "new-epoch", "--join", join, "--name", "b") as second:
            other = second.client()
            expect(other("GET", "both") == b"1", "what the backup has")
            command = f"mv '{folder('a')}' '{folder('a')}.before-restore'"
            until("the older one is told what to do", 20, lambda: command in first.text())
            until("the newer one says why", 20, lambda: "before" in second.text() and "restored" in second.text())
            # One that dials the newer one is told too.
            with Server(KVD, "--join", f"127.0.0.1:{second.port}", "--name", "c") as third:
                three = third.client()
                until("a server without data joins", 20, lambda: three("GET", "both") == b"1")
                port = first.port
                first.end()
                with Server(KVD, "--dir", folder("a"), "--name", "a", "--join", f"127.0.0.1:{second.port}",
                            port=port) as back:
                    until("it is refused", 20, lambda: command in back.text())
                    back.end()
                # What the message names works.
                os.rename(folder("a"), folder("a") + ".before-restore")
                with Server(KVD, "--dir", folder("a"), "--name", "a", "--join", f"127.0.0.1:{second.port}",
                            port=port) as anew:
                    one = anew.client()
                    until("it has what the others have", 20, lambda: one("GET", "both") == b"1")
                    expect(one("GET", "lost") is None and other("GET", "lost") is None, "what was given up is back")
                    anew.end(15)
                with Server(KVD, "--dir", folder("a"), "--name", "a", "--join", f"127.0.0.1:{second.port}",
                            port=port) as again:
                    one = again.client()
                    other("SET", "later", "1")
                    until("its epoch was kept", 20, lambda: one("GET", "later") == b"1")


def a_restore_is_refused_where_it_cannot_be():
    with Folder() as folder, Server(KVD, "--dir", folder("a")) as server:
        server.client()("SET", "k", "v")
        kv(server, "backup", folder("backup"))
        port = server.port
        server.end()

        def refused(words, code, text):
            made = run(KVD, "--port", port, "--actors", 1, *words, ok=False)
            expect(made[0] == code and text in made[2] and made[1] == "", f"{words}: {made}")
            expect(len([line for line in made[2].splitlines() if line.startswith("kvd: ")]) == 1, made[2])
        refused(["--restore", folder("backup")], 64, "--mode")
        refused(["--restore", folder("backup"), "--mode", "rejoin"], 64, "--dir")
        refused(["--mode", "rejoin"], 64, "--restore")
        refused(["--restore", folder("backup"), "--mode", "other", "--dir", folder("b")], 64, "rejoin, import, new-epoch")
        both = ["--restore", folder("backup"), "--mode", "rejoin"]
        refused(both + ["--dir", folder("a")], 1, "it holds other data")
        refused(both + ["--dir", folder("b"), "--cluster", "other"], 1, "it is of cluster 'kvd'")
        refused(["--restore", folder("none"), "--mode", "rejoin", "--dir", folder("b")], 1, "No such file")
        with open(folder("backup"), "r+b") as file:
            file.seek(5000)
            file.write(b"\xff\xfe\xfd")
        refused(both + ["--dir", folder("b")], 1, "backup at offset")
        expect(not os.path.exists(folder("b")), "something was left behind")


run_all([
    an_export_is_loaded_by_redis, what_redis_wrote_is_imported, an_append_only_file_of_redis_is_imported,
    a_damaged_file_changes_nothing, backups_are_made_while_the_server_runs, check_finds_every_damage,
    a_backup_rejoins_and_newer_writes_win, an_imported_backup_is_new, after_a_new_epoch_older_servers_are_refused,
    a_restore_is_refused_where_it_cannot_be,
])
