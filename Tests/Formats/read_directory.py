#!/usr/bin/env python3
"""Reads a data directory of kvd as docs/formats.md says, and prints "ms server/actor/seq kind key value" of each entry.

Written from that page alone, so that the page is known to be enough. Usage: read_directory.py DIR
"""
import os, struct, sys

TABLE = []
for i in range(256):
    for _ in range(8): i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    TABLE.append(i)

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data: crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF

class Reader:
    def __init__(self, data, at=0): self.data, self.at = data, at
    def take(self, n):
        self.at += n; assert self.at <= len(self.data), "too short"
        return self.data[self.at - n:self.at]
    def fixed(self, n): return int.from_bytes(self.take(n), "little")
    def varint(self):
        value = shift = 0
        while True:
            byte = self.fixed(1); value |= (byte & 127) << shift; shift += 7
            if byte < 128: return value
    def zigzag(self): n = self.varint(); return n >> 1 ^ -(n & 1)

def entries(r, writers, out):
    key, code, ms, seq = b"", 0, 0, 0
    for _ in range(r.fixed(4)):
        flags = r.fixed(1); shared = flags >> 4; extended = shared == 14
        if shared >= 14: shared = r.varint()
        rest = r.varint(); length = r.varint() if extended or not flags & 1 else 0
        if not flags & 2:
            code = r.varint()
            if code == len(writers): writers.append((r.fixed(8), r.varint()))
        if not flags & 4: ms += r.zigzag()
        seq = seq + 1 if flags & 8 else seq + r.zigzag() & 2**64 - 1
        key = key[:shared] + r.take(rest); value = r.take(length)
        if extended: value = value[40 if value[:6] == b"\xff" * 6 else 6:]
        out.append((ms, *writers[code], seq, "deleted" if flags & 1 else "value", key, value))

def read(path):
    """All entries of a log or a snapshot, and where its intact chunks end."""
    data = open(path, "rb").read(); head = Reader(data); out = []
    assert head.take(8) == b"kvd-data" and head.fixed(2) >= 1 and head.fixed(2) <= 1, "not of this format"
    kind, file, _, server, actor, _, length, crc = struct.unpack_from("<IQQQQQII", data, 12)
    assert crc == crc32c(data[:60] + data[64:64 + length]), "header"
    at, number, previous = 4096, 0, crc32c(data[:4096])
    while at + 16 <= len(data):
        size, crc, n, before = struct.unpack_from("<IIII", data, at); end = at + 16 + size
        if not size or end > len(data) or (n, before) != (number, previous): break
        if crc != crc32c(struct.pack("<Q", file) + data[at:at + 4] + data[at + 8:end]): break
        body = Reader(data[at + 16:end])
        while body.at < size:
            kind = body.fixed(1); r = Reader(body.take(body.fixed(4)))
            if kind == 1: r.varint(); r.varint(); entries(r, [(server, actor)], out)
            elif kind == 2: r.take(8); r.varint(); r.varint(); r.varint(); entries(r, [], out)
            elif kind == 3: entries(r, [], out)
            else: assert kind in (4, 5, 6, 8, 9) or kind & 128, "a section that must not be left out"
        at, number, previous = end, number + 1, crc
    return out, at

def main(directory):
    text = open(os.path.join(directory, "MANIFEST"), "rb").read()
    body, last = text[:text.rindex(b"crc ")], text[text.rindex(b"crc "):]
    assert last == b"crc %x\n" % crc32c(body), "MANIFEST"
    for words in map(str.split, body.decode().splitlines()):
        names = []
        if words[0] == "snapshot": names = ["snapshot-" + words[1]]
        if words[0] == "life":
            for actor, first in enumerate(map(int, words[5:])):
                prefix = f"log-{words[1]}-{actor}-"
                found = [n[len(prefix):] for n in os.listdir(directory) if n.startswith(prefix) and n[-1] != "w"]
                names += [prefix + n for n in sorted(found, key=int) if first and int(n) >= first]
        for name in names:
            for ms, server, actor, seq, kind, key, value in read(os.path.join(directory, name))[0]:
                print(ms, f"{server:016x}/{actor}/{seq}", kind, key.decode("latin-1"), value.decode("latin-1"))

if __name__ == "__main__": main(sys.argv[1])
