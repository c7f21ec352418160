"""The settings of :mod:`gateway.names` from ``[names]``."""

from gateway.config.credential_files import FileRefusedError, read_secret
from gateway.config.document import Config
from gateway.config.problem import ConfigError, Problem, shown
from gateway.names.publication import Publication, host_of, publication
from gateway.names.reverse import reverse_domains
from gateway.names.settings import ForwarderSettings, RegistrarSettings, Route, secret_of


def forwarder(config: Config) -> ForwarderSettings:
    """Whom the forwarder asks: what is listed, and the server of devices' names for those."""
    names = config.names
    routes = [Route(one.domains, one.servers) for one in names.forward]
    registration = names.registration
    if registration is not None:
        domains = [registration.zone]
        if registration.reverse:
            domains += [
                domain for pool in config.pools.values() for domain in reverse_domains(pool.network)
            ]
        server = (registration.server,)
        routes.append(Route(tuple(domains), server, registration.port, cached=False))
    return ForwarderSettings(names.servers, tuple(routes), names.cache_entries)


def registrar(config: Config) -> RegistrarSettings | None:
    """Where devices are registered. Raises :class:`ConfigError` for a key that is of no use."""
    section = config.names.registration
    if section is None:
        return None
    try:
        secret = secret_of(read_secret(section.secret_file))
    except (FileRefusedError, ValueError) as error:
        key = "names.registration.secret_file"
        problem = Problem(config.path, key, str(error), shown(section.secret_file))
        raise ConfigError([problem]) from None
    return RegistrarSettings(
        section.server,
        section.port,
        section.zone,
        section.reverse,
        section.key_name,
        section.algorithm,
        secret,
        section.ttl_s,
    )


def published(config: Config) -> Publication | None:
    """What the public DNS of ``names.published`` should have."""
    domain = config.names.published
    if domain is None:
        return None
    called = (config.provisioning.address, config.gateway.name)
    host = host_of(domain, [str(one) for one in called if one is not None])
    ike = config.ike
    return publication(domain, host, ike.listen, ike.port, ike.nat_port, ike.tcp_listen)
