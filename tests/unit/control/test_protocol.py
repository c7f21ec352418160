import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.protocol import (
    MAX_PAGE,
    OPERATIONS,
    ControlError,
    ErrorCode,
    FieldError,
    Role,
    check_request,
    envelope_of,
    parse_line,
    refusal,
    result_of,
)


def refused(line: Any, role: Any = Role.ADMINISTRATOR) -> Any:
    with pytest.raises(ControlError) as caught:
        check_request(line, role)
    return caught.value


def test_defaults_are_filled_in() -> None:
    request = check_request({"op": "ike-sas", "id": 7}, Role.ADMINISTRATOR)
    assert request.arguments == {"limit": 100}
    assert request.id == 7


@pytest.mark.parametrize(
    ("args", "field", "allowed"),
    [
        ({"limit": 0}, "limit", f"1 to {MAX_PAGE}"),
        ({"limit": MAX_PAGE + 1}, "limit", f"1 to {MAX_PAGE}"),
        ({"limit": True}, "limit", "an integer"),
        ({"limit": "5"}, "limit", "an integer"),
        ({"id": "zz"}, "id", "16 hexadecimal digits"),
        ({"id": "0" * 16 + "_" + "0" * 16 + "\n"}, "id", "at most 33"),
        ({"cursor": 4}, "cursor", "a text"),
        ({"connection": "a b"}, "connection", "a connection's name"),
        ({"colour": "red"}, "colour", "id, connection, limit, cursor"),
    ],
)
def test_a_wrong_argument_names_the_field_and_what_is_allowed(
    args: Any, field: Any, allowed: Any
) -> None:
    error = refused({"op": "ike-sas", "args": args})
    assert error.code == ErrorCode.INVALID
    assert error.field == field
    assert allowed in error.message


def test_a_missing_argument_is_named() -> None:
    error = refused({"op": "close-ike-sa"})
    assert (error.field, error.message) == ("id", "id: is missing")


def test_an_unknown_operation_lists_those_there_are() -> None:
    error = refused({"op": "reboot"})
    assert error.code == ErrorCode.UNKNOWN_OPERATION
    assert all(name in error.message for name in OPERATIONS)


@pytest.mark.parametrize("line", [[], 3, None, "status", {"op": 3}, {"op": "status", "x": 1}])
def test_what_is_no_request_is_refused(line: Any) -> None:
    refused(line)


@pytest.mark.parametrize(
    ("operation", "args", "role"),
    [
        ("health", {}, Role.NOBODY),
        ("ike-sas", {}, Role.READ_ONLY),
        ("initiate", {"connection": "a"}, Role.OPERATOR),
        ("reload", {}, Role.ADMINISTRATOR),
    ],
)
def test_an_operation_needs_its_role(operation: Any, args: Any, role: Any) -> None:
    line = {"op": operation, "args": args}
    for lower in [one for one in Role if one < role]:
        code = ErrorCode.UNAUTHENTICATED if lower is Role.NOBODY else ErrorCode.DENIED
        assert refused(line, lower).code == code
    for enough in [one for one in Role if one >= role]:
        assert check_request(line, enough).operation.name == operation


@given(st.binary(max_size=200))
def test_any_line_is_a_value_or_a_control_error(line: Any) -> None:
    with contextlib.suppress(ControlError):
        check_request(parse_line(line), Role.ADMINISTRATOR)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(OPERATIONS)),
    st.dictionaries(st.sampled_from(["id", "limit", "cursor", "connection", "debug"]), json),
)
def test_any_arguments_are_checked_or_refused(name: Any, args: Any) -> None:
    known = {parameter.name for parameter in OPERATIONS[name].parameters}
    with contextlib.suppress(ControlError):
        request = check_request({"op": name, "args": args}, Role.ADMINISTRATOR)
        assert set(request.arguments) <= known


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(ControlError):
        parse_line(b"[" * 16_000)


@pytest.mark.parametrize("line", [None, [], {"ok": 1}, {"ok": False}, {"ok": False, "error": 3}])
def test_an_answer_that_makes_no_sense_is_an_error(line: Any) -> None:
    with pytest.raises(ControlError):
        result_of(line)


def test_an_envelope_is_checked_and_its_credential_is_in_no_repr() -> None:
    line = {"op": "health", "as": "gw_secret", "from": "192.0.2.7", "key": "k1"}
    envelope = envelope_of(line)
    assert (envelope.credential, envelope.remote, envelope.key) == ("gw_secret", "192.0.2.7", "k1")
    assert "gw_secret" not in repr(envelope)
    assert check_request(line, Role.NOBODY).key == "k1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("as", 7),
        ("as", "x" * 257),
        ("from", "not an address"),
        ("from", "1.2.3.4, 5.6.7.8"),
        ("key", ""),
        ("key", "k" * 129),
        ("key", "a b"),
        ("key", "a\nb"),
    ],
)
def test_h78_a_malformed_envelope_names_its_field_and_hides_the_credential(
    field: Any, value: Any
) -> None:
    with pytest.raises(ControlError) as caught:
        envelope_of({"op": "health", field: value})
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID, field)
    assert "xxx" not in caught.value.message


def test_several_faults_and_the_time_to_wait_survive_the_socket() -> None:
    several = (FieldError("too long", "a"), FieldError("unknown"))
    error = ControlError(ErrorCode.TOO_MANY, "no", errors=several, retry_after_s=2.5)
    with pytest.raises(ControlError) as caught:
        result_of(parse_line(refusal(1, error)))
    assert caught.value.errors == several
    assert caught.value.retry_after_s == 2.5


def test_roles_have_the_names_that_tokens_are_made_with() -> None:
    assert [Role.named(words).words for words in ("admin", "operator", "read-only")] == [
        "admin",
        "operator",
        "read-only",
    ]
