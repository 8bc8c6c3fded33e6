"""What is written to IPPools, and how.

=====================================  =========================================================
the pool                               what a change of its mode writes
=====================================  =========================================================
a dedicated one                        the pool itself, made and deleted by the run
an existing one                        both mode fields of the pool, in one patch
an operator-owned one (v3.28 on)       the ``encapsulation`` of its entry in the ``Installation``,
                                       as the operator would revert an edit of the pool
... without a Calico API server        both: nobody carries the entry over to the pool
=====================================  =========================================================

Which objects that are stands in the journal before the first write (``OriginalPool.objects``), and
changing and restoring both go by it. Every write is guarded by what was read: it is never over
anyone else's change. After a conflict the object is looked at again: where it is no longer as the
run has left it, the run does not write.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.installation import (
    INSTALLATION_PATH,
    OPERATOR_INSTALLATION,
    V1,
    ApiGroup,
    ApiShape,
    Installation,
    IPPool,
    ObjectRef,
    calico_path,
    labels_of,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.routing import programmers
from pytest_k8snet.causes import Cause, Evidence
from pytest_k8snet.change.addresses import (
    BLOCK_SIZE,
    choose_networks,
    lies_in,
    pool_prefix_length,
)
from pytest_k8snet.change.decision import Decision
from pytest_k8snet.change.journal import Changes, OriginalPool, pool_name
from pytest_k8snet.cluster.api import pauses
from pytest_k8snet.cluster.http import FIELD_MANAGER
from pytest_k8snet.cluster.pods import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RUN_LABEL,
    addresses_of,
    run_labels,
)
from pytest_k8snet.errors import (
    ApiError,
    CalicoError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    ModeUnavailableError,
    NotFoundError,
    RestoreError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node

# -- An existing pool: from mode to mode ----------------------------------------------------------


def read_original(api: Api, decision: Decision, shape: ApiShape) -> OriginalPool:
    """Read the pool as it is now, in every view that a change of its mode may touch.

    Args:
        api: the connection.
        decision: how the mode will be changed.
        shape: how Calico's objects are served.

    Raises:
        CalicoError: the operator's Installation does not list the pool.
    """
    assert decision.pool is not None
    assert decision.group is not None
    name = decision.pool.name
    raw = api.get(calico_path(decision.group, "ippools", name))
    v1 = api.get(calico_path(V1, "ippools", name)) if shape == "B" else None
    cidr = str(raw["spec"]["cidr"])
    entry, installation_uid = None, ""
    if decision.writer == "installation":
        installation = api.get(INSTALLATION_PATH)
        _, found = _entry_of(installation, cidr)
        encapsulation = found.get("encapsulation")
        entry = {"encapsulation": encapsulation} if encapsulation else {}
        installation_uid = str(installation["metadata"]["uid"])
    return OriginalPool(
        name=name,
        cidr=cidr,
        spec=_set_modes(raw["spec"]),
        uid=str(raw["metadata"]["uid"]),
        v1_spec=_set_modes(v1["spec"]) if v1 is not None else None,
        v1_uid=str(v1["metadata"]["uid"]) if v1 is not None else "",
        v1_fields=tuple(sorted(v1["spec"])) if v1 is not None else (),
        installation_entry=entry,
        installation_uid=installation_uid,
        written_directly=decision.writer == "ippool" or decision.also_v1,
    )


def _set_modes(spec: Mapping[str, Any]) -> dict[str, str]:
    return {field: str(spec[field]) for field in ("ipipMode", "vxlanMode") if spec.get(field)}


def set_mode(
    api: Api,
    original: OriginalPool,
    group: ApiGroup,
    mode: CalicoMode,
    changes: Changes,
    *,
    before: CalicoMode,
    ours: Collection[CalicoMode],
) -> None:
    """Write a mode to the objects that the journal lists for the pool.

    Args:
        api: the connection.
        original: the pool as the journal has it.
        group: the API group that pools are written through.
        mode: the mode to write.
        changes: records each write.
        before: the mode that the pool is in.
        ours: the modes that this run may have left the pool in.

    Raises:
        ModeUnavailableError: the API server accepts no such mode.
        CalicoError: somebody else has changed the mode, or keeps changing the object.
    """
    expected = {before, *ours}
    encapsulations = {one.encapsulation for one in expected}
    if original.installation_entry is not None and before is original.mode:
        encapsulations.add(encapsulation_of(original.installation_entry))
    for target in original.objects:
        by_operator = target == OPERATOR_INSTALLATION
        what = (
            f"set encapsulation {mode.encapsulation} of pool {original.cidr} in the Installation"
            if by_operator
            else f"set mode {mode} on IPPool {original.name} by {group}"
        )
        try:
            with changes.recording(what, target, before=str(before), after=str(mode)):
                if by_operator:
                    write_installation_entry(
                        api, original.cidr, mode.encapsulation, expected=encapsulations
                    )
                else:
                    write_mode_fields(
                        api,
                        group,
                        original.name,
                        mode.pool_fields,
                        cidr=original.cidr,
                        expected=expected,
                    )
        except InvalidError as exc:
            raise _refused(mode, exc) from exc


def _refused(mode: CalicoMode, error: InvalidError) -> ModeUnavailableError:
    return ModeUnavailableError(
        f"This cluster accepts no pool in mode {mode}",
        found=error.found,
        remedy="The API server's message says what stands against it.",
    )


def pool_mismatches(api: Api, group: ApiGroup, name: str, mode: CalicoMode) -> list[str]:
    """Return whether the pool is in a mode; an operator may lag, or have reverted it."""
    found = read_pool(api, group, name).mode
    if found is mode:
        return []
    text = f"IPPool {name} is in mode {found}, expected {mode}: not yet applied, or reverted"
    return [Evidence(text, Cause.WRITTEN_BACK)]


def read_pool(api: Api, group: ApiGroup, name: str) -> IPPool:
    """Read a pool.

    Raises:
        NotFoundError: there is none of that name.
    """
    pool = IPPool.of(api.get(calico_path(group, "ippools", name)))
    if pool is None:
        raise CalicoError(f"IPPool {name} is no IPv4 pool")
    return pool


# -- Dedicated pools: made for one mode each, and deleted -----------------------------------------

#: How long calico-node gets to give back the tunnel addresses of a pool that goes, in seconds.
_RELEASE_SECONDS = 4.0
#: How long a pool may take to vanish, finalizers included, in seconds.
_GONE_SECONDS = 30.0


def plan_pools(
    installation: Installation,
    *,
    group: ApiGroup,
    modes: Iterable[CalicoMode],
    nodes: Sequence[Node],
    every_node: Sequence[Node],
    run_id: str,
    within: IPv4Network | None,
) -> dict[CalicoMode, dict[str, Any]]:
    """Return the pools that a run needs, per mode, as objects to create.

    Args:
        installation: what the cluster runs.
        group: the API group that they are written through.
        modes: one pool for each.
        nodes: the nodes under test.
        every_node: all of the cluster.
        run_id: whose pools they are.
        within: the range to cut them from; None chooses one.

    Raises:
        ModeUnavailableError: the address range is not free, or too small.
    """
    wanted = list(modes)
    selector = node_selector(nodes)
    prefix = pool_prefix_length(len(nodes))
    if installation.keeps_pools:
        # Only pods that name a pool get its addresses, so it can serve every node: those outside
        # of the selector would have no VXLAN tunnel, and could not answer.
        wider = pool_prefix_length(len(nodes), others=len(every_node) - len(nodes))
        if within is None or len(wanted) * 2 ** (32 - wider) <= within.num_addresses:
            selector, prefix = "all()", wider
    networks = choose_networks(
        within, len(wanted), prefix, installation=installation, nodes=every_node
    )
    return {
        mode: {
            "apiVersion": group,
            "kind": "IPPool",
            "metadata": {"name": pool_name(run_id, mode), "labels": run_labels(run_id)},
            # Every field, since a raw v1 write fills in no defaults.
            "spec": {
                "cidr": str(cidr),
                "blockSize": BLOCK_SIZE,
                **mode.pool_fields,
                "natOutgoing": _nat_outgoing(installation, nodes),
                # These get tunnel addresses of it and, before v3.30, their pods that name no pool
                # get addresses of it.
                "nodeSelector": selector,
                "allowedUses": ["Workload", "Tunnel"],
                "disabled": False,
                # Routers outside the cluster hear of what BGP tells.
                "disableBGPExport": "BIRD" not in programmers(installation, mode),
                **({"assignmentMode": "Manual"} if installation.keeps_pools else {}),
            },
        }
        for mode, cidr in zip(wanted, networks, strict=True)
    }


def _nat_outgoing(installation: Installation, nodes: Sequence[Node]) -> bool:
    """``natOutgoing`` of the pool whose pods the run's own stand for: the one of these nodes."""
    ordinary = [
        pool for pool in installation.pools if not pool.run_id and pool.offers_pod_addresses
    ]
    theirs = [pool for node in nodes for pool in ordinary if pool.serves(node.labels)] or ordinary
    return all(pool.nat_outgoing for pool in theirs)


