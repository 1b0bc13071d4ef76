"""Looks at a cluster: versions, mappings, templates, health, room, counts."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

from headrace.engine.model import iso, utc_now
from headrace.engine.store.elastic.cluster import AwayError, Cluster, RefusedError
from headrace.engine.store.elastic.layout import (
    MONTHLY,
    VERSION,
    WHOLE,
    Mapping,
    alias,
    component,
    mapping,
    templates,
)
from headrace.engine.store.elastic.moving import count_kinds
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.search import ANY_INDEX, search
from headrace.engine.store.elastic.setup import LEAST_MAJOR, Setup
from headrace.engine.store.elastic.sweep import RECORDS
from headrace.engine.store.finding import Finding

KINDS = (*WHOLE, *MONTHLY)
WAITED = timedelta(minutes=1)
"""A record whose documents wait for longer was forgotten: servers finish them within seconds."""

FULL_PERCENT = 95
SOON_PERCENT = 85
"""Of a node's disk: Elasticsearch's own marks, where it stops writing and where it gives a node no more shards."""

NAMED = 5
_DEFAULT_FORMAT = "strict_date_optional_time||epoch_millis"

Findings = AsyncIterator[Finding]


async def check_cluster(place: Place) -> Findings:
    """Yield what is found about a cluster, which servers may use; what this user may not see is said."""
    cluster = Cluster(place)
    looks: tuple[Callable[[Cluster], Findings], ...] = (
        *(_cluster, _version, _mappings, _aliases, _templates, _settings),
        *(_health, _disks, _waiting, _counts),
    )
    try:
        for look in looks:
            try:
                async for finding in look(cluster):
                    yield finding
                    if look is _version and finding.level == "note":
                        # There is nothing to look at yet.
                        return
            except RefusedError as error:
                name = look.__name__.strip("_")
                if look is _cluster:
                    yield Finding("away", name, f"{place.shown()} does not let this user in: {error}")
                    return
                # A server does not need to see those.
                beside = look in (_health, _disks) and error.status == 403
                yield Finding("note" if beside else "problem", name, str(error))
    except AwayError as error:
        yield Finding("away", "cluster", str(error))
    finally:
        await cluster.close()


async def _cluster(cluster: Cluster) -> Findings:
    facts = await cluster.ask_json("GET", "/")
    version = str(facts["version"]["number"])
    text = f"{cluster.place.shown()} answers: {facts.get('cluster_name', '')!r}, Elasticsearch {version}"
    if int(version.partition(".")[0]) < LEAST_MAJOR:
        yield Finding("problem", "cluster", f"{text}; Headrace needs {LEAST_MAJOR} or newer.")
    else:
        yield Finding("fine", "cluster", f"{text}.")


async def _version(cluster: Cluster) -> Findings:
    found = await Setup(cluster).found_version()
    if found is None:
        yield Finding(
            "note", "version", "There is nothing yet. The first start of a server makes the indices."
        )
    elif found == VERSION:
        yield Finding("fine", "version", f"The indices have version {found}, as this program.")
    elif found < VERSION:
        text = f"The indices have version {found}, this program {VERSION}: run `headrace store migrate`."
        yield Finding("problem", "version", text)
    else:
        text = f"The indices have version {found}, this program {VERSION}: install the newer Headrace."
        yield Finding("problem", "version", text)


async def _mappings(cluster: Cluster) -> Findings:
    """Compare every index's mapping with ours."""
    old: list[str] = []
    odd: list[str] = []
    total = 0
    for kind in KINDS:
        found = await cluster.ask_json("GET", f"/{alias(cluster.place, kind)}-*/_mapping?{ANY_INDEX}")
        ours = mapping(kind)
        for name, about in found.items():
            total += 1
            version = about["mappings"].get("_meta", {}).get("version")
            if version != VERSION:
                old.append(f"{name} has version {version}, not {VERSION}")
            else:
                odd += [f"{name}: {what}" for what in _drift(about["mappings"], ours)]
    if old:
        yield Finding("problem", "mappings", f"{_some(old)}. Run `headrace store migrate`.")
    if odd:
        text = "Somebody changed that, so some questions have no answer. Copy to another prefix: `headrace store copy`."
        yield Finding("problem", "mappings", f"{_some(odd)}. {text}")
    if not (old or odd):
        yield Finding("fine", "mappings", f"{total} indices have the mappings of this version.")


def _drift(theirs: Mapping, ours: Mapping) -> Iterator[str]:
    """Yield how a mapping differs from ours."""
    if str(theirs.get("dynamic", "true")).lower() != str(ours["dynamic"]).lower():
        yield f"dynamic is {theirs.get('dynamic', 'true')}"
    there: dict[str, Any] = theirs.get("properties", {})
    for name in sorted(there.keys() | ours["properties"].keys()):
        if name not in there:
            yield f"{name} is not mapped"
        elif name not in ours["properties"]:
            yield f"{name} is mapped and should not be"
        elif _plain(there[name]) != _plain(ours["properties"][name]):
            yield f"{name} is mapped in another way"


def _plain(field: Mapping) -> Mapping:
    """Return a field's mapping without what Elasticsearch leaves out."""
    return {name: value for name, value in field.items() if (name, value) != ("format", _DEFAULT_FORMAT)}


