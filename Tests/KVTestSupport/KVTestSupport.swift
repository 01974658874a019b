// KVTestSupport: what the suites of RESP and the fuzzers share.
