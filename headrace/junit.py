"""Writes results of tests as JUnit XML, which CI servers read."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from headrace.engine.errors import HeadraceError
from headrace.results import TestedWorkflow, failure_lines

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(file: Path, tested: Sequence[TestedWorkflow]) -> None:
    """Write one suite for each workflow. Raises HeadraceError when the file cannot be written."""
    root = Element("testsuites", name="headrace")
    for each in tested:
        failures = sum(not result.passed for result in each.results)
        seconds = sum(result.seconds for result in each.results)
        about = {
            "name": f"{each.workspace.name}.{each.workflow}",
            "file": str(each.workspace / each.file),
            "tests": str(len(each.results)),
            "failures": str(failures),
            "time": f"{seconds:.3f}",
        }
        suite = SubElement(root, "testsuite", about)
        for result in each.results:
            named = {"name": _text(result.name), "classname": about["name"], "time": f"{result.seconds:.3f}"}
            case = SubElement(suite, "testcase", named)
            if not result.passed:
                lines = failure_lines(result)
                SubElement(case, "failure", message=_text(lines[0])).text = _text("\n".join(lines))
    indent(root)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise HeadraceError(f"{file}: cannot be written ({error.strerror})") from None


def _text(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return _NOT_XML.sub("�", text)
