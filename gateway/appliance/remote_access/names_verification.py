"""Asks public DNS, in a process for one question."""

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, Final

from gateway.appliance.remote_access.names_process import argv, environment
from gateway.appliance.remote_access.names_views import verification
from gateway.names.publication import Publication

if TYPE_CHECKING:
    from gateway.control.remote_access_views import NamesVerify

MODULE: Final = "gateway.names.verify"
LIMIT_S: Final = 4.5
"""Less than who asks at the control socket waits."""


async def verify(wanted: Publication) -> "NamesVerify":
    """Compare public DNS with what is wanted; what cannot be asked is ``unknown``."""
    records = [[one.owner, one.type, one.data] for one in wanted.records]
    question = json.dumps({"records": records}).encode()
    answer = await asyncio.to_thread(_ask, question)
    return verification(wanted, answer)


def _ask(question: bytes) -> dict[str, object]:
    try:
        done = subprocess.run(
            argv(MODULE),
            input=question,
            capture_output=True,
            timeout=LIMIT_S,
            check=True,
            env=environment(),
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {"error": "the name servers of this host do not answer"}
    return found if isinstance(found, dict) else {}
