"""Records in which every foreign text tries to get out of its place."""

from __future__ import annotations

from study_records import Record, Study

#: Closes a cell, runs a script, colours a terminal, reverses the reading order, hides a letter.
EVIL = (
    "</td></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
    "\x1b[31m\x07\r\u202egnp.exe\u2066\u200b\x9b31m"
)
LONG = "x" * 10_240


def hostile() -> list[Record]:
    """Every kind of record, every text in it hostile."""
    made = Study()
    made.begin(
        ticket={"id": EVIL, "title": LONG},
        user=EVIL,
        host=EVIL,
        tool_version=EVIL,
        command_line=[EVIL, LONG],
        plan={EVIL: EVIL},
        settings={EVIL: {"value": EVIL, "origin": LONG}},
    )
    made.records[-1]["cluster"] = {EVIL: EVIL, "long": LONG, "nested": {EVIL: [EVIL]}}
    made.records[-1]["nodes"] = [{"name": EVIL, EVIL: LONG}]
    name = made.iperf3(
        EVIL,
        "pod-pod",
        EVIL,
        gbit=1,
        label=EVIL,
        raw=EVIL * 40,
        client={"kind": EVIL, "name": EVIL, "node": EVIL, "address": EVIL},
        command=[EVIL],
        path={"state": "proven", "text": EVIL},
    )
    made.iperf3(LONG, "node-node", None, error=EVIL + LONG)
    made.iperf3(LONG, "pod-pod", EVIL, gbit=1, id=EVIL, placement=EVIL)
    made.records[-1]["scene"] = EVIL
    made.add(
        "sample",
        id="c1",
        tool="curl",
        scene=EVIL,
        url="javascript:" + EVIL,
        figures={"requests": 1, "failed": 0, "total_mean_seconds": 0.1},
        distribution={"total_seconds": [0.1]},
    )
    made.verdict(
        EVIL,
        "fail",
        claim=EVIL,
        quantity=EVIL,
        unit=EVIL,
        mode=EVIL,
        estimate=1,
        low=0.5,
        high=2,
        relation=EVIL,
        limit=3,
        text=EVIL,
        plan={EVIL: EVIL},
        discarded=[{"cause": EVIL}],
        samples=[[name]],
    )
    made.test(EVIL, "failed", EVIL + LONG)
    made.test(LONG, "skipped", LONG)
    made.test("b", "inconclusive", EVIL)
    made.add(
        "change",
        what=EVIL,
        object=EVIL,
        state="applied",
        before={EVIL: EVIL},
        after=LONG,
        seconds=0.1,
    )
    made.add("switch", what=EVIL, mode=EVIL, requests=EVIL, lost=[1], longest_gap_seconds=EVIL)
    made.switch(EVIL, None, error=LONG)
    made.add(
        "baseline",
        source=EVIL,
        baseline_run=EVIL,
        baseline_time=EVIL,
        figures=[
            {
                "scene": "pod-pod",
                "placement": "same-subnet",
                "mode": EVIL,
                "quantity": "bandwidth",
                "values": [1e9],
            }
        ],
        differences=[{"fact": EVIL, "before": EVIL, "now": LONG}],
    )
    made.end()
    return made.records
