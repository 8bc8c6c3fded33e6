"""What the type table means: the fields of a type, and checking an object against it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from typing import Any, Literal

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object

# One type to a line: ``Name: field:type ...``, fields in the order of their protobuf numbers. It
# is the one source for four things: which fields are unknown or of the wrong type, how a strategic
# merge patch treats a list, the OpenAPI document, and decoding protobuf, in which kubectl sends
# some objects. A kind without a line here is open: anything goes.
#
#   s i b q x o *    string, integer, boolean, quantity (a string or a number), bytes (base64 in
#                    JSON), an object with whatever is in it, anything
#   t u              a time, in seconds or in microseconds
#   is               an integer or a string
#   Name             another type of this table
#   {s}              a map from strings to a type
#   [T] [T|key]      a list that is replaced as a whole; one that is merged by ``key``
#   [T|+]            a list of strings that is merged as a set
#   ^Name            another type whose fields count as this type's own
#   @                it is a kind: ``apiVersion`` and ``kind`` come first, without a number
#   - ...            a number that is not used; further fields may follow (types that the server
#                    writes and nobody submits)
TYPES = """
ObjectMeta: name:s generateName:s namespace:s selfLink:s uid:s resourceVersion:s generation:i
  creationTimestamp:t deletionTimestamp:t deletionGracePeriodSeconds:i labels:{s} annotations:{s}
  ownerReferences:[OwnerReference|uid] finalizers:[s|+] - - managedFields:[*]
OwnerReference: kind:s - name:s uid:s apiVersion:s - controller:b blockOwnerDeletion:b
LocalObjectReference: name:s
ObjectReference: kind:s namespace:s name:s uid:s apiVersion:s resourceVersion:s fieldPath:s
Condition: type:s status:s observedGeneration:i lastTransitionTime:t reason:s message:s
LabelSelector: matchLabels:{s} matchExpressions:[LabelSelectorRequirement]
LabelSelectorRequirement: key:s operator:s values:[s]
DeleteOptions: @ gracePeriodSeconds:i preconditions:Preconditions orphanDependents:b
  propagationPolicy:s dryRun:[s] ignoreStoreReadErrorWithClusterBreakingPotential:b
Preconditions: uid:s resourceVersion:s

Namespace: @ metadata:ObjectMeta spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec: finalizers:[s]
NamespaceStatus: phase:s conditions:[NamespaceCondition|type]
NamespaceCondition: type:s status:s - lastTransitionTime:t reason:s message:s

Node: @ metadata:ObjectMeta spec:NodeSpec status:NodeStatus
NodeSpec: podCIDR:s externalID:s providerID:s unschedulable:b taints:[Taint|key] configSource:*
  podCIDRs:[s|+]
Taint: key:s value:s effect:s timeAdded:t
NodeStatus: capacity:{q} allocatable:{q} phase:s conditions:[NodeCondition|type]
  addresses:[NodeAddress|type]
  daemonEndpoints:NodeDaemonEndpoints nodeInfo:NodeSystemInfo images:[ContainerImage] ...
NodeCondition: type:s status:s lastHeartbeatTime:t lastTransitionTime:t reason:s message:s
NodeDaemonEndpoints: kubeletEndpoint:DaemonEndpoint
DaemonEndpoint: Port:i
NodeSystemInfo: machineID:s systemUUID:s bootID:s kernelVersion:s osImage:s
  containerRuntimeVersion:s kubeletVersion:s kubeProxyVersion:s operatingSystem:s architecture:s ...
ContainerImage: names:[s] sizeBytes:i
NodeAddress: type:s address:s

Pod: @ metadata:ObjectMeta spec:PodSpec status:PodStatus
PodSpec: volumes:[Volume|name] containers:[Container|name] restartPolicy:s
  terminationGracePeriodSeconds:i activeDeadlineSeconds:i dnsPolicy:s nodeSelector:{s}
  serviceAccountName:s serviceAccount:s nodeName:s hostNetwork:b hostPID:b hostIPC:b
  securityContext:PodSecurityContext imagePullSecrets:[LocalObjectReference|name] hostname:s
  subdomain:s affinity:Affinity schedulerName:s initContainers:[Container|name]
  automountServiceAccountToken:b tolerations:[Toleration] hostAliases:[HostAlias|ip]
  priorityClassName:s priority:i dnsConfig:PodDNSConfig shareProcessNamespace:b
  readinessGates:[PodReadinessGate] runtimeClassName:s enableServiceLinks:b preemptionPolicy:s
  overhead:{q}
  topologySpreadConstraints:[TopologySpreadConstraint|topologyKey] ephemeralContainers:[*|name]
  setHostnameAsFQDN:b os:PodOS hostUsers:b schedulingGates:[PodSchedulingGate|name]
  resourceClaims:[*|name] resources:ResourceRequirements
