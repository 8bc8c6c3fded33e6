"""The ``k8snet`` command: lab, doctor, restore, judge, report.

Each sub-command imports what it needs when it is called, so that ``k8snet --help`` is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytest_k8snet import __version__
from pytest_k8snet.errors import K8sNetError, ResultsError

#: Exit status of trouble (an error of ours), apart from 1: a verdict that is not a pass.
TROUBLE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    try:
        if arguments[:1] == ["lab"]:
            # `k8snet lab -- CMD...` passes on everything behind the dashes.
            from pytest_k8snet.lab.cli import main as lab_main

            return lab_main(arguments[1:])
        options = parser.parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = options.run
        status = run(options)
        sys.stdout.flush()
        return status
    except K8sNetError as exc:
        print(f"k8snet: {_shown(exc)}", file=sys.stderr)
        return TROUBLE
    except BrokenPipeError:
        # Nobody reads on (`| head`): as others do, end quietly, by the status of SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("k8snet: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="k8snet", description="Network SLOs on Kubernetes clusters with Calico."
    )
    parser.add_argument("--version", action="version", version=f"pytest-k8snet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    commands.add_parser("lab", help="start the embedded lab (k8snet lab --help)", add_help=False)

    doctor = _command(
        commands, "doctor", "say what the cluster is, which modes it can have, and what is missing"
    )
    _add_cluster(doctor)
    doctor.add_argument(
        "--namespace", help="existing namespace for the pods, as of k8snet_namespace"
    )
    doctor.add_argument(
        "--resolution",
        action="store_true",
        help="measure node against node through the gates' code, and say what can be told apart",
    )
    doctor.add_argument("--plan", default="", help="for --resolution, e.g. 'seconds=3 last=12'")
    doctor.add_argument("--image", help="for --resolution: image of the pods, as of k8snet_image")
    doctor.set_defaults(run=_doctor)

    restore = _command(
        commands, "restore", "put a cluster back that an interrupted run has left changed"
    )
    _add_cluster(restore)
    restore.set_defaults(run=_restore)

    report = _command(commands, "report", "draw the HTML report of a results file again")
    report.add_argument("results", type=Path, help="the file of --k8snet-results")
    report.add_argument("-o", "--output", type=Path, required=True, help="the HTML file to write")
    report.set_defaults(run=_report)

    judge = _command(commands, "judge", "repeat the verdicts of a results file offline")
    judge.add_argument("results", type=Path, help="the file of --k8snet-results")
    judge.add_argument("--limits", type=Path, help="other limits: a TOML file, claim = limit")
    judge.set_defaults(run=_judge)
    return parser


def _command(commands: Any, name: str, purpose: str) -> argparse.ArgumentParser:
    """Add a sub-command whose own ``--help`` says what it is for as well."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
    )
    return made


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kubeconfig", type=Path, help="default: KUBECONFIG, ~/.kube/config, or in-cluster"
    )
    parser.add_argument("--context", help="default: the kubeconfig's current context")


def _shown(text: object) -> str:
    """Text of which a part is the cluster's, for the terminal."""
    from pytest_k8snet.report.format import visible

    return visible(text, None)


def _doctor(options: argparse.Namespace) -> int:
    from pytest_k8snet.calico.doctor import examine
    from pytest_k8snet.cluster.connect import connect

    api = connect(kubeconfig=options.kubeconfig, context=options.context)
    examination = examine(api, namespace=options.namespace)
    print(_shown(examination.text()))
    if not examination.usable:
        return 1
    return _resolution(options) if options.resolution else 0


def _resolution(options: argparse.Namespace) -> int:
    from pytest_k8snet.launch import launch
    from pytest_k8snet.measure.gates import Gates
    from pytest_k8snet.measure.resolution import PAIRS, measure_resolution
    from pytest_k8snet.report.recorder import Recorder, new_run_id
    from pytest_k8snet.settings import defaults
    from pytest_k8snet.verdict import Plan

    given = {
        name: getattr(options, name) for name in ("kubeconfig", "context", "namespace", "image")
    }
    settings = defaults(**{name: value for name, value in given.items() if value is not None})
    plan = Plan.parse(options.plan)
    print(f"\nmeasuring {PAIRS} pairs of samples of {plan.seconds} s, node against node ...")
    recorder = Recorder(None, new_run_id())
    with launch(settings, recorder) as run:
        found = measure_resolution(Gates(observer=recorder, plan=plan), run.node_pair())
    print(found)
    return 0 if found.sound else 1


def _restore(options: argparse.Namespace) -> int:
    from pytest_k8snet.calico.restore import restore_cluster
    from pytest_k8snet.cluster.connect import connect

    api = connect(kubeconfig=options.kubeconfig, context=options.context)
    for line in restore_cluster(
        api, on_wait=lambda why: print(f"k8snet restore: {_shown(why)} ...", file=sys.stderr)
    ):
        print(_shown(line))
    return 0


def _report(options: argparse.Namespace) -> int:
    from pytest_k8snet.report.html import render_page
    from pytest_k8snet.report.records import read

    results = read(options.results)
    try:
        options.output.write_text(render_page(results.records), encoding="utf-8")
    except OSError as exc:
        raise ResultsError(
            f"the report {options.output} cannot be written",
            found=exc.strerror or str(exc),
            remedy="check path and rights",
        ) from None
    if results.note:
        print(results.note, file=sys.stderr)
    print(f"wrote {options.output}")
    return 0


def _judge(options: argparse.Namespace) -> int:
    from pytest_k8snet.report.judge import rejudge

    judgement = rejudge(options.results, options.limits)
    print(judgement.text())
    return 0 if judgement.passed else 1


if __name__ == "__main__":
    sys.exit(main())
