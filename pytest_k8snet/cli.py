"""The ``k8snet`` command; its parts are what ``k8snet --help`` lists.

Each sub-command imports what it needs when it is called, so that ``k8snet --help`` is instant.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet import __version__
from pytest_k8snet.errors import K8sNetError, ResultsError, SettingsError

if TYPE_CHECKING:
    from pytest_k8snet.doctor import Examination
    from pytest_k8snet.report.judge import Reevaluation
    from pytest_k8snet.report.records import Record

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
        from pytest_k8snet.report.redaction import Redactor

        # A credential plugin's own words may be in it, or those of a login page.
        told = Redactor(environ=os.environ).text(exc.told)
        print(f"k8snet: {_shown(told)}", file=sys.stderr)
        return TROUBLE
    except BrokenPipeError:
        # Nobody reads on (`| head`): as others do, end quietly, by the status of SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("k8snet: interrupted", file=sys.stderr)
        return 130


_AND_PAGE = "also write an HTML page with charts"

#: What a shell completes where a file is asked for, in the words of shtab.
_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "fish": "(__fish_complete_path)"}


def _parser(lab: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        lab: the parser of ``k8snet lab``, where its options are wanted, too; it reads its command
            line itself.
    """
    parser = argparse.ArgumentParser(
        prog="k8snet",
        description="Network SLOs on Kubernetes clusters with Calico.",
        epilog="Begin with: k8snet init suite --run --lab\nDocumentation: "
        "https://pytest-k8snet.github.io/pytest-k8snet/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pytest-k8snet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    init = _command(commands, "init", "write a small acceptance suite to begin with")
    init.add_argument(
        "folder", type=Path, nargs="?", default=Path(), help="where to (default: here)"
    )
    init.add_argument(
        "--run",
        action="store_true",
        dest="at_once",
        help="run it at once; the exit status is pytest's",
    )
    init.add_argument(
        "--lab", action="store_true", help="on the embedded lab, which needs no cluster (Linux)"
    )
    _add_cluster(init)
    init.set_defaults(run=_init)

    commands.add_parser(
        "lab",
        help="start the embedded lab: a cluster with Calico on this machine",
        add_help=False,
        parents=[lab] if lab else [],
    )

    doctor = _command(
        commands, "doctor", "say what the cluster is, which modes it can have, and what is missing"
    )
    _add_cluster(doctor)
    doctor.add_argument(
        "--namespace",
        metavar="NAME",
        help="existing namespace for the pods, as of k8snet_namespace",
    )
    doctor.add_argument(
        "--resolution",
        action="store_true",
        help="measure node against node through the gates' code, and say what can be told apart",
    )
    doctor.add_argument("--plan", default="", help="for --resolution, e.g. 'seconds=3 last=12'")
    doctor.add_argument("--image", help="for --resolution: image of the pods, as of k8snet_image")
    _add_output(doctor)
    doctor.set_defaults(run=_doctor)

    images = _command(commands, "images", "list the images of a run's pods, to be mirrored")
    images.add_argument(
        "--to",
        metavar="REGISTRY",
        help="print the commands that copy them there, with all architectures, and what to set",
    )
    images.set_defaults(run=_images)

    restore = _command(
        commands, "restore", "put a cluster back that an interrupted run has left changed"
    )
    _add_cluster(restore)
    restore.add_argument(
        "--force",
        action="store_true",
        help="put pools back also where somebody has changed them since: your word",
    )
    restore.set_defaults(run=_restore)

    report = _command(commands, "report", "draw the HTML report of a results file again")
    _add_file(report, "results", help="the file of --k8snet-results")
    _add_file(
        report, "-o", "--output", metavar="FILE", required=True, help="the HTML file to write"
    )
    _add_redact(report)
    report.set_defaults(run=_report)

    judge = _command(commands, "judge", "repeat the verdicts of a results file offline")
    _add_file(judge, "results", help="the file of --k8snet-results")
    _add_file(judge, "--limits", metavar="FILE", help="other limits: a TOML file, claim = limit")
    _add_output(judge)
    judge.set_defaults(run=_judge)

    export = _command(commands, "export", "print the figures of a results file for other programs")
    _add_file(export, "results", help="the file of --k8snet-results")
    export.add_argument(
        "--format", choices=("csv", "openmetrics"), required=True, help="what to print"
    )
    _add_redact(export)
    export.set_defaults(run=_export)

    history = _command(commands, "history", "show each figure of several runs over time")
    _add_file(history, "results", nargs="+", help="files of --k8snet-results, or folders of them")
    _add_file(history, "-o", "--output", metavar="FILE", help=_AND_PAGE)
    history.set_defaults(run=_history)

    compare = _command(commands, "compare", "compare two runs, without a cluster")
    _add_file(compare, "before", help="the results file of the earlier run")
    _add_file(compare, "after", help="the results file of the later run")
    _add_file(compare, "-o", "--output", metavar="FILE", help=_AND_PAGE)
    compare.set_defaults(run=_compare)

    completion = _command(commands, "completion", "print what completes this command in a shell")
    completion.add_argument(
        "shell",
        choices=tuple(_FILES),
        help='bash: eval "$(k8snet completion bash)" in ~/.bashrc; zsh: as _k8snet in a folder of '
        "fpath; fish: as ~/.config/fish/completions/k8snet.fish",
    )
    completion.set_defaults(run=_completion)
    return parser


def _command(commands: Any, name: str, purpose: str) -> argparse.ArgumentParser:
    """Add a sub-command whose own ``--help`` says what it is for as well."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
    )
    return made


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    _add_file(
        parser,
        "--kubeconfig",
        metavar="FILE",
        help="kubeconfig of the cluster (default: KUBECONFIG, ~/.kube/config, or in-cluster)",
    )
    parser.add_argument(
        "--context", metavar="NAME", help="context of the kubeconfig (default: its current one)"
    )


def _add_redact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--redact",
        action="store_true",
        help="replace the names of servers, users, hosts and nodes, and all addresses",
    )


def _records_of(options: argparse.Namespace) -> list[Record]:
    """Read the results file, redacted where that is asked for; what is odd about it is said."""
    from pytest_k8snet.report.records import read
    from pytest_k8snet.report.redaction import redacted

    results = read(options.results)
    print(_shown(results.which), file=sys.stderr)
    if results.note:
        print(results.note, file=sys.stderr)
    return redacted(results.records) if options.redact else list(results.records)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="for people (default) or for programs",
    )


def _print(options: argparse.Namespace, answer: Examination | Reevaluation) -> None:
    print(
        json.dumps(answer.to_json(), indent=1)
        if options.output == "json"
        else _shown(answer.text())
    )


def _add_file(parser: argparse.ArgumentParser, *names: str, **options: Any) -> None:
    """Add an argument that is a path, and tell shells so."""
    parser.add_argument(*names, type=Path, **options).complete = _FILES  # type: ignore[attr-defined]


def _shown(text: object) -> str:
    """Text of which a part is the cluster's, for the terminal."""
    from pytest_k8snet.report.format import visible

    return visible(text, None)


def _init(options: argparse.Namespace) -> int:
    from pytest_k8snet import starter

    told = starter.write_suite(options.folder)
    print("\n".join(told), flush=True)
    arguments = starter.arguments(
        lab=options.lab, kubeconfig=options.kubeconfig, context=options.context
    )
    if options.at_once:
        return starter.run_suite(options.folder, arguments)
    where = f"cd {shlex.quote(str(options.folder))} && " if options.folder != Path() else ""
    # Without a word on the cluster the lab is the way that harms nobody.
    print(f"next:  {where}pytest {shlex.join(arguments) or '--k8snet-lab'}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from pytest_k8snet.cluster.api import connect
    from pytest_k8snet.doctor import examine

    if options.resolution and options.output == "json":
        raise SettingsError(
            "--resolution tells of its measuring in words only", remedy="leave out -o json"
        )
    api = connect(kubeconfig=options.kubeconfig, context=options.context)
    examination = examine(api, namespace=options.namespace)
    _print(options, examination)
    if not examination.usable:
        return 1
    return _resolution(options) if options.resolution else 0


def _resolution(options: argparse.Namespace) -> int:
    from pytest_k8snet.doctor import kernel_lines
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
    gates = Gates(observer=recorder, plan=plan)
    with launch(settings, recorder) as run:
        pair = run.node_pair()
        print("\n".join(kernel_lines({one.node: one.run for one in (pair.client, pair.server)})))
        found = measure_resolution(gates, pair, pairs=PAIRS)
    print(found)
    return 0 if found.sound else 1


def _images(options: argparse.Namespace) -> int:
    from pytest_k8snet.options import DEFAULT_IMAGE, DEFAULT_WEB_IMAGE

    images = {"k8snet_image": DEFAULT_IMAGE, "k8snet_web_image": DEFAULT_WEB_IMAGE}
    if options.to is None:
        print("\n".join(images.values()))
        return 0
    copies = {
        name: f"{options.to.rstrip('/')}/{image.rpartition('/')[2]}"
        for name, image in images.items()
    }
    for name, image in images.items():
        print(f"skopeo copy --all docker://{image} docker://{copies[name]}")
    print("\n# pytest.ini\n[pytest]")
    for name, image in copies.items():
        print(f"{name} = {image}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from pytest_k8snet.change.restore import restore_cluster
    from pytest_k8snet.cluster.api import connect
    from pytest_k8snet.launch import refuse_windows

    refuse_windows()
    api = connect(kubeconfig=options.kubeconfig, context=options.context)
    for line in restore_cluster(
        api,
        force=options.force,
        on_wait=lambda why: print(f"k8snet restore: {_shown(why)} ...", file=sys.stderr),
    ):
        print(_shown(line))
    return 0


def _report(options: argparse.Namespace) -> int:
    from pytest_k8snet.report.documents import render_page

    records = _records_of(options)
    return _write_page(options.output, lambda: render_page(records))


def _history(options: argparse.Namespace) -> int:
    from pytest_k8snet.report.runs import history

    found = history(options.results)
    print(found.text())
    return _write_page(options.output, found.page) if options.output else 0


def _compare(options: argparse.Namespace) -> int:
    from pytest_k8snet.report.runs import compare

    found = compare(options.before, options.after)
    print(found.text())
    return _write_page(options.output, found.page) if options.output else 0


def _write_page(path: Path, page: Callable[[], str]) -> int:
    try:
        path.write_text(page(), encoding="utf-8")
    except OSError as exc:
        raise ResultsError(
            f"the report {path} cannot be written",
            found=exc.strerror or str(exc),
            remedy="check path and rights",
        ) from None
    print(f"wrote {path}")
    return 0


def _judge(options: argparse.Namespace) -> int:
    from pytest_k8snet.report.judge import reevaluate

    found = reevaluate(options.results, options.limits)
    if options.output == "text":
        print(f"judging {_shown(found.results.which)}")
    _print(options, found)
    return 0 if found.passed else 1


def _export(options: argparse.Namespace) -> int:
    from pytest_k8snet.report.documents import csv_text, openmetrics_text

    records = _records_of(options)
    print({"csv": csv_text, "openmetrics": openmetrics_text}[options.format](records), end="")
    return 0


def _completion(options: argparse.Namespace) -> int:
    import shtab

    from pytest_k8snet.lab.cli import parser as lab_parser

    print(shtab.complete(_parser(lab_parser()), options.shell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
