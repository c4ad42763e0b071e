"""The bundle of benchmarks/study_rate.py: a model that computes for so many milliseconds, or does nothing."""

import time


def wire(entrypoint, params, seed):  # noqa: ARG001
    """Time on the processor counts, not on the clock: a task that others push aside takes the longer, as a
    model would. Asleep it would leave its processor to the machinery that is to be measured.
    """
    if params["milliseconds"]:
        end = time.thread_time() + params["milliseconds"] / 1000
        while time.thread_time() < end:
            pass
    return {"y": b"0"}
