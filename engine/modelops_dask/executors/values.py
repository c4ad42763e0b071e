"""What a function that is called by its name returned, as outputs. Standard library only, as runner.py."""

from __future__ import annotations


def to_outputs(value: object) -> dict[str, bytes]:
    """Outputs by name; a single value's is called `result`. Raises TypeError for what cannot be stored."""
    if isinstance(value, dict):
        return {name: _to_bytes(name, item) for name, item in value.items()}
    return {"result": _to_bytes("result", value)}


def _to_bytes(name: str, value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (int, float)):
        return repr(value).encode()
    raise TypeError(f"output {name!r} is of type {type(value).__name__}, which cannot be stored")
