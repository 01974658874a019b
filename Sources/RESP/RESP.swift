// RESP: see docs/ARCHITECTURE.md.
