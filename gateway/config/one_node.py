"""A configuration with one mobile node more, less or changed: the others are not judged again."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from gateway.config.document import Config
from gateway.config.explain import problems_of
from gateway.config.findings import Findings
from gateway.config.merging import named_as_stored
from gateway.config.mobility import MobileNodeSection
from gateway.config.mobility_node_checks import NodeChecks, check_node_files, check_ticket_keys
from gateway.config.mobility_nodes import all_nodes, node_keys
from gateway.config.problem import ConfigError, Problem
from gateway.config.to_mobility import folded_nai

KIND = "mobile_nodes"


def with_node(config: Config, name: str, document: Mapping[str, object] | None) -> Config:
    """``config``, which stands, with this node; None removes it.

    Raises :class:`ConfigError` where it does not stand any more.
    """
    nodes = dict(config.mobile_nodes)
    nodes.pop(name, None)
    findings = Findings(config.path)
    if document is not None:
        node = nodes[name] = _section(config, name, document)
    wanted = config.model_copy(update={KIND: nodes})
    if document is not None:
        _check(wanted, name, node, findings)
    stored = {(KIND, name)}
    if findings.problems:
        raise ConfigError([named_as_stored(one, stored) for one in findings.problems])
    kept = [one for one in config.warnings if not one.key.startswith(f"{KIND}/{name}.")]
    mine = [named_as_stored(one, stored) for one in findings.warnings]
    wanted._warnings = (*kept, *mine)  # noqa: SLF001 - private to this package, set once
    wanted._broken = {key: why for key, why in config.broken.items() if key not in stored}  # noqa: SLF001
    return wanted


def _section(config: Config, name: str, document: Mapping[str, object]) -> MobileNodeSection:
    context = {"directory": config.path.absolute().parent}
    try:
        return MobileNodeSection.model_validate(document, context=context)
    except ValidationError as error:
        own = f"{KIND}/{name}"
        raise ConfigError(
            [
                Problem(Path(), f"{own}.{one.key}" if one.key else own, one.why, one.value)
                for one in problems_of(error, Path(), MobileNodeSection)
            ]
        ) from None


def _check(config: Config, name: str, node: MobileNodeSection, findings: Findings) -> None:
    if name in all_nodes(config) and config.mobile_nodes.get(name) is not node:
        findings.refuse(f"{KIND}.{name}", None, "is in mobility.mobile_nodes_file as well")
    checks = NodeChecks(config, Findings(config.path))
    for other, section in _rivals(config, name, node).items():
        checks.check(other, section)
    checks.findings = findings  # what there is to say of the others was said before
    checks.check(name, node)
    if findings.problems:
        return
    check_node_files(f"{KIND}.{name}", node, findings)
    if node.logs_in:
        check_ticket_keys(config, findings)


def _rivals(config: Config, name: str, node: MobileNodeSection) -> dict[str, MobileNodeSection]:
    """Others that have something which must be one node's alone."""
    nai = folded_nai(node.nai) if node.nai else None
    identity = node.identity.casefold() if node.identity is not None else None
    keys = {one.key for _, one in node_keys(node) if one.key is not None}
    return {
        other: section
        for other, section in all_nodes(config).items()
        if other != name
        and (
            (node.home_address is not None and section.home_address == node.home_address)
            or (nai is not None and section.nai is not None and folded_nai(section.nai) == nai)
            or (identity is not None and section.identity is not None)
            or (keys and any(one.key in keys for _, one in node_keys(section)))
        )
    }
