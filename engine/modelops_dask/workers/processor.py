"""The kind of this machine's processor: libraries choose their code by it, which affects the last digits.

/proc/cpuinfo -> "x86_64 Intel(R) Xeon(R) CPU @ 2.80GHz 5f0c1a7e"
"""

import hashlib
import platform
import re
from functools import lru_cache
from pathlib import Path

_VECTOR = re.compile(r"(avx|sse|fma|amx|asimd|sve)")  # instructions among which numerical libraries choose


@lru_cache(maxsize=1)
def processor_kind() -> str:
    """The kind of processor: architecture, model, and a hash of its vector instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    fields: dict[str, str] = dict(
        re.findall(r"^([^:\n]*?)\s*:\s*(.*)$", text.partition("\n\n")[0], flags=re.MULTILINE)
    )
    names = (fields.get("flags") or fields.get("Features") or "").split()
    instructions = sorted(filter(_VECTOR.match, names))
    digest = hashlib.sha256(" ".join(instructions).encode()).hexdigest()[:8]
    return " ".join(filter(None, (platform.machine(), fields.get("model name", ""), digest)))