PodStatus: phase:s conditions:[PodCondition|type] message:s reason:s hostIP:s podIP:s startTime:t
  containerStatuses:[ContainerStatus] qosClass:s initContainerStatuses:[ContainerStatus]
  nominatedNodeName:s podIPs:[PodIP|ip] ephemeralContainerStatuses:[ContainerStatus] resize:s
  resourceClaimStatuses:[o] hostIPs:[PodIP|ip] ...
PodCondition: type:s status:s lastProbeTime:t lastTransitionTime:t reason:s message:s
  observedGeneration:i
PodIP: ip:s
ContainerStatus: name:s state:ContainerState lastState:ContainerState ready:b restartCount:i
  image:s imageID:s containerID:s started:b ...
ContainerState: waiting:ContainerStateWaiting running:ContainerStateRunning
  terminated:ContainerStateTerminated
ContainerStateWaiting: reason:s message:s
ContainerStateRunning: startedAt:t
ContainerStateTerminated: exitCode:i signal:i reason:s message:s startedAt:t finishedAt:t
  containerID:s
PodSecurityContext: seLinuxOptions:SELinuxOptions runAsUser:i runAsNonRoot:b supplementalGroups:[i]
  fsGroup:i runAsGroup:i sysctls:[Sysctl] windowsOptions:* fsGroupChangePolicy:s
  seccompProfile:SeccompProfile appArmorProfile:SeccompProfile supplementalGroupsPolicy:s
  seLinuxChangePolicy:s
Sysctl: name:s value:s
SeccompProfile: type:s localhostProfile:s
Affinity: nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity
NodeAffinity: requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
  preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
PreferredSchedulingTerm: weight:i preference:NodeSelectorTerm
PodAffinity: requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
  preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
WeightedPodAffinityTerm: weight:i podAffinityTerm:PodAffinityTerm
PodAffinityTerm: labelSelector:LabelSelector namespaces:[s] topologyKey:s
  namespaceSelector:LabelSelector matchLabelKeys:[s] mismatchLabelKeys:[s]
TopologySpreadConstraint: maxSkew:i topologyKey:s whenUnsatisfiable:s labelSelector:LabelSelector
  minDomains:i nodeAffinityPolicy:s nodeTaintsPolicy:s matchLabelKeys:[s]
PodSchedulingGate: name:s
PodReadinessGate: conditionType:s
PodOS: name:s
NodeSelector: nodeSelectorTerms:[NodeSelectorTerm]
NodeSelectorTerm: matchExpressions:[LabelSelectorRequirement]
  matchFields:[LabelSelectorRequirement]
Toleration: key:s operator:s value:s effect:s tolerationSeconds:i
HostAlias: ip:s hostnames:[s]
PodDNSConfig: nameservers:[s] searches:[s] options:[PodDNSConfigOption]
PodDNSConfigOption: name:s value:s

Container: name:s image:s command:[s] args:[s] workingDir:s ports:[ContainerPort|containerPort]
  env:[EnvVar|name] resources:ResourceRequirements volumeMounts:[VolumeMount|mountPath]
  livenessProbe:Probe readinessProbe:Probe lifecycle:Lifecycle terminationMessagePath:s
  imagePullPolicy:s securityContext:SecurityContext stdin:b stdinOnce:b tty:b
  envFrom:[EnvFromSource] terminationMessagePolicy:s volumeDevices:[*|devicePath]
  startupProbe:Probe resizePolicy:[*] restartPolicy:s
ContainerPort: name:s hostPort:i containerPort:i protocol:s hostIP:s
EnvVar: name:s value:s valueFrom:EnvVarSource
EnvVarSource: fieldRef:ObjectFieldSelector resourceFieldRef:ResourceFieldSelector
  configMapKeyRef:KeySelector secretKeyRef:KeySelector