def node_selector(nodes: Sequence[Node]) -> str:
    """Return a Calico selector for just these nodes."""
    names = sorted(node.labels.get("kubernetes.io/hostname", node.name) for node in nodes)
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"kubernetes.io/hostname in {{ {quoted} }}"


def create_pool(
    api: Api, group: ApiGroup, mode: CalicoMode, planned: dict[str, Any], changes: Changes
) -> IPPool:
    """Create the pool that was planned for a mode; returns it as the API server has it.

    Raises:
        ModeUnavailableError: this cluster accepts no such pool.
    """
    name, spec = planned["metadata"]["name"], planned["spec"]
    what = f"created IPPool {name}: {spec['cidr']}, mode {mode}"
    with changes.recording(what, ObjectRef.pool(name), before=None, after=spec):
        try:
            made = IPPool.of(api.create(calico_path(group, "ippools"), planned))
        except InvalidError as exc:
            raise _refused(mode, exc) from exc
    assert made is not None
    return made


def remove_pool(
    api: Api, name: str, group: ApiGroup, *, run_id: str, shape: ApiShape, changes: Changes
) -> None:
    """Delete a dedicated pool, with the IPAM blocks in it; fine if it is gone.

    Only ``projectcalico.org/v3`` cleans up behind a pool. Through the raw v1 CRDs it is done
    here in the same order: disable, let calico-node give its tunnel addresses back, release the
    blocks, delete.

    Raises:
        RestoreError: the pool is not the run's own, others use it, or it does not go away.
    """
    path, target = calico_path(group, "ippools", name), ObjectRef.pool(name)
    if (raw := api.find(path)) is None:
        changes.found_restored(f"IPPool {name} is gone", target, there=None)
        return
    _require_own(raw, name, run_id)
    cidr = ip_network(str(raw["spec"]["cidr"]))
    assert isinstance(cidr, IPv4Network)
    _refuse_while_used(api, group, name, cidr, run_id=run_id, changes=changes)
    with changes.recording(
        f"deleted IPPool {name}", target, before=raw["spec"], after=None, state="restored"
    ):
        if group == V1:
            _write_own(api, group, name, {"disabled": True}, run_id=run_id)
            _release_blocks(api, cidr, changes)
        api.delete(path)
        _await_gone(api, path, name)
        if shape != "C":
            _release_blocks(api, cidr, changes)


