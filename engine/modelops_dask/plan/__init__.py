"""The tasks of a study: a study file becomes parameter sets, and these become tasks with ids and seeds.

    study file -> document.py -> spec.py, with fields.py, scalars.py, sampling.py and explicit.py -> Spec
    Spec, a request -> plan.py -> Plan: the tasks of a study by number;   contract.py: ids and seeds of a task

Plain data: this folder does not read stores, run tasks or import Dask.
"""
