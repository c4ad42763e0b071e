"""Which isolation does a bug need? The same tasks, run in ways that differ in what they share.

    spec, bundle -> a sample of tasks -> arms -> what differs -> a table -> Diagnosis

sample.py chooses tasks and orders; arms.py names the arms; lab.py runs them on Dask workers, lane.py there;
compare.py says what differs; verdict.py holds the reasoning as a table; experiment.py is the flow; result.py
is what comes out. For a cause that was found, polluter.py, sources.py and growth.py say where it sits, by
probes (probe.py).

Does not print, nor know values files: `mops-helm preset diagnose` does.
"""