ObjectFieldSelector: apiVersion:s fieldPath:s
ResourceFieldSelector: containerName:s resource:s divisor:q
KeySelector: ^LocalObjectReference key:s optional:b
EnvFromSource: prefix:s configMapRef:OptionalReference secretRef:OptionalReference
OptionalReference: ^LocalObjectReference optional:b
ResourceRequirements: limits:{q} requests:{q} claims:[*|name]
SecurityContext: capabilities:Capabilities privileged:b seLinuxOptions:SELinuxOptions runAsUser:i
  runAsNonRoot:b readOnlyRootFilesystem:b allowPrivilegeEscalation:b runAsGroup:i procMount:s
  windowsOptions:* seccompProfile:SeccompProfile appArmorProfile:SeccompProfile
SELinuxOptions: user:s role:s type:s level:s
Capabilities: add:[s] drop:[s]
Probe: ^ProbeHandler initialDelaySeconds:i timeoutSeconds:i periodSeconds:i successThreshold:i
  failureThreshold:i terminationGracePeriodSeconds:i
ProbeHandler: exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction grpc:GRPCAction
GRPCAction: port:i service:s
ExecAction: command:[s]
HTTPGetAction: path:s port:is host:s scheme:s httpHeaders:[HTTPHeader]
HTTPHeader: name:s value:s
TCPSocketAction: port:is host:s
Lifecycle: postStart:LifecycleHandler preStop:LifecycleHandler
LifecycleHandler: exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction
  sleep:SleepAction
SleepAction: seconds:i
VolumeMount: name:s readOnly:b mountPath:s subPath:s mountPropagation:s subPathExpr:s
  recursiveReadOnly:s
Volume: name:s ^VolumeSource
VolumeSource: hostPath:HostPath emptyDir:EmptyDir gcePersistentDisk:* awsElasticBlockStore:*
  gitRepo:* secret:SecretVolume nfs:* iscsi:* glusterfs:* persistentVolumeClaim:ClaimVolume rbd:*
  flexVolume:* cinder:* cephfs:* flocker:* downwardAPI:* fc:* azureFile:*
  configMap:ConfigMapVolume vsphereVolume:* quobyte:* azureDisk:* photonPersistentDisk:*
  portworxVolume:* scaleIO:* projected:* storageos:* csi:* ephemeral:* image:*
EmptyDir: medium:s sizeLimit:q
HostPath: path:s type:s
ClaimVolume: claimName:s readOnly:b
KeyToPath: key:s path:s mode:i
ConfigMapVolume: ^LocalObjectReference items:[KeyToPath] defaultMode:i optional:b
SecretVolume: secretName:s items:[KeyToPath] defaultMode:i optional:b
Binding: @ metadata:ObjectMeta target:ObjectReference
Eviction: @ metadata:ObjectMeta deleteOptions:DeleteOptions

Service: @ metadata:ObjectMeta spec:ServiceSpec status:ServiceStatus
ServiceSpec: ports:[ServicePort|port] selector:{s} clusterIP:s type:s externalIPs:[s] -
  sessionAffinity:s loadBalancerIP:s loadBalancerSourceRanges:[s] externalName:s
  externalTrafficPolicy:s healthCheckNodePort:i publishNotReadyAddresses:b
  sessionAffinityConfig:SessionAffinityConfig - - ipFamilyPolicy:s clusterIPs:[s] ipFamilies:[s]
  allocateLoadBalancerNodePorts:b loadBalancerClass:s internalTrafficPolicy:s
  trafficDistribution:s
SessionAffinityConfig: clientIP:ClientIPConfig
ClientIPConfig: timeoutSeconds:i
ServicePort: name:s protocol:s port:i targetPort:is nodePort:i appProtocol:s
ServiceStatus: loadBalancer:LoadBalancerStatus conditions:[Condition|type]
LoadBalancerStatus: ingress:[LoadBalancerIngress]
LoadBalancerIngress: ip:s hostname:s ipMode:s ports:[*]

Endpoints: @ metadata:ObjectMeta subsets:[EndpointSubset]
EndpointSubset: addresses:[EndpointAddress] notReadyAddresses:[EndpointAddress]
  ports:[EndpointPort]
