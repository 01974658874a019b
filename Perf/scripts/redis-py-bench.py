#!/usr/bin/env python3
"""GETs through redis-py, to set client-bench's figures beside those of a widely used client. One line a mode.

usage: redis-py-bench.py HOST:PORT [SECONDS]     (needs: pip install redis)
"""
import asyncio
import sys
import time

import redis
import redis.asyncio

host, port = sys.argv[1].rsplit(":", 1)
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
KEYS = [f"bench:{i}" for i in range(10_000)]


def report(mode, latencies, calls, elapsed, cpu):
    latencies.sort()
    q = lambda share: latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1e6
    print(
        f"redis-py {redis.__version__} {mode} calls/s={calls / elapsed:.0f} p50={q(0.5):.1f}us "
        f"p99={q(0.99):.1f}us cpu/call={cpu / calls * 1e6:.2f}us",
        flush=True,
    )


def measured(loop):
    started, cpu = time.monotonic(), time.process_time()
    latencies, calls = loop(started + seconds)
    return latencies, calls, time.monotonic() - started, time.process_time() - cpu


def one_by_one(deadline):
    client = redis.Redis(host=host, port=int(port))
    latencies, i = [], 0
    before = time.monotonic()
    while before < deadline:
        client.get(KEYS[i % len(KEYS)])
        after = time.monotonic()
        latencies.append(after - before)
        before, i = after, i + 1
    return latencies, i


def pipelines(deadline):
    client = redis.Redis(host=host, port=int(port))
    latencies, i = [], 0
    before = time.monotonic()
    while before < deadline:
        pipeline = client.pipeline(transaction=False)
        for offset in range(64):
            pipeline.get(KEYS[(i + offset) % len(KEYS)])
        pipeline.execute()
        after = time.monotonic()
        latencies.append(after - before)
        before, i = after, i + 64
    return latencies, i


async def tasks(deadline):
    client = redis.asyncio.Redis(host=host, port=int(port), max_connections=64)
    latencies = []

    async def one(start):
        i = start * 7919
        before = time.monotonic()
        while before < deadline:
            await client.get(KEYS[i % len(KEYS)])
            after = time.monotonic()
            latencies.append(after - before)
            before, i = after, i + 1

    await asyncio.gather(*(one(task) for task in range(64)))
    await client.aclose()
    return latencies, len(latencies)


for mode, loop in [
    ("one task", one_by_one),
    ("64 asyncio tasks, 64 connections", lambda deadline: asyncio.run(tasks(deadline))),
    ("pipelines of 64, one task", pipelines),
]:
    report(mode, *measured(loop))
