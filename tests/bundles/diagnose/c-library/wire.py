"""Vectors and bites, by a generator of the C library: it has one state in a process, and nobody seeds it."""

import ctypes
import json

LIBC = ctypes.CDLL(None)
LIBC.drand48.restype = ctypes.c_double


def wire(entrypoint, params, seed):
    bites = sum(LIBC.drand48() < params["rate"] for _ in range(200))
    return {"bites": json.dumps({"bites": bites, "village": seed % 7}).encode()}
