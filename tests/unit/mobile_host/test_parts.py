"""Who carries a mobile node's packets is chosen once, and the switch closes in any case."""

from pathlib import Path

import pytest

from gateway.config.profile import ProcessPart, Profile
from gateway.dataplane.choice import Choice, Kind
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.node.node import KernelNode
from gateway.dataplane.node import NodeSettings, Peers
from gateway.dataplane.plane import Plane
from gateway.dataplane.portable.node.node import PortableNode
from gateway.mobile_host import parts
from gateway.mobile_host.parts import OWN_DEVICES, Parts

SETTINGS = NodeSettings(Peers())


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return Profile(
        profile=ProcessPart.model_validate(
            {"runtime_dir": str(tmp_path)}, context={"directory": tmp_path}
        )
    )


def chosen(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> list[tuple[object, ...]]:
    """Let this one be chosen; what it was asked."""
    asked: list[tuple[object, ...]] = []

    def of(*words: object, **more: object) -> Plane:
        asked.append((*words, more))
        return Plane(Choice(kind, "for a test"), Path("/nowhere"))

    monkeypatch.setattr(parts.Plane, "of", of)
    return asked


@pytest.mark.parametrize(
    ("kind", "node"), [(Kind.KERNEL, KernelNode), (Kind.PORTABLE, PortableNode)]
)
def test_the_node_is_that_of_the_plane(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, kind: Kind, node: type
) -> None:
    asked = chosen(monkeypatch, kind)
    made = Parts()
    assert made.chosen == ""
    assert type(made.dataplane(profile, SETTINGS)) is node
    assert type(made.dataplane(profile, SETTINGS)) is node
    assert made.chosen == f"{kind}: for a test"
    ((wanted, needs, folder, interface, more),) = asked
    assert wanted == "auto"
    assert needs == parts.KERNEL_NEEDS
    assert (folder, interface) == (profile.profile.runtime_dir, "mn-vpn")
    assert more == {"workers": 1}


def test_where_none_can_be_had_the_switch_is_the_kernel_s_and_the_vpn_says_why(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(*_words: object, **_more: object) -> Plane:
        raise DataplaneUnavailableError(38, "the kernel lacks xfrm")

    monkeypatch.setattr(parts.Plane, "of", of)
    made = Parts()
    assert type(made.dataplane(profile, SETTINGS)) is KernelNode
    with pytest.raises(DataplaneUnavailableError, match="lacks xfrm"):
        made.vpn(profile, None, lambda event: None, debug=False)  # type: ignore[arg-type]


def test_far_ends_are_none_of_the_hosts_links() -> None:
    assert {"mn0", "mn-vpn", "mn-vpn-io", "mn-x-gre", "mn-x-gre-io"} <= OWN_DEVICES
