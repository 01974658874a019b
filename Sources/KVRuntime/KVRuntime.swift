// KVRuntime: see docs/ARCHITECTURE.md.
