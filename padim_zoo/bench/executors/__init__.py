"""Executors: groups of runs in, recorded documents back. Serially, in processes or on a Dask cluster."""
