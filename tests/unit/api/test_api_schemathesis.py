"""Requests that schemathesis makes of the OpenAPI document, against a live gateway."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from live_gateway import Live
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
LEFT_OUT = ["/api/v1/events", "/api/v1/support", "/api/v1/session", "/api/v1/setup/claim"]
"""Without end; takes long; limited in how often. They have tests of their own."""

schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=LEFT_OUT)


@pytest.fixture(scope="module", autouse=True)
def needs_live(live: Live) -> Live:
    return live


@schema.parametrize()
@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_the_document_says(case: Any, live: Live) -> None:
    headers = {"Authorization": f"Bearer {live.token}"}
    answer = case.call(base_url=live.base, headers=headers, timeout=60)
    case.validate_response(answer, checks=CHECKS)
