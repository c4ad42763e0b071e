"""Which isolation does a bug need? The same tasks, run in ways that differ in what they share.

    spec, bundle -> a sample of tasks -> arms -> what differs -> a table -> Diagnosis

arms.py lists the arms, sample.py selects tasks and their orders. workers.py sends trials to Dask workers,
where trial.py and worker_calls.py run in a folder of their own (work_folder.py). comparison.py, tally.py,
seed_use.py and confidence.py tell what differs, how often and how surely. runs.py counts, coverage.py runs
many tasks in two orders, experiment.py decides which arm is next, verdict.py holds the reasoning as a table.
diagnosis.py builds the Diagnosis (result.py) with advice.py. causes.py looks behind a verdict: polluter.py,
sources.py, growth.py, surroundings.py and packages.py locate the cause, with probes (probe.py). inside/ runs
in the process of a probe: it records what tasks leave behind there, and which sources of chance they use.

Prints nothing and reads no values files: `mops-helm preset diagnose` does. __main__.py runs in a pod.
"""

from modelops_dask.diagnose.diagnosis import diagnose
from modelops_dask.diagnose.trials.workers import workers

__all__ = ["diagnose", "workers"]
