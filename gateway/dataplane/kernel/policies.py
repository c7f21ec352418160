"""Who owns which policy: one per selector, even when two child SAs claim the same one.

The kernel holds one policy for a selector. When a device connects again before its old child SA
is gone, both want the same one: the newest owner has it, and an earlier one gets it back if the
newest goes first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.dataplane.kernel.xfrm import encode
from gateway.dataplane.kernel.xfrm.constants import (
    POLICY_PRIORITY_CONSTANT,
    REQID_SHARED,
    Direction,
)
from gateway.dataplane.kernel.xfrm.encode import Selector, Template

Key = tuple[Direction, Selector, bool, int]
"""With the xfrm interface's identifier or without, and the fwmark it asks for (0: none)."""


@dataclass(slots=True)
class _Claim:
    reqid: int
    template: Template


class PolicyTable:
    """Policies of child SAs and traps by owner (``reqid``). Returns the messages to send."""

    def __init__(self) -> None:
        self._claims: dict[Key, list[_Claim]] = {}
        self._keys: dict[int, dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def claim(
        self,
        reqid: int,
        direction: Direction,
        selector: Selector,
        template: Template,
        *,
        if_id: bool = True,
        mark: int = 0,
    ) -> list[bytes]:
        """Make ``reqid`` the newest owner, or give its policy a new template."""
        key = (direction, selector, if_id, mark)
        claims = self._claims.setdefault(key, [])
        for claim in claims:
            if claim.reqid != reqid:
                continue
            if claim.template == template:
                return []
            claim.template = template
            if claim is not claims[-1]:
                return []
            return [encode.policy(direction, selector, template, if_id=if_id, mark=mark)]
        claims.append(_Claim(reqid, template))
        self._keys.setdefault(reqid, {})[key] = None
        return [encode.policy(direction, selector, template, if_id=if_id, mark=mark)]

    def newest(self) -> Iterator[tuple[Key, Template]]:
        """Every policy that there is, and what it asks for."""
        for key, claims in self._claims.items():
            yield key, claims[-1].template

    def prefer(self, key: Key, kernel_reqid: int) -> None:
        """Of several owners of a policy, take the one whose template asks for this reqid."""
        claims = self._claims[key]
        for claim in claims:
            if claim.template.reqid == kernel_reqid:
                claims.remove(claim)
                claims.append(claim)
                return

    def contested(self) -> list[Key]:
        """Policies with several owners."""
        return [key for key, claims in self._claims.items() if len(claims) > 1]

    def release(self, reqid: int, *, keep: frozenset[Key] = frozenset()) -> list[bytes]:
        """Give up everything ``reqid`` owns except ``keep``."""
        requests: list[bytes] = []
        keys = self._keys.get(reqid, {})
        for key in [key for key in keys if key not in keep]:
            del keys[key]
            claims = self._claims[key]
            newest = claims[-1].reqid == reqid
            claims[:] = [claim for claim in claims if claim.reqid != reqid]
            direction, selector, if_id, mark = key
            if not claims:
                del self._claims[key]
                requests.append(encode.delete_policy(direction, selector, if_id=if_id, mark=mark))
            elif newest:
                requests.append(
                    encode.policy(direction, selector, claims[-1].template, if_id=if_id, mark=mark)
                )
        if not keys:
            self._keys.pop(reqid, None)
        return requests


def constant_policies() -> list[bytes]:
    """In and forward policies of both IP versions.

    Whatever comes out of the interface came through an SA of :data:`REQID_SHARED`, whose own
    selector has been checked.
    """
    return [
        encode.policy(
            direction,
            encode.any_selector(version),
            Template(None, None, REQID_SHARED, version=version),
            priority=POLICY_PRIORITY_CONSTANT,
        )
        for version in (4, 6)
        for direction in (Direction.IN, Direction.FWD)
    ]
