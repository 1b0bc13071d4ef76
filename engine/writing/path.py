"""Paths: where nodes read and write, compiled once."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, NoReturn

from headrace.engine.errors import PathError
from headrace.engine.language.lookup import MISSING, reader
from headrace.engine.language.values import same
from headrace.engine.writing.edit import OPERATIONS, Edit, Operation, json_copy, undo
from headrace.engine.writing.rules import RULES, Rule, root_of, rule_of
from headrace.engine.writing.usual import Change, usual_change

__all__ = ["MISSING", "Edit", "Path", "WritePath", "compile_path", "compile_write_path", "path_text", "undo"]

_NOT_THERE: Final = (KeyError, TypeError, AttributeError, IndexError)

ROOTS: Final = ("event", "profile", "session", "source", "nodes", "vars")
"""Where a path may begin."""
_PATH_CHARS: Final = 2_000
_KEYS: Final = 64
_KEY_CHARS: Final = 256
_NAME: Final = re.compile(r"[^\W\d]\w*")
_QUOTED: Final = re.compile(r"\[\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*\]", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_DASHED: Final = re.compile(r"[\w-]+")


def path_text(root: str, keys: tuple[str, ...]) -> str:
    """Write a path: plain keys after a dot, others as `['my-key']`."""
    parts = [root]
    for key in keys:
        if _NAME.fullmatch(key):
            parts.append(f".{key}")
        else:
            escaped = key.replace("\\", "\\\\").replace("'", "\\'")
            parts.append(f"['{escaped}']")
    return "".join(parts)


def _refuse(text: str, offset: int, message: str, fix: str = "") -> NoReturn:
    shown = text if len(text) <= 80 else text[:79] + "…"
    advice = f"; {fix}" if fix else ""
    raise PathError(f"{shown!r}, column {offset + 1}: {message}{advice}", column=offset + 1, fix=fix)


def _parse(text: str) -> tuple[str, ...]:
    if len(text) > _PATH_CHARS:
        _refuse(text, _PATH_CHARS, f"the path is longer than {_PATH_CHARS:,} characters")
    start = _NAME.match(text)
    if start is None:
        _refuse(text, 0, "a path begins with a name", f"begin with one of {', '.join(ROOTS)}")
    keys, offset = [start[0]], start.end()
    while offset < len(text):
        key, offset = _next_key(text, offset)
        keys.append(key)
        if len(keys) > _KEYS:
            _refuse(text, offset, f"the path has more than {_KEYS} keys")
    return tuple(keys)


def _next_key(text: str, offset: int) -> tuple[str, int]:
    if text[offset] == "[":
        quoted = _QUOTED.match(text, offset)
        if quoted is None:
            _refuse(text, offset, "a key in brackets stands in quotes", "write ['my-key']")
        key = _ESCAPED.sub(r"\1", quoted[1] if quoted[1] is not None else quoted[2])
        if not 0 < len(key) <= _KEY_CHARS:
            _refuse(text, offset, f"a key has 1 to {_KEY_CHARS} characters")
        return key, quoted.end()
    if text[offset] != ".":
        dashed = _DASHED.match(text, offset)
        if dashed:
            before = re.split(r"[.\]]", text[:offset])[-1]
            _refuse(text, offset, f"{text[offset]!r} cannot stand here", f"write ['{before}{dashed[0]}']")
        _refuse(text, offset, f"{text[offset]!r} cannot stand here", "keys follow a dot or stand in ['…']")
    name = _NAME.match(text, offset + 1)
    if name is None:
        other = _DASHED.match(text, offset + 1)
        fix = f"write ['{other[0]}'] without the dot" if other else "leave the dot out or name a key"
        _refuse(text, offset + 1, "a key is expected after the dot", fix)
    if len(name[0]) > _KEY_CHARS:
        _refuse(text, offset + 1, f"a key has 1 to {_KEY_CHARS} characters")
    return name[0], name.end()


class Path:
    """A compiled path to read: `text` as written, `root`, `keys` below it; `reader` follows them from the root."""

    __slots__ = ("keys", "reader", "root", "text")

    def __init__(self, text: str, root: str, keys: tuple[str, ...]) -> None:
        self.text = text
        self.root = root
        self.keys = keys
        self.reader = reader(keys)

    def read(self, docs: Mapping[str, Any]) -> Any:
        """Return what stands at the path in documents by root name, or MISSING."""
        return self.reader(docs.get(self.root, MISSING))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


@lru_cache(maxsize=4_096)
def compile_path(text: str) -> Path:
    """Compile a path that is read. Raises PathError with column and fix."""
    root, *keys = _parse(text)
    if root not in ROOTS:
        close = get_close_matches(root, ROOTS, 1)
        fix = f"did you mean {close[0]!r}?" if close else f"begin with one of {', '.join(ROOTS)}"
        _refuse(text, 0, f"no {root!r} to read", fix)
    return Path(text, root, tuple(keys))


class WritePath(Path):
    """A compiled path to write; `rule` says which operations and values it takes.

    `changes` holds a function for each operation, which was made for this place; given the documents and the value
    it does what `apply` says.
    """

    __slots__ = ("_check", "_last", "_parents", "changes", "rule")

    def __init__(self, root: str, keys: tuple[str, ...], rule: Rule) -> None:
        # As it is always written: what an edit says must not depend on how an author wrote the path.
        super().__init__(path_text(root, keys), root, keys)
        self._parents = keys[:-1]
        self._last = keys[-1]
        self.rule = rule
        self._check = rule.check
        self.changes = {
            op: self._change_by(op) if op in rule.operations else self._refusal(op) for op in OPERATIONS
        }
        for op in ("increment", "set", "add"):
            # A text of the usual size needs no other look only where any value may stand.
            if op in rule.operations and (op != "set" or rule.check is None):
                self.changes[op] = usual_change(op, root, keys, self.text, self.changes[op])
        if (root, *keys) == ("profile", "segments"):
            self.changes = {op: _sparing_computed(change) for op, change in self.changes.items()}

    def apply(self, docs: Mapping[str, Any], op: str, value: Any = None) -> Edit | None:
        """Change what stands at the path in documents by root name; None when nothing changes.

        `op` is set, unset, increment, append (to a list), add (to a list, once) or remove (from a list, every equal
        item). Objects on the way are made, lists are replaced by new ones, and the documents keep a copy of the
        value. Raises PathError, and changes nothing then.
        """
        return (self.changes.get(op) or self._refusal(op))(docs, value)

    def _refusal(self, op: str) -> Change:
        def refuse(docs: Mapping[str, Any], value: Any) -> NoReturn:  # noqa: ARG001 - called like those that write
            takes = ", ".join(self.rule.operations)
            raise PathError(f"{self.text} cannot be written by {op}; it takes {takes}")

        return refuse

    def _change_by(self, op: str) -> Change:
        operation, root, parents, last, text = OPERATIONS[op], self.root, self._parents, self._last, self.text
        # What increment makes is a number, which may stand wherever increment is taken.
        check = None if op == "increment" else self._check

        def change(docs: Mapping[str, Any], value: Any) -> Edit | None:
            try:
                try:
                    # What is there already, as most often, needs no look at each object on the way.
                    container = docs[root]
                    for key in parents:
                        container = container[key]
                    before = container.get(last, MISSING)
                except _NOT_THERE:
                    return self._change_deep(docs, operation, value)
                after = operation(before, value)
                if after is before:
                    return None
                if after is MISSING:
                    return self._remove(container, before)
                if check is not None:
                    check(after)
                # An object that is kept may be changed by a later edit, so what this edit shows is another copy.
                container[last] = json_copy(after) if type(after) is dict else after
                return Edit(container, last, before, after, text)
            except PathError as error:
                raise PathError(f"{error.message} at {text}") from None

        return change

    def _remove(self, container: dict[str, Any], before: Any) -> Edit | None:
        """Take a member away, or put the empty value there of a place that is always there."""
        after = self._emptied(before)
        if after is before:
            return None
        if after is MISSING:
            del container[self._last]
        else:
            container[self._last] = json_copy(after)
        return Edit(container, self._last, before, after, self.text)

    def _emptied(self, before: Any) -> Any:
        """Return what unset leaves: MISSING, or the empty value of a place that is always there."""
        if self.rule.empty is None:
            return MISSING
        after = self.rule.empty()
        return before if before is not MISSING and same(before, after) else after

    def _change_deep(self, docs: Mapping[str, Any], operation: Operation, value: Any) -> Edit | None:
        """Change a member whose parents are not all there: they are made."""
        value = json_copy(value)
        container, depth = self._container(docs)
        after = operation(MISSING, value)
        if after is MISSING:
            after = self._emptied(MISSING)
            if after is MISSING:
                return None
        if self._check is not None:
            self._check(after)
        key = self._parents[depth]
        made = (container, key, container.get(key, MISSING))
        for parent in self._parents[depth:]:
            container[parent] = container = {}
        container[self._last] = json_copy(after) if type(after) is dict else after
        return Edit(container, self._last, MISSING, after, self.text, made)

    def _container(self, docs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Return the innermost object on the way that exists, and how many keys lead to it."""
        container = docs.get(self.root)
        if not isinstance(container, dict):
            raise PathError(f"there is no {self.root}; nothing can be written")
        for depth, key in enumerate(self._parents):
            below = container.get(key)
            if below is None:
                return container, depth
            if not isinstance(below, dict):
                raise PathError(
                    f"{path_text(self.root, self.keys[: depth + 1])} is not an object; nothing stands"
                )
            container = below
        raise PathError(f"{path_text(self.root, self.keys[:-1])} is not an object; nothing stands")


