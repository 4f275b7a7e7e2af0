"""The TOML text of a scenario file: read as a document, and made independent of the files beside it."""

from __future__ import annotations

import re
import tomllib

from lab.core.errors import ScenarioError
from lab.core.scenario.model import SCENARIO_VERSION, FileStep, Scenario
from lab.core.scenario.template import substitute

# of TOML: texts and comments, in which a dot parts no key; and what stands between keys
_NO_KEYS = re.compile(
    r'"""(?:[^\\]|\\.)*?"""' r"|'''.*?'''" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*", re.DOTALL
)
_BETWEEN_KEYS = re.compile(r"[\n,={}\[\]]")
_MAX_KEY_PARTS = 32

# what TOML's multi-line texts cannot hold as it is
_TOML_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(9), *range(11, 32), 0x22, 0x5C, 0x7F)}


def parse_toml(text: str, path: str) -> dict[str, object]:
    """The document in a scenario's text, not checked yet. Raises ScenarioError for what is no TOML."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ScenarioError(f"{path}: the file is empty", hint=f"begin with version = {SCENARIO_VERSION}")
    if any(part.count(".") >= _MAX_KEY_PARTS for part in _BETWEEN_KEYS.split(_NO_KEYS.sub("", text))):
        # the reader's time grows with the square of a key's parts
        hint = "no key of a scenario has more than three: look for a text without quotes"
        raise ScenarioError(
            f"{path}: not TOML that a scenario has: a key of more than {_MAX_KEY_PARTS} parts", hint=hint
        )
    try:
        return tomllib.loads(text)
    except RecursionError:
        hint = "no scenario has lists or tables more than four deep: look for brackets that are not closed"
        raise ScenarioError(f"{path}: not TOML: nested too deeply", hint=hint) from None
    except ValueError as error:  # TOMLDecodeError, with line and column; plain ValueError for a number of 5000 digits
        raise ScenarioError(f"{path}: not TOML: {error}", hint="https://toml.io shows how it is written") from None


def with_sources(text: str, scenario: Scenario) -> str:
    """A scenario file's text that needs no file beside it: what its steps take from one stands in [sources]."""
    sources = {step.source: step.text for step in scenario.state if isinstance(step, FileStep) and step.source}
    if not sources or "sources" in tomllib.loads(text):
        return text
    head = f"{text.rstrip()}\n\n# the files beside the scenario, as they were read\n[sources]\n"
    return head + "".join(
        f'"{name.translate(_TOML_ESCAPES)}" = """\n{substitute(template, {}).translate(_TOML_ESCAPES)}"""\n'
        for name, template in sources.items()
    )
