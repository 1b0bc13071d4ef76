"""Makes templates and indices, and says whether the cluster can be used."""

import asyncio
from time import monotonic
from typing import Any

from headrace.engine.store.elastic.cluster import AwayError, Cluster, RefusedError
from headrace.engine.store.elastic.layout import (
    VERSION,
    WHOLE,
    alias,
    as_json,
    component,
    first_index,
    templates,
)
from headrace.engine.store.elastic.search import ANY_INDEX

LEAST_MAJOR = 9
ABOUT_ID = "store"
MASTER_SECONDS = 30.0
"""Changes of a cluster's state wait for its master, which may be busy."""

BEING_MADE_SECONDS = 10.0
"""How long an answer of a cluster that cannot read the version yet is no answer: another process may make it."""

LOOK_AGAIN_SECONDS = 0.1


class Setup:
    """What must be there before the first read or write. `code` says why it is not, or is empty."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.done = False
        self.code = "store-away"
        self.text = "its templates and indices are being made"
        self.version = ""

    async def run(self) -> bool:
        """Make what is missing; says whether the store can be used now. Running it again is harmless."""
        try:
            self.code, self.text = await self._run()
        except RefusedError as error:
            self.code = "store-denied" if error.status in (401, 403) else "store-refused"
            self.text = str(error)
        except AwayError as error:
            self.code, self.text = "store-away", str(error)
        self.done = not self.code
        return self.done

    async def _run(self) -> tuple[str, str]:
        facts = await self._cluster.ask_json("GET", "/")
        self.version = str(facts["version"]["number"])
        if int(self.version.partition(".")[0]) < LEAST_MAJOR:
            return "store-old", f"Elasticsearch is {self.version}; Headrace needs {LEAST_MAJOR} or newer."
        found = await self.found_version()
        if found is not None and found > VERSION:
            text = f"The indices were made by a newer Headrace (version {found}, here {VERSION}): install that one."
            return "store-newer", text
        if found is not None and found < VERSION:
            text = f"The indices have version {found}, not {VERSION}: run `headrace store migrate`."
            return "store-older", text
        await self.put_templates()
        if found is None:
            await self._make_indices()
        if gone := await self.gone():
            # What stood in it is lost: nobody but the operator can say whether to go on without.
            text = (
                f"There is no index of ours behind {', '.join(gone)}: somebody deleted it. Restore a snapshot, or see "
                '"When an index is gone" in docs/elasticsearch.md.'
            )
            return "store-refused", text
        return "", ""

    async def gone(self) -> list[str]:
        """Return the names of kinds with one index that stand for none."""
        names = [alias(self._cluster.place, kind) for kind in WHOLE]
        found = await self._cluster.ask_json("GET", f"/{','.join(names)}?{ANY_INDEX}&features=aliases")
        there = {name for index in found.values() for name in index["aliases"]}
        return [name for name in names if name not in there]

    async def found_version(self) -> int | None:
        """Return the version of the indices, or None when there are none."""
        try:
            about = await self._about()
        except RefusedError as error:
            if error.status != 404:
                raise
            return None
        return int(about["_source"]["version"])

    async def _about(self) -> Any:
        """Return the document that tells the version. An index that is being made cannot be read for a moment."""
        ends = monotonic() + BEING_MADE_SECONDS
        while True:
            try:
                return await self._cluster.ask_json(
                    "GET", f"/{alias(self._cluster.place, 'about')}/_doc/{ABOUT_ID}"
                )
            except AwayError:
                if self._cluster.is_silent or monotonic() > ends:
                    raise
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def put_templates(self) -> None:
        """Put the templates by which new indices are made."""
        name, body = component(self._cluster.place)
        await self._put(f"/_component_template/{name}", body)
        made = templates(self._cluster.place)
        await asyncio.gather(*(self._put(f"/_index_template/{name}", body) for name, body in made))

    async def _make_indices(self) -> None:
        """Make the indices, and last the document that says so."""
        place = self._cluster.place
        await asyncio.gather(*(self._make_index(first_index(place, kind)) for kind in WHOLE))
        await self._put(f"/{alias(place, 'about')}/_doc/{ABOUT_ID}", {"key": ABOUT_ID, "version": VERSION})

    async def _make_index(self, name: str) -> None:
        try:
            await self._put(f"/{name}", {})
        except RefusedError as error:
            # Another server may make it at the same moment.
            if error.kind != "resource_already_exists_exception":
                raise

    async def _put(self, path: str, body: dict[str, Any]) -> None:
        await self._cluster.ask("PUT", path, as_json(body), seconds=MASTER_SECONDS)
