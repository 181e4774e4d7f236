"""The page of the report: report.html, a template of Jinja2, which takes names and texts as texts, never as markup.

It has a folder of its own, because data files count for the package that they lie in: a new colour here reruns the
report alone.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

# What `bancada report FILE` replaces. No text of a user can hold it, because `<` is escaped in all of them.
VERDICT = ("<!-- verdict -->", "<!-- end of the verdict -->")


def filled(**content: Any) -> str:
    """Return the page with this content."""
    template = Path(__file__).with_name("report.html").read_text("utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(template).render(verdict=VERDICT, **content)
