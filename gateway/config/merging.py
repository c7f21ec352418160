"""The file and the stored objects as one configuration.

The tables of the file count where both have a name. A stored object that does not fit is left out
and reported; only what it had to be there for goes with it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.config.document import Config
from gateway.config.kinds import KINDS, Stored
from gateway.config.problem import ConfigError, Problem

Key = tuple[str, str]
"""Kind and name."""
Tables = Mapping[str, object]
Judge = Callable[[Tables], Config]
_READABLE = "the file is readable by others"
_ORDER = {kind: number for number, kind in enumerate(KINDS)}


def merge(
    tables: Tables,
    objects: Iterable[Stored],
    judge: Judge,
    *,
    required: Collection[Key] | None = None,
) -> Config:
    """The configuration of ``tables`` and ``objects``; ``judge`` makes it or raises ConfigError.

    See :func:`gateway.config.loader.load`.
    """
    wanted = {
        (one.kind, one.name): one
        for one in sorted(objects, key=lambda one: (_ORDER[one.kind], one.late, one.name))
        if not KINDS[one.kind].light
    }
    hidden = [key for key in wanted if _has(tables, key)]
    for key in hidden:
        del wanted[key]
    config, broken = _fitting(tables, wanted, judge, required)
    notes = [
        Problem(Path(), _written(*key), f"is in {config.path.name} as well, which counts")
        for key in hidden
    ]
    notes += [
        replace(one, why=f"{one.why} (left out)")
        for problems in broken.values()
        for one in problems
    ]
    renamed = [named_as_stored(one, wanted) for one in config.warnings]
    # What is stored is not in the file that others may read.
    renamed = [one for one in renamed if one.file.name or _READABLE not in one.why]
    config._warnings = (*renamed, *notes)  # noqa: SLF001 - private to this package, set once
    config._broken = broken  # noqa: SLF001
    return config


def _has(tables: Tables, key: Key) -> bool:
    section = tables.get(key[0])
    return isinstance(section, Mapping) and key[1] in section


def merged(tables: Tables, objects: Iterable[Stored]) -> dict[str, object]:
    """The tables of a file that says the same."""
    found = dict(tables)
    ours: dict[str, dict[str, object]] = {}
    for one in objects:
        section = ours.get(one.kind)
        if section is None:
            of_file = tables.get(one.kind, {})
            if not isinstance(of_file, Mapping):
                continue  # the file is wrong there, and is told so
            found[one.kind] = section = ours[one.kind] = dict(of_file)
        section[one.name] = one.document
    return found


def _fitting(
    tables: Tables, wanted: dict[Key, Stored], judge: Judge, required: Collection[Key] | None
) -> tuple[Config, dict[Key, tuple[Problem, ...]]]:
    broken: dict[Key, tuple[Problem, ...]] = {}
    kept = dict(wanted)
    while True:
        try:
            return judge(merged(tables, kept.values())), broken
        except ConfigError as error:
            problems = [named_as_stored(one, kept) for one in error.problems]
            guilty = _guilty(problems, kept)
            if required is None or any(key in required for key in guilty):
                raise ConfigError(problems) from None
            if not guilty:
                found, more = _one_by_one(tables, kept, judge, required)
                if found is None:
                    raise ConfigError(problems) from None
                return found, {**broken, **more}
        for key, reasons in guilty.items():
            broken[key] = reasons
            del kept[key]


def _guilty(problems: Sequence[Problem], kept: Collection[Key]) -> dict[Key, tuple[Problem, ...]]:
    """Which stored objects have the problems."""
    found: dict[Key, tuple[Problem, ...]] = {}
    for problem in problems:
        kind, slash, rest = problem.key.partition("/")
        key = (kind, rest.partition(".")[0])
        if slash and key in kept:
            found[key] = (*found.get(key, ()), problem)
    return found


def _one_by_one(
    tables: Tables, wanted: Mapping[Key, Stored], judge: Judge, required: Collection[Key]
) -> tuple[Config | None, dict[Key, tuple[Problem, ...]]]:
    """Some stored object makes a table of the file wrong: find it, in halves.

    No configuration where the file is wrong by itself.
    """
    broken: dict[Key, tuple[Problem, ...]] = {}
    try:
        config = judge(tables)
    except ConfigError:
        return None, broken
    kept: list[Stored] = []
    waiting = [list(wanted.values())]
    while waiting:
        some = waiting.pop()
        try:
            config = judge(merged(tables, (*kept, *some)))
            kept += some
        except ConfigError as error:
            if len(some) > 1:
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
                continue
            key = (some[0].kind, some[0].name)
            reasons = [named_as_stored(one, {key: some[0]}) for one in error.problems]
            if key in required:
                raise ConfigError(reasons) from None
            broken[key] = tuple(
                one if one.key.startswith(f"{key[0]}/") else _because(key, one) for one in reasons
            )
    return config, broken


def _because(key: Key, problem: Problem) -> Problem:
    return Problem(Path(), _written(*key), f"does not fit the file: {problem}")


def _written(kind: str, name: str) -> str:
    return f"{kind}/{name}"


def named_as_stored(problem: Problem, stored: Collection[Key]) -> Problem:
    """The same problem; that of a stored object says so."""
    kind, dot, rest = problem.key.partition(".")
    name, _, field = rest.partition(".")
    bare = name.partition("[")[0]
    if not dot or (kind, bare) not in stored:
        return problem
    key = _written(kind, name) + (f".{field}" if field else "")
    return replace(problem, file=Path(), key=key)