EndpointAddress: ip:s targetRef:ObjectReference hostname:s nodeName:s
EndpointPort: name:s protocol:s port:i appProtocol:s

EndpointSlice: @ metadata:ObjectMeta endpoints:[Endpoint] ports:[EndpointPort] addressType:s
EndpointConditions: ready:b serving:b terminating:b
Endpoint: addresses:[s] conditions:EndpointConditions hostname:s targetRef:ObjectReference
  deprecatedTopology:{s} nodeName:s zone:s hints:o
Event: @ metadata:ObjectMeta involvedObject:ObjectReference reason:s message:s source:EventSource
  firstTimestamp:t lastTimestamp:t count:i type:s eventTime:u series:EventSeries action:s
  related:ObjectReference reportingComponent:s reportingInstance:s
EventSeries: count:i lastObservedTime:u
EventSource: component:s host:s

ConfigMap: @ metadata:ObjectMeta data:{s} binaryData:{x} immutable:b
Secret: @ metadata:ObjectMeta data:{x} type:s stringData:{s} immutable:b
ServiceAccount: @ metadata:ObjectMeta secrets:[ObjectReference|name]
  imagePullSecrets:[LocalObjectReference|name] automountServiceAccountToken:b

ResourceQuota: @ metadata:ObjectMeta spec:ResourceQuotaSpec status:ResourceQuotaStatus
ResourceQuotaSpec: hard:{q} scopes:[s] scopeSelector:*
ResourceQuotaStatus: hard:{q} used:{q}
LimitRange: @ metadata:ObjectMeta spec:LimitRangeSpec
LimitRangeSpec: limits:[LimitRangeItem]
LimitRangeItem: type:s max:{q} min:{q} default:{q} defaultRequest:{q} maxLimitRequestRatio:{q}
NetworkPolicy: @ metadata:ObjectMeta spec:NetworkPolicySpec status:*
NetworkPolicySpec: podSelector:LabelSelector ingress:[IngressRule] egress:[EgressRule]
  policyTypes:[s]
IngressRule: ports:[PolicyPort] from:[PolicyPeer]
EgressRule: ports:[PolicyPort] to:[PolicyPeer]
PolicyPort: protocol:s port:is endPort:i
PolicyPeer: podSelector:LabelSelector namespaceSelector:LabelSelector ipBlock:IPBlock
IPBlock: cidr:s except:[s]

Job: @ metadata:ObjectMeta spec:JobSpec status:JobStatus
JobSpec: parallelism:i completions:i activeDeadlineSeconds:i selector:LabelSelector
  manualSelector:b template:PodTemplateSpec backoffLimit:i ttlSecondsAfterFinished:i
  completionMode:s suspend:b podFailurePolicy:* backoffLimitPerIndex:i maxFailedIndexes:i
  podReplacementPolicy:s managedBy:s successPolicy:*
JobStatus: conditions:[JobCondition|type] startTime:t completionTime:t active:i succeeded:i
  failed:i ...
JobCondition: type:s status:s lastProbeTime:t lastTransitionTime:t reason:s message:s

CustomResourceDefinition: @ metadata:ObjectMeta spec:CustomResourceDefinitionSpec status:*
CustomResourceDefinitionSpec: group:s - names:DefinitionNames scope:s - -
  versions:[DefinitionVersion] - conversion:* preserveUnknownFields:b
DefinitionNames: plural:s singular:s shortNames:[s] kind:s listKind:s categories:[s]
DefinitionVersion: name:s served:b storage:b schema:DefinitionSchema subresources:o
  additionalPrinterColumns:[PrinterColumn] deprecated:b deprecationWarning:s selectableFields:*
DefinitionSchema: openAPIV3Schema:o
PrinterColumn: name:s type:s format:s description:s priority:i jsonPath:s

TokenRequest: @ metadata:ObjectMeta spec:TokenRequestSpec status:*
TokenRequestSpec: audiences:[s] - boundObjectRef:* expirationSeconds:i

Deployment: @ metadata:ObjectMeta spec:DeploymentSpec status:DeploymentStatus
DeploymentSpec: replicas:i selector:LabelSelector template:PodTemplateSpec
  strategy:DeploymentStrategy minReadySeconds:i revisionHistoryLimit:i paused:b -
  progressDeadlineSeconds:i
