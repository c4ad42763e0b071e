"""Find the file of a command's first item, and explain why it cannot be started.

    name, folder, PATH -> find_program() -> a path;   a path -> find_problem(), before anything runs
    a path, the system's error -> explain_start()

This module uses only the standard library and Python 3.9's language, because runner.py loads it by path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 21: "ppc64le", 22: "s390x"}
NAMES_OF_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "i686": "i386"}


class ProgramError(Exception):
    """A problem with a program; str() is for the study's author. Names of subclasses are reasons."""

    __module__ = "builtins"  # so that tracebacks show only the name, however this file was loaded


class ProgramNotFound(ProgramError):
    """The program is neither in the bundle nor on the PATH."""

    __module__ = "builtins"


class ProgramNotExecutable(ProgramError):
    """The file exists but cannot be run: mode, first line, architecture."""

    __module__ = "builtins"


def find_program(name: str, folder: str, path: str) -> str:
    """The file of a command's first item: in the bundle if it has a slash, otherwise on the PATH.

    Raises ProgramNotFound.
    """
    if "/" in name:
        return os.path.join(folder, name)
    if program := shutil.which(name, path=path):
        return os.path.join(folder, program)
    if os.path.isfile(os.path.join(folder, name)):
        raise ProgramNotFound(f"{name} is not on the PATH of a task, but the bundle has it; write ./{name}")
    raise ProgramNotFound(
        f"{name} is not on the PATH of a task ({path}). Install it where the workers are, or put it into the "
        f"bundle and write ./{name}"
    )


def find_problem(path: str, name: str) -> ProgramError | None:
    """The reason why a file cannot run on any machine; None if there is none. name is from the command."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ProgramNotFound(f"there is no {name}{_near(path, name)}")
    if stat.S_ISDIR(mode):
        return ProgramNotExecutable(f"{name} is a folder; name the program in it")
    if not mode & 0o111:
        return ProgramNotExecutable(
            f"{name} is not executable. Type `chmod +x {name}` in the bundle, or name its interpreter first, "
            f"such as [sh, {name}]. Archives keep the mode; an artifact with a layer for each file does not"
        )
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:  # it may be executable but not readable
        return None
    if head.startswith(b"#!"):
        interpreter = head[2:].split(b"\n")[0].strip(b" \t").split(b" ")[0]
        if interpreter.endswith(b"\r"):
            return ProgramNotExecutable(f"{name} has Windows line endings; save it with Unix line endings")
        return None
    if not head:
        return ProgramNotExecutable(f"{name} is empty")
    if head[:4] != b"\x7fELF" and b"\0" not in head and sys.platform == "linux":
        return ProgramNotExecutable(
            f"{name} is a text file without an interpreter line. Begin it with a line such as #!/bin/sh, or "
            f"name its interpreter first, such as [sh, {name}]"
        )
    return None


def is_busy(error: OSError) -> bool:
    """Whether a file did not start because another process has it open for writing, which is temporary."""
    return error.errno == errno.ETXTBSY


def explain_start(path: str, name: str, error: OSError) -> ProgramError | None:
    """Why a file did not start; None if the file is not the cause."""
    if error.errno == errno.E2BIG:
        return ProgramError(
            "the arguments exceed the system's limit for a program; name a file by parameters_file: "
            "params.json, which will hold all parameters"
        )
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC):
        return None
    if problem := find_problem(path, name):
        return problem
    with open(path, "rb") as file:
        head = file.read(256)
    if error.errno == errno.ENOENT:
        interpreter = os.fsdecode(head[2:].split(b"\n")[0].strip().split(b" ")[0])
        named = (
            f"{interpreter}, which its first line names," if head[:2] == b"#!" else "the loader that it needs"
        )
        return ProgramNotFound(f"{name} cannot be run: {named} is not on this machine")
    if error.errno == errno.EACCES:
        return ProgramNotExecutable(
            f"{name} cannot be executed: its file system is mounted with noexec, "
            f"or user {os.getuid()} lacks the permission. Set TMPDIR of the workers to another folder"
        )
    return ProgramNotExecutable(f"{name} {_describe_kind(head)}")


def _describe_kind(head: bytes) -> str:
    """The kind of a file that this machine cannot run, from its first bytes."""
    own = os.uname().machine
    own = NAMES_OF_MACHINES.get(own, own)
    if head[:4] == b"\x7fELF":
        number = int.from_bytes(head[18:20], "big" if head[5:6] == b"\2" else "little")
        machine = MACHINES.get(number, f"machine {number} of ELF")
        if machine != own:
            return f"is a program for {machine}, and this machine is {own}; compile it for {own}"
        return "is a damaged program; compile it again"
    if head[:2] == b"MZ":
        return f"is a program for Windows; compile it for Linux on {own}"
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xce\xfa\xed\xfe"):
        return f"is a program for macOS; compile it for Linux on {own}"
    return "is not a program that this machine can run; compile it here, or name its interpreter first"


def _near(path: str, name: str) -> str:
    """A neighbouring file with a similar name."""
    import difflib

    with contextlib.suppress(OSError):
        names = os.listdir(os.path.dirname(path) or ".")
        if near := difflib.get_close_matches(os.path.basename(path), names, 1):
            return f" in the bundle; did you mean {name[: len(name) - len(os.path.basename(name))]}{near[0]}?"
    return " in the bundle"
