"""The report on a picture folder as lines of text."""

from collections.abc import Iterator

from render.cli import one_line
from vision.quality.inspect import FolderReport, in_order
from vision.quality.page import drawing_rows, genre_rows
from vision.reports.text_table import text_table

#: Files named under one finding.
MAX_FILES = 10


def report_lines(report: FolderReport) -> Iterator[str]:
    """Yield the report as lines of text: tables of the genres and of the drawing styles, then the findings.

    Parameters
    ----------
    report : FolderReport
        From `vision.quality.inspect.inspect_folder`.
    """
    yield from text_table(["genre", "pictures", "tracks", "unusable", "share"], genre_rows(report))
    yield ""
    yield from text_table(["drawn", "pictures", "margins", "seconds"], drawing_rows(report))
    details = _details(report)
    for finding in in_order(report.findings):
        yield ""
        yield f"{'attention' if finding.attention else 'note'}: {one_line(finding.message)}"
        lines = details.get(finding.kind, finding.files)
        yield from (f"    {one_line(line)}" for line in lines[:MAX_FILES])
        if len(lines) > MAX_FILES:
            yield f"    and {len(lines) - MAX_FILES} more: --html or --json shows them"


def _details(report):
    """For some kinds of findings, the lines that say more than the names of the files."""
    pictures = report.pictures
    return {
        "near": [f"{' = '.join(pair['files'])}  ({pair['similarity']:.2f})" for pair in report.near_pairs()],
        "unusable": [f"{info.file}: {info.problem}" for info in pictures if info.problem],
        "equal": [" = ".join(pictures[index].file for index in indices) for indices in report.equal],
        "doubtful": [
            f"{pictures[issue.index].file}: {issue.suggested}?  ({issue.p_suggested:.2f}, "
            f"{pictures[issue.index].genre} {issue.p_given:.2f})"
            for issue in report.label_issues
        ],
    }
