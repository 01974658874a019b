#!/usr/bin/env python3
"""Real players on real terminals against real servers. Prints one line per scenario; exit code 1 if any failed.

    python3 Tests/Scenarios/cmud/scenarios.py --kvd .build/debug/kvd --cmud .build/debug/cmud [NAME...]

Needs pexpect 4.8 or later (and tmux for the scenario `screen`). Uses ports 25000 to 25099 of the loopback interface.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import traceback

import pexpect

from cluster import ESCAPES, Cluster, Player, number, script

OPTIONS = None


def talk(cluster):
    """Two players on two servers 250 ms apart: what is said is seen within 3.5 s."""
    ada, bob = Player(cluster.addresses[0], "ada"), Player(cluster.addresses[1], "bob")
    ada.ready(), bob.ready()
    time.sleep(6)
    slowest = 0
    for index in range(8):
        start = time.monotonic()
        ada.type(f"say number {index} over")
        bob.expect(f"ada says: number {index} over", 10)
        slowest = max(slowest, time.monotonic() - start)
        time.sleep(1.3)
    ada.type("tell bob psst")
    bob.expect("ada tells you: psst", 10)
    bob.type("reply what")
    ada.expect("bob tells you: what", 10)
    bob.type("move fence")
    ada.expect("bob leaves for the Fence", 10)
    ada.quit(), bob.quit()
    assert slowest <= 3.5, f"slowest {slowest:.2f} s"
    return f"slowest of 8: {slowest:.2f} s"


def conserved(cluster, name, players, slack):
    """Coins in the store are what the players were told, but for an attempt that ended with its session."""
    told = sum(player.coins_told() for player in players)
    time.sleep(3)
    texts = [script(OPTIONS.cmud, address, name, "inv; stats")[0] for address in cluster.addresses if address]
    coins = [number("Coins", text) for text in texts]
    assert all(c is not None and told <= c <= told + slack for c in coins), f"told {told}, stored {coins}\n{texts}"
    return told, coins


def two_terminals(cluster):
    """Two terminals on one name: the older is told, nothing is lost."""
    first = Player(cluster.addresses[0], "cyd")
    first.ready()
    first.type("mine 20")
    time.sleep(8)
    second = Player(cluster.addresses[1], "cyd")
    second.ready()
    second.type("mine 3")
    first.expect("has logged in elsewhere", 20)
    code = first.finish()
    second.expect("You have ", 30)
    second.quit()
    assert code == 4, f"exit code {code}"
    told, coins = conserved(cluster, "cyd", [first, second], 1)
    return f"told {told}, stored {coins}"


def killed_client(cluster):
    """kill -9 of the client in the middle of an action: what was told is kept."""
    player = Player(cluster.addresses[0], "dan")
    player.ready()
    player.type("mine 50")
    player.drain(11)
    player.kill()
    told, coins = conserved(cluster, "dan", [player], 1)
    assert told > 0
    return f"told {told}, stored {coins}"


def killed_server(cluster):
    """kill -9 of the server: the client moves to the other one and keeps playing."""
    player = Player(cluster.addresses[0] + "," + cluster.addresses[1], "eve")
    player.ready()
    player.type("mine 12")
    player.drain(9)
    cluster.kill(0)
    player.expect("12 tries, ", 90)
    player.type("say still here")
    player.expect("You say: still here")
    player.quit()
    cluster.addresses[0] = ""
    told, coins = conserved(cluster, "eve", [player], 0)
    return f"told {told}, stored {coins}"


def partition(cluster):
    """A 30 s partition while both mine and solve, one name on both sides and another beside it."""
    mine = [Player(address, "fay") for address in cluster.addresses[:1]] + [Player(cluster.addresses[1], "gus")]
    for player in mine:
        player.ready()
    for player in mine:
        player.type("mine 6")
        player.expect("6 tries, ", 60)
        player.type("buy cpu")
        player.expect("your power is", 20)
        player.type("solve 4")
    cluster.cut()
    twin = Player(cluster.addresses[1], "fay")
    twin.ready()
    twin.type("mine 4")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for player in mine + [twin]:
            player.drain(0.5)
    cluster.heal()
    mine[0].expect("has logged in elsewhere", 40)
    mine[0].finish()
    for player in (mine[1], twin):
        player.drain(8)
        player.quit()
    time.sleep(6)
    earned = sum(p.coins_told() for p in (mine[0], twin))
    outputs = [script(OPTIONS.cmud, address, "fay", "stats; scores coins; problem")[0] for address in cluster.addresses]
    for text in outputs:
        stored = int(re.findall(r"fay \(you\)\s+Undergraduate\s+([\d,]+)", text)[-1].replace(",", ""))
        assert earned <= stored <= earned + 2, f"told {earned}, stored {stored}\n{text}"
        work = {name: int(n.replace(",", "")) for name, n in re.findall(r"^  (\w+): ([\d,]+), ", text, re.M)}
        for player in (mine[0], mine[1]):
            if player.work_told() and work:
                assert work.get(player.name, 0) >= player.work_told(), f"{player.name} told {player.work_told()}: {text}"
    shares = [re.findall(r"problem number 1: ([\d,]+) of", text) for text in outputs]
    assert shares[0] == shares[1], shares
    return f"earned {earned} on both sides, remaining {shares[0]} on both servers"


def modes_of(tty):
    return subprocess.run(["stty", "-a"], stdin=tty, capture_output=True, text=True).stdout


def terminal(cluster):
    """Whatever ends the program leaves the terminal as it was; Ctrl-Z and back works."""
    for how in ("quit", "eof", "sigterm", "sighup", "interrupt"):
        shell = pexpect.spawn("/bin/sh", ["-i"], env={**os.environ, "PS1": "sh$ ", "TERM": "xterm", "NO_COLOR": "1"}, dimensions=(30, 200),
                              encoding="utf-8", timeout=20)
        shell.expect_exact("sh$ ")
        shell.sendline("stty -a | md5sum; echo one")
        before = shell.expect_exact("one\r\nsh$ ") or shell.before.split("\r\n")[1]
        shell.sendline(f"{OPTIONS.cmud} {cluster.addresses[0]} --name hal{how} --story off; echo code=$?")
        shell.expect_exact("(mining) > ")
        time.sleep(0.5)
        if how == "quit":
            shell.send("quit\r")
        elif how == "eof":
            shell.send("\x04")
        elif how == "interrupt":
            shell.send("\x03")
            time.sleep(0.3)
            shell.send("\x03")
        else:
            number_ = signal.SIGTERM if how == "sigterm" else signal.SIGHUP
            found = subprocess.run(["pgrep", "-f", f"name hal{how}"], capture_output=True, text=True).stdout.split()
            for pid in found:
                if open(f"/proc/{pid}/comm").read().strip() == os.path.basename(OPTIONS.cmud)[:15]:
                    os.kill(int(pid), number_)
        shell.expect(r"code=(\d+)")
        code = int(shell.match.group(1))
        assert code == (130 if how == "interrupt" else 0), f"{how}: {code}"
        shell.expect_exact("sh$ ")
        shell.sendline("stty -a | md5sum; echo one")
        after = shell.expect_exact("one\r\nsh$ ") or shell.before.split("\r\n")[1]
        assert before == after, f"{how}: {before} {after}"
        shell.close(force=True)
    return "quit, EOF, SIGTERM, SIGHUP and Ctrl-C Ctrl-C restore it"


def suspend(cluster):
    """Ctrl-Z gives the shell back, fg brings the game back, with what was typed."""
    shell = pexpect.spawn("/bin/bash", ["--norc", "--noprofile", "-i"], env={**os.environ, "PS1": "sh$ ", "TERM": "xterm", "NO_COLOR": "1"}, dimensions=(30, 200),
                          encoding="utf-8", timeout=20)
    shell.expect_exact("sh$ ")
    shell.sendline(f"{OPTIONS.cmud} {cluster.addresses[0]} --name ivy --story off")
    shell.expect_exact("(mining) > ")
    shell.send("say hel")
    time.sleep(0.5)
    shell.send("\x1a")
    shell.expect_exact("sh$ ")
    shell.sendline("echo in $((40+2)) shell")
    shell.expect_exact("in 42 shell")
    time.sleep(12)  # longer than the session trusts a pause: it looks before it writes
    shell.sendline("fg")
    shell.expect_exact("(mining) > say hel")
    shell.send("lo\r")
    shell.expect_exact("You say: hello")
    shell.send("quit\r")
    shell.expect_exact("Saved")
    shell.close(force=True)
    return "typed text survived"


def pipes(cluster):
    """Pipes, dumb terminals and NO_COLOR: no escape sequence, stable lines, the documented exit codes."""
    run = subprocess.run([OPTIONS.cmud, cluster.addresses[0]], input="jon\nmine 2\nsay hi\nbogus\nquit\n", capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "\x1b" not in run.stdout and "You say: hi" in run.stdout, run.stdout
    assert "There is no command \"bogus\" - " in run.stdout
    run = subprocess.run([OPTIONS.cmud, cluster.addresses[0], "--name", "jon"], input="mine 2", capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "2 tries" in run.stdout and "Saved" in run.stdout, run.stdout
    dumb = Player(cluster.addresses[0], "jon", "--story", "off", env={"TERM": "dumb"})
    dumb.ready()
    dumb.type("look")
    dumb.expect("Collaborative Commons")
    dumb.expect("(mining) > ")
    dumb.quit()
    assert "\x1b" not in dumb.seen, repr(dumb.seen)
    for value, is_colored in (("1", False), ("", True)):
        player = Player(cluster.addresses[0], "jon", "--story", "off", env={"NO_COLOR": value})
        player.ready()
        player.quit()
        assert bool(re.search(r"\x1b\[[0-9;]*m", player.seen)) == is_colored
    reader = Player(cluster.addresses[0], "jon", "--story", "off", "--screen-reader")
    reader.ready()
    reader.type("map")
    reader.expect("you are here")
    reader.quit()
    assert "dungeon of distributed" not in reader.seen
    output, code = script(OPTIONS.cmud, cluster.addresses[0], "jon", "mine 1; shop; inv")
    assert code == 0 and "Power in all" in output, output
    run = subprocess.run([OPTIONS.cmud, "--solo", "-e", "mine 1; inv"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "Power in all" in run.stdout, run.stdout
    output, code = script(OPTIONS.cmud, "127.0.0.1:1", "jon", "inv")
    assert code == 3 and "unreachable" in output, (code, output)
    assert subprocess.run([OPTIONS.cmud, "--nonsense"], capture_output=True).returncode == 64
    assert subprocess.run([OPTIONS.cmud, "a b c"], capture_output=True).returncode == 64
    return "pipe, EOF in the middle of mine, dumb, NO_COLOR, reader, -e, exit codes 0 3 64"


def passwords(cluster):
    """A password is hidden while typed, kept by the store, asked for on the other server, refused when wrong."""
    kim = Player(cluster.addresses[0], "kim")
    kim.ready()
    kim.type("password")
    for prompt in ("New password", "The same again"):
        kim.expect(prompt)
        kim.type("correct horse 9")
    kim.expect("Password set", 30)
    kim.quit()
    assert "correct horse" not in kim.seen
    time.sleep(2)
    thief = Player(cluster.addresses[1], "kim")
    for _ in range(3):
        thief.expect("Password: ")
        thief.type("guess")
    thief.expect("Wrong password")
    assert thief.finish(20) == 4
    path = f"/tmp/cmud-scenario-{os.getpid()}"
    with open(path, "w") as file:
        file.write("correct horse 9\n")
    try:
        output, code = script(OPTIONS.cmud, cluster.addresses[1], "kim", "stats", "--password-file", path)
        assert code == 0 and "Welcome back, kim" in output, output
    finally:
        os.unlink(path)
    return "set, refused, accepted"


def screen(cluster):
    """What tmux shows: an event in the middle of a word, and a resize from 80 to 40 columns."""
    session = f"cmud-scenario-{os.getpid()}"
    tmux = lambda *a: subprocess.run(["tmux", *a], capture_output=True, text=True).stdout
    try:
        tmux("new-session", "-d", "-s", session, "-x", "80", "-y", "24", f"{OPTIONS.cmud} {cluster.addresses[0]} --name lea --story off")
        mia = Player(cluster.addresses[0], "mia")
        mia.ready()
        time.sleep(7)
        tmux("send-keys", "-t", session, "-l", "say in the middle of a wo")
        time.sleep(0.5)
        mia.type("say hello there")
        time.sleep(3)
        shown = tmux("capture-pane", "-p", "-t", session)
        assert "mia says: hello there\n(mining) > say in the middle of a wo" in shown, shown
        tmux("resize-window", "-t", session, "-x", "40", "-y", "24")
        time.sleep(1)
        tmux("send-keys", "-t", session, "-l", "rd that goes on and on and on")
        time.sleep(0.5)
        shown = tmux("capture-pane", "-p", "-t", session)
        assert "(mining) > say in the middle of a word t\nhat goes on and on and on" in shown, shown
        tmux("send-keys", "-t", session, "C-u")
        tmux("resize-window", "-t", session, "-x", "80", "-y", "24")
        tmux("send-keys", "-t", session, "-l", "mine 30")
        tmux("send-keys", "-t", session, "Enter")
        time.sleep(4)
        tmux("resize-window", "-t", session, "-x", "40", "-y", "24")
        time.sleep(1)
        shown = tmux("capture-pane", "-p", "-t", session)
        assert len(re.findall(r"/30 ", shown)) == 1 and shown.count("mining [") == 1, shown
        mia.quit()
    finally:
        tmux("kill-session", "-t", session)
    return "the typed line stays whole, the bar leaves no pieces"


def gateway(cluster):
    """The telnet gateway from a plain socket: negotiation, a prompt with its end mark, talk, refusal of HTTP."""
    import socket
    port = 25090
    process = subprocess.Popen([OPTIONS.cmud, cluster.addresses[0], "--listen", str(port)], stderr=subprocess.PIPE, text=True)
    try:
        assert "listening on 127.0.0.1:25090" in process.stderr.readline()

        def connect():
            return socket.create_connection(("127.0.0.1", port), 5)

        def until(link, wanted, seconds=15):
            data, end = b"", time.monotonic() + seconds
            while wanted not in data:
                assert time.monotonic() < end, data
                link.settimeout(max(0.1, end - time.monotonic()))
                piece = link.recv(4096)
                assert piece, data
                data += piece
            return data
        ned = connect()
        hello = until(ned, b"> \xff\xf9")
        assert b"\xff\xfd\x18" in hello and b"Enter your new character name!" in hello
        ned.sendall(b"ned\r\n")
        until(ned, b"(mining) > \xff\xf9")
        ned.sendall(b"say gr\xff\xfd\x01eetings\r\x00")
        until(ned, b"You say: greetings")
        ole = Player(cluster.addresses[1], "ole")
        ole.ready()
        time.sleep(6)
        ole.type("say over here")
        until(ned, b"ole says: over here")
        web = connect()
        web.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        until(web, b"not a web server")
        status = connect()
        status.sendall(b"MSSP-REQUEST\r\n")
        until(status, b"PLAYERS\t1\r\n")
        second = subprocess.run([OPTIONS.cmud, cluster.addresses[0], "--listen", str(port)], capture_output=True, text=True, timeout=20)
        assert second.returncode == 1 and "is taken by another program" in second.stderr, second.stderr
        links = [connect() for _ in range(8)]
        refused = 0
        for link in links:
            try:
                until(link, b"from your address already", 1.5)
                refused += 1
            except (AssertionError, OSError):
                pass
        assert refused >= 3, refused
        ole.quit()
        process.send_signal(signal.SIGTERM)
        until(ned, b"The gateway is closing")
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.kill()
    return "negotiation, talk, HTTP refused, MSSP, limits, goodbye"


SCENARIOS = [talk, two_terminals, killed_client, partition, terminal, suspend, pipes, passwords, screen, gateway, killed_server]


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kvd", required=True)
    parser.add_argument("--cmud", required=True)
    parser.add_argument("names", nargs="*", help="scenarios to run; all of them otherwise")
    OPTIONS = parser.parse_args()
    OPTIONS.cmud = os.path.abspath(OPTIONS.cmud)
    Player.program = OPTIONS.cmud
    failed = 0
    cluster = Cluster(os.path.abspath(OPTIONS.kvd))
    try:
        for scenario in SCENARIOS:
            if OPTIONS.names and scenario.__name__ not in OPTIONS.names:
                continue
            start = time.monotonic()
            try:
                note = scenario(cluster)
                print(f"ok    {scenario.__name__}: {note} ({time.monotonic() - start:.0f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL  {scenario.__name__}\n{ESCAPES.sub('', traceback.format_exc())}", flush=True)
    finally:
        cluster.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
