// KVTestSupport: what tests share.
