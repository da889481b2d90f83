"""An endpoint's arguments from the environment: the variables of the agents, so that one deployment fits both.

Counterpart: :mod:`spnhub.agent_settings` declares the options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, TypedDict

from spnhub.agent_settings import EndpointSettings
from spnhub.options import Field, UnusableOption, build, option_fields
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.errors import ConfigurationError

__all__ = ["EndpointArguments", "endpoint_settings", "from_environment"]

_PREFIX: Final = "SPN_"
_PATHS: Final = ("certificate", "certificate_key", "trust")


class EndpointArguments(TypedDict):
    """Of :func:`spnhub.create_consumer_endpoint` and its twin."""

    hub_url: str
    service_urn: str
    certificate: str
    certificate_key: str
    trust: str | None
    options: EndpointOptions


def from_environment(environment: Mapping[str, str] | None = None, **given: Any) -> EndpointArguments:
    """What the variables of ``spnagent`` say: ``SPN_HUB_URL``, ``SPN_SERVICE_URN``, ``SPN_CERTIFICATE``,
    ``SPN_CERTIFICATE_KEY``, ``SPN_TRUST`` (PEM or paths), and one for each option (``SPN_IDLE_TIMEOUT``).

    ::

        endpoint = await spnhub.create_consumer_endpoint(**spnhub.from_environment())

    :param environment: None: that of this process.
    :param given: arguments and single options that win over it; those that are None don't.
    :raises ConfigurationError: something is missing or can't be used; the variable is named.
    """
    settings = endpoint_settings(EndpointSettings, given, os.environ if environment is None else environment)
    arguments: EndpointArguments = settings.arguments()
    return arguments


def endpoint_settings(model: type[Any], given: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    """Settings of ``model``, of what is given and, for the rest, of the environment.

    :raises ConfigurationError: something is missing or can't be used.
    :raises TypeError: an option that there isn't.
    """
    fields = {field.name: field for field in option_fields(EndpointSettings)}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        for variable in field.variables(_PREFIX):
            if text := environment.get(variable, "").strip():
                values[name] = _value(field, text, variable)
                break
    if unknown := given.keys() - {field.name for field in option_fields(model)}:
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    for name, value in given.items():
        if value is not None:
            values[name] = _text(value) if name in _PATHS else value
    try:
        made = build(model, values, None)
    except UnusableOption as exc:
        name = exc.name if exc.name in given else _variable(fields, exc.name)
        raise ConfigurationError(name + exc.fault.replace("{other}", _variable(fields, exc.other))) from exc
    if made is None:
        missing = next(field for field in fields.values() if field.required and field.name not in values)
        raise ConfigurationError(f"{missing.name} is missing (environment: {missing.variables(_PREFIX)[0]})")
    return made


def _variable(fields: Mapping[str, Field], name: str) -> str:
    return fields[name].variables(_PREFIX)[0] if name in fields else name


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else os.fspath(value)


def _value(field: Field, text: str, variable: str) -> Any:
    try:
        if field.option.parse is not None:
            return field.option.parse(text)
        return text if field.type is str else field.type(text)
    except ValueError as exc:
        raise ConfigurationError(f"{variable}: {exc}") from exc