DeploymentStrategy: type:s rollingUpdate:RollingUpdate
RollingUpdate: maxUnavailable:is maxSurge:is
DeploymentCondition: type:s status:s - reason:s message:s lastUpdateTime:t lastTransitionTime:t
DeploymentStatus: observedGeneration:i replicas:i updatedReplicas:i availableReplicas:i
  unavailableReplicas:i conditions:[DeploymentCondition|type] readyReplicas:i collisionCount:i ...
PodTemplateSpec: metadata:ObjectMeta spec:PodSpec
ReplicaSet: @ metadata:ObjectMeta spec:ReplicaSetSpec status:ReplicaSetStatus
ReplicaSetSpec: replicas:i selector:LabelSelector template:PodTemplateSpec minReadySeconds:i
WorkloadCondition: type:s status:s lastTransitionTime:t reason:s message:s
ReplicaSetStatus: replicas:i fullyLabeledReplicas:i observedGeneration:i readyReplicas:i
  availableReplicas:i conditions:[WorkloadCondition|type] ...
ReplicationController: @ metadata:ObjectMeta spec:ReplicationControllerSpec
  status:ReplicaSetStatus
ReplicationControllerSpec: replicas:i selector:{s} template:PodTemplateSpec minReadySeconds:i
DaemonSet: @ metadata:ObjectMeta spec:DaemonSetSpec status:DaemonSetStatus
DaemonSetSpec: selector:LabelSelector template:PodTemplateSpec
  updateStrategy:DaemonSetUpdateStrategy minReadySeconds:i - revisionHistoryLimit:i
DaemonSetUpdateStrategy: type:s rollingUpdate:RollingUpdate
DaemonSetStatus: currentNumberScheduled:i numberMisscheduled:i desiredNumberScheduled:i
  numberReady:i observedGeneration:i updatedNumberScheduled:i numberAvailable:i
  numberUnavailable:i collisionCount:i conditions:[WorkloadCondition|type] ...
Scale: @ metadata:ObjectMeta spec:ScaleSpec status:*
ScaleSpec: replicas:i

Lease: @ metadata:ObjectMeta spec:LeaseSpec
LeaseSpec: holderIdentity:s leaseDurationSeconds:i acquireTime:u renewTime:u leaseTransitions:i
  strategy:s preferredHolder:s

Role: @ metadata:ObjectMeta rules:[PolicyRule]
ClusterRole: @ metadata:ObjectMeta rules:[PolicyRule] aggregationRule:AggregationRule
PolicyRule: verbs:[s] apiGroups:[s] resources:[s] resourceNames:[s] nonResourceURLs:[s]
AggregationRule: clusterRoleSelectors:[LabelSelector]
RoleBinding: @ metadata:ObjectMeta subjects:[Subject] roleRef:RoleRef
ClusterRoleBinding: @ metadata:ObjectMeta subjects:[Subject] roleRef:RoleRef
Subject: kind:s apiGroup:s name:s namespace:s
RoleRef: apiGroup:s kind:s name:s

TokenReview: @ metadata:ObjectMeta spec:TokenReviewSpec status:*
TokenReviewSpec: token:s audiences:[s]
SelfSubjectReview: @ metadata:ObjectMeta status:*
SelfSubjectAccessReview: @ metadata:ObjectMeta spec:SelfSubjectAccessReviewSpec status:*
SelfSubjectAccessReviewSpec: resourceAttributes:ResourceAttributes
  nonResourceAttributes:NonResourceAttributes
ResourceAttributes: namespace:s verb:s group:s version:s resource:s subresource:s name:s
  fieldSelector:* labelSelector:*
NonResourceAttributes: path:s verb:s
SelfSubjectRulesReview: @ metadata:ObjectMeta spec:SelfSubjectRulesReviewSpec status:*
SelfSubjectRulesReviewSpec: namespace:s

IPPool: @ metadata:ObjectMeta spec:IPPoolSpec status:*
IPPoolSpec: cidr:s vxlanMode:s ipipMode:s natOutgoing:b disabled:b disableBGPExport:b blockSize:i
  nodeSelector:s namespaceSelector:s assignmentMode:s allowedUses:[s] ipip:* nat-outgoing:b
