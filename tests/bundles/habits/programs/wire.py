"""A model with a second step in a program of its own, which it starts by name."""

import subprocess
import sys

STEP = "import sys; print(sys.prefix, hash('step'))"


def wire(entrypoint, params, seed):
    done = subprocess.run(["python", "-c", STEP], capture_output=True, text=True, check=True)
    prefix, order = done.stdout.rsplit(maxsplit=1)
    return {"step": f"of the same environment: {prefix == sys.prefix}; {order}, {params['x']}, {seed}"}
