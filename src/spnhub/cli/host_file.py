"""The file of ``spnagent run``: ``[consumer.NAME]`` and ``[provider.NAME]``, a table for each agent.

What stands above the tables is for all of them, and for the process. The keys are the options of ``spnagent consumer``
and ``spnagent provider``. Counterparts: :mod:`spnhub.agent_settings` declares these,
:mod:`spnhub.agent_process` runs the agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spnhub.agent_settings import AgentSettings, ConsumerSettings, ProcessSettings, ProviderSettings
from spnhub.cli.config_file import ConfigTable
from spnhub.cli.options import Given, Reader, from_table, settings_of
from spnhub.dataclass import dataclass
from spnhub.options import Field, option_fields
from spnhub.settings import SettingsError

__all__ = ["HostFile", "read_host"]

_ROLES: Final[Mapping[str, type[AgentSettings]]] = {"consumer": ConsumerSettings, "provider": ProviderSettings}
_OWN: Final = frozenset({"bind_address", "forward_address", "instance_id"})
"""What no two agents have in common."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """What a file says."""

    process: ProcessSettings
    agents: Mapping[str, AgentSettings]
    """By role and name, ``consumer.web``: consumers first, otherwise in the order of the file."""


def read_host(read: Reader[ProcessSettings]) -> HostFile:
    """What ``--config`` names, with what flags and variables say of the process. Blocks: certificates are read, too.

    :raises SettingsError: something is missing, unknown or can't be used; file, line, table and key are named.
    """
    file = read.file
    if file is None:
        raise SettingsError(
            "--config is missing (environment: SPN_CONFIG): a file with [consumer.NAME], [provider.NAME]"
        )
    process = {field.name: field for field in option_fields(ProcessSettings)}
    options = {role: [one for one in option_fields(model) if one.name not in process] for role, model in _ROLES.items()}
    shared = {one.name: one for fields in options.values() for one in fields if one.name not in _OWN}
    above = from_table(file, [*process.values(), *shared.values()], tables=_ROLES)
    agents = {
        f"{role}.{name}": _agent(role, table, options[role], above)
        for role in _ROLES
        for name, table in file.named_tables(role)
    }
    if not agents:
        raise SettingsError(f"{file.path}: holds no agent: neither [consumer.NAME] nor [provider.NAME]")
    return HostFile(
        read.over({name: one for name, one in above.items() if name.removesuffix("_file") in process}), agents
    )


def _agent(role: str, table: ConfigTable, fields: list[Field], above: dict[str, Given]) -> AgentSettings:
    names = {field.name for field in fields}
    given = {key: one for key, one in above.items() if key in names} | from_table(table, fields)
    return settings_of(_ROLES[role], given, lambda field: f"{table.place(field.flag)} is missing", table.place)
