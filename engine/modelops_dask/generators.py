"""Seed the generators that a model keeps at module level, before each task.

    generators = ModelGenerators(folder, ...)   before the model is imported
    generators.collect()                        after the import
    generators.seed(seed)                       before each task

A place is a path from a module of the bundle to a generator, such as `sir:rng` or `sir:streams['births'][0]`.
Places are searched only when the import of a module ends. Generators that a task creates are not seeded, so
that a task behaves the same in a process that ran others before. Each generator is seeded from a hash of the
task's seed and its place. An object with several places uses the first: the one in the module whose import
ended first.

A module that a task imports is searched when its own import ends, and its generators are seeded when the
outermost import ends: the numbers that modules draw while they are imported do not depend on the task.

This module uses only the standard library and Python 3.9's language, because seeding.py loads it by path.
NumPy and torch are used if the model has imported them. docs/seeding.md lists which generators are reached.
"""

from __future__ import annotations

import os
import random
import sys
from collections import deque
from functools import cached_property, partial
from importlib.machinery import SourceFileLoader
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType, SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports
    from collections.abc import Callable, Iterator
    from typing import Any

    Step = tuple[Callable[[Any, Any], Any], Any]  # a way from a value to a value inside it, and its argument
    Seeder = Callable[[Any, bytes], object]  # arguments: a generator and 64 random bytes

MOST_ENTRIES = 1000  # items of a list, tuple or dictionary that are searched
MOST_VALUES = 10_000  # attributes of a module that are searched, the nearest first
IMPORTLIB = SourceFileLoader.exec_module.__code__.co_filename

_ATOMS = frozenset(
    (str, bytes, int, float, complex, bool, type(None), type(Ellipsis), slice, range, ModuleType)
)
_METHODS = (MethodType, BuiltinMethodType)  # a C function also has `__self__`
_seed_random = random.Random.__mro__[1].seed  # type: ignore[attr-defined]  # _random.Random, in C


