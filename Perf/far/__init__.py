"""kvd servers far from each other: what Perf/links.py measures with."""