def _sparing_computed(write: Change) -> Change:
    """Return what writes segments, but for those that are computed: `computed` among the documents are their names."""

    def change(docs: Mapping[str, Any], value: Any) -> Edit | None:
        edit = write(docs, value)
        computed = docs.get("computed")
        if edit is None or not computed:
            return edit
        written = {*_items(edit.before)} ^ {*_items(edit.after)}
        names = sorted(written & computed)
        if names:
            undo(edit)
            raise PathError(f"the segment '{names[0]}' is computed by its condition; no node can write it")
        return edit

    return change


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@lru_cache(maxsize=4_096)
def compile_write_path(text: str) -> WritePath:
    """Compile a path that is written. Raises PathError with column and fix."""
    path = _parse(text)
    root = root_of(path)
    if root is None:
        places = [path_text(each[0], each[1:]) for each in RULES]
        close = [
            place
            for each, place in zip(RULES, places, strict=True)
            if get_close_matches(path_text(path[0], path[1 : len(each)]), [place], 1, 0.85)
        ]
        fix = f"did you mean {close[0]!r}?" if close else f"writable are {', '.join(places)}"
        _refuse(text, 0, "nothing can be written here", fix)
    rule = rule_of(path, root)
    if rule is None:
        place = path_text(root[0], root[1:])
        fix = (
            f"write {place} itself"
            if len(path) > len(root) and len(root) > 1
            else f"name a key: {place}.name"
        )
        if root in (("profile", "stats", "counters"), ("profile", "interests")):
            fix = f"write {place}.name, a number"
        if root == ("profile", "consents"):
            fix = "write profile.consents.name or one of its given, at, source, until"
        _refuse(text, len(path[0]), "nothing can be written here", fix)
    return WritePath(path[0], path[1:], rule)
