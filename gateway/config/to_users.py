"""From the validated file to what knows the users: the local user base and RADIUS servers."""

from gateway.config.credential_files import FileRefusedError, read_secret
from gateway.config.document import Config
from gateway.config.problem import ConfigError, Problem, shown
from gateway.config.sections import RadiusSection, RadiusServerSection
from gateway.domain.endpoint import Endpoint
from gateway.radius.settings import GroupAttribute, RadiusServer, RadiusSettings
from gateway.users.settings import ScryptCost, UserBaseSettings


def user_base(config: Config) -> UserBaseSettings | None:
    """Where the local users are; None when there are none."""
    file, key_file = config.users.file, config.user_key_file
    if file is None or key_file is None:
        return None
    return UserBaseSettings(file, key_file, ScryptCost(config.users.scrypt_ln))


def radius(config: Config) -> tuple[RadiusSettings, ...]:
    """The RADIUS backends. Reads the secrets.

    Raises :class:`ConfigError` where a file cannot be used (any more).
    """
    return tuple(_settings(config, name, section) for name, section in config.radius.items())


def _settings(config: Config, name: str, section: RadiusSection) -> RadiusSettings:
    return RadiusSettings(
        name=name,
        servers=tuple(
            _server(config, f"radius.{name}.servers.{one}", server, accounting=section.accounting)
            for one, server in section.servers.items()
        ),
        nas_identifier=section.nas_identifier or config.gateway.name,
        nas_address=section.nas_address,
        groups_from=tuple(map(GroupAttribute, section.group_attributes)),
        retransmit_first_s=section.retransmit_first_s,
        tries=section.tries,
        deadline_s=section.deadline_s,
        hold_s=section.hold_s,
        interim_interval_s=section.interim_interval_s,
    )


def _server(
    config: Config, key: str, server: RadiusServerSection, *, accounting: bool
) -> RadiusServer:
    if server.secret_file is None:
        return _server_with(server, _inline(server), accounting=accounting)
    try:
        secret = read_secret(server.secret_file).encode()
    except FileRefusedError as error:
        problem = Problem(config.path, f"{key}.secret_file", str(error), shown(server.secret_file))
        raise ConfigError([problem]) from None
    return _server_with(server, secret, accounting=accounting)


def _inline(server: RadiusServerSection) -> bytes:
    return server.secret.get_secret_value().encode() if server.secret is not None else b""


def _server_with(server: RadiusServerSection, secret: bytes, *, accounting: bool) -> RadiusServer:
    return RadiusServer(
        authentication=Endpoint(server.address, server.authentication_port),
        secret=secret,
        accounting=Endpoint(server.address, server.accounting_port) if accounting else None,
    )
