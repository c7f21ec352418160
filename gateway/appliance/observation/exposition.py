"""The text format of Prometheus, version 0.0.4."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is; ``docs/observability.md`` has the same."""

    name: str
    kind: str
    """``gauge``, ``counter`` or ``histogram``."""
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of it."""

    labels: tuple[str, ...]
    value: float
    suffix: str = ""
    """``_bucket``, ``_sum`` or ``_count`` of a histogram."""
    le: str = ""


def escaped(text: str) -> str:
    """A label's value."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    """A value, an integer where it is one."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def rendered(families: Iterable[tuple[Metric, Iterable[Sample]]]) -> str:
    """All of them."""
    return "".join(f"{line}\n" for family in families for line in _lines(*family))


def _lines(metric: Metric, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for sample in samples:
        pairs = list(zip(metric.labels, sample.labels, strict=True))
        if sample.le:
            pairs.append(("le", sample.le))
        labels = ",".join(f'{name}="{escaped(value)}"' for name, value in pairs)
        body = f"{{{labels}}}" if labels else ""
        yield f"{metric.name}{sample.suffix}{body} {number(sample.value)}"