class ModelGenerators:
    """The generators at module level in the modules of a folder."""

    def __init__(self, folder: str, shared: object) -> None:
        """Prepare to seed generators; call it before the model is imported.

        Args:
            folder: The bundle, as it will appear in sys.path.
            shared: The generator behind the functions of `random`.
        """
        self._shared = shared
        folders = {os.path.abspath(folder), os.path.realpath(folder)}
        self._prefixes = tuple(os.path.join(path, "") for path in folders)
        self._modules: dict[str, ModuleType] = {}  # in the order in which their imports ended
        self._importing: list[str] = []
        self._is_collected = False
        self._places: list[_Place] = []
        self._new: list[_Place] = []  # of modules that a task has imported, not seeded yet
        self._seed: int | None = None  # of the running task
        self._exec_module = _watch_imports(self)

    def close(self) -> None:
        """Stop watching imports."""
        if SourceFileLoader.__dict__.get("exec_module") is self._exec_module:
            del SourceFileLoader.exec_module

    def names(self) -> list[str]:
        """The places of generators, MODULE:PATH."""
        return [place.name for place in self._places]

    def collect(self) -> None:
        """Find generators after the model has been imported. Calling it again has no effect."""
        if self._is_collected:
            return
        for name, module in list(sys.modules.items()):
            if name not in self._modules and name != "__main__" and self.is_own(module):
                self._modules[name] = module  # imported by another loader than Python's own
        self._is_collected = True
        for name in self._modules:
            self._search(name)
        self._new.clear()

    def seed(self, seed: int) -> None:
        """Seed all generators from a task's seed, from 0 to 2**64 - 1."""
        self._seed = seed
        if self._places:
            _torch_words.clear()
            self._seed_places(self._places)

    def is_own(self, module: ModuleType) -> bool:
        """Whether a module's file belongs to the bundle."""
        file = _get(module, "__file__")
        return isinstance(file, str) and file.startswith(self._prefixes) and "/site-packages/" not in file

    def begin_import(self, name: str) -> None:
        """Called before the code of a module of the bundle runs."""
        self._importing.append(name)

    def end_import(self, name: str, module: ModuleType | None) -> None:
        """Called after the code of a module has run; with None if it raised."""
        if module is not None:
            self._modules.pop(name, None)
            self._modules[name] = module
            if self._is_collected:
                self._search(name)
        self._importing.remove(name)
        if not self._importing:
            new, self._new = self._new, []
            if new and self._seed is not None:
                self._seed_places(new)

    def _seed_places(self, places: list[_Place]) -> None:
        seed = self._seed or 0
        seed_bytes = seed.to_bytes(8, "big")
        for place in places:
            try:
                value = place.value()
                seeder = _SEEDERS.get(type(value)) or _find_seeder(type(value))
                if seeder:
                    seeder(value, _hash(seed_bytes, key=place.key, digest_size=64).digest())
            except Exception:  # a task replaced the generator
                continue

    def _search(self, module_name: str) -> None:
        """Find the generators of a module that do not have a place yet."""
        self._places = [place for place in self._places if place.module_name != module_name]
        known = {_core_id(value) for value in self._values()} | self._shared_ids()
        module = self._modules[module_name]
        seen: set[int] = set()
        queue: deque[tuple[Any, str, str, tuple[Step, ...]]] = deque()
        for name, value in list(module.__dict__.items()):
            if not (name.startswith("__") and name.endswith("__")) and type(value) not in _ATOMS:
                queue.append((value, name, name, ()))
        while queue and len(seen) < MOST_VALUES:
            value, label, name, steps = queue.popleft()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if _find_seeder(type(value)):
                if (core_id := _core_id(value)) not in known and not self._is_borrowed(name, steps, value):
                    known.add(core_id)
                    place = _Place(module_name, module.__dict__, label, name, steps)
                    self._places.append(place)
                    self._new.append(place)
                continue
            for getter, key, part, child in self._children(value):
                if type(child) not in _ATOMS and len(queue) < MOST_VALUES:
                    queue.append((child, label + part, name, (*steps, (getter, key))))

    def _values(self) -> Iterator[Any]:
        """The current values at the places."""
        for place in self._places:
            try:
                value = place.value()
            except Exception:  # a task replaced the generator
                continue
            if _find_seeder(type(value)):
                yield value

    def _shared_ids(self) -> set[int]:
        """The ids of generators shared by all code of a process, which do not belong to the model."""
        shared = {id(self._shared)}
        numpy_state = getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)
        if numpy_state is not None:
            shared |= {id(numpy_state), _core_id(numpy_state)}
        torch_generator = getattr(sys.modules.get("torch"), "default_generator", None)
        return shared | {id(torch_generator)}

    def _is_borrowed(self, name: str, steps: tuple[Step, ...], value: object) -> bool:
        """Whether a module imported this name from an installed package, which owns the generator."""
        return not steps and any(
            (_get(module, "__dict__") or {}).get(name) is value
            for module_name, module in list(sys.modules.items())
            if module_name not in self._modules and module_name not in self._importing
            if module_name != "__main__" and not self.is_own(module)
        )

    def _children(self, value: Any) -> Iterator[tuple[Callable[[Any, Any], Any], Any, str, Any]]:
        """The contents of a value: the way to each item, its argument, its name and the item."""
        kind = type(value)
        container = next((base for base in (dict, list, tuple, deque) if issubclass(kind, base)), None)
        if container is dict:
            if dict.__len__(value) <= MOST_ENTRIES:
                for number, (key, child) in enumerate(list(dict.items(value))):
                    yield dict.get, key, f"[{key!r}]" if type(key) in _ATOMS else f"[#{number}]", child
        elif container:
            if container.__len__(value) <= MOST_ENTRIES:
                for number, child in enumerate(list(container.__iter__(value))):
                    yield container.__getitem__, number, f"[{number}]", child
        elif issubclass(kind, type):
            if self._is_own_name(_get(value, "__module__")):
                for name, child in list(_get(value, "__dict__").items()):
                    if type(child) is FunctionType or not name.startswith("__"):
                        yield _get_member, name, f".{name}", child
            return
        if kind is FunctionType:
            if self._is_own_name(value.__module__):
                yield from _attributes(value, ("__defaults__", "__kwdefaults__", "__closure__", "__dict__"))
        elif kind is CellType:
            yield from _attributes(value, ("cell_contents",))
        elif kind in _METHODS:
            yield from _attributes(value, ("__self__",))
        elif kind in _WRAPPERS:
            yield from _attributes(value, _WRAPPERS[kind])
        elif kind is SimpleNamespace or self._is_own_name(_get(kind, "__module__")):
            members = _get(value, "__dict__")
            if type(members) is dict:
                for name, child in list(members.items()):
                    yield _get_member, name, f".{name}", child
            yield from _attributes(value, _slots(kind))

    def _is_own_name(self, module_name: object) -> bool:
        return module_name in self._modules or module_name in self._importing


