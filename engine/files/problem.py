"""One finding of lint, and the list of all its codes."""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]

_LONG_WORD, _SHORT_WORD, _LONG_TEXT = 120, 60, 1_000
_LONG = re.compile(rf"[^\s'\"`]{{{_LONG_WORD + 1},}}")


class Problem(NamedTuple):
    """One finding about a workspace: where it is, what is wrong, and how to mend it.

    `file` is relative to the workspace, `place` a dotted path in it ("" for the whole file). `line` and
    `column` count from 1 and are None where they are not known. An error keeps the file from being used.
    """

    file: str
    place: str
    code: str
    message: str
    fix: str = ""
    line: int | None = None
    column: int | None = None

    @property
    def severity(self) -> Severity:
        """Whether the finding keeps the file from being used."""
        return CODES[self.code].severity

    @property
    def is_error(self) -> bool:
        """Whether the file cannot be used as it is."""
        return self.severity == "error"

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}" if self.place else self.file
        message = self.message if self.message.endswith((".", "?", "!")) else self.message + "."
        return f"{where}: {message}{' ' + self.fix if self.fix else ''} [{self.code}]"


class Code(NamedTuple):
    """What a code means, and how a finding with it is mended."""

    severity: Severity
    meaning: str
    mend: str


def has_errors(problems: Iterable[Problem]) -> bool:
    """Say whether one of the problems is an error."""
    return any(problem.is_error for problem in problems)


