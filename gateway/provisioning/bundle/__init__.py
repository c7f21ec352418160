"""One file per platform: what its device gets, from what :class:`Setup` says."""

import importlib
from collections.abc import Callable

from gateway.provisioning.setup import Bundle, Maker, Platform, Setup

_MODULES = {
    Platform.GATEWAY_MN: "mobile_node",
    Platform.STRONGSWAN: "swanctl",
    Platform.ANDROID: "android",
    Platform.APPLE: "apple",
    Platform.WINDOWS: "windows",
    Platform.NETWORK_MANAGER: "network_manager",
    Platform.OTHER: "plain",
}


def make(platform: Platform, setup: Setup, random: Callable[[int], bytes]) -> Bundle:
    """The bundle for a platform.

    ``random`` gives so many octets. Raises :class:`ProvisioningRefusedError` where the platform
    cannot do what the connection demands; it says what to change.
    """
    module = importlib.import_module(f"{__name__}.{_MODULES[platform]}")
    maker: Maker = module.make
    return maker(setup, random)