class _Place:
    """Where a module keeps a generator."""

    __slots__ = ("_namespace", "_steps", "_variable", "key", "module_name", "name")

    def __init__(
        self,
        module_name: str,
        namespace: dict[str, Any],
        label: str,
        variable: str,
        steps: tuple[Step, ...],
    ) -> None:
        self.module_name, self.name = module_name, f"{module_name}:{label}"
        self._namespace, self._variable, self._steps = namespace, variable, steps
        self.key = _hash(self.name.encode("utf-8", "surrogatepass"), digest_size=32).digest()

    def value(self) -> Any:
        """The current value. Raises any error of the attributes and items on the way."""
        value = self._namespace.get(self._variable)
        for getter, argument in self._steps:
            value = getter(value, argument)
        return value


def _hash(*arguments: Any, **keywords: Any) -> Any:
    """hashlib.blake2b, imported with the first generator, because few models have one."""
    global _hash
    try:
        from _blake2 import blake2b  # hashlib also imports OpenSSL
    except ImportError:
        from hashlib import blake2b
    _hash = blake2b
    return blake2b(*arguments, **keywords)


# Imports


def _watch_imports(generators: ModelGenerators) -> Callable[[Any, Any], None]:
    """Notify the generators when the code of a module of the bundle has run."""
    execute = SourceFileLoader.exec_module

    def exec_module(loader: Any, module: Any) -> None:
        if not generators.is_own(module):
            return execute(loader, module)
        name, done = module.__name__, None
        generators.begin_import(name)
        try:
            execute(loader, module)
            done = module
        finally:
            generators.end_import(name, done)

    # Python removes its own frames from the tracebacks of failed imports. This removes our frame as well.
    exec_module.__code__ = exec_module.__code__.replace(co_filename=IMPORTLIB)
    setattr(SourceFileLoader, "exec_module", exec_module)  # noqa: B010 (mypy refuses to assign a method)
    return exec_module


# Values


def _get(holder: Any, name: str) -> Any:
    """An attribute, read without running code of the model; None if there is none."""
    look_up = type.__getattribute__ if issubclass(type(holder), type) else object.__getattribute__
    try:
        return look_up(holder, name)
    except (AttributeError, ValueError):  # such as an empty slot or cell
        return None


def _get_member(holder: Any, name: str) -> Any:
    return _get(holder, "__dict__")[name]


def _attributes(
    value: Any, names: tuple[str, ...]
) -> Iterator[tuple[Callable[[Any, Any], Any], Any, str, Any]]:
    for name in names:
        if (child := _get(value, name)) is not None:
            yield _get, name, f".{name}", child


def _slots(kind: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else [name for name in slots if isinstance(name, str)]
    return tuple(name for name in names if not name.startswith("__"))


_WRAPPERS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset"),
    partial: ("func", "args", "keywords"),
    cached_property: ("func",),
}
try:
    from functools import _lru_cache_wrapper

    _WRAPPERS[_lru_cache_wrapper] = ("__wrapped__",)
