// KVCore: see docs/ARCHITECTURE.md.
