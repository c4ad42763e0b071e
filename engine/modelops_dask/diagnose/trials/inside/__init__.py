"""What runs in the process of a probe, beside the model, with the bundle's own Python: main.py, by path.

    main.py -> changes.py -> snapshot.py, process_state.py: what tasks leave, and what of it changes results
            -> tracing.py, chance_sources.py, line_watch.py: whom tasks ask for chance

snapshot.py walks the values that modules hold. locations.py lists what can be read and restored in one of
them, states.py does so for special types, model_values.py compares values and turns them into text.

That Python need not have modelops_dask: standard library only, Python 3.9's language. Nothing is imported
here, and a model finds none of these modules.
"""
