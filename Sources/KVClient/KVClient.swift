// KVClient: see docs/ARCHITECTURE.md.