CalicoNodeStatus: @ metadata:ObjectMeta spec:CalicoNodeStatusSpec status:*
CalicoNodeStatusSpec: node:s classes:[s] updatePeriodSeconds:i
"""


_QUANTITY = re.compile(
    r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$"
)

#: The layouts of metav1.Time and metav1.MicroTime, piece by piece: what fits, and its name in Go.
_SECONDS = (
    (r"\d{4}", "2006"), ("-", "-"), (r"\d\d", "01"), ("-", "-"), (r"\d\d", "02"), ("T", "T"),
    (r"\d\d", "15"), (":", ":"), (r"\d\d", "04"), (":", ":"), (r"\d\d(\.\d+)?", "05"),
)  # fmt: skip
_MICROSECONDS = (*_SECONDS[:-1], (r"\d\d", "05"), (r"\.\d{6}", ".000000"))
_ZONE = (r"Z|[+-]\d\d:\d\d", "Z07:00")


def _time_error(text: str, letter: str) -> str:
    """What Go says of a text that is no time of the layout; empty when it is one."""
    layout = (*(_SECONDS if letter == "t" else _MICROSECONDS), _ZONE)
    said = f'parsing time "{text}" as "{"".join(name for _, name in layout)}": '
    rest = text
    for pattern, name in layout:
        found = re.match(pattern, rest)
        if found is None:
            return f'{said}cannot parse "{rest}" as "{name}"'
        rest = rest[found.end() :]
    return f'parsing time "{text}": extra text: "{rest}"' if rest else ""


_NO_QUANTITY = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)

Shape = Literal["value", "map", "list", "inline"]


@dataclass(frozen=True, slots=True)
class Field:
    """The type of one field.

    Attributes:
        of: the type's letter or name: of the value, or of each element.
        shape: a single value, a map of them, a list of them, or another type's fields in place.
        merge_key: of a list that strategic merge patches element by element: the key, or ``+``
            for a set of strings; empty for a list that is replaced.
    """

    of: str
    shape: Shape = "value"
    merge_key: str = ""


@dataclass(frozen=True, slots=True)
class Type:
    """One type.

    Attributes:
        name: its name in the table.
        fields: its fields by name, those of inlined types among them.
        numbered: name and type by protobuf number, as encoded: an inlined type is one number.
        open: whether it may have fields that the table does not know.
    """

    name: str
    fields: Mapping[str, Field]
    numbered: Mapping[int, tuple[str, Field]]
    open: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not fit: an unknown field, or a value of the wrong type.

    Attributes:
        kind: which of the two.
        path: the field with list indices, ``spec.containers[0].image``.
        owner: the type that has the field, ``Container``.
        wanted: the type that belongs there, in Go's words; empty for an unknown field.
        found: the JSON type that is there instead.
        why: what Go says of the value, where it says more than its type.
    """

    kind: Literal["unknown", "type"]
    path: str
    owner: str
    wanted: str = ""
    found: str = ""
    why: str = ""


@cache
def types() -> Mapping[str, Type]:
    """Every type of the table by its name."""
    logical_lines = re.sub(r"\n +", " ", TYPES).splitlines()
    lines = dict(line.split(":", 1) for line in logical_lines if line.strip())
    return {name: _parse_type(name, lines) for name in lines}


def _parse_type(name: str, lines: Mapping[str, str]) -> Type:
    words = lines[name].split()
    fields: dict[str, Field] = {}
    numbered: dict[int, tuple[str, Field]] = {}
    number = 0
    for word in words:
        if word == "@":
            fields |= {"apiVersion": Field("s"), "kind": Field("s")}
        elif word.startswith("^"):
            number += 1
            numbered[number] = ("", Field(word[1:], "inline"))
            fields |= _parse_type(word[1:], lines).fields
        elif word == "-":
            number += 1
        elif word != "...":
            number += 1
            field_name, _, notation = word.partition(":")
            fields[field_name] = _parse_field(notation)
            numbered[number] = (field_name, fields[field_name])
    return Type(name, fields, numbered, open="..." in words)


def _parse_field(notation: str) -> Field:
    if notation.startswith("{"):
        return Field(notation[1:-1], "map")
    if notation.startswith("["):
        of, _, merge_key = notation[1:-1].partition("|")
        return Field(of, "list", merge_key)
    return Field(notation)


def field_of(type_name: str, name: str) -> Field | None:
    """The field of a type, or None where the table does not know it."""
    found = types().get(type_name)
    return found.fields.get(name) if found else None