def dotted(place: Iterable[str | int]) -> str:
    """Write a place as a dotted path; a name that is no plain word stands in brackets."""
    text = ""
    for part in (shortened(part) if isinstance(part, str) else part for part in place):
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and all(letter.isalnum() or letter in "_-$" for letter in part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def shortened(text: str) -> str:
    """Cut words that are too long to be read, and a text of very many."""
    if len(text) > _LONG_WORD:
        text = _LONG.sub(lambda found: f"{found[0][:_SHORT_WORD]}…", text)
    return text if len(text) <= _LONG_TEXT else f"{text[:_LONG_TEXT]}…"


CODES: dict[str, Code] = {
    "F01": Code("error", "A file cannot be read.", "Check that it exists and may be read."),
    "F02": Code("error", "A file is not UTF-8 text.", "Save it as UTF-8."),
    "F03": Code("error", "A file begins with a byte order mark.", "Save it as UTF-8 without one."),
    "F04": Code("error", "A file is empty.", "Write a JSON object, or delete the file."),
    "F05": Code("error", "A file is not JSON.", "Mend the syntax at the line and column that are named."),
    "F06": Code("error", "A member stands twice in one object.", "Delete or rename one of the two."),
    "F07": Code("error", "A number is not one that JSON has.", "Write a finite number, or a text."),
    "F08": Code("error", "A file is nested too deep.", "Make it flatter: 64 levels are allowed."),
    "F09": Code("error", "A file is too large.", "Split it: 1 MiB is allowed."),
    "F10": Code("error", "A file holds something else than a JSON object.", "Put all of it into one object."),
    "F11": Code(
        "error",
        "The name of a file cannot be the name of a workflow.",
        "Use small letters, digits, `_` and `-`, such as `big-order.json`.",
    ),
    "F12": Code("error", "A text holds half of a surrogate pair.", "Write the character itself."),
    "F13": Code("warning", "A file is in a place where it is not read.", "Move, rename or delete it."),
    "F14": Code(
        "error",
        "The files of a workspace could not be checked, by a fault of the program.",
        "Look into the log, mend the file that changed last, and report the fault.",
    ),
    "M01": Code("error", "A member is not known here.", "Rename it as proposed, or delete it."),
    "M02": Code("error", "A member is missing.", "Add it."),
    "M03": Code("error", "A value has the wrong type.", "Write a value of the type that is named."),
    "M04": Code("error", "A value is not allowed here.", "Write one that is named."),
    "M05": Code("error", "A name is not allowed here.", "Rename it as the message says."),
    "N01": Code("error", "A segment is not declared.", "Declare it in `segments.json`, or mend the name."),
    "N02": Code(
        "warning",
        "An event type is not declared, while others are.",
        "Declare it in `event_types.json`, or mend the name.",
    ),
    "N03": Code("error", "A source is not declared.", "Declare it in `sources.json`, or mend the name."),
    "N04": Code("error", "There is no such workflow.", "Mend the name, or write the workflow."),
    "N05": Code(
        "error",
        "A node writes a segment that is computed by its condition.",
        "Change the condition in `segments.json`, or let the node write another segment.",
    ),
    "N06": Code(
        "warning",
        "A node names a kind of identifying value that no event type declares, but a similar one.",
        "Mend the name; or declare the kind, in `identify` of an event type.",
    ),
    "N07": Code(
        "warning",
        "An expression looks for a segment that is not declared.",
        "Mend the name, or declare the segment in `segments.json`.",
    ),
    "W03": Code("error", "There is no such plugin.", "Mend the name; `headrace plugins` lists all."),
    "W04": Code("error", "A plugin has no such port.", "Use one of the ports that are named."),
    "W05": Code("error", "An edge leads to a node that is not there.", "Mend the name, or add the node."),
    "W06": Code("error", "Nodes follow one another in a circle.", "Take one of the edges out."),
    "W07": Code("warning", "A node can never run.", "Lead an edge to it that can be taken, or delete it."),
    "W08": Code(
        "error",
        'A node with `"join": "all"` can never run: its edges cannot all be taken in one run.',
        'Use `"join": "any"`, or take the edge out that contradicts the others.',
    ),
    "W09": Code("error", "A node leads to itself.", "Take the edge out."),
    "W10": Code("warning", "An edge stands twice.", "Delete one of the two."),
    "W11": Code("error", "A plugin cannot work with this config.", "Change the config as the message says."),
    "W12": Code(
        "warning",
        "`retry` or `timeout_seconds` stands at a node that does no I/O, where it has no effect.",
        "Delete it.",
    ),
    "W13": Code(
        "warning",
        "A workflow takes a type of event that is not declared, while others are.",
        "Mend the name, or declare the type in `event_types.json`.",
    ),
    "W14": Code("warning", "A path reads what is not declared.", "Mend the path, or declare the member."),
    "W15": Code("error", "The result of a node is read that is not there.", "Mend the name of the node."),
    "W16": Code(
        "warning",
        "The result of a node is read by a node that does not come after it.",
        "Lead an edge from the one to the other, over other nodes or directly.",
    ),
    "W18": Code("warning", "A secret is not set in the environment.", "Set it, or its `_FILE` form."),
    "W19": Code(
        "error",
        "A path reads a property that no schema of the workflow's event types allows.",
        "Mend the path, or add the property to the schema.",
    ),
    "W20": Code(
        "error",
        "A workflow starts itself again, through others or directly.",
        "Take one of the nodes out that start a workflow.",
    ),
    "W21": Code(
        "warning",
        "What a schedule makes is never taken: it has no profile that gave a consent, or another source.",
        "Name a segment, or take `consent` out; name a source that `on.source` has.",
    ),
    "W22": Code(
        "warning",
        "A workflow is there to be started by others, and none does.",
        "Start it with `start_workflow`, or add `event`.",
    ),
    "W23": Code(
        "warning",
        "A workflow that runs before a person consented does more than to record consents.",
        "Do it in another workflow, which runs once the consents are there.",
    ),
    "X01": Code("error", "An expression or a template does not compile.", "Mend it at the column named."),
    "X02": Code("error", "A path does not compile.", "Write a path such as `profile.traits.email`."),
    "S01": Code(
        "warning",
        "A secret key stands in the file itself.",
        'Name it: `{"secret": "SHOP_KEY"}`, and set the value in the environment.',
    ),
    "S02": Code(
        "warning",
        "A source without a secret key has a permission that lets anyone do much.",
        "Give the source a key, or take the permission away.",
    ),
    "S03": Code(
        "warning", "A key's secret is not set: the key is not accepted.", "Set it in the environment."
    ),
    "S04": Code("error", "Two sources have the same public key or tracker.", "Give each source its own."),
    "S05": Code(
        "warning",
        "A source needs a consent that nothing records: nothing would ever be done with its events.",
        'Write a workflow with `"before_consent": true` and a node `set_consent`.',
    ),
    "E01": Code("error", "A JSON Schema is not valid.", "Mend it at the place that is named."),
    "E02": Code(
        "error",
        "A JSON Schema refers to another file or address, which is never fetched.",
        "Copy the part into `$defs` and refer to `#/$defs/…`.",
    ),
    "E03": Code(
        "error",
        "An event type reads `nodes` or `vars`, which there are only while a workflow runs.",
        "Read `event`, `profile`, `session`, `source` or `now`.",
    ),
    "E04": Code(
        "error",
        "A mapping writes where it may not, or in a way that the place does not take.",
        "Write below `profile.traits`, `profile.stats.counters` or `session.properties`, in a way that is named.",
    ),
    "E05": Code("error", "One place stands twice, written in two ways.", "Delete one of the two."),
    "E06": Code(
        "error",
        "A strategy for merging stands at a place that is no field of a profile.",
        "Name a field such as `profile.traits.age`.",
    ),
    "I01": Code(
        "error",
        "Two event types say different things of one kind of identifying values.",
        "Say the settings of a kind with one event type; others give only `path`.",
    ),
    "I02": Code(
        "warning",
        "Identifying values are believed of any source: who sends a value of somebody else becomes that person.",
        'Take `"from": "any"` away, unless such values are secrets.',
    ),
    "G01": Code(
        "error",
        "A segment or goal reads `nodes` or `vars`, which there are only while a workflow runs.",
        "Read `event`, `profile`, `session`, `source` or `now`.",
    ),
    "G02": Code(
        "warning",
        "A segment that time would change reads the event or the session, so time alone does not change it.",
        "Ask only the profile, and `events(…)`.",
    ),
    "G03": Code("warning", "A goal names no event, so nothing achieves it.", "Add `event`."),
    "T01": Code("warning", "A test file belongs to no workflow.", "Name it after a workflow, or delete it."),
    "T02": Code("error", "A test names a node that is not there.", "Mend the name of the node."),
    "T03": Code("error", "A test names a port that the node does not have.", "Use one of the ports named."),
    "P01": Code("warning", "A plugin of another package cannot be used.", "Mend or uninstall the package."),
    "P02": Code("warning", "Two plugins have one name; the first is used.", "Uninstall one of the packages."),
}
"""Every code: F files, M members, N names, W workflows, X expressions, S sources, E schemas, I identifying values,
G segments and goals, T tests, P plugins."""
