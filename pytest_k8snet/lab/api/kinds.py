"""The fields of the kinds that the lab serves, in a notation that fits on a page.

One type to a line: ``Name: field:type ...``, fields in the order of their protobuf numbers. It is
the one source for four things: which fields are unknown or of the wrong type, how a strategic merge
patch treats a list, the OpenAPI document, and decoding protobuf, in which kubectl sends some
objects. A kind without a line here is open: anything goes.

=============  ==================================================================================
``s i b``      string, integer, boolean
``t``          a time stamp
``q``          a quantity: a string or a number
``is``         an integer or a string
``x``          bytes, base64 in JSON
``o``          an object, whatever is in it
``*``          anything
``Name``       another type of this table
``{s}``        a map from strings to a type
``[T]``        a list that is replaced as a whole
``[T|key]``    a list that is merged by ``key`` (strategic merge patch)
``[T|+]``      a list of strings that is merged as a set
``^Name``      another type whose fields count as this type's own
``@``          it is a kind: ``apiVersion`` and ``kind`` come first, without a number
``-``          a number that is not used
``...``        further fields may follow (types that the server writes and nobody submits)
=============  ==================================================================================
"""

from __future__ import annotations

TYPES = """
ObjectMeta: name:s generateName:s namespace:s selfLink:s uid:s resourceVersion:s generation:i
  creationTimestamp:t deletionTimestamp:t deletionGracePeriodSeconds:i labels:{s} annotations:{s}
  ownerReferences:[OwnerReference|uid] finalizers:[s|+] - - managedFields:[*]
OwnerReference: kind:s - name:s uid:s apiVersion:s - controller:b blockOwnerDeletion:b
LocalObjectReference: name:s
ObjectReference: kind:s namespace:s name:s uid:s apiVersion:s resourceVersion:s fieldPath:s
Condition: type:s status:s ...
LabelSelector: matchLabels:{s} matchExpressions:[LabelSelectorRequirement]
LabelSelectorRequirement: key:s operator:s values:[s]
DeleteOptions: @ gracePeriodSeconds:i preconditions:Preconditions orphanDependents:b
  propagationPolicy:s dryRun:[s] ignoreStoreReadErrorWithClusterBreakingPotential:b
Preconditions: uid:s resourceVersion:s

Namespace: @ metadata:ObjectMeta spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec: finalizers:[s]
NamespaceStatus: phase:s conditions:[Condition|type]

Node: @ metadata:ObjectMeta spec:NodeSpec status:NodeStatus
NodeSpec: podCIDR:s externalID:s providerID:s unschedulable:b taints:[Taint|key] configSource:*
  podCIDRs:[s|+]
Taint: key:s value:s effect:s timeAdded:t
NodeStatus: capacity:{q} allocatable:{q} phase:s conditions:[Condition|type]
  addresses:[NodeAddress|type]
  daemonEndpoints:o nodeInfo:o images:[o] ...
NodeAddress: type:s address:s

Pod: @ metadata:ObjectMeta spec:PodSpec status:PodStatus
PodSpec: volumes:[Volume|name] containers:[Container|name] restartPolicy:s
  terminationGracePeriodSeconds:i activeDeadlineSeconds:i dnsPolicy:s nodeSelector:{s}
  serviceAccountName:s serviceAccount:s nodeName:s hostNetwork:b hostPID:b hostIPC:b
  securityContext:PodSecurityContext imagePullSecrets:[LocalObjectReference|name] hostname:s
  subdomain:s affinity:Affinity schedulerName:s initContainers:[Container|name]
  automountServiceAccountToken:b tolerations:[Toleration] hostAliases:[HostAlias|ip]
  priorityClassName:s priority:i dnsConfig:PodDNSConfig shareProcessNamespace:b
  readinessGates:[*] runtimeClassName:s enableServiceLinks:b preemptionPolicy:s overhead:{q}
  topologySpreadConstraints:[*|topologyKey] ephemeralContainers:[*|name] setHostnameAsFQDN:b os:*
  hostUsers:b schedulingGates:[*|name] resourceClaims:[*|name] resources:ResourceRequirements
PodStatus: phase:s conditions:[Condition|type] message:s reason:s hostIP:s podIP:s startTime:t
  containerStatuses:[ContainerStatus] qosClass:s initContainerStatuses:[ContainerStatus]
  nominatedNodeName:s podIPs:[o|ip]
  ephemeralContainerStatuses:[o] resize:s resourceClaimStatuses:[o] hostIPs:[o|ip] ...
ContainerStatus: name:s state:ContainerState lastState:ContainerState ready:b restartCount:i ...
ContainerState: waiting:o running:o terminated:o
PodSecurityContext: seLinuxOptions:* runAsUser:i runAsNonRoot:b supplementalGroups:[i] fsGroup:i
  runAsGroup:i sysctls:[Sysctl] windowsOptions:* fsGroupChangePolicy:s
  seccompProfile:SeccompProfile appArmorProfile:* supplementalGroupsPolicy:s seLinuxChangePolicy:s
Sysctl: name:s value:s
SeccompProfile: type:s localhostProfile:s
Affinity: nodeAffinity:NodeAffinity podAffinity:* podAntiAffinity:*
NodeAffinity: requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
  preferredDuringSchedulingIgnoredDuringExecution:[*]
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
EnvVarSource: fieldRef:ObjectFieldSelector resourceFieldRef:* configMapKeyRef:KeySelector
  secretKeyRef:KeySelector
ObjectFieldSelector: apiVersion:s fieldPath:s
KeySelector: ^LocalObjectReference key:s optional:b
EnvFromSource: prefix:s configMapRef:OptionalReference secretRef:OptionalReference
OptionalReference: ^LocalObjectReference optional:b
ResourceRequirements: limits:{q} requests:{q} claims:[*|name]
SecurityContext: capabilities:Capabilities privileged:b seLinuxOptions:* runAsUser:i
  runAsNonRoot:b readOnlyRootFilesystem:b allowPrivilegeEscalation:b runAsGroup:i procMount:s
  windowsOptions:* seccompProfile:SeccompProfile appArmorProfile:*
Capabilities: add:[s] drop:[s]
Probe: ^ProbeHandler initialDelaySeconds:i timeoutSeconds:i periodSeconds:i successThreshold:i
  failureThreshold:i terminationGracePeriodSeconds:i
ProbeHandler: exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction grpc:*
ExecAction: command:[s]
HTTPGetAction: path:s port:is host:s scheme:s httpHeaders:[HTTPHeader]
HTTPHeader: name:s value:s
TCPSocketAction: port:is host:s
Lifecycle: postStart:LifecycleHandler preStop:LifecycleHandler
LifecycleHandler: exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction sleep:*
VolumeMount: name:s readOnly:b mountPath:s subPath:s mountPropagation:s subPathExpr:s
  recursiveReadOnly:s
Volume: name:s ^VolumeSource
VolumeSource: hostPath:HostPath emptyDir:EmptyDir gcePersistentDisk:* awsElasticBlockStore:*
  gitRepo:* secret:SecretVolume nfs:* iscsi:* glusterfs:* persistentVolumeClaim:* rbd:*
  flexVolume:* cinder:* cephfs:* flocker:* downwardAPI:* fc:* azureFile:*
  configMap:ConfigMapVolume vsphereVolume:* quobyte:* azureDisk:* photonPersistentDisk:*
  portworxVolume:* scaleIO:* projected:* storageos:* csi:* ephemeral:* image:*
EmptyDir: medium:s sizeLimit:q
HostPath: path:s type:s
ConfigMapVolume: ^LocalObjectReference items:[*] defaultMode:i optional:b
SecretVolume: secretName:s items:[*] defaultMode:i optional:b
Binding: @ metadata:ObjectMeta target:ObjectReference
Eviction: @ metadata:ObjectMeta deleteOptions:DeleteOptions

Service: @ metadata:ObjectMeta spec:ServiceSpec status:ServiceStatus
ServiceSpec: ports:[ServicePort|port] selector:{s} clusterIP:s type:s externalIPs:[s] -
  sessionAffinity:s loadBalancerIP:s loadBalancerSourceRanges:[s] externalName:s
  externalTrafficPolicy:s healthCheckNodePort:i publishNotReadyAddresses:b
  sessionAffinityConfig:* - - ipFamilyPolicy:s clusterIPs:[s] ipFamilies:[s]
  allocateLoadBalancerNodePorts:b loadBalancerClass:s internalTrafficPolicy:s
  trafficDistribution:s
ServicePort: name:s protocol:s port:i targetPort:is nodePort:i appProtocol:s
ServiceStatus: loadBalancer:LoadBalancerStatus conditions:[Condition|type]
LoadBalancerStatus: ingress:[o]

Endpoints: @ metadata:ObjectMeta subsets:[EndpointSubset]
EndpointSubset: addresses:[EndpointAddress] notReadyAddresses:[EndpointAddress]
  ports:[EndpointPort]
EndpointAddress: ip:s targetRef:ObjectReference hostname:s nodeName:s
EndpointPort: name:s protocol:s port:i appProtocol:s

EndpointSlice: @ metadata:ObjectMeta endpoints:[Endpoint] ports:[EndpointPort] addressType:s
Endpoint: addresses:[s] conditions:o hostname:s targetRef:ObjectReference deprecatedTopology:{s}
  nodeName:s zone:s hints:o
Event: @ metadata:ObjectMeta involvedObject:ObjectReference reason:s message:s source:EventSource
  firstTimestamp:t lastTimestamp:t count:i type:s eventTime:t series:o action:s
  related:ObjectReference reportingComponent:s reportingInstance:s
EventSource: component:s host:s

ConfigMap: @ metadata:ObjectMeta data:{s} binaryData:{x} immutable:b
Secret: @ metadata:ObjectMeta data:{x} type:s stringData:{s} immutable:b
ServiceAccount: @ metadata:ObjectMeta secrets:[ObjectReference|name]
  imagePullSecrets:[LocalObjectReference|name] automountServiceAccountToken:b

Deployment: @ metadata:ObjectMeta spec:DeploymentSpec status:DeploymentStatus
DeploymentSpec: replicas:i selector:LabelSelector template:PodTemplateSpec
  strategy:DeploymentStrategy minReadySeconds:i revisionHistoryLimit:i paused:b -
  progressDeadlineSeconds:i
DeploymentStrategy: type:s rollingUpdate:RollingUpdate
RollingUpdate: maxUnavailable:is maxSurge:is
DeploymentStatus: observedGeneration:i replicas:i updatedReplicas:i availableReplicas:i
  unavailableReplicas:i conditions:[Condition|type] readyReplicas:i collisionCount:i ...
PodTemplateSpec: metadata:ObjectMeta spec:PodSpec
ReplicaSet: @ metadata:ObjectMeta spec:ReplicaSetSpec status:ReplicaSetStatus
ReplicaSetSpec: replicas:i selector:LabelSelector template:PodTemplateSpec minReadySeconds:i
ReplicaSetStatus: replicas:i fullyLabeledReplicas:i observedGeneration:i readyReplicas:i
  availableReplicas:i conditions:[Condition|type] ...
DaemonSet: @ metadata:ObjectMeta spec:DaemonSetSpec status:DaemonSetStatus
DaemonSetSpec: selector:LabelSelector template:PodTemplateSpec
  updateStrategy:DaemonSetUpdateStrategy minReadySeconds:i - revisionHistoryLimit:i
DaemonSetUpdateStrategy: type:s rollingUpdate:RollingUpdate
DaemonSetStatus: currentNumberScheduled:i numberMisscheduled:i desiredNumberScheduled:i
  numberReady:i observedGeneration:i updatedNumberScheduled:i numberAvailable:i
  numberUnavailable:i collisionCount:i conditions:[Condition|type] ...
Scale: @ metadata:ObjectMeta spec:ScaleSpec status:*
ScaleSpec: replicas:i

Lease: @ metadata:ObjectMeta spec:LeaseSpec
LeaseSpec: holderIdentity:s leaseDurationSeconds:i acquireTime:t renewTime:t leaseTransitions:i
  strategy:s preferredHolder:s

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
