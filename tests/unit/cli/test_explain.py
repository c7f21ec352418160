"""`gateway ike explain`: what it prints of a record."""

from io import StringIO

from rich.console import Console

from gateway.cli.explain import _record

RECORD: dict[str, object] = {
    "id": "0000002a",
    "first_at": "2026-01-01T10:00:00.000+00:00",
    "last_at": "2026-01-01T10:05:00.000+00:00",
    "count": 3,
    "remote": "198.51.100.7:500",
    "peer": "a peer",
    "connection": None,
    "step": "IKE_SA_INIT",
    "reason": "proposal 1 encryption differs: theirs 3des, ours aes256;"
    " theirs: [3des-sha1-modp1024]; ours: [aes256-sha256-x25519]",
    "theirs": "3des-sha1-modp1024",
    "ours": "aes256-sha256-x25519",
    "remedy": "offer one of ours, or add one of theirs to ike_proposals",
}


def shown(record: dict[str, object], *, colour: bool = False) -> str:
    out = StringIO()
    system = "truecolor" if colour else None
    Console(file=out, width=200, force_terminal=colour, color_system=system).print(_record(record))
    return out.getvalue()


def test_theirs_against_ours_and_the_remedy() -> None:
    lines = shown(RECORD).splitlines()
    assert lines[0] == "a peer from 198.51.100.7:500"
    assert any("3 times since 2026-01-01 10:00:00" in line for line in lines)
    at = lines.index("  theirs  3des-sha1-modp1024")
    assert lines[at + 1] == "  ours    aes256-sha256-x25519"
    assert lines[at - 1] == "  what    proposal 1 encryption differs: theirs 3des, ours aes256"
    assert lines[at + 2].startswith("  do      offer one of ours")


def test_only_what_differs_stands_out() -> None:
    record = {**RECORD, "theirs": "aes256-sha1-x25519"}
    text = shown(record, colour=True)
    assert "\x1b[1;33msha1\x1b[0m" in text
    assert "\x1b[1;33mx25519\x1b[0m" not in text


def test_h12_hostile_names_do_not_reach_the_terminal() -> None:
    text = shown({**RECORD, "peer": "x\x1b[2Jy\n", "theirs": "\x07", "reason": "\x1b]0;"})
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b[2J" in text


def test_a_record_with_nothing_in_it_is_shown_too() -> None:
    assert shown({})
