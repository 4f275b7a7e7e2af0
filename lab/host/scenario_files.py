"""Finding and reading scenario files: by name, by glob, or by path."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePath

from lab.core.errors import ScenarioError
from lab.core.scenario import MAX_SCENARIO_BYTES, FileStep, RunStep, Scenario, did_you_mean, parse_scenario

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIX = ".toml"
PROGRAMS = "programs"
_MAX_WORD = 4096  # no path is longer
MAX_SOURCE_BYTES = 16 * 1024 * 1024


def scenario_directories(working_directory: Path | None = None) -> tuple[Path, ...]:
    """Where scenarios are looked for: the working directory's, the checkout's, the installed package's.

    Of two scenarios with the same name the first found is meant. Folders that do not exist are left out.
    """
    checkout = _PACKAGE.parent
    candidates = (
        (working_directory or Path()) / "scenarios",
        *((checkout / "scenarios",) if (checkout / "pyproject.toml").is_file() else ()),
        _PACKAGE / "scenarios",
    )
    found: dict[Path, Path] = {}
    for path in candidates:
        if os.path.isdir(path):
            found.setdefault(path.resolve(), path)
    return tuple(found.values())


def program_directories(directories: Sequence[Path]) -> tuple[Path, ...]:
    """The folders beside them of scenarios that run other programs, and need their packages."""
    return tuple(path for directory in directories if (path := directory / PROGRAMS).is_dir())


def all_scenarios() -> dict[str, Path]:
    """Every scenario that a name means, from wherever `lab` is started. Raises ScenarioError."""
    directories = scenario_directories()
    return dict(sorted((scenarios_in(program_directories(directories)) | scenarios_in(directories)).items()))


def scenarios_in(directories: Sequence[Path]) -> dict[str, Path]:
    """The scenario files in these folders by name, in the names' order. Raises ScenarioError for an unreadable one."""
    found: dict[str, Path] = {}
    for directory in directories:
        try:
            files = sorted(path for path in directory.iterdir() if path.suffix == _SUFFIX)
        except OSError as error:
            raise _unreadable(directory, error) from error
        for path in files:
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_scenarios(patterns: Sequence[str], directories: Sequence[Path]) -> tuple[Path, ...]:
    """The files that names, globs (`nat-*`) and paths mean, each once, in the order asked for.

    Scenarios of programs are looked at where nothing else has the name, so that `*` builds no images. A word with a
    slash, or that ends with `.toml`, is a path. Raises ScenarioError, with the nearest name, for a word of none.
    """
    named: dict[str, Path] | None = None
    found: dict[Path, None] = {}
    for pattern in patterns:
        if "/" in pattern or pattern.endswith(_SUFFIX):
            found.update(dict.fromkeys(_at_path(pattern)))
            continue
        named = scenarios_in(directories) if named is None else named
        names = fnmatch.filter(named, pattern)
        if not names:  # `*` means no programs: each needs an image of its own
            named = {**named, **scenarios_in(program_directories(directories))}
            names = fnmatch.filter(named, pattern)
        if not names:
            raise _unknown(pattern, named, directories)
        found.update(dict.fromkeys(named[name] for name in names))
    return tuple(found)


def load_scenario(path: Path) -> Scenario:
    """The scenario in a file, with the files beside it that its steps are made from.

    Raises ScenarioError that names the file when one cannot be read or is wrong, and for a step that names a file of
    this host, which no guest has.
    """
    text = _text(path, MAX_SCENARIO_BYTES, "name a scenario file")
    scenario = parse_scenario(text, str(path), lambda source: _source(path.parent / source))
    _refuse_host_files(scenario, path)
    return scenario


def _source(path: Path) -> str:
    return _text(path, MAX_SOURCE_BYTES, "name a text file beside the scenario")


def _text(path: Path, limit: int, hint: str) -> str:
    """The text of a file, as it is. Raises ScenarioError for what is no ordinary file, too large, or no UTF-8."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a folder" if path.is_dir() else "no ordinary file"
            raise ScenarioError(f"{path}: is {what}", hint=hint)
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > limit:
        raise ScenarioError(f"{path}: is larger than {limit // 1024} KiB", hint=hint)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(
            f"{path}: not UTF-8: byte 0x{data[error.start]:02x} in line {line}", hint="save the file as UTF-8"
        ) from error


def _refuse_host_files(scenario: Scenario, path: Path) -> None:
    """Raise ScenarioError for the first word of a step that names a file of this host: relative, or in the home."""
    written = {step.path for step in scenario.state if isinstance(step, FileStep)}
    for index, step in enumerate(scenario.state):
        for number, word in enumerate(step.argv if isinstance(step, RunStep) else ()):
            if word not in written and _is_host_file(word, path.parent):
                name = PurePath(word).name
                raise ScenarioError(
                    f"{path}: state[{index}].run[{number}]: names {word[:200]!r}, a file of this host: no guest has it",
                    hint=f'bring it with a step before: file = {{ path = "/root/{name}", source = "./{name}" }}, '
                    f"and name /root/{name} here",
                )


def _is_host_file(word: str, beside: Path) -> bool:
    if not word or len(word) > _MAX_WORD or any(char.isspace() for char in word):
        return False  # a shell's script, or a rule: not a path
    if word.startswith(("./", "../", "~/")):
        return True
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        in_home = word.startswith("/") and Path(word).is_relative_to(Path.home())
        return (in_home and Path(word).is_file()) or ("/" not in word and "." in word and (beside / word).is_file())
    return False


def load_scenarios(patterns: Sequence[str], directories: Sequence[Path]) -> tuple[Scenario, ...]:
    """The scenarios that the patterns mean (see find_scenarios).

    Raises one ScenarioError for all that is wrong in all files, and for two files with the same name.
    """
    loaded: dict[str, Scenario] = {}
    problems: list[ScenarioError] = []
    for path in find_scenarios(patterns, directories):
        try:
            scenario = load_scenario(path)
            if scenario.name in loaded:
                both = f"{loaded[scenario.name].path} has that name too"
                raise ScenarioError(
                    f"{path}: name: {scenario.name!r} is there twice: {both}", hint="rename one of them"
                )
            loaded[scenario.name] = scenario
        except ScenarioError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = (f"{problem}; {problem.hint}" if problem.hint else str(problem) for problem in problems)
        raise ScenarioError("\n".join(lines), hint="each ends with its hint; nothing was run")
    return tuple(loaded.values())


def _at_path(pattern: str) -> tuple[Path, ...]:
    path = Path(pattern).expanduser()
    if not os.path.exists(path) and glob.has_magic(pattern):
        found = sorted(glob.glob(str(path)))
        if not found:
            raise ScenarioError(f"{pattern}: no file matches", hint="lab list scenarios shows what there is by name")
        return tuple(map(Path, found))
    return (path,)


def _unknown(pattern: str, named: dict[str, Path], directories: Sequence[Path]) -> ScenarioError:
    if not named:
        where = ", ".join(map(str, directories)) or "./scenarios and the package"
        return ScenarioError(f"{pattern}: no scenarios found in {where}", hint="give the path of a scenario file")
    what = "no scenario matches" if glob.has_magic(pattern) else "no such scenario"
    return ScenarioError(f"{pattern}: {what}", hint=did_you_mean(pattern, named))


def _unreadable(path: Path, error: OSError) -> ScenarioError:
    hint = "check the path and its permissions; lab list scenarios shows what there is by name"
    return ScenarioError(f"{path}: cannot be read: {error.strerror or error}", hint=hint)
