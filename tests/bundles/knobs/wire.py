"""A model whose parameters say how it behaves: `raises`, `kills`, `hangs` and `hungry` list the x that do so,
`seconds` is its work, `rests` seconds of sleep, and `until` names a file that it waits for.
"""

import os
import pathlib
import time


def wire(entrypoint, params, seed):  # noqa: ARG001
    x = params["x"]
    if x in params.get("raises", []):
        print(f"x is {x}, and that is too much")
        raise ValueError("unlucky")
    if x in params.get("kills", []):
        os._exit(7)
    if x in params.get("hungry", []):
        bytearray(1 << 46)  # more than any machine has
    while x in params.get("hangs", []):
        time.sleep(0.01)
    end = time.monotonic() + params.get("seconds", 0)
    while time.monotonic() < end:
        pass
    time.sleep(params.get("rests", 0))
    while "until" in params and not pathlib.Path(params["until"]).exists():
        time.sleep(0.01)
    return (
        {"y": f"{x}:{seed}".encode(), "pid": str(os.getpid()).encode()}
        if params.get("pid")
        else {"y": f"{x}:{seed}".encode()}
    )
