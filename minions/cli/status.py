"""``minions status``: the components of a running system, its inboxes, its process."""

from __future__ import annotations

import argparse
from typing import Any

from minions.cli.project import add_folder, folder_of
from minions.cli.shown import bytes_text, duration_text, latency_text, print_json, print_table, printable, sparkline
from minions.operate.client import Client
from minions.operate.protocol import Refused

__all__ = [
    "COMPONENTS",
    "INBOXES",
    "add_arguments",
    "at_text",
    "component_row",
    "headline",
    "history_of",
    "inbox_row",
    "out_of",
    "run",
]

_SHOWN = 15  # moments

COMPONENTS = ("component", "phase", ">life", ">restarts", ">up", ">cpu s", "at")
INBOXES = (
    "inbox",
    ">holds",
    ">of",
    ">most",
    ">sent",
    ">settled",
    ">failed",
    ">dropped",
    ">blocked s",
    ">wait p95",
    ">takes p95",
    "out",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Shows where each component is in its lifecycle, what it is at, and what waits in its inboxes."
    parser.epilog = "examples:\n  minions status\n  minions status --folder ~/greenhouse --json\n"
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    with Client.connect(folder_of(options)) as client:
        status = client.ask("status")
        history = history_of(client, _SHOWN)
    if options.json:
        print_json(status)
        return 0
    print(headline(status))
    print_table(COMPONENTS, [component_row(component) for component in status["components"]])
    if status["inboxes"]:
        print()
        print_table(
            INBOXES, [inbox_row(name, inbox, out_of(history, name)) for name, inbox in status["inboxes"].items()]
        )
    return 0


def headline(status: dict[str, Any]) -> str:
    """What is said of the whole, in a line or two."""
    process, flow = status["process"], status["flow"]
    state = status["state"] if status["state"] == "running" else f"stopping ({status['state']})"
    parts = [f"{status['system']}: {state}, up {duration_text(status['up_for_s'])}, process {status['pid']}"]
    if process.get("cpu_ratio") is not None:
        parts.append(f"cpu {process['cpu_ratio']:.0%}")
    if process.get("rss_bytes") is not None:
        parts.append(f"memory {bytes_text(process['rss_bytes'])}")
    if process.get("descriptors") is not None:
        parts.append(f"{process['descriptors']:,} descriptors")
    latency = latency_text(flow["commit_latency"], "p95_s")
    parts.append(f"{flow['commits']:,} commits" + (f" ({latency} p95)" if latency else ""))
    if status["zombies"]:
        parts.append(f"{status['zombies']} abandoned threads")
    late = (
        "" if status["supervisor_answers"] else "\nthe supervisor has not answered in time; this is as seen without it"
    )
    return ", ".join(parts) + late


def component_row(component: dict[str, Any]) -> tuple[str, ...]:
    """A component's row under `COMPONENTS`."""
    cpu_s = component["cpu_s"]
    return (
        component["name"],
        component["phase"],
        str(component["epoch"]),
        str(component["restarts"]),
        duration_text(component["up_for_s"]),
        "" if cpu_s is None else f"{cpu_s:.1f}",
        at_text(component),
    )


def at_text(component: dict[str, Any]) -> str:
    """What a component is at, in a few words."""
    parts = []
    if component["doing"]:
        waits = f", waits for {component['waits_for']}" if component["waits_for"] else ""
        parts.append("idle" if component["waits_for"].startswith("a message") else f"{component['doing']}{waits}")
    if component["next_life_in_s"] is not None:
        parts.append(f"next life in {duration_text(component['next_life_in_s'])}")
    if component["paused_by"]:
        parts.append(f"paused by {', '.join(component['paused_by'])}")
    if component["isolated"]:
        parts.append("isolated")
    if (component["still_for_s"] or 0.0) >= 2.0 and not component["waits_for"]:
        parts.append(f"no progress for {duration_text(component['still_for_s'])}")
    if component["failure"] and component["phase"] in ("backoff", "stopped", "waiting"):
        parts.append(component["failure"])
    return printable("; ".join(parts))


def history_of(client: Client, last: int) -> dict[str, Any]:
    """What a system was like in its last moments; empty where it is of a version that does not know."""
    try:
        return client.ask("history", last=last)
    except Refused as refused:
        if refused.kind != "unknown":
            raise
        return {}


def out_of(history: dict[str, Any], inbox: str) -> list[float]:
    """How many messages a second an inbox has settled, in its last moments."""
    values: list[float] = history.get("inboxes", {}).get(inbox, {}).get("out_per_s", [])
    return values


def inbox_row(name: str, inbox: dict[str, Any], out: list[float]) -> tuple[str, ...]:
    """An inbox's row under `INBOXES`."""
    figures = ("length", "capacity", "high_water", "sent", "settled", "failed", "dropped")
    return (
        name,
        *(f"{inbox[figure]:,}" for figure in figures),
        f"{inbox['blocked_s']:.1f}",
        latency_text(inbox["waits"], "p95_s"),
        latency_text(inbox["handling"], "p95_s"),
        sparkline(out),
    )