def is_own_pool(raw: Mapping[str, Any], run_id: str) -> bool:
    """Return whether a pool was made by a run, by its own labels and its name."""
    labels = labels_of(raw)
    return (
        bool(run_id)
        and labels.get(MANAGED_BY_LABEL) == MANAGED_BY
        and labels.get(RUN_LABEL) == run_id
        and raw["metadata"]["name"] in [pool_name(run_id, mode) for mode in CalicoMode]
    )


def _require_own(raw: Mapping[str, Any], name: str, run_id: str) -> None:
    if not is_own_pool(raw, run_id):
        labels = labels_of(raw)
        raise RestoreError(
            f"IPPool {name} was not made by run {run_id}, so it is not deleted",
            found=f"label {RUN_LABEL} is {labels.get(RUN_LABEL) or 'missing'}, "
            f"{MANAGED_BY_LABEL} is {labels.get(MANAGED_BY_LABEL) or 'missing'}",
            remedy="Find out who made it.",
        )


def _write_own(
    api: Api, group: ApiGroup, name: str, fields: Mapping[str, Any], *, run_id: str
) -> None:
    def change(raw: Mapping[str, Any]) -> Mapping[str, Any]:
        _require_own(raw, name, run_id)
        return fields

    patch_pool(api, group, name, change)


