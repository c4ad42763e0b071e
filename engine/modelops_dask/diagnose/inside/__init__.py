"""What runs in the process of a probe, beside the model, with the bundle's own Python: main.py, by path.

    main.py -> undoing.py -> snapshot.py, surroundings.py: what tasks leave, and what of it changes results
            -> tracing.py, replaced.py, drawn.py: whom tasks ask for chance

snapshot.py walks what modules keep: places.py says where to go on, states.py and shown.py how a value is
compared and shown.

That Python need not have modelops_dask: standard library only, Python 3.9's language. Nothing is imported
here, and a model finds none of these modules.
"""
