"""HTML pages from templates: one file that needs no network, light or dark as the reader's system is.

a template and values -> render_template() -> the text of the page

Every value is escaped, for names, tracebacks and reasons come from models; only Markup is taken as HTML. Does
not know what is reported.
"""

import math
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")


def render_template(template: Path, **values: object) -> str:
    """The text of a page by a template, which may extend and import those of TEMPLATES."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(values)


def format_duration(seconds: float) -> str:
    """14 ms, 2.4 s, 3 min, 2.5 h, 3.1 d."""
    if math.isnan(seconds):
        return ""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size or (unit == "s" and seconds >= 1):
            return f"{seconds / size:.3g} {unit}"
    milliseconds = float(f"{seconds * 1000:.3g}")
    return f"{milliseconds:g} ms" if milliseconds < 1000 else "1 s"
