"""The demonstration holds, and says what it measured."""

# planes: kernel portable

import json
from pathlib import Path

import pytest

from gateway.lab import demo, netns
from gateway.lab.kernel import has_esp

pytestmark = pytest.mark.kernel


def test_the_story_holds_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "demo.json"
    assert demo.run(record) == 0
    told = capsys.readouterr().out
    assert "The demo holds." in told
    figures = json.loads(record.read_text())
    mobike, remap, native = figures["moves"]
    assert mobike["ike_messages"] > 0
    assert remap["ike_messages"] == native["ike_messages"] == 0
    # AES-GCM: 20 outer header, 8 ESP header, 8 IV, 2 + 2 trailer with padding, 16 ICV; 8 for UDP.
    # strongSwan's own IPsec, where the kernel has none, always is in UDP.
    first = 56 if has_esp() else 64
    assert [move["overhead_octets"] for move in figures["moves"]] == [first, 64, 56]
    assert remap["proof"] == "esp-in-udp mapping"
    assert native["proof"].startswith("esp icv")
    assert figures["attack"] == {"forged": 1, "replayed": 1, "moved": False}
    assert figures["malformed"] == 0
    assert netns.existing("gwdemo-") == []
