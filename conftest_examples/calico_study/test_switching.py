"""What a change of Calico costs everybody else: two pods that are not under test keep asking."""

from pytest_k8snet import second


def test_other_pods_do_not_notice_the_change(switch_cost):
    assert switch_cost.lost == 0
    assert switch_cost.longest_gap <= 2 * second
