"""Parts of the reference that are made from the code: commands, codes, metrics, the inventory's fields.

Each is a directive that makes Markdown and has it parsed in its place. Loaded by ``conf.py``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

import typer
from docutils import nodes
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata
from starlette.testclient import TestClient

from spnhub.actors.contract.codes import Code, is_providers_own, is_retryable
from spnhub.analytics import totals
from spnhub.cli import agent, hub, log
from spnhub.cli.options import GENERAL
from spnhub.events.analysis.metrics import CORRECTIONS, COUNTERS, GAUGES, HISTOGRAMS, HubFacts
from spnhub.events.kafka.settings import ShipperStatus
from spnhub.exposition import text
from spnhub.inventory import model
from spnhub.ops import metrics as hub_metrics
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress

PROGRAMS: Final[dict[str, typer.Typer]] = {"spnhub": hub.app, "spnagent": agent.app, "spnlog": log.app}
WIDTH: Final = 100
"""Characters in a line of help."""


class Derived(SphinxDirective):
    """A directive whose content is Markdown that is made when the page is read."""

    def run(self) -> list[nodes.Node]:
        """Parse it in this place."""
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)

    def lines(self) -> Iterable[str]:
        """The Markdown."""
        raise NotImplementedError


class Commands(Derived):
    """What ``--help`` prints, a section for each command."""

    def lines(self) -> Iterator[str]:
        """Programs first, then their commands, in the order of the help."""
        for program, app in PROGRAMS.items():
            command: Any = typer.main.get_command(app)
            yield from _help(program, command, None)


def _help(name: str, command: Any, parent: Any) -> Iterator[str]:
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    level = "##" if parent is None else "###"
    yield from (f"{level} `{context.command_path}`", "", "```text", command.get_help(context), "```", "")
    for child, subcommand in getattr(command, "commands", {}).items():
        yield from _help(child, subcommand, context)


class Options(Derived):
    """The options of one program, or of one of its commands, under the headings of the help."""

    required_arguments: ClassVar[int] = 1
    final_argument_whitespace = True

    def lines(self) -> Iterator[str]:
        """A table for each heading."""
        groups: dict[str, dict[tuple[str, ...], list[str]]] = {}
        commands = _commands_of(self.arguments[0])
        for name, command in commands.items():
            for parameter in command.params:
                if parameter.param_type_name == "option" and parameter.name != "help":
                    rows = groups.setdefault(parameter.rich_help_panel or GENERAL, {})
                    rows.setdefault(_option_row(parameter), []).append(name)
        for group in sorted(groups, key=GENERAL.__eq__):
            yield from (f"### {group}", "", "| option | environment | default | meaning |", "|---|---|---|---|")
            for (option, variables, default, meaning), names in groups[group].items():
                whose = f"{', '.join(names)}: " if len(names) < len(commands) else ""
                yield f"| {option} | {variables} | {default} | {whose}{meaning} |"
            yield ""


def _commands_of(words: str) -> dict[str, Any]:
    """The commands that one table is about, by what they are called in it."""
    program, *names = words.split()
    command: Any = typer.main.get_command(PROGRAMS[program])
    for name in names:
        command = command.commands[name]
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    # The hub's own options are those of its program.
    return {"": command} if program == "spnhub" or not subcommands else subcommands


def _option_row(parameter: Any) -> tuple[str, ...]:
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
    default = "" if parameter.default in {None, False} else str(parameter.default)
    if isinstance(parameter.show_default, str):
        default = parameter.show_default
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    value = f" {parameter.metavar}" if parameter.metavar else ""
    return (
        names + value,
        ", ".join(f"`{one}`" for one in variables),
        default,
        (parameter.help or "").replace("|", r"\|"),
    )


class Codes(Derived):
    """The table of codes."""

    def lines(self) -> Iterator[str]:
        """A row for each."""
        yield from ("| code | name | meaning | retry | next provider |", "|---|---|---|---|---|")
        meanings = _attribute_docs(Code)
        for code in Code:
            retry = "yes" if is_retryable(code) else ""
            next_provider = "yes" if is_providers_own(code) else ""
            yield f"| {code.value} | {code.name} | {meanings[code.name]} | {retry} | {next_provider} |"


class Metrics(Derived):
    """The metric families of one program, as its collector exposes them."""

    required_arguments: ClassVar[int] = 1

    def lines(self) -> Iterator[str]:
        """A row for each family; its labels are those of :mod:`spnhub.events.analysis.metrics`, or of a sample."""
        prefix, exposed = _EXPOSED[self.arguments[0]]
        known = GAUGES | COUNTERS | CORRECTIONS | HISTOGRAMS
        yield from ("| name | type | labels | meaning |", "|---|---|---|---|")
        for family in text_string_to_metric_families(exposed()):
            labels: Iterable[str] = {label: None for sample in family.samples for label in sample.labels}
            if (found := known.get(family.name.removeprefix(prefix))) is not None:
                labels = found.labels if prefix == totals.PREFIX else found.labels[1:]
            yield f"| `{_name(family)}` | {family.type} | {', '.join(labels)} | {family.documentation} |"


def metric_names() -> set[str]:
    """The names of all families of both programs."""
    return {_name(family) for _, exposed in _EXPOSED.values() for family in text_string_to_metric_families(exposed())}


def _name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def _hub_exposed() -> str:
    """``/metrics`` of a hub that ships to Kafka and has met a fault."""
    shipper = ShipperStatus(state="connected", position=0)
    progress = Progress(appended=0, written=0, shipper=shipper)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it reports each request of the test client
    ops = Ops(lambda: True, _no_snapshot, lambda: progress, HubMetrics(), lambda: 0, lambda: {"somewhere": 1})
    return TestClient(ops.application()).get("/metrics").text


def _no_snapshot() -> Any:
    raise AssertionError("metrics need none")


def _serve_exposed() -> str:
    """``/metrics`` of ``spnlog serve`` with one hub and one partition."""
    place = totals.Place("0", ready=True, position=0, lag=0, delay=0.0, redelivered=0, unreadable=0)
    total = totals.Total([], [place])
    total.hubs["hub-1"] = HubFacts()
    return text(total.metrics()).decode()


_EXPOSED: Final = {"spnhub": (hub_metrics.PREFIX, _hub_exposed), "spnlog": (totals.PREFIX, _serve_exposed)}


class Inventory(Derived):
    """The fields of the inventory's objects."""

    def lines(self) -> Iterator[str]:
        """A section for each object."""
        for kind in (model.Realm, model.Hub, model.Service, model.AvailabilityManagement, model.MountPoint):
            meanings = _attribute_docs(kind)
            schema = kind.model_json_schema()
            yield from (f"## {kind.__name__}", "", _markdown(kind.__doc__ or ""), "")
            yield from ("| field | type | default | meaning |", "|---|---|---|---|")
            for name, field in kind.model_fields.items():
                alias = field.alias or name
                found = schema["properties"][alias]
                default = "required" if alias in schema.get("required", ()) else _default(found.get("default"))
                yield f"| `{alias}` | {_type(found)} | {default} | {meanings[name]} |"
            yield ""


