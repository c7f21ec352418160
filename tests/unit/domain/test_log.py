import io
import json
from typing import Any

import pytest

from gateway.domain.log import (
    MAX_LINE_CHARACTERS,
    RateLimit,
    configure,
    fields_without,
    one_line,
    with_suppressed,
)


def lines(
    style: Any, level: Any = "info", journal: Any = None, monkeypatch: pytest.MonkeyPatch = None
) -> Any:
    stream = io.StringIO()
    if monkeypatch is not None:
        monkeypatch.setenv("JOURNAL_STREAM", journal or "8:1")
    return configure(style=style, level=level, stream=stream), stream


def test_a_line_for_people_is_time_level_and_text() -> None:
    log, stream = lines("human")
    log.info("ike_sa_established", text="device connected", peer="device")
    time, level, text = stream.getvalue().rstrip("\n").split(maxsplit=2)
    assert time.endswith("Z")
    assert (level, text) == ("info", "device connected")


def test_without_a_text_the_facts_are_shown() -> None:
    log, stream = lines("human")
    log.warning("odd", count=3, path="/x")
    assert stream.getvalue().rstrip().endswith("odd count=3 path=/x")


def test_under_the_journal_the_line_starts_with_its_syslog_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, stream = lines("human", monkeypatch=monkeypatch)
    log.warning("x", text="careful")
    log.error("x", text="broken")
    assert stream.getvalue() == "<4>careful\n<3>broken\n"


def test_a_json_line_has_name_text_and_facts() -> None:
    log, stream = lines("json")
    log.info("moved", text="it moved", old="a", new="b", count=1)
    line = json.loads(stream.getvalue())
    time = line.pop("time")
    assert time.endswith("Z")
    expected = {"event": "moved", "text": "it moved", "old": "a", "new": "b", "count": 1}
    assert line == expected | {"level": "info"}


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e")]
)
def test_levels(level: Any, shown: Any) -> None:
    log, stream = lines("json", level)
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    events = "".join(json.loads(line)["event"] for line in stream.getvalue().splitlines())
    assert events == shown


@pytest.mark.parametrize("style", ["human", "json"])
@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nINFO b", "\x1b[2Jx", "\0", "\u2028x", "\udcff", "\x85"]
)
def test_h12_hostile_text_stays_on_its_line(style: Any, text: Any) -> None:
    log, stream = lines(style)
    log.info("x", text=text, peer=text)
    written = stream.getvalue()
    assert len(written.splitlines()) == 1
    assert written.rstrip("\n").isprintable()


def test_h12_a_long_line_is_cut() -> None:
    assert len(one_line("x" * 100_000)) == MAX_LINE_CHARACTERS
    assert len(one_line("\n" * 100_000)) == MAX_LINE_CHARACTERS
    assert one_line("gr\u00fc\u00df") == "gr\u00fc\u00df"


def test_a_flood_of_one_name_is_thinned_and_counted() -> None:
    limit = RateLimit(burst=3, per_s=1.0)
    assert [limit.admit("a", 0.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert limit.admit("b", 0.0) == 0
    assert limit.admit("a", 0.5) is None
    assert limit.admit("a", 1.5) == 3
    assert limit.admit("a", 1.5) is None
    assert limit.admit("a", 100.0) == 1


def test_what_was_suppressed_is_said() -> None:
    assert with_suppressed("x", 0) == "x"
    assert with_suppressed("x", 7) == "x (7 more like this were suppressed)"


def test_facts_never_take_the_names_of_a_lines_own_fields() -> None:
    assert fields_without({"text": 1, "peer": 2}, "text") == {"text_": 1, "peer": 2}
