"""The store of a configuration file, which is opened before the rest of the file is judged."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from gateway.config.administration import StoreSection
from gateway.config.explain import problems_of
from gateway.config.fields import Section
from gateway.config.problem import ConfigError, Problem
from gateway.config.sections import GatewaySection
from gateway.domain.event import Event
from gateway.store.database import Store, StoreSettings
from gateway.store.errors import StoreError


class _Early(Section):
    """What has to be known of a file to open the store."""

    gateway: GatewaySection = GatewaySection()
    store: StoreSection = StoreSection()


def store_settings(path: Path, tables: Mapping[str, object]) -> StoreSettings:
    """Where the store is. Raises :class:`ConfigError`."""
    wanted = {name: tables[name] for name in _Early.model_fields if name in tables}
    try:
        early = _Early.model_validate(wanted, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(problems_of(error, path, _Early)) from None
    store = early.store
    return StoreSettings(
        state_dir=store.state_dir,
        url=store.url.get_secret_value() if store.url is not None else None,
        key_file=store.key_file,
        runtime_dir=early.gateway.runtime_dir,
    )


def open_store(path: Path, tables: Mapping[str, object], emit: Callable[[Event], None]) -> Store:
    """The store, open. What is full or broken is an event; see :class:`Store`.

    Raises :class:`ConfigError` when going on would harm what is stored.
    """
    store = Store(store_settings(path, tables), emit)
    try:
        store.open()
    except StoreError as error:
        raise ConfigError([Problem(path, "store", str(error))]) from None
    return store
