"""The one workload of all benchmarks: workspace, workflow and requests."""

import json
import random
from pathlib import Path
from typing import Any

Doc = dict[str, Any]

EVENT_TYPE = "purchase-order"
SOURCE = "shop"

WORKFLOW: Doc = {
    "about": "Ten nodes that all run: counts, conditions, a segment, a template, a join.",
    "on": {"event": [EVENT_TYPE]},
    "nodes": {
        "count": {
            "plugin": "increment",
            "config": {"field": "profile.stats.counters.orders"},
            "then": {"done": ["is_big"]},
        },
        "is_big": {
            "plugin": "branch",
            "config": {"when": "event.properties.total >= 100 and event.properties.currency == 'EUR'"},
            "then": {"true": ["mark", "spent"]},
        },
        "mark": {
            "plugin": "add_segment",
            "config": {"segment": "big-buyer"},
            "then": {"done": ["remember"]},
        },
        "spent": {
            "plugin": "increment",
            "config": {"field": "profile.stats.counters.spent", "by": "{{ event.properties.total }}"},
            "then": {"done": ["remember"]},
        },
        "remember": {
            "plugin": "set_fields",
            "config": {
                "fields": {
                    "profile.traits.last_order": "{{ event.properties.order }}",
                    "profile.traits.city": "{{ event.properties.address.city }}",
                }
            },
            "then": {"done": ["size"]},
        },
        "size": {
            "plugin": "switch",
            "config": {
                "cases": {
                    "huge": "event.properties.total >= 100000",
                    "large": "event.properties.total >= 100",
                }
            },
            "then": {"large": ["thank"]},
        },
        "thank": {
            "plugin": "template",
            "config": {
                "text": "Thank you, {{ profile.traits.city }}: order {{ event.properties.order }}"
                " for {{ event.properties.total }} {{ event.properties.currency }}."
            },
            "then": {"done": ["is_known"]},
        },
        "is_known": {
            "plugin": "branch",
            "config": {"when": "profile.stats.counters.orders > 0 and 'big-buyer' in profile.segments"},
            "then": {"true": ["interest", "visit"]},
        },
        "interest": {"plugin": "increment", "config": {"field": "profile.interests.shoes", "by": 2}},
        "visit": {
            "plugin": "set_fields",
            "config": {
                "fields": {
                    "session.properties.last_total": "{{ event.properties.total }}",
                    "session.properties.thanks": "{{ nodes.thank.text }}",
                }
            },
        },
    },
}

CITIES = ("Bergen", "Lyon", "Porto", "Graz", "Gent")


def write_workspace(folder: Path, idle_workflows: int = 0) -> Path:
    """Write a workspace with the one workflow, and others that take no event of the load; returns its folder."""
    (folder / "workflows").mkdir(parents=True)
    _write(folder / "sources.json", {"sources": {SOURCE: {"about": "A public shop."}}})
    _write(folder / "segments.json", {"segments": {"big-buyer": {"about": "Ordered for 100 or more."}}})
    _write(folder / "workflows" / "order.json", WORKFLOW)
    for number in range(idle_workflows):
        other = WORKFLOW | {"on": {"event": [f"other-{number}"]}}
        _write(folder / "workflows" / f"other-{number:03}.json", other)
    return folder


def _write(path: Path, value: Doc) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def properties(dice: random.Random) -> Doc:
    """Return the properties of one order."""
    return {
        "order": f"o-{dice.getrandbits(40):010x}",
        "total": dice.randrange(10_000, 90_000) / 100,
        "currency": "EUR",
        "address": {"city": dice.choice(CITIES), "zip": f"{dice.randrange(10_000, 99_999)}"},
        "items": [
            {"sku": f"sku-{dice.randrange(1000)}", "price": dice.randrange(1, 500), "quantity": 1}
            for _ in range(2)
        ],
    }


def body(dice: random.Random, session: str, events: int, *, with_ids: bool) -> bytes:
    """Return the body of a request; ids of events are random, so no event is sent twice."""
    return json.dumps(
        {
            "source": {"id": SOURCE},
            "session": {"id": session},
            "context": {"page": {"url": "https://shop.example/checkout?step=3", "title": "Checkout"}},
            "events": [
                {"type": EVENT_TYPE, "properties": properties(dice)}
                | ({"id": f"{dice.getrandbits(128):032x}"} if with_ids else {})
                for _ in range(events)
            ],
        },
        separators=(",", ":"),
    ).encode()