except ImportError:
    pass


# Generators


_SEEDERS: dict[type, Seeder | None] = {}  # by type
_torch_words: set[int] = set()  # the function that seeds torch's generators, for the running task


def _find_seeder(kind: type) -> Seeder | None:
    """The function that seeds generators of a type; None if generators of that type cannot be seeded."""
    if kind in _SEEDERS:
        return _SEEDERS[kind]
    seeder: Seeder | None = None
    if issubclass(kind, random.Random):
        if not issubclass(kind, random.SystemRandom):
            seeder = _seed_python if kind.seed is random.Random.seed else _seed_python_by_method
    else:
        numpy_random, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
        for module, name, candidate in (
            (numpy_random, "Generator", _seed_numpy_generator),
            (numpy_random, "RandomState", _seed_numpy_legacy),
            (numpy_random, "BitGenerator", _seed_numpy),
            (torch, "Generator", _seed_torch),
        ):
            base = getattr(module, name, None)
            if isinstance(base, type) and issubclass(kind, base):
                seeder = candidate
                break
    _SEEDERS[kind] = seeder
    return seeder


def _core_id(generator: Any) -> int:
    """An id shared by all objects that draw from the same state."""
    for name in ("bit_generator", "_bit_generator"):
        core = _get(generator, name)
        if core is not None:
            return id(core)
    return id(generator)


def _seed_python(generator: Any, entropy: bytes) -> None:
    _seed_random(generator, int.from_bytes(entropy[:32], "big"))
    generator.gauss_next = None


def _seed_python_by_method(generator: Any, entropy: bytes) -> None:
    generator.seed(int.from_bytes(entropy[:32], "big"))


def _seed_torch(generator: Any, entropy: bytes) -> None:
    """Seed a torch generator. On a CPU torch uses 32 bits of a seed, few enough for two generators to
    collide.
    """
    for start in range(0, len(entropy), 8):
        word = int.from_bytes(entropy[start : start + 8], "big") >> 1
        if word & 0xFFFFFFFF not in _torch_words:
            break
    _torch_words.add(word & 0xFFFFFFFF)
    generator.manual_seed(word)


def _seed_numpy_generator(generator: Any, entropy: bytes) -> None:
    _seed_numpy(generator.bit_generator, entropy)


def _seed_numpy_legacy(generator: Any, entropy: bytes) -> None:
    numpy = sys.modules["numpy"]
    bits = generator._bit_generator
    if type(bits) is numpy.random.MT19937:
        generator.seed(numpy.frombuffer(entropy, "<u4"))
        return
    _seed_numpy(bits, entropy)
    generator.set_state(bits.state)  # also forget the second of a pair of normal numbers


def _seed_numpy(bits: Any, entropy: bytes) -> None:
    """Set the state of a BitGenerator and the sequence from which its spawn() derives new ones."""
    numpy_random = sys.modules["numpy.random"]
    sequence = numpy_random.SeedSequence(int.from_bytes(entropy[32:48], "big"))
    kind = type(bits)
    if kind is numpy_random.MT19937:  # creating another one, as below, takes four times as long
        inner: dict[str, Any] = {"key": sequence.generate_state(624), "pos": 624}
        state: dict[str, Any] = {"bit_generator": "MT19937", "state": inner}
    elif kind.__name__ in ("PCG64", "PCG64DXSM"):
        first, second = int.from_bytes(entropy[:16], "big"), int.from_bytes(entropy[16:32], "big")
        inner = {"state": first, "inc": second | 1}
        state = {"bit_generator": kind.__name__, "state": inner, "has_uint32": 0, "uinteger": 0}
    else:
        state = kind(sequence).state
    try:
        bits.__setstate__((state, sequence))
    except (TypeError, ValueError):  # NumPy 1 cannot set the sequence
        bits.state = state