def _type(schema: dict[str, Any]) -> str:
    """A type of a JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    match schema.get("type"):
        case "array":
            return "list" if not schema.get("items") else f"list of {_type(schema['items'])}"
        case "string":
            return "time (ISO 8601)" if schema.get("format") == "date-time" else "string"
        case None:
            return "any"
        case str(kind):
            low, high = schema.get("minimum"), schema.get("maximum")
            return kind + (f", {low:g} to {high:g}" if high is not None else f", at least {low:g}" if low else "")
        case other:
            raise ValueError(other)


def _default(value: Any) -> str:
    return "" if value is None else f"`{str(value).lower()}`"


def _attribute_docs(kind: type) -> dict[str, str]:
    """What stands under a class's attributes, as Markdown in one line.

    :raises KeyError: on the use of an attribute that has nothing.
    """
    docs = ModuleAnalyzer.for_module(kind.__module__).find_attr_docs()
    return {name: _markdown(" ".join(lines)) for (owner, name), lines in docs.items() if owner == kind.__name__}


def _markdown(text: str) -> str:
    """Of reST that is no more than text, roles and literals."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").replace("|", r"\|").split())


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.TextElement
) -> nodes.reference | None:
    """A docstring names what stands in its own module, or a method of its class, without saying where that is.

    Resolved where exactly one documented name ends so; a name with its module has to be right by itself.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or target.startswith("spnhub."):
        return None
    python = env.domains.python_domain
    found = {name: entry for name, entry in python.objects.items() if name.endswith(f".{target}")}
    own = {name: entry for name, entry in found.items() if name.startswith(f"{node.get('py:class')}.")} or found
    if len(own) != 1:
        return None
    (entry,) = own.values()
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contents, target)


def _skip(_app: Sphinx, _what: str, _name: str, obj: Any, _skip: bool, _options: Any) -> bool | None:
    """Callbacks that an endpoint implements for its own core are none of its users' affair."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("See :class:`CoreListener`") else None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-skip-member", _skip)
    directives = {"commands": Commands, "options": Options, "codes": Codes, "metrics": Metrics, "inventory": Inventory}
    for name, directive in directives.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
