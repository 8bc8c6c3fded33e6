import inspect
import re

from pytest_k8snet import errors


def test_an_error_says_what_is_wrong_what_was_found_and_what_to_do() -> None:
    error = errors.NodesError(
        "fewer than two usable nodes", found="node1 (not ready)", remedy="add a node"
    )
    assert str(error) == (
        "fewer than two usable nodes\n  found: node1 (not ready)\n  to do: add a node"
    )


def test_parts_without_content_are_left_out() -> None:
    assert str(errors.LabError("the lab died")) == "the lab died"


def test_long_foreign_text_is_cut_and_the_cut_is_counted() -> None:
    error = errors.ToolError("bad output", found="x" * 5000)
    assert "... (3000 more characters)" in str(error)


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawn = set(re.findall(r"\b\w+Error\b|\bInconclusive\b", errors.__doc__ or ""))
    classes = inspect.getmembers(errors, inspect.isclass)
    assert {name for name, one in classes if issubclass(one, Exception)} <= drawn


def test_inconclusive_is_neither_a_failed_assertion_nor_infrastructure_trouble() -> None:
    assert not issubclass(errors.Inconclusive, AssertionError)
    assert not issubclass(errors.Inconclusive, errors.K8sNetError)
