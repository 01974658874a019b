// KVServer: see docs/ARCHITECTURE.md.
