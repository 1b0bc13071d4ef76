"""What is declared of a path: what it takes and answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.api.problems import Problem
from headrace.api.tokens import Level

JSON, PROBLEM = "application/json", "application/problem+json"


@dataclass(frozen=True)
class Given:
    """One answer: when it is given and why, and what its body is."""

    about: str
    body: Any = None
    media: str = JSON


@dataclass(frozen=True)
class Path:
    """One method of one path. `name` is also the name of its endpoint, where the router has one."""

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, Given]
    about: str = ""
    group: str = "Reading"
    body: Any = None
    query: Any = None
    parts: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    token: Level | None = None


def problems(**abouts: str) -> dict[int, Given]:
    """Return the answers that are errors, of `_404="There is no such thing."`."""
    return {int(code[1:]): Given(about, Problem, PROBLEM) for code, about in abouts.items()}


_READ = problems(
    _401="No token, or a wrong one.",
    _422="A query parameter is unknown or cannot be used.",
    _500="A fault of ours; the log has it under the request's id.",
    _503="No token is set at all, or the store cannot be read now.",
)


def read(path: str, name: str, summary: str, query: Any, body: Any, **more: Any) -> Path:
    """Return a path of the read API; `more` are members of `Path`, and `sent` is its body."""
    answers = {200: Given("What was asked for.", body), **_READ, **more.pop("answers", {})}
    return Path(
        more.pop("method", "GET"),
        path,
        name,
        summary,
        answers,
        query=query,
        body=more.pop("sent", None),
        token=more.pop("token", "read"),
        **more,
    )
