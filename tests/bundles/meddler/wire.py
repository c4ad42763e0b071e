"""A model that does to files what it is told: its outputs are what is there before that, and after.

`do` has actions, [name, path, ...]; what an action cannot do is left undone. Nothing is done outside of the
model's own folder and TMPDIR: a path that leads elsewhere, by links too, is refused.
"""

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress

HERE = os.path.dirname(os.path.abspath(__file__))
OWN = tuple(os.path.realpath(folder) for folder in (HERE, tempfile.gettempdir()))


def wire(entrypoint, params, seed):
    before = found()
    for action, *arguments in params.get("do", ()):
        with suppress(OSError):
            ACTIONS[action](*arguments)
    time.sleep(params.get("seconds", 0))
    return {"before": before, "after": found()}


def own(path):
    """The path, whole, if it and what it leads to lie in the model's own folders. Raises OSError."""
    path = os.path.join(HERE, path)
    parent = os.path.realpath(os.path.dirname(path))
    for place in (os.path.join(parent, os.path.basename(path)), os.path.realpath(path)):
        if not any(place.startswith(folder + os.sep) for folder in OWN):
            raise OSError(f"{path} is not the model's own")
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise OSError(f"{path} is a pipe: to open it would wait for ever")
    return path


def found():
    """Every entry below the folder and TMPDIR: its kind, mode and content."""
    lines = ["works in a folder that is gone"]
    with suppress(OSError):
        lines = [f"works in {os.path.relpath(os.getcwd(), HERE)}"]
    for name, top in (("b", HERE), ("t", tempfile.gettempdir())):
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(one for one in folders if one != "__pycache__")
            for entry in sorted(folders + files):
                path = os.path.join(folder, entry)
                lines.append(f"{name} {os.path.relpath(path, top)} {described(path)}")
    return "\n".join(lines)


def described(path):
    mode = os.lstat(path).st_mode
    if os.path.islink(path):
        # A large file may be a link in a runner's copy: it reads as the file.
        target = os.readlink(path)
        if not os.path.isabs(target) or not os.path.isfile(path):
            return f"link {target}"
        mode = os.stat(path).st_mode
    if os.path.isdir(path):
        return f"folder {mode:o}"
    if not os.path.isfile(path):
        return f"other {mode:o}"
    with suppress(OSError), open(path, "rb") as file:
        return f"file {mode:o} {hashlib.sha256(file.read()).hexdigest()[:12]}"
    return "unreadable"


def write(path, text, mode="w"):
    with open(own(path), mode) as file:
        file.write(text)


def rewrite(path):
    """As many other bytes, with the same times."""
    times = os.stat(own(path))
    with open(own(path), "r+b") as file:
        data = file.read()
        file.seek(0)
        file.write(bytes(255 - byte for byte in data))
    os.utime(own(path), ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(path, text):
    write(f"{path}.new", text)
    os.replace(own(f"{path}.new"), own(path))


def remove(path):
    path = own(path)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def replace_by_link(path, target):
    remove(path)
    os.symlink(target, own(path))


def replace_by_file(path):
    remove(path)
    write(path, "a file now")


def remove_all():
    for name in os.listdir(HERE):
        remove(name)


def temporary(name):
    folder = os.path.join(tempfile.gettempdir(), name, "inner")
    os.makedirs(own(folder), exist_ok=True)
    write(os.path.join(folder, "left"), name)


ACTIONS = {
    "write": write,
    "append": lambda path, text: write(path, text, "a"),
    "rewrite": rewrite,
    "replace": replace,
    "truncate": lambda path: os.truncate(own(path), 0),
    "rename": lambda path, target: os.rename(own(path), own(target)),
    "remove": remove,
    "mode": lambda path, mode: os.chmod(own(path), mode),
    "times": lambda path: os.utime(own(path), (1, 1)),
    "link": lambda target, path: os.symlink(target, own(path)),
    "hard link": lambda path, target: os.link(own(path), own(target)),
    "folder": lambda path: os.makedirs(own(path)),
    "pipe": lambda path: os.mkfifo(own(path)),
    "by link": replace_by_link,
    "by file": replace_by_file,
    "chdir": lambda path: os.chdir(own(path)),
    "temporary": temporary,
    "all": remove_all,
}
