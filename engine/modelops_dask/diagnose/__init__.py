"""Which isolation does a bug need? The same tasks, run in ways that differ in what they share.

    spec, bundle -> a sample of tasks -> arms -> what differs -> a table -> Diagnosis

arms.py names the arms, sample.py chooses tasks and orders. lab.py runs lanes on Dask workers; lane.py and
errands.py run there, in a folder of their own (room.py). compare.py, tally.py and confidence.py say what
differs, how often and how surely. runs.py keeps count, experiment.py is the flow, verdict.py the reasoning as
a table; diagnosis.py puts the result.py together, with advice.py. Behind a cause (causes.py): polluter.py,
sources.py, growth.py and packages.py say where it sits, by probes (probe.py).
inside/ runs in the process of a probe: it sees what tasks leave there, and whom they ask for chance.

Does not print, nor know values files: `mops-helm preset diagnose` does. __main__.py is for pods of a cluster.
"""

from modelops_dask.diagnose.diagnosis import diagnose
from modelops_dask.diagnose.lab import workers

__all__ = ["diagnose", "workers"]
