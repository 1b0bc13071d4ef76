"""Shows what the tests of workflows gave."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from headrace.engine.testing.expectation import Difference, shown
from headrace.engine.testing.runner import Coverage, TestResult, Way
from headrace.terminal import plain, say


class TestedWorkflow(NamedTuple):
    """The results of the tests of one workflow, and what they cover."""

    workspace: Path
    file: str
    workflow: str
    results: list[TestResult]
    coverage: Coverage


def show_workflow(tested: TestedWorkflow) -> None:
    """Write the results of one workflow."""
    say(f"[bold]{plain(tested.workspace / 'workflows' / tested.workflow)}[/]")
    for result in tested.results:
        if result.passed:
            say(f"  [green]✓[/] {plain(result.name)} [dim]{result.seconds * 1000:.0f} ms[/]")
        else:
            say(f"  [red]✗[/] [bold]{plain(result.name)}[/]")
            for line in failure_lines(result):
                say(f"      {colour(line)}")
    if not tested.results:
        say(f"  [yellow]no tests:[/] write {plain(tested.file)}")


def failure_lines(result: TestResult) -> list[str]:
    """Return what was not as expected and the way that was taken, as lines of text."""
    lines = [line for difference in result.differences for line in difference_lines(difference)]
    for number, ways in enumerate(result.ways, 1):
        name = "path taken" if len(result.ways) == 1 else f"path of event {number}"
        lines.append(f"{name}: {written(ways)}")
    return lines


def difference_lines(difference: Difference) -> list[str]:
    """Return one difference as lines: where, what was expected, what came out."""
    if difference.text:
        return [difference.text]
    return [
        difference.place,
        f"  - expected {shown(difference.expected)}",
        f"  + came out {shown(difference.actual)}",
    ]


def written(ways: Sequence[Way]) -> str:
    """Write a path: each node with the port that it left by."""
    return " → ".join(f"{node}.{port}" for node, port in ways) or "no node ran"


def colour(line: str) -> str:
    """Return a line of a failure with its colour."""
    text = plain(line)
    if line.startswith("  - "):
        return f"[green]{text}[/]"
    if line.startswith("  + "):
        return f"[red]{text}[/]"
    return f"[dim]{text}[/]" if line.startswith("path ") else text


def show_coverage(tested: Sequence[TestedWorkflow], fail_under: float) -> bool:
    """Write what the tests reach; say whether every workflow has enough of its ports taken."""
    enough = True
    say("\n[bold]Coverage[/]                          nodes      ports")
    for each in tested:
        coverage, covered = each.coverage, each.coverage.percent >= fail_under
        enough &= covered
        style = "green" if not coverage.missed else "yellow" if covered else "red"
        nodes = f"{len(coverage.nodes)}/{coverage.total_nodes}"
        ports = f"{len(coverage.ports)}/{len(coverage.ports) + len(coverage.missed)}"
        missed = ", ".join(f"{node}.{port}" for node, port in coverage.missed)
        line = f"  {each.workflow:<30} {nodes:>7}  {ports:>9} [{style}]{coverage.percent:4.0f} %[/]"
        say(line + (f"  [dim]never taken: {plain(missed)}[/]" if missed else ""))
    if not enough:
        say(f"[red]Less than {fail_under:g} % of the ports of a workflow are taken by its tests.[/]")
    return enough


def show_totals(tested: Sequence[TestedWorkflow], seconds: float) -> None:
    """Write how many tests passed."""
    results = [result for each in tested for result in each.results]
    failed = sum(not result.passed for result in results)
    parts = [f"[red]{failed} failed[/]"] if failed else []
    parts.append(f"[green]{len(results) - failed} passed[/]")
    say(f"\n{', '.join(parts)} in {seconds:.2f} s")
