"""The way to a cluster: requests, what failed, and whether it answers."""

import ssl
import warnings
from collections.abc import Mapping
from time import monotonic
from typing import Any

import msgspec
from elastic_transport import (
    ConnectionError as NotReached,
)
from elastic_transport import (
    ConnectionTimeout,
    Serializer,
    TlsError,
    TransportError,
)
from elasticsearch import ApiError, AsyncElasticsearch, ElasticsearchWarning, UnsupportedProductError

from headrace.engine.errors import StoreError
from headrace.engine.store.elastic.place import Place

CONNECTIONS = 24
"""To each node; more requests than that wait."""

AWAY_SECONDS = 1.0
"""A cluster that has answered nothing for so long, while it was asked, is away: callers are told at once."""

NO_INDEX = "index_not_found_exception"
"""Elasticsearch's word for an index that is not there and may not be made by a write."""

_BUSY = frozenset((408, 429, 502, 503, 504))
_JSON = "application/vnd.elasticsearch+json; compatible-with=9"
_TYPES = (
    *("application/json", "application/vnd.elasticsearch+json"),
    *("application/x-ndjson", "application/vnd.elasticsearch+x-ndjson"),
)
_LINES = "application/vnd.elasticsearch+x-ndjson; compatible-with=9"


class AwayError(StoreError):
    """The cluster could not be reached, did not answer in time, or is too busy; the request may have been done."""


class RefusedError(StoreError):
    """The cluster refused a request: the status and Elasticsearch's word for why."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(f"Elasticsearch answered {status} {kind}: {reason}")
        self.status = status
        self.kind = kind


class _AsBytes(Serializer):
    """Leaves bodies as they are: each caller reads only what it wants of an answer."""

    mimetype = "application/json"

    def dumps(self, data: Any) -> bytes:
        """Return a body."""
        return bytes(data)

    def loads(self, data: bytes) -> bytes:
        """Return an answer."""
        return data


class _Error(msgspec.Struct):
    type: str = ""
    reason: str | None = None


class _Errors(msgspec.Struct):
    error: _Error | str = ""


class Cluster:
    """Sends requests, and remembers whether the cluster answers. Used from one event loop."""

    def __init__(self, place: Place) -> None:
        self.place = place
        # One for each time that a request may take: giving it with a request makes a new client each time.
        self._clients: dict[float, AsyncElasticsearch] = {}
        self._silent_since: float | None = None
        self.trouble = ""
        self.misses_index = False
        """Set when it said that an index is not there; whoever looks after that takes it back."""

    @property
    def is_silent(self) -> bool:
        """Say whether the last request was not answered."""
        return self._silent_since is not None

    @property
    def is_away(self) -> bool:
        """Say whether the cluster has answered nothing for a while."""
        return self._silent_since is not None and monotonic() - self._silent_since > AWAY_SECONDS

    def check(self) -> None:
        """Raise AwayError while the cluster is away, so that nobody waits for what will not come."""
        if self.is_away:
            raise AwayError(f"Elasticsearch at {self.place.shown()} does not answer: {self.trouble}")

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        lines: bool = False,
        seconds: float | None = None,
    ) -> bytes:
        """Send a request and return the answer's body, within `seconds` (None: the place's `timeout`).

        Raises AwayError or RefusedError.
        """
        seconds = self.place.timeout if seconds is None else seconds
        headers = {"accept": _JSON}
        if body is not None:
            headers["content-type"] = _LINES if lines else _JSON
        try:
            answer = await self._client(seconds).perform_request(method, path, headers=headers, body=body)
        except ApiError as error:
            raise self._refused(error) from None
        except UnsupportedProductError:
            raise self._away("what answers there is no Elasticsearch") from None
        except (NotReached, ConnectionTimeout, TlsError, TransportError) as error:
            raise self._away(_reason(error, seconds)) from None
        self._silent_since = None
        return bytes(answer.body or b"")

    async def ask_json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = None,
    ) -> Any:
        """Send JSON and return the decoded answer, within `seconds`; see `ask`."""
        data = None if body is None else msgspec.json.encode(body)
        answer = await self.ask(method, path, data, seconds=seconds)
        try:
            return msgspec.json.decode(answer) if answer else None
        except msgspec.DecodeError as error:
            raise AwayError(f"Elasticsearch's answer could not be read: {error}") from None

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    def _client(self, seconds: float) -> AsyncElasticsearch:
        """Return a client whose requests may take so long; all share their connections."""
        client = self._clients.get(seconds)
        if client is None:
            first = next(iter(self._clients.values()), None) or _connect(self.place)
            client = self._clients[seconds] = first.options(request_timeout=seconds)
        return client

    def _refused(self, error: ApiError) -> StoreError:
        kind, reason = _words(error.body)
        if error.status_code in _BUSY:
            # It answers, so it is not away; the caller decides how long to go on.
            self._silent_since = None
            return AwayError(f"Elasticsearch is too busy: {error.status_code} {kind} {reason}".rstrip())
        self._silent_since = None
        self.misses_index |= kind == NO_INDEX
        return RefusedError(error.status_code, kind, reason)

    def _away(self, reason: str) -> AwayError:
        self.trouble = reason
        if self._silent_since is None:
            self._silent_since = monotonic()
        return AwayError(f"Elasticsearch at {self.place.shown()} does not answer: {reason}")


def _connect(place: Place) -> AsyncElasticsearch:
    # Warnings of a cluster are for its operator; they stand in its own deprecation log.
    warnings.simplefilter("ignore", ElasticsearchWarning)
    # aiohttp would rather have large bodies in a file; a bulk is in memory already.
    warnings.filterwarnings("ignore", "Sending a large body directly", ResourceWarning)
    options: dict[str, Any] = {}
    if place.hosts[0].startswith("https:"):
        options["verify_certs"] = place.verify
        if not place.verify:
            options["ssl_show_warn"] = False
        elif place.ca is not None:
            options["ssl_context"] = ssl.create_default_context(cafile=str(place.ca))
    if place.user is not None:
        options["basic_auth"] = (place.user, place.password or "")
    if place.api_key is not None:
        options["api_key"] = place.api_key
    return AsyncElasticsearch(
        list(place.hosts),
        serializers=dict.fromkeys(_TYPES, _AsBytes()),
        connections_per_node=CONNECTIONS,
        max_retries=0,
        retry_on_timeout=False,
        **options,
    )


def _reason(error: TransportError, seconds: float) -> str:
    if isinstance(error, ConnectionTimeout):
        return f"no answer within {seconds:g} s"
    return str(error.message).splitlines()[0][:300] if error.message else type(error).__name__


def _words(body: Any) -> tuple[str, str]:
    """Return Elasticsearch's word for an error and its reason."""
    try:
        error = msgspec.json.decode(bytes(body), type=_Errors).error
    except (msgspec.DecodeError, TypeError):
        return "error", str(body)[:300]
    return ("error", error[:300]) if isinstance(error, str) else (error.type, (error.reason or "")[:300])