async def _aliases(cluster: Cluster) -> Findings:
    """Look whether each kind can be found under its name, and each with one index be written."""
    odd: list[str] = []
    for kind in KINDS:
        name = alias(cluster.place, kind)
        path = f"/{name}-*?{ANY_INDEX}&features=aliases&expand_wildcards=open"
        known = [name in about["aliases"] for about in (await cluster.ask_json("GET", path)).values()]
        if kind in WHOLE and sum(known) != 1:
            odd.append(f"{name} names {sum(known)} indices instead of one")
        elif kind in MONTHLY and not all(known):
            odd.append(f"{name} does not name {known.count(False)} of its indices")
    if odd:
        yield Finding(
            "problem", "aliases", f"{_some(odd)}. Was a migration ended? `headrace store migrate` goes on."
        )
    else:
        yield Finding("fine", "aliases", f"{len(KINDS)} aliases name their indices.")


async def _templates(cluster: Cluster) -> Findings:
    """Look whether new indices would be made as this version makes them."""
    place = cluster.place
    found = await cluster.ask_json("GET", f"/_index_template/{place.prefix}-*")
    there = {one["name"]: one["index_template"] for one in found.get("index_templates", ())}
    odd: list[str] = []
    for name, ours in templates(place):
        theirs = there.get(name)
        if theirs is None:
            odd.append(f"{name} is missing")
        elif theirs.get("version") != ours["version"]:
            odd.append(f"{name} has version {theirs.get('version')}, not {ours['version']}")
        else:
            drift = _drift(theirs.get("template", {}).get("mappings", {}), ours["template"]["mappings"])
            odd += [f"{name}: {what}" for what in drift]
    found = await cluster.ask_json("GET", f"/_component_template/{place.prefix}-*")
    if component(place)[0] not in {one["name"] for one in found.get("component_templates", ())}:
        odd.append(f"{component(place)[0]} is missing")
    if odd:
        yield Finding("problem", "templates", f"{_some(odd)}. The next start of a server puts them right.")
    else:
        yield Finding("fine", "templates", f"{len(there)} templates have version {VERSION}.")


async def _settings(cluster: Cluster) -> Findings:
    """Look at what the indices were told: refresh interval, and blocks."""
    place = cluster.place
    path = f"/{place.prefix}-*/_settings?{ANY_INDEX}&flat_settings=true"
    refresh: dict[str, int] = {}
    blocked: list[str] = []
    for name, about in (await cluster.ask_json("GET", path)).items():
        settings: dict[str, str] = about["settings"]
        every = settings.get("index.refresh_interval", "1s")
        refresh[every] = refresh.get(every, 0) + 1
        names = [
            key for key, value in settings.items() if key.startswith("index.blocks.") and value == "true"
        ]
        blocked += [f"{name} has {key}" for key in names]
    if blocked:
        text = "A full disk or a migration does this. Make room, or run `headrace store migrate`."
        yield Finding("problem", "blocks", f"{_some(blocked)}. {text}")
    others = [f"{n} of {every}" for every, n in refresh.items() if every != place.refresh]
    if others:
        text = f"Some indices have another refresh interval than {place.refresh}: {_some(others)}"
        yield Finding("note", "refresh", f"{text}. Searches lag behind writes for so long.")
    else:
        yield Finding("fine", "refresh", f"Searches lag behind writes for {place.refresh} at most.")


async def _health(cluster: Cluster) -> Findings:
    said = await cluster.ask_json("GET", f"/_cluster/health/{cluster.place.prefix}-*")
    shards, missing = said["active_shards"], said["unassigned_shards"]
    nodes = said["number_of_data_nodes"]
    text = f"{said['status']}: {nodes} data node{'s' * (nodes != 1)}, {shards} shards active, {missing} unassigned"
    if said["status"] == "red":
        yield Finding("problem", "health", f"{text}: documents cannot be reached. Bring the lost node back.")
    elif said["status"] == "yellow":
        yield Finding(
            "note", "health", f"{text}: there are fewer copies than asked for. Add a node, or fewer replicas."
        )
    else:
        yield Finding("fine", "health", f"{text}.")
    if nodes == 1:
        text = "There is one node only: what is lost with its disk is lost. Take snapshots, or add nodes."
        yield Finding("note", "copies", text)


async def _disks(cluster: Cluster) -> Findings:
    """Look at the disks of the data nodes."""
    nodes = await cluster.ask_json("GET", "/_cat/allocation?format=json&bytes=b")
    full = {
        one["node"]: int(one["disk.percent"]) for one in nodes if (one.get("disk.percent") or "").isdigit()
    }
    most = max(full.values(), default=0)
    text = ", ".join(f"{name} {percent} %" for name, percent in sorted(full.items())[:NAMED])
    if most >= FULL_PERCENT:
        yield Finding("problem", "disk", f"A disk is full ({text}): Elasticsearch blocks writes. Make room.")
    elif most >= SOON_PERCENT:
        yield Finding("note", "disk", f"A disk is nearly full ({text}): no new shards come there. Make room.")
    else:
        yield Finding("fine", "disk", f"Disks in use: {text}.")


async def _waiting(cluster: Cluster) -> Findings:
    """Count records that should have been finished by now."""
    query = {"range": {"pending_since": {"lt": iso(utc_now() - WAITED)}}}
    body = {"size": 0, "query": query, "track_total_hits": True}
    names = ",".join(alias(cluster.place, kind) for kind in RECORDS)
    n = (await search(cluster, names, body)).hits.total.value
    if n:
        text = (
            f"{n:,} records have waited for more than a minute. A running server finishes them; does one run?"
        )
        yield Finding("problem", "pending", text)
    else:
        yield Finding("fine", "pending", "No record has waited for more than a minute.")


async def _counts(cluster: Cluster) -> Findings:
    counts = await count_kinds(cluster)
    yield Finding("fine", "documents", ", ".join(f"{n:,} {kind}" for kind, n in counts.items()))


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more
