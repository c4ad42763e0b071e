# What the engine uses of fsspec, which ships no types.
from fsspec import callbacks as callbacks
from fsspec import core as core
from fsspec.spec import AbstractFileSystem as AbstractFileSystem

def available_protocols() -> list[str]: ...
