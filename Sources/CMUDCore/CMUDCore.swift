// CMUDCore: see docs/ARCHITECTURE.md.
