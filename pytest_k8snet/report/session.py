"""The end of a run: its last record, and the Markdown summary."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.markdown import markdown
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.summary import summarise


def finish(recorder: Recorder, exit_status: int) -> None:
    """Add the "end" record, write the summary, and close the results file.

    Args:
        recorder: the run's; its records stay readable.
        exit_status: pytest's.

    Raises:
        ResultsError: a file cannot be written.
    """
    if any(record["kind"] == "end" for record in recorder.records):
        return
    summary = summarise(recorder.records)
    begun = datetime.fromisoformat(recorder.records[0]["time"]) if recorder.records else None
    recorder.add(
        {
            "kind": "end",
            "exit_status": exit_status,
            "counts": dict(Counter(test.outcome for test in summary.tests)),
            "restored": summary.restored,
            "seconds": (datetime.now(begun.tzinfo) - begun).total_seconds() if begun else 0.0,
        }
    )
    recorder.close()
    if recorder.summary_path is not None:
        try:
            recorder.summary_path.write_text(markdown(recorder.records), encoding="utf-8")
        except OSError as exc:
            raise ResultsError(
                f"the summary {recorder.summary_path} cannot be written",
                found=exc.strerror or str(exc),
                remedy="check path and rights",
            ) from None
