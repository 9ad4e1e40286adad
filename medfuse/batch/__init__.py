"""Many cases on dask workers, each done exactly once, with a ledger that survives any kill."""
