"""Fixtures of the configuration's tests."""

from pathlib import Path

import pytest
from config_workshop import CA_KEY, GW_KEY, Workshop, certificate, pem_key
from cryptography.hazmat.primitives.serialization import Encoding


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path)
    root = certificate("Example CA", CA_KEY, "Example CA", CA_KEY, ca=True)
    leaf = certificate("gw.example.com", GW_KEY, "Example CA", CA_KEY)
    shop.put("ca.pem", root.public_bytes(Encoding.PEM))
    shop.put("gw.pem", leaf.public_bytes(Encoding.PEM))
    shop.put("gw.key", pem_key(GW_KEY))
    return shop