def conform(kind: str, obj: Object) -> list[Problem]:
    """Make an object in place what decoding it into a Go type would: without unknown fields.

    Of a kind that the table does not know, only the metadata are seen to.

    Returns:
        What was removed, and what has the wrong type (that is left as it is).
    """
    if kind in types():
        return list(_conform_type(kind, obj, ""))
    return list(_conform_field(Field("ObjectMeta"), obj.get("metadata"), "metadata", kind))


def _conform_type(type_name: str, value: Object, path: str) -> Iterator[Problem]:
    known = types()[type_name]
    for name in list(value):
        field = known.fields.get(name)
        where = f"{path}.{name}" if path else name
        if field is not None:
            yield from _conform_field(field, value[name], where, type_name)
        elif not known.open:
            del value[name]
            yield Problem("unknown", where, type_name)


def _conform_field(field: Field, value: Any, path: str, owner: str) -> Iterator[Problem]:
    if value is None:
        return
    if field.shape == "value":
        yield from _conform_value(field.of, value, path, owner)
        return
    container, wanted = (list, "[]") if field.shape == "list" else (dict, "map[string]")
    if not isinstance(value, container):
        yield Problem("type", path, owner, wanted + _go_type(field.of), json_type(value))
        return
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        if value[key] is None:
            # To Go, null within a list or map is the zero of its type.
            value[key] = _zero(field.of)
        elif field.of == "q":
            value[key] = quantity(value[key])
        where = f"{path}[{key}]" if field.shape == "list" else path
        yield from _conform_value(field.of, value[key], where, owner)


def _zero(of: str) -> Any:
    return {"s": "", "x": "", "i": 0, "b": False, "q": "0", "*": None}.get(of, {})


def _conform_value(of: str, value: Any, path: str, owner: str) -> Iterator[Problem]:
    if of == "*":
        return
    if of in types() and isinstance(value, dict):
        yield from _conform_type(of, value, path)
    elif of in types() or not _is_a(of, value):
        why = ""
        if isinstance(value, str):
            why = _error_of(of, value)
        yield Problem("type", path, owner, _go_type(of), json_type(value), why)


def _is_a(letter: str, value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    match letter:
        case "i":
            return whole
        case "b":
            return isinstance(value, bool)
        case "o":
            return isinstance(value, dict)
        case "is" if whole:
            return True
    if not isinstance(value, str):
        return False
    return not _error_of(letter, value)


def _error_of(letter: str, text: str) -> str:
    """What Go's decoder says of a text that is none of its type, if it says more than that."""
    if letter in ("t", "u"):
        return _time_error(text, letter)
    if letter == "x":
        return _base64_error(text)
    return _NO_QUANTITY if letter == "q" and not _QUANTITY.match(text) else ""


def _base64_error(text: str) -> str:
    plain = text.replace("\r", "").replace("\n", "")
    try:
        base64.b64decode(plain, validate=True)
    except ValueError:
        strange = re.search(r"[^A-Za-z0-9+/]", plain)
        # Of one that ends too early, where its last group of four began.
        at = strange.start() if strange else len(plain) // 4 * 4
        return f"illegal base64 data at input byte {at}"
    return ""


_POWERS = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    **{letter: Fraction(1000 ** (index + 1)) for index, letter in enumerate("kMGTPE")},
    **{f"{letter}i": Fraction(1024 ** (index + 1)) for index, letter in enumerate("KMGTPE")},
}  # fmt: skip


def amount(quantity: Any) -> Fraction:
    """How much a quantity is; nothing where it is no quantity."""
    if isinstance(quantity, Fraction):
        return quantity
    found = _QUANTITY.match(str(quantity))
    if found is None:
        return Fraction(0)
    suffix = found[3] or ""
    number = str(quantity)[: len(str(quantity)) - len(suffix)]
    if suffix[:1] in ("e", "E") and suffix[1:]:
        return Fraction(number) * Fraction(10) ** int(suffix[1:])
    return Fraction(number) * _POWERS[suffix]