def _refuse_while_used(
    api: Api,
    group: ApiGroup,
    name: str,
    cidr: IPv4Network,
    *,
    run_id: str,
    changes: Changes,
) -> None:
    """Keep a pool whose addresses pods have: without it they would have no routes.

    Pods of others name it themselves, or, before v3.30, were given to it by Calico.
    """
    try:
        pods = api.list("/api/v1/pods")
    except ForbiddenError:
        return
    users = [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']} ({address})"
        for pod in pods
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        for address in addresses_of(pod)
        if lies_in(address, cidr)
    ]
    if not users:
        return
    # Not disabled: the nodes would lose their tunnel addresses of it, and these pods their routes.
    tunnel_only = {"allowedUses": ["Tunnel"]}
    with changes.recording(
        f"closed IPPool {name} to new pods", ObjectRef.pool(name), before=None, after=tunnel_only
    ):
        _write_own(api, group, name, tunnel_only, run_id=run_id)
    kept = api.get(calico_path(group, "ippools", name))
    # Before v3.21 there is no such field, and it is dropped.
    closed = (kept.get("spec") or {}).get("allowedUses") == ["Tunnel"]
    anew = "as it gives out no more" if closed else "on other nodes, as it still gives out more"
    raise RestoreError(
        # All of it here: of several troubles in a restore, no remedies are shown.
        f"IPPool {name} is kept, as pods have addresses in it; have them made anew, {anew}",
        found=", ".join(sorted(users)),
        remedy="Then run `k8snet restore`.",
    )


