"""The page: templates filled in, with a policy that lets a browser run and load nothing but what the page brings."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import lab
from lab.core.render.views import Report
from lab.core.scenario.expectation import FINDING_EVIDENCE

_MAIN, _STYLE, _SCRIPT = "page.html", "page.css", "page.js"
_MANY = 12  # more cells than this are worth a search
_FEW = 20  # so many that are not as expected are shown at once
_TICKED = re.compile(r"`([^`]+)`")


def page(report: Report, plots: Sequence[Sequence[Markup]], folder: str, made_by: str) -> str:
    """The HTML of a report; `plots` are those of each cell in the report's order, `folder` leads to the run's."""
    environment = Environment(
        loader=PackageLoader("lab.host.report"),
        autoescape=True,  # every text, whatever a template's name ends with
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(href=href, ticks=ticks)
    style, script = (_source(environment, name) for name in (_STYLE, _SCRIPT))
    return environment.get_template(_MAIN).render(
        report=report,
        plots=dict(zip((cell.anchor for cell in report.cells), plots, strict=True)),
        folder=folder,
        made_by=made_by,
        version=lab.__version__,
        findings=FINDING_EVIDENCE,
        few=_FEW,
        many=len(report.cells) > _MANY,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )


def href(path: str) -> str:
    """A relative path as a link: whatever is in a name, it leads nowhere else."""
    return quote(path, safe="/")


def ticks(text: str) -> Markup:
    """A text in which what stands between two backticks is code."""
    parts = _TICKED.split(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(style: str, script: str) -> str:
    """What the page may use: its own style and script, by their digests, and nothing from anywhere."""
    rules: dict[str, Any] = {
        "default-src": "'none'",
        "style-src": _digest(style),
        "script-src": _digest(script),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
