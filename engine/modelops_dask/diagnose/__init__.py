"""Find the isolation that a bug needs: the same tasks, run in ways that differ in what they share.

    spec, bundle -> a sample of tasks -> arms -> differences -> a table -> Diagnosis

trials/ runs: arms.py lists the arms, sample.py selects tasks and their orders. workers.py sends trials to
Dask workers, where trial.py and worker_calls.py run in a separate folder (work_folder.py). runs.py counts,
coverage.py runs many tasks in two orders, experiment.py decides which arm is next. Probes (probe.py) run
trials/inside/ in their process, which records what tasks leave behind there, and which sources of randomness
they use.

verdict/ reasons: comparison.py, tally.py, seed_use.py and confidence.py determine what differs, how often and
how certainly. verdict.py holds the reasoning as a table, advice.py the presets.

causes/ explains a verdict: polluter.py, sources.py, growth.py, surroundings.py and packages.py locate the
cause, using probes. diagnosis.py builds the Diagnosis (result.py).

Nothing is printed and no values files are read here: `mops-helm diagnose` does that. __main__.py runs in a
pod.
"""

from modelops_dask.diagnose.diagnosis import diagnose
from modelops_dask.diagnose.trials.workers import workers

__all__ = ["diagnose", "workers"]
