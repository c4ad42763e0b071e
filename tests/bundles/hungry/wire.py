"""A model that holds `megabytes` of memory, filled, for `seconds`; in pieces, as models grow, or at once."""

import time

PIECE = 10


def wire(entrypoint, params, seed):  # noqa: ARG001
    held = [bytearray(b"x") * (PIECE << 20) for _ in range(0, params["megabytes"], PIECE)]
    end = time.monotonic() + params.get("seconds", 0)
    while time.monotonic() < end:
        pass
    return {"y": f"{params['megabytes']}:{seed}:{len(held)}".encode()}
