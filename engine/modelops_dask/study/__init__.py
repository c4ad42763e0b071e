"""Studies: spec -> plan -> dispatch -> results. Does not know whether Dask is local or in a cluster."""
