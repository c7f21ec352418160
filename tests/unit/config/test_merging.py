from __future__ import annotations

from pathlib import Path

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config import ConfigError, load
from gateway.config.kinds import KINDS, Stored, secret_paths
from gateway.config.schemas import schema_of
from gateway.config.secrets import SecretError, join, keep, merge_patch, split
from gateway.control.object_operations import OBJECT_KINDS

POOL = Stored("pools", "extra", {"network": "10.99.0.0/22"})


def path_of(workshop: Workshop, text: str = MINIMAL) -> Path:
    return workshop.write(text)


def test_the_control_socket_knows_the_same_kinds() -> None:
    assert tuple(KINDS) == OBJECT_KINDS


def test_stored_objects_stand_beside_those_of_the_file(workshop: Workshop) -> None:
    config = load(path_of(workshop), objects=[POOL])
    assert list(config.pools) == ["staff", "extra"]
    assert not config.broken


def test_problems_of_stored_objects_name_them(workshop: Workshop) -> None:
    wrong = Stored("pools", "extra", {"network": "10.99.0.1/22", "dsn": []})
    with pytest.raises(ConfigError) as refused:
        load(path_of(workshop), objects=[wrong])
    keys = [problem.key for problem in refused.value.problems]
    assert keys == ["pools/extra.network", "pools/extra.dsn"]
    assert str(refused.value.problems[0]).startswith("pools/extra.network = ")


def test_what_needs_a_broken_object_is_broken_too(workshop: Workshop) -> None:
    objects = [
        Stored("pools", "extra", {"network": "nonsense"}),
        Stored("connections", "extra", {"pool": "extra", "local_subnets": ["10.1.0.0/16"]}),
        Stored("pools", "good", {"network": "10.99.0.0/22"}),
    ]
    config = load(path_of(workshop), objects=objects, required=())
    assert list(config.pools) == ["staff", "good"]
    assert list(config.broken) == [("pools", "extra"), ("connections", "extra")]
    assert any("pools/extra.network" in str(one) for one in config.warnings)


def test_a_stored_object_that_makes_the_file_wrong_is_found(workshop: Workshop) -> None:
    """The problem is at a table of the file, which is right without the stored connection."""
    text = MINIMAL + '\n[profiles.admins]\ngroups = ["admins"]\npool = "staff"\n'
    objects = [
        Stored("pools", "one", {"network": "10.98.0.0/22"}),
        Stored(
            "connections",
            "branch",
            {
                "remote_id": "branch.example.net",
                "remote_subnets": ["10.200.0.0/16"],
                "local_subnets": ["10.1.0.0/16"],
                "profiles": ["admins"],
                "remote_auth": "user",
                "user_auth": ["eap-gtc"],
            },
        ),
        Stored("pools", "two", {"network": "10.97.0.0/22"}),
    ]
    path = path_of(workshop, text)
    with pytest.raises(ConfigError, match=r"profiles\.admins\.pool"):
        load(path, objects=objects)
    config = load(path, objects=objects, required=())
    assert list(config.broken) == [("connections", "branch")]
    assert list(config.pools) == ["staff", "one", "two"]


def test_a_file_that_is_wrong_by_itself_stays_so(workshop: Workshop) -> None:
    text = MINIMAL.replace('pool = "staff"', 'pool = "other"')
    with pytest.raises(ConfigError, match=r"connections\.staff\.pool"):
        load(path_of(workshop, text), objects=[POOL], required=())


def test_what_must_stay_is_refused_and_not_left_out(workshop: Workshop) -> None:
    wrong = Stored("pools", "extra", {"network": "nonsense"})
    with pytest.raises(ConfigError, match="pools/extra"):
        load(path_of(workshop), objects=[wrong], required={("pools", "extra")})


def test_the_file_counts(workshop: Workshop) -> None:
    config = load(path_of(workshop), objects=[Stored("pools", "staff", {"network": "bad"})])
    assert str(config.pools["staff"].network) == "10.83.112.0/22"
    assert any(str(one).startswith("pools/staff: is in gateway.toml") for one in config.warnings)


def test_a_stored_secret_is_not_in_a_file_that_others_read(workshop: Workshop) -> None:
    path = path_of(workshop)
    path.chmod(0o644)
    psk = {
        "remote_id": "*@psk.example.com",
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": "a long random text that nobody guesses",
        "remote_subnets": ["10.200.0.0/16"],
        "local_subnets": ["10.1.0.0/16"],
    }
    config = load(path, objects=[Stored("connections", "psk", psk)])
    assert not any("chmod 600" in str(one) for one in config.warnings)


def test_secrets_leave_and_return() -> None:
    paths = secret_paths(KINDS["mobile_nodes"].model)
    document = {"spi": 256, "key": "k1", "keys": [{"spi": 300, "key": "k2"}, {"spi": 301}]}
    shown, secrets = split(document, paths)
    assert secrets == {"/key": "k1", "/keys/0/key": "k2"}
    assert shown["key"] == {"secret": True}
    assert "k1" not in str(shown)
    assert "k2" not in str(shown)
    assert join(shown, secrets) == document
    # By SPI, wherever it stands in the list by now.
    moved = {"keys": [{"spi": 301}, {"spi": 300, "key": {"secret": True}}]}
    assert keep(moved, shown, secrets, paths)["keys"] == [{"spi": 301}, {"spi": 300, "key": "k2"}]
    with pytest.raises(SecretError, match="no secret is stored") as refused:
        keep({"keys": [{"spi": 302, "key": {"secret": True}}]}, shown, secrets, paths)
    assert refused.value.field == "keys.0.key"
    login = {"keys": "login", "identity": "a@b"}
    assert split(login, paths) == (login, {})


def test_names_with_slashes_are_names() -> None:
    paths = secret_paths(KINDS["radius"].model)
    document = {"servers": {"a/b~c": {"address": "192.0.2.1", "secret": "s"}}}
    shown, secrets = split(document, paths)
    assert secrets == {"/servers/a~1b~0c/secret": "s"}
    assert join(shown, secrets) == document


def test_merge_patches_as_the_standard_says() -> None:
    """The examples of RFC 7396, appendix A, as far as they are objects."""
    for old, patch, new in (
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ):
        assert merge_patch(old, patch) == new


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_explain_what_documents_take(kind: str) -> None:
    schema = schema_of(KINDS[kind].model)
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for name in KINDS[kind].model.model_fields:
        assert properties[name], name
