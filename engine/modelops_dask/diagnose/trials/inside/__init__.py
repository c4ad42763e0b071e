"""The modules that run in the process of a probe, beside the model, with the bundle's own Python: main.py, by
path.

    main.py -> changes.py -> snapshot.py, process_state.py: what tasks leave, and what of it changes results
            -> tracing.py, chance_sources.py, line_watch.py: sources of randomness that tasks use

snapshot.py walks the values that modules hold. locations.py lists what can be read and restored in one of
them, states.py does so for special types, model_values.py compares values and turns them into text.

That Python need not have modelops_dask: only the standard library and Python 3.9's language are used. Nothing
is imported here, and a model cannot import any of these modules.
"""
