"""A process that gave up the file system reads what it kept and nothing else."""

import multiprocessing
import socket
from pathlib import Path

import pytest

from gateway.domain.landlock import only_read
from gateway.domain.privileges import no_new_privileges


def _probe(kept: Path, other: Path, answers: "multiprocessing.Queue[tuple[object, ...]]") -> None:
    before = other.open()
    no_new_privileges()
    possible = only_read([kept])
    outcome: list[object] = [possible, (kept / "file").read_text(), before.read()]
    for attempt in (other.read_text, other.unlink, lambda: (kept / "new").write_text("x")):
        try:
            attempt()
            outcome.append("done")
        except PermissionError:
            outcome.append("refused")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
    answers.put(tuple(outcome))


def test_only_what_was_kept_can_be_read(tmp_path: Path) -> None:
    kept, other = tmp_path / "kept", tmp_path / "secret"
    kept.mkdir()
    (kept / "file").write_text("program")
    other.write_text("secret")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_probe, args=(kept, other, answers))
    child.start()
    found = answers.get(timeout=30)
    child.join(30)
    if not found[0]:
        pytest.skip("this kernel has no landlock")
    assert found == (True, "program", "secret", "refused", "refused", "refused")