def quantity(value: Any) -> Any:
    """A quantity in the form that the API server keeps: a number becomes its text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return f"{round(value * 1000)}m" if isinstance(value, float) else value


def _go_type(of: str) -> str:
    letters = {
        "s": "string", "i": "int32", "b": "bool", "t": "v1.Time", "u": "v1.MicroTime",
        "x": "[]uint8", "q": "resource.Quantity", "is": "intstr.IntOrString", "o": "v1.Object",
    }  # fmt: skip
    return letters.get(of, f"v1.{of}")


def json_type(value: Any) -> str:
    """The JSON type of a value, as Go's decoder names it."""
    if isinstance(value, float):
        return f"number {value}"
    names = {bool: "bool", dict: "object", list: "array", str: "string"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "number")


# -- Protobuf -------------------------------------------------------------------------------------
#
# kubectl sends so what it builds itself: ``kubectl create configmap``, ``auth can-i``,
# ``drain``. Answers are always JSON, which every client accepts.


MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"

# Go writes every field that is not a pointer, zero or not. A zero is dropped as "not given", but
# for the pointers among the fields: there it was given, and differs from the default.
_ZERO_IS_GIVEN = {
    "allocateLoadBalancerNodePorts", "allowPrivilegeEscalation", "automountServiceAccountToken",
    "enableServiceLinks", "exitCode", "fsGroup", "gracePeriodSeconds", "hostUsers",
    "leaseTransitions", "ready", "replicas", "restartCount", "revisionHistoryLimit", "runAsGroup",
    "runAsNonRoot", "runAsUser", "serving", "started", "terminating",
    "terminationGracePeriodSeconds", "tolerationSeconds",
}  # fmt: skip


def decode(body: bytes) -> Object:
    """The object in a request body.

    Raises:
        StatusError: 400, it is not Kubernetes' protobuf; 415, of a kind or with a field that the
            lab knows in JSON only.
    """
    if not body.startswith(_MAGIC):
        raise status.bad_request("the body is not in Kubernetes' protobuf encoding")
    try:
        envelope = dict(_fields(body[len(_MAGIC) :]))
        type_meta = dict(_fields(envelope[1]))
        api_version, kind = type_meta[1].decode(), type_meta[2].decode()
        if kind not in types():
            raise status.unsupported_media_type(("application/json", "application/yaml"))
        return {"apiVersion": api_version, "kind": kind, **_decode_type(kind, envelope[2])}
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        why = "the protobuf body cannot be decoded: it is cut off or garbled"
        raise status.bad_request(why) from None


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and raw value of each field: bytes, or an integer."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire_type == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field is cut off")
            yield number, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _decode_type(name: str, data: bytes) -> Object:
    known = types()[name]
    obj: Object = {}
    for number, raw in _fields(data):
        if number not in known.numbered:
            if known.open:
                continue
            raise ValueError(f"{name} has no field {number}")
        field_name, field = known.numbered[number]
        if field_name == "status" and field.of in ("*", "o"):
            # Clients send their zeros; what is in a status, the server decides.
            continue
        if field.shape == "inline":
            obj |= _decode_type(field.of, raw)
        elif field.shape == "list":
            obj.setdefault(field_name, []).append(_decode_value(field, raw))
        elif field.shape == "map":
            entry = dict(_fields(raw))
            value = _decode_value(field, entry.get(2, b""))
            obj.setdefault(field_name, {})[entry.get(1, b"").decode()] = value
        else:
            value = _decode_value(field, raw)
            if value not in (None, "", 0) or (value == 0 and field_name in _ZERO_IS_GIVEN):
                obj[field_name] = value
    return obj


def _decode_value(field: Field, raw: Any) -> Any:
    match field.of:
        case "s":
            return raw.decode()
        case "b":
            return bool(raw)
        case "i":
            return raw - (1 << 64) if raw >> 63 else raw
        case "x":
            return base64.b64encode(raw).decode()
        case "q":
            return dict(_fields(raw)).get(1, b"0").decode()
        case "is":
            parts = dict(_fields(raw))
            return parts.get(3, b"").decode() if parts.get(1) else parts.get(2, 0)
        case "t" | "u":
            parts = dict(_fields(raw))
            if 1 not in parts:
                return None
            moment = datetime.fromtimestamp(parts[1], UTC)
            if field.of == "u":
                moment = moment.replace(microsecond=parts.get(2, 0) // 1000)
                return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        case "*" | "o":
            if raw:
                raise status.unsupported_media_type(("application/json", "application/yaml"))
            return {}
    return _decode_type(field.of, raw)
