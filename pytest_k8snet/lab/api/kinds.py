"""The fields of the kinds that the lab serves, in a notation that fits on a page.

One type to a line: ``Name: field:type ...``. It is the one source for three things: which fields
are unknown or of the wrong type, how a strategic merge patch treats a list, and the OpenAPI
document. A kind without a line here is open: anything goes.

=============  ==================================================================================
``s i b``      string, integer, boolean
``q``          a quantity: a string or a number
``is``         an integer or a string
``*``          anything
``Name``       another type of this table
``{s}``        a map from strings to a type
``[T]``        a list that is replaced as a whole
``[T|key]``    a list that is merged by ``key`` (strategic merge patch)
``[T|+]``      a list of strings that is merged as a set
``...``        further fields may follow (types that the server writes and nobody submits)
=============  ==================================================================================
"""

from __future__ import annotations

TYPES = """
ObjectMeta: name:s generateName:s namespace:s selfLink:s uid:s resourceVersion:s generation:i
  creationTimestamp:s deletionTimestamp:s deletionGracePeriodSeconds:i labels:{s} annotations:{s}
  ownerReferences:[OwnerReference|uid] finalizers:[s|+] managedFields:[*]
OwnerReference: apiVersion:s kind:s name:s uid:s controller:b blockOwnerDeletion:b
LocalObjectReference: name:s
ObjectReference: kind:s namespace:s name:s uid:s apiVersion:s resourceVersion:s fieldPath:s
LabelSelector: matchLabels:{s} matchExpressions:[LabelSelectorRequirement]
LabelSelectorRequirement: key:s operator:s values:[s]

Namespace: apiVersion:s kind:s metadata:ObjectMeta spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec: finalizers:[s]
NamespaceStatus: phase:s conditions:[*|type]

Node: apiVersion:s kind:s metadata:ObjectMeta spec:NodeSpec status:NodeStatus
NodeSpec: podCIDR:s podCIDRs:[s|+] providerID:s unschedulable:b taints:[Taint|key] configSource:*
  externalID:s
Taint: key:s value:s effect:s timeAdded:s
NodeStatus: capacity:{q} allocatable:{q} phase:s conditions:[*|type] addresses:[*|type] ...

Pod: apiVersion:s kind:s metadata:ObjectMeta spec:PodSpec status:PodStatus
PodSpec: volumes:[Volume|name] initContainers:[Container|name] containers:[Container|name]
  ephemeralContainers:[*|name] restartPolicy:s terminationGracePeriodSeconds:i
  activeDeadlineSeconds:i dnsPolicy:s nodeSelector:{s} serviceAccountName:s serviceAccount:s
  automountServiceAccountToken:b nodeName:s hostNetwork:b hostPID:b hostIPC:b
  shareProcessNamespace:b securityContext:PodSecurityContext
  imagePullSecrets:[LocalObjectReference|name] hostname:s subdomain:s affinity:Affinity
  schedulerName:s tolerations:[Toleration] hostAliases:[HostAlias|ip] priorityClassName:s
  priority:i dnsConfig:PodDNSConfig readinessGates:[*] runtimeClassName:s enableServiceLinks:b
  preemptionPolicy:s overhead:{q} topologySpreadConstraints:[*|topologyKey] setHostnameAsFQDN:b
  os:* hostUsers:b schedulingGates:[*|name] resourceClaims:[*|name] resources:ResourceRequirements
PodStatus: phase:s conditions:[*|type] podIPs:[*|ip] hostIPs:[*|ip] ...
PodSecurityContext: seLinuxOptions:* windowsOptions:* runAsUser:i runAsGroup:i runAsNonRoot:b
  supplementalGroups:[i] supplementalGroupsPolicy:s fsGroup:i sysctls:[Sysctl]
  fsGroupChangePolicy:s seccompProfile:SeccompProfile appArmorProfile:* seLinuxChangePolicy:s
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
  envFrom:[EnvFromSource] env:[EnvVar|name] resources:ResourceRequirements resizePolicy:[*]
  restartPolicy:s volumeMounts:[VolumeMount|mountPath] volumeDevices:[*|devicePath]
  livenessProbe:Probe readinessProbe:Probe startupProbe:Probe lifecycle:Lifecycle
  terminationMessagePath:s terminationMessagePolicy:s imagePullPolicy:s
  securityContext:SecurityContext stdin:b stdinOnce:b tty:b
ContainerPort: name:s hostPort:i containerPort:i protocol:s hostIP:s
EnvVar: name:s value:s valueFrom:EnvVarSource
EnvVarSource: fieldRef:ObjectFieldSelector resourceFieldRef:* configMapKeyRef:KeySelector
  secretKeyRef:KeySelector
ObjectFieldSelector: apiVersion:s fieldPath:s
KeySelector: name:s key:s optional:b
EnvFromSource: prefix:s configMapRef:OptionalReference secretRef:OptionalReference
OptionalReference: name:s optional:b
ResourceRequirements: limits:{q} requests:{q} claims:[*|name]
SecurityContext: capabilities:Capabilities privileged:b seLinuxOptions:* windowsOptions:*
  runAsUser:i runAsGroup:i runAsNonRoot:b readOnlyRootFilesystem:b allowPrivilegeEscalation:b
  procMount:s seccompProfile:SeccompProfile appArmorProfile:*
Capabilities: add:[s] drop:[s]
Probe: exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction grpc:*
  initialDelaySeconds:i timeoutSeconds:i periodSeconds:i successThreshold:i failureThreshold:i
  terminationGracePeriodSeconds:i
ExecAction: command:[s]
HTTPGetAction: path:s port:is host:s scheme:s httpHeaders:[HTTPHeader]
HTTPHeader: name:s value:s
TCPSocketAction: port:is host:s
Lifecycle: postStart:LifecycleHandler preStop:LifecycleHandler stopSignal:s
LifecycleHandler: exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction sleep:*
VolumeMount: name:s readOnly:b recursiveReadOnly:s mountPath:s subPath:s mountPropagation:s
  subPathExpr:s
Volume: name:s emptyDir:EmptyDir hostPath:HostPath configMap:ConfigMapVolume secret:SecretVolume
  projected:* downwardAPI:* persistentVolumeClaim:* csi:* nfs:* iscsi:* ephemeral:* image:*
EmptyDir: medium:s sizeLimit:q
HostPath: path:s type:s
ConfigMapVolume: name:s items:[*] defaultMode:i optional:b
SecretVolume: secretName:s items:[*] defaultMode:i optional:b

Service: apiVersion:s kind:s metadata:ObjectMeta spec:ServiceSpec status:ServiceStatus
ServiceSpec: ports:[ServicePort|port] selector:{s} clusterIP:s clusterIPs:[s] type:s
  externalIPs:[s] sessionAffinity:s loadBalancerIP:s loadBalancerSourceRanges:[s] externalName:s
  externalTrafficPolicy:s healthCheckNodePort:i publishNotReadyAddresses:b
  sessionAffinityConfig:* ipFamilies:[s] ipFamilyPolicy:s allocateLoadBalancerNodePorts:b
  loadBalancerClass:s internalTrafficPolicy:s trafficDistribution:s
ServicePort: name:s protocol:s appProtocol:s port:i targetPort:is nodePort:i
ServiceStatus: loadBalancer:* conditions:[*|type]

Endpoints: apiVersion:s kind:s metadata:ObjectMeta subsets:[EndpointSubset]
EndpointSubset: addresses:[EndpointAddress] notReadyAddresses:[EndpointAddress]
  ports:[EndpointPort]
EndpointAddress: ip:s hostname:s nodeName:s targetRef:ObjectReference
EndpointPort: name:s port:i protocol:s appProtocol:s

ConfigMap: apiVersion:s kind:s metadata:ObjectMeta immutable:b data:{s} binaryData:{s}
Secret: apiVersion:s kind:s metadata:ObjectMeta immutable:b data:{s} stringData:{s} type:s
ServiceAccount: apiVersion:s kind:s metadata:ObjectMeta secrets:[ObjectReference|name]
  imagePullSecrets:[LocalObjectReference|name] automountServiceAccountToken:b

Deployment: apiVersion:s kind:s metadata:ObjectMeta spec:DeploymentSpec status:DeploymentStatus
DeploymentSpec: replicas:i selector:LabelSelector template:PodTemplateSpec
  strategy:DeploymentStrategy minReadySeconds:i revisionHistoryLimit:i paused:b
  progressDeadlineSeconds:i
DeploymentStrategy: type:s rollingUpdate:RollingUpdate
RollingUpdate: maxUnavailable:is maxSurge:is
DeploymentStatus: conditions:[*|type] ...
PodTemplateSpec: metadata:ObjectMeta spec:PodSpec
ReplicaSet: apiVersion:s kind:s metadata:ObjectMeta spec:ReplicaSetSpec status:ReplicaSetStatus
ReplicaSetSpec: replicas:i minReadySeconds:i selector:LabelSelector template:PodTemplateSpec
ReplicaSetStatus: conditions:[*|type] ...
DaemonSet: apiVersion:s kind:s metadata:ObjectMeta spec:DaemonSetSpec status:DaemonSetStatus
DaemonSetSpec: selector:LabelSelector template:PodTemplateSpec
  updateStrategy:DaemonSetUpdateStrategy minReadySeconds:i revisionHistoryLimit:i
DaemonSetUpdateStrategy: type:s rollingUpdate:RollingUpdate
DaemonSetStatus: conditions:[*|type] ...

Lease: apiVersion:s kind:s metadata:ObjectMeta spec:LeaseSpec
LeaseSpec: holderIdentity:s leaseDurationSeconds:i acquireTime:s renewTime:s leaseTransitions:i
  strategy:s preferredHolder:s

IPPool: apiVersion:s kind:s metadata:ObjectMeta spec:IPPoolSpec status:*
IPPoolSpec: cidr:s vxlanMode:s ipipMode:s natOutgoing:b disabled:b disableBGPExport:b blockSize:i
  nodeSelector:s namespaceSelector:s assignmentMode:s allowedUses:[s] ipip:* nat-outgoing:b
CalicoNodeStatus: apiVersion:s kind:s metadata:ObjectMeta spec:CalicoNodeStatusSpec status:*
CalicoNodeStatusSpec: node:s classes:[s] updatePeriodSeconds:i
"""
