"""The byte-for-byte contract of ModelOps bundles and studies: parameter ids, seeds, names.

params -> canonical JSON -> param_id -> a seed per replicate

This module does not read files or know sets, stores or Dask.
"""

import math
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from json import JSONEncoder
from typing import TypeGuard

UINT64_MAX = 2**64 - 1
_PREFIX = b"contracts:param:v1|"
_ENCODER = JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_MODEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*")
_SCENARIO = re.compile(r"[a-z0-9](?:[a-z0-9-_.]{0,62}[a-z0-9])?")


def canonical(value: object) -> str:
    """Canonical JSON of a parameter set, or of a value in one.

    Keys are sorted at every level; there are no spaces and no ASCII escapes.

    Raises ValueError for values without a canonical form: NaN, infinities, lone surrogates, types that JSON
    lacks. Keys must be strings: check them with check_value(), because JSON would silently convert numbers to
    strings.
    """
    try:
        return _ENCODER.encode(value)
    except TypeError as error:  # a type that JSON does not have, or keys that cannot be sorted
        raise ValueError(str(error)) from None


def digest(text: str) -> bytes:
    """The 32 bytes of a param_id, from canonical JSON."""
    return blake2b(_PREFIX + text.encode(), digest_size=32).digest()


def param_id(params: Mapping[str, object]) -> str:
    """The contract's id of a parameter set: 64 hex digits. Raises ValueError like canonical()."""
    check_value(params)
    return digest(canonical(params)).hex()


def derived_seed(param_id: str, replicate: int) -> int:
    """The seed of a replicate: uint32, the largest type that NumPy's legacy seeding accepts."""
    return int.from_bytes(seed_bytes(param_id, replicate), "big")


def seed_bytes(param_id: str, replicate: int) -> bytes:
    """derived_seed() as 4 bytes, the highest first."""
    return blake2b(f"{param_id}:{replicate}".encode(), digest_size=8).digest()[4:]


def seeds_of(param_id: str) -> Callable[[int], int]:
    """derived_seed() of a set, by replicate; for many replicates in half the time."""
    prefix_hasher = blake2b(f"{param_id}:".encode(), digest_size=8)

    def seed(replicate: int) -> int:
        hasher = prefix_hasher.copy()
        hasher.update(b"%d" % replicate)
        return int.from_bytes(hasher.digest()[4:], "big")

    return seed


def is_seed(value: object) -> TypeGuard[int]:
    """Whether a value can be an explicit seed: any uint64."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= UINT64_MAX


def check_value(value: object) -> None:
    """Raise ValueError, with the position inside the value, if a parameter cannot have it."""
    kind = type(value)
    if type(value) is str:
        if not value.isprintable():
            _check_text(value)
    elif kind in (int, bool, type(None)):
        pass
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that can be stored; write a finite number")
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise ValueError(f"the name {key!r} is not text; write it in quotes")
            _check_text(key)
            check_value(item)
    elif type(value) is list or type(value) is tuple:
        for item in value:
            check_value(item)
    else:
        raise ValueError(f"{kind.__name__} {value} is not a JSON value; write it in quotes")


def check_model(text: str) -> None:
    """Raise ValueError unless the text is an import path such as models.seir."""
    if not _MODEL.fullmatch(text):
        raise ValueError(f"{text!r} is not an import path; write MODULE.FUNCTION, such as model.simulate")


def check_scenario(text: str) -> None:
    """Raise ValueError unless the text is the name of a scenario such as baseline."""
    if not _SCENARIO.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a scenario: 1 to 64 of a-z 0-9 - _ . that begin and end with a letter or digit"
        )


def check_entrypoint(text: str) -> None:
    """Raise ValueError unless the text is MODEL/SCENARIO such as models.seir/baseline."""
    model, slash, scenario = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} is not MODEL/SCENARIO; write e.g. models.seir/baseline")
    check_model(model)
    check_scenario(scenario)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} has half of a surrogate pair, which UTF-8 cannot encode") from None