def _release_blocks(api: Api, cidr: IPv4Network, changes: Changes) -> None:
    """Delete the empty IPAM blocks in a network and what ties them to nodes."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    rest = pauses()
    try:
        while True:
            inside = _in_network(api.list(calico_path(V1, "ipamblocks")), cidr)
            empty = [block for block in inside if not _allocated(block)]
            for block in empty:
                _release(api, "ipamblocks", block, changes)
            if len(empty) == len(inside):
                break
            if time.monotonic() > deadline:
                return
            rest()
        for affinity in _in_network(api.list(calico_path(V1, "blockaffinities")), cidr):
            _release(api, "blockaffinities", affinity, changes)
    except (ForbiddenError, NotFoundError):
        # calico-kube-controllers collects blocks without a pool in time; it only takes longer.
        return


def _release(api: Api, plural: str, found: Mapping[str, Any], changes: Changes) -> None:
    target = ObjectRef(plural, str(found["metadata"]["name"]))
    api.delete(calico_path(V1, plural, target.name))
    changes.note(f"released {target}", target)


def _in_network(items: Iterable[dict[str, Any]], cidr: IPv4Network) -> list[dict[str, Any]]:
    return [one for one in items if lies_in(str((one.get("spec") or {}).get("cidr", "")), cidr)]


def _allocated(block: dict[str, Any]) -> bool:
    """Whether a block has addresses in use; those that only cool down are in nobody's.

    Until that is over they keep an attribute that says since when (``libcalico-go/lib/ipam/
    ipam_block.go``, v3.33: ReleasedAt).
    """
    spec = block.get("spec") or {}
    attributes = spec.get("attributes") or ()
    cooling = {i for i, one in enumerate(attributes) if (one or {}).get("releasedAt")}
    return any(one is not None and one not in cooling for one in spec.get("allocations") or ())


def _await_gone(api: Api, path: str, name: str) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    rest = pauses()
    while True:
        try:
            raw = api.get(path)
        except ApiError as exc:
            if isinstance(exc, NotFoundError) and exc.absent:
                return
            raw = {}
        if time.monotonic() > deadline:
            finalizers = (raw.get("metadata") or {}).get("finalizers") or []
            raise RestoreError(
                f"IPPool {name} does not go away",
                found=f"finalizers: {', '.join(finalizers) or 'none'}",
                remedy="See whether pods or IPAM blocks still use it; then `k8snet restore`.",
            )
        rest()


# -- Guarded writes -------------------------------------------------------------------------------

#: How often a write is tried again when others write the same object.
_TRIES = 5


def write_mode_fields(
    api: Api,
    group: ApiGroup,
    name: str,
    fields: Mapping[str, str | None],
    *,
    cidr: str,
    expected: Collection[CalicoMode] | None,
) -> None:
    """Write both mode fields of a pool in one patch; None removes a field.

    Args:
        api: the connection.
        group: the group to write through.
        name: the pool.
        fields: the value of each of the two fields.
        cidr: the pool's addresses; one of the same name with others is left alone.
        expected: the modes that are written over; None: whatever is there.

    Raises:
        CalicoError: the pool was replaced by another, or somebody else has changed its mode.
    """

    def change(raw: Mapping[str, Any]) -> Mapping[str, Any]:
        spec = raw.get("spec") or {}
        if str(spec.get("cidr")) != cidr:
            raise CalicoError(
                f"IPPool {name} has been replaced by another of that name",
                found=f"cidr {spec.get('cidr')}, expected {cidr}",
                remedy="Compare it with the journal by hand.",
            )
        if all(spec.get(field) == value for field, value in fields.items()):
            return {}
        if expected is not None and not is_in_mode(spec, expected):
            raise _changed_meanwhile(pool_change(raw, expected))
        return fields

    patch_pool(api, group, name, change)


def patch_pool(
    api: Api,
    group: ApiGroup,
    name: str,
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> None:
    """Patch a pool's spec as it is now, decided anew whenever somebody else has changed the pool.

    Args:
        api: the connection.
        group: the group to write through.
        name: the pool.
        change: from the pool to the fields to write; None removes one, no field writes nothing.

    Raises:
        CalicoError: others keep changing the pool.
    """
    path = calico_path(group, "ippools", name)
    for _ in range(_TRIES):
        raw = api.get(path)
        fields = change(raw)
        if not fields:
            return
        body = {
            "metadata": {"resourceVersion": raw["metadata"]["resourceVersion"]},
            "spec": dict(fields),
        }
        try:
            api.patch(path, body)
        except ConflictError:
            continue
        return
    raise CalicoError(
        f"IPPool {name} could not be written: others change it all the time",
        found=f"{_TRIES} conflicts in a row",
        remedy="Find out who else changes it.",
    )


def write_installation_entry(
    api: Api, cidr: str, encapsulation: str | None, *, expected: Collection[str] | None
) -> None:
    """Write the encapsulation of one pool of the operator's Installation; None removes it.

    Args:
        api: the connection.
        cidr: the pool.
        encapsulation: what to write.
        expected: the encapsulations that are written over; None: whatever is there.

    Raises:
        InvalidError: the API server refuses the value.
        CalicoError: the Installation has no such pool, or somebody else has changed it.
    """
    failed: list[dict[str, Any]] = []
    trouble: ApiError | None = None
    for _ in range(_TRIES):
        installation = api.get(INSTALLATION_PATH)
        index, entry = _entry_of(installation, cidr)
        if entry.get("encapsulation") == encapsulation:
            return
        if expected is not None and encapsulation_of(entry) not in expected:
            raise _changed_meanwhile(entry_change(installation, entry, expected))
        place = f"/spec/calicoNetwork/ipPools/{index}"
        # The tests keep the patch from hitting another pool if the list changes meanwhile, and
        # from undoing what others write when it is repeated. No test finds a field absent, so
        # there the whole object has to be the same.
        guards = {f"{place}/cidr": cidr}
        if "encapsulation" in entry:
            guards[f"{place}/encapsulation"] = entry["encapsulation"]
        else:
            guards["/metadata/resourceVersion"] = installation["metadata"]["resourceVersion"]
        tests = [{"op": "test", "path": path, "value": value} for path, value in guards.items()]
        if tests == failed and trouble is not None:
            # They hold: it was not they that failed.
            raise trouble
        change: dict[str, Any] = {"op": "add", "path": f"{place}/encapsulation"}
        change |= {"op": "remove"} if encapsulation is None else {"value": encapsulation}
        try:
            api.patch(INSTALLATION_PATH, [*tests, change], kind="json", idempotent=True)
        except ConflictError as exc:
            failed, trouble = [], exc
        except InvalidError as exc:
            failed, trouble = tests, exc
        else:
            return
    assert trouble is not None
    raise CalicoError(
        "The operator's Installation could not be written: others change it all the time",
        found=f"{_TRIES} failed patches in a row, the last: {trouble.brief}",
        remedy="Find out who else changes it.",
    )


# -- Whose the state of an object is ---------------------------------------------------------------


def is_in_mode(spec: Mapping[str, Any], modes: Iterable[CalicoMode]) -> bool:
    """Return whether a pool's mode fields are just those of one of these modes."""
    found = {field: spec.get(field) or "Never" for field in ("ipipMode", "vxlanMode")}
    return found in [mode.pool_fields for mode in modes]


