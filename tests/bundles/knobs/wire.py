"""A model whose parameters say how it behaves: `raises`, `kills`, `hangs` and `hungry` list the x that do so,
`lonely` those that find nobody to connect to, `seconds` is its work, `rests` seconds of sleep, and `until`
names a file that it waits for.

`forks`, `babbles` and `forges` list the x that answer out of turn: by a child that comes back from wire() as
the task, by bytes of their own on the task's connection, by a child that writes a perfect answer there.
"""

import ctypes
import os
import pathlib
import sys
import time


def wire(entrypoint, params, seed):  # noqa: ARG001
    x = params["x"]
    if x in params.get("raises", []):
        print(f"x is {x}, and that is too much")
        raise ValueError("unlucky")
    if x in params.get("lonely", []):
        raise ConnectionError("nobody answers")
    if x in params.get("kills", []):
        os._exit(7)
    if x in params.get("hungry", []):
        bytearray(1 << 46)  # more than any machine has
    while x in params.get("hangs", []):
        time.sleep(0.01)
    if x in params.get("forks", []) and (os.fork if seed % 2 else ctypes.CDLL(None).fork)() == 0:
        time.sleep(0.02 * (seed % 3))
    if x in params.get("babbles", []):
        descriptor, number, nonce = connection_and_turn()
        babble = b"hello world, this is a line of a log", answer(number, nonce)[:16] + b"\xff" * 12
        os.write(descriptor, (*babble, answer(number + 1, nonce))[seed % 3])
    if x in params.get("forges", []):
        descriptor, number, nonce = connection_and_turn()
        child = ctypes.CDLL(None).fork()  # past Python, which would close the connection in it
        if child == 0:
            os.write(descriptor, answer(number + seed % 2, nonce))
            os._exit(0)
        os.waitpid(child, 0)
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


def connection_and_turn():
    """The task's connection, its number and its nonce, from the frames of the callers."""
    frame, connection, number, nonce = sys._getframe(), None, None, None
    while frame is not None:
        names = frame.f_locals
        connection = connection or names.get("connection")
        if nonce is None and "its_turn" in names:
            number, nonce = int.from_bytes(names["its_turn"][:8], "big"), names["its_turn"][8:]
        elif nonce is None and "nonce" in names and "number" in names:
            number, nonce = names["number"], names["nonce"]
        frame = frame.f_back
    return connection._descriptor, number, nonce


def answer(number, nonce):
    """A perfect answer, "forged", in the turn of a task."""
    head, body = b'["ok",{"y":6},"","",0,0,""]', b"forged"
    lengths = len(head).to_bytes(4, "big") + len(body).to_bytes(8, "big")
    return number.to_bytes(8, "big") + nonce + lengths + head + body
