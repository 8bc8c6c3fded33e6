"""500 journals from the schema's neighbourhood: nothing is written that is not the run's."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis
from cluster_shapes import DEFAULT_POOL, raw_pool
from forged_journals import (
    DEDICATED,
    IN_PLACE,
    POOLS,
    RUN,
    UNUSED,
    Json,
    a_production_cluster,
    forge,
)
from hypothesis import strategies as st
from store_sessions import IPIP, objects

from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.cluster.pods import run_labels
from pytest_k8snet.errors import K8sNetError

NAMES = st.sampled_from(
    [
        *(DEFAULT_POOL, UNUSED, f"{RUN}-never", f"{RUN}-ipip-always", "k8snet-ffffff-never"),
        *("../ipamblocks/10-9-0-0-26", "10-9-0-0-26", "..", "", "%2e%2e/x", "k8snet/run"),
        *("production", "kube-system", "\x1b[2J"),
    ]
)
MODES = st.sampled_from(["Never", "Always", "CrossSubnet", "", "always", None, 1])
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), NAMES, st.lists(NAMES, max_size=3)
)
VALUES: dict[str, Any] = {
    "schema": st.sampled_from([1, 2, 2, 2, 3, "2", None]),
    "run": st.sampled_from([RUN, "k8snet-ffffff", None, "", "production", "k8snet-abc123,x"]),
    "strategy": st.sampled_from(["dedicated", "in-place", "none", None]),
    "shape": st.sampled_from(["A", "B", "C", None]),
    "group": st.sampled_from(["crd.projectcalico.org/v1", "projectcalico.org/v3", "v1", None]),
    "own_pools": st.lists(NAMES, max_size=3),
    "written": st.lists(st.sampled_from(["Never", "IPIP-Always", "VXLAN-CrossSubnet"]), max_size=3),
    "name": NAMES,
    "cidr": st.sampled_from(["10.244.0.0/16", "10.9.0.0/16", "0.0.0.0/0", "::/0", None]),
    "spec": st.fixed_dictionaries({"ipipMode": MODES, "vxlanMode": MODES}),
    "v1_spec": st.one_of(st.none(), st.fixed_dictionaries({"ipipMode": MODES})),
    "installation_entry": st.one_of(st.none(), st.just({"encapsulation": "IPIP"})),
    "written_directly": st.booleans(),
}


@st.composite
def journals(draw: st.DrawFn) -> Json:
    """A journal that a run could have written, with up to three fields of it changed."""
    journal: Json = copy.deepcopy(draw(st.sampled_from([DEDICATED, IN_PLACE])))
    for _ in range(draw(st.integers(0, 3))):
        place = journal
        if isinstance(journal.get("original"), dict) and draw(st.booleans()):
            place = journal["original"]
        key = draw(st.sampled_from([*place, "extra"]))
        value = VALUES.get(key, ODD)
        if draw(st.integers(0, 9)) == 0:
            place.pop(key, None)
        else:
            place[key] = draw(st.one_of(value, value, ODD))
    return journal


@hypothesis.settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(journal=journals())
def test_of_500_forged_journals_none_has_anything_written_that_is_not_the_runs(
    journal: Json,
) -> None:
    api = a_production_cluster()
    own = raw_pool(f"{RUN}-ipip-always", "10.11.0.0/16", IPIP, run_labels(RUN))
    del own["metadata"]["resourceVersion"]
    api.create(POOLS, own)
    forge(api, journal)
    before = objects(api)
    said = ""
    try:
        said = "\n".join(restore_cluster(api))
    except K8sNetError as exc:
        said = str(exc)
    assert said.replace("\n", "").isprintable()
    after = objects(api)
    # The run's own pool may go by the journal, and the journal when all that it says is done.
    mine = {one for one in before if one.endswith((f"/{RUN}-ipip-always", "/k8snet-journal"))}
    assert {one for one in before if after.get(one) != before[one]} <= mine
    assert set(after) <= set(before)