def encapsulation_of(entry: Mapping[str, Any]) -> str:
    """Return the encapsulation of a pool of the Installation; the default is IPIP."""
    return str(entry.get("encapsulation") or CalicoMode.IPIP_ALWAYS.encapsulation)


def pool_change(raw: Mapping[str, Any], expected: Iterable[CalicoMode]) -> str:
    """Say who has changed a pool's mode, and what was expected of it."""
    spec = raw.get("spec") or {}
    found = ", ".join(f"{field} {spec.get(field)}" for field in ("ipipMode", "vxlanMode"))
    modes = " or ".join(sorted(map(str, expected)))
    return (
        f"IPPool {raw['metadata']['name']} was changed by {_last_writer(raw, 'ipipMode')} since: "
        f"{found}, expected {modes}"
    )


def entry_change(
    installation: Mapping[str, Any], entry: Mapping[str, Any], expected: Iterable[str]
) -> str:
    """Say who has changed a pool of the Installation, and what was expected of it."""
    return (
        f"pool {entry.get('cidr')} of the operator's Installation was changed by "
        f"{_last_writer(installation, 'ipPools')} since: encapsulation "
        f"{entry.get('encapsulation')}, expected {' or '.join(sorted(expected))}"
    )


def written_by_others(raw: Mapping[str, Any], original: Mapping[str, Any]) -> str:
    """Say who wrote the mode of a pool, if that is known and was no run.

    The API server keeps for each field who gave it its value: a journal that claims a mode which
    somebody else wrote is overtaken, or forged.

    Args:
        raw: the pool as it is, of a server that keeps such a record by itself.
        original: the mode fields that it had.
    """
    spec = raw.get("spec") or {}
    for field in ("ipipMode", "vxlanMode"):
        if (spec.get(field) or "Never") != (original.get(field) or "Never"):
            newest = _newest_entry(raw, field)
            if newest is not None and newest.get("manager") != FIELD_MANAGER:
                return (
                    f"IPPool {raw['metadata']['name']} got its {field} {spec.get(field)} from "
                    f"{_last_writer(raw, field)}, and from no run"
                )
    return ""


def _newest_entry(raw: Mapping[str, Any], field: str) -> Mapping[str, Any] | None:
    entries = [
        one
        for one in raw["metadata"].get("managedFields") or ()
        if f'"f:{field}"' in json.dumps(one.get("fieldsV1"))
    ]
    # Times are of whole seconds: of one second, what a run wrote counts as the last.
    entries.sort(key=lambda one: (str(one.get("time", "")), one.get("manager") == FIELD_MANAGER))
    return entries[-1] if entries else None


def _last_writer(raw: Mapping[str, Any], field: str) -> str:
    """Who wrote a field of the spec last, where the API server keeps a record of that."""
    newest = _newest_entry(raw, field)
    if newest is None:
        return "somebody (the API server does not say who)"
    return f"{newest.get('manager')!r} at {newest.get('time')}"


def _changed_meanwhile(what: str) -> CalicoError:
    return CalicoError(
        "Somebody else changes the mode of the pool under test, and that is not written over",
        found=what,
        remedy="Find out who it is, and agree with them who may change it when.",
    )


def installation_entries(installation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the pools that the operator's Installation lists."""
    network = (installation.get("spec") or {}).get("calicoNetwork") or {}
    return list(network.get("ipPools") or ())


def _entry_of(installation: Mapping[str, Any], cidr: str) -> tuple[int, Mapping[str, Any]]:
    entries = installation_entries(installation)
    for index, entry in enumerate(entries):
        if entry.get("cidr") == cidr:
            return index, entry
    raise CalicoError(
        f"The operator's Installation lists no pool {cidr}",
        found="pools: " + (", ".join(str(one.get("cidr")) for one in entries) or "none"),
        remedy="Test with --k8snet-change=dedicated.",
    )
