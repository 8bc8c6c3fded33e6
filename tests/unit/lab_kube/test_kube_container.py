from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.kube import podspec
from pytest_k8snet.lab.kube.container import Container, ContainerError, find_executable
from pytest_k8snet.lab.kube.podspec import Plan
from pytest_k8snet.lab.spec import LabSpec, study_nodes

SPEC = LabSpec(nodes=study_nodes())


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "shop", "labels": {"a": "b"}}, "spec": spec}


class TestImages:
    @pytest.mark.parametrize(
        ("image", "full"),
        [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nicolaka/netshoot:v0.13", "docker.io/nicolaka/netshoot:v0.13"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ],
    )
    def test_a_name_is_completed_as_container_runtimes_do(self, image: str, full: str) -> None:
        assert podspec.reference(image) == full

    def test_an_ordinary_image_can_be_pulled(self) -> None:
        podspec.pull("docker.io/nicolaka/netshoot:v0.13")

    def test_an_unknown_registry_fails_as_its_lookup_does(self) -> None:
        with pytest.raises(podspec.ImagePullError) as caught:
            podspec.pull("registry.invalid/team/probe:1")
        assert str(caught.value) == (
            'failed to pull and unpack image "registry.invalid/team/probe:1": failed to resolve '
            'reference "registry.invalid/team/probe:1": failed to do request: Head '
            '"https://registry.invalid/v2/team/probe/manifests/1": dial tcp: '
            "lookup registry.invalid: no such host"
        )

    def test_a_missing_tag_is_not_found(self) -> None:
        with pytest.raises(
            podspec.ImagePullError, match=r"docker.io/team/probe:missing: not found"
        ):
            podspec.pull("team/probe:missing")

    def test_the_containers_own_command_wins(self) -> None:
        container = {"image": "nginx", "command": ["sleep"], "args": ["1"]}
        assert podspec.command_of(container, python="py").argv == ("sleep", "1")

    def test_known_images_run_the_labs_web_server_on_their_port(self) -> None:
        agnhost = {
            "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
            "args": ["netexec", "--http-port=8081"],
        }
        assert podspec.command_of(agnhost, python="py").argv[-1] == "8081"
        assert podspec.command_of({"image": "nginx:1.27"}, python="py").argv[-1] == "80"
        assert podspec.command_of({"image": "nginx:1.27"}, python="py").of_the_lab

    @pytest.mark.parametrize("image", ["alpine:3.20", "busybox", "docker.io/library/alpine"])
    def test_the_commonest_small_images_have_no_measuring_tools(self, image: str) -> None:
        assert podspec.search_path(image) == str(podspec.SMALL_BIN)
        assert not {"iperf3", "curl"} & set(podspec.SMALL_PROGRAMS)
        assert podspec.search_path("nicolaka/netshoot:v0.13") == podspec.DEFAULT_PATH

    def test_an_image_that_names_no_program_needs_a_command(self) -> None:
        with pytest.raises(podspec.NoCommandError, match=r"^no command specified, .*team/probe"):
            podspec.command_of({"image": "team/probe"}, python="py")

    @pytest.mark.parametrize("name", ["team/probe:3", "team/probe", "probe"])
    def test_an_image_may_be_given_a_program(self, name: str) -> None:
        container = {"image": "team/probe:3", "args": ["-v"]}
        given = podspec.command_of(container, python="py", images={name: ("/opt/probe", "-l")})
        assert given.argv == ("/opt/probe", "-l", "-v")

    def test_a_folder_of_programs_is_found_last_and_names_images(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        # The lab mounts the user's folder at this place, which only its own processes see.
        monkeypatch.setattr(podspec, "EXTRA_BIN", tmp_path)
        (tmp_path / "probe").touch()
        given = podspec.command_of({"image": "team/probe:3", "args": ["-v"]}, python="py")
        assert given.argv == (f"{tmp_path}/probe", "-v")
        assert podspec.search_path("team/other") == f"{podspec.DEFAULT_PATH}:{tmp_path}"


class TestPrivileges:
    def hardened(self, **more: Any) -> dict[str, Any]:
        context = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
            **more,
        }
        return {"name": "c", "securityContext": context}

    def test_a_hardened_container_has_none(self) -> None:
        assert podspec.setpriv(pod(), self.hardened(), any_user=True) == [
            "setpriv",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--no-new-privs",
            "--reuid=65532",
            "--regid=0",
            "--clear-groups",
        ]

    def test_where_there_is_one_user_only_the_user_stays(self) -> None:
        command = podspec.setpriv(pod(), self.hardened(), any_user=False)
        assert command[-1] == "--no-new-privs"

    def test_a_capability_can_be_added_back(self) -> None:
        context = self.hardened(capabilities={"drop": ["ALL"], "add": ["NET_RAW"]})
        command = podspec.setpriv(pod(), context, any_user=False)
        assert "--bounding-set=-all,+net_raw" in command

    def test_an_ordinary_container_cannot_change_the_network(self) -> None:
        command = podspec.setpriv(pod(), {"name": "c"}, any_user=True)
        assert "+net_raw" in command[2]
        assert "net_admin" not in command[2]

    def test_a_privileged_container_keeps_all(self) -> None:
        container = {"securityContext": {"privileged": True}}
        assert podspec.setpriv(pod(), container, any_user=True) == []

    @pytest.mark.parametrize(
        ("user", "refusal"),
        [
            (0, "container's runAsUser breaks non-root policy"),
            (None, "container has runAsNonRoot and image will run as root"),
            (65532, ""),
        ],
    )
    def test_root_is_refused_where_the_pod_forbids_it(self, user: int | None, refusal: str) -> None:
        container = self.hardened(runAsUser=user)
        assert podspec.must_be_refused(pod(), container) == refusal


class TestPlanning:
    def test_a_pods_resolver_searches_its_namespace_first(self) -> None:
        assert podspec.resolv_conf(pod(), SPEC) == (
            "search shop.svc.cluster.local svc.cluster.local cluster.local\n"
            "nameserver 10.96.0.10\n"
            "options ndots:5\n"
        )

    def test_the_host_network_has_the_nodes_resolver(self) -> None:
        assert podspec.resolv_conf(pod(hostNetwork=True), SPEC) is None
        text = podspec.resolv_conf(pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), SPEC)
        assert text is not None
        assert "nameserver 10.96.0.10" in text

    def test_dns_config_adds_and_replaces(self) -> None:
        config = {"nameservers": ["192.0.2.1"], "options": [{"name": "ndots", "value": "2"}]}
        assert podspec.resolv_conf(pod(dnsPolicy="None", dnsConfig=config), SPEC) == (
            "nameserver 192.0.2.1\noptions ndots:2\n"
        )

    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("$(A)/x", "1/x"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$A", "$A"),
        ],
    )
    def test_variables_are_expanded_as_kubernetes_does(self, text: str, result: str) -> None:
        assert podspec.expand(text, {"A": "1"}) == result

    def test_the_environment_reads_fields_of_the_pod(self) -> None:
        fields = {"IP": "status.podIP", "LABEL": "metadata.labels['a']", "N": "metadata.name"}
        env = [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in fields.items()
        ]
        values = podspec.environment(
            pod(),
            {"env": [*env, {"name": "URL", "value": "http://$(IP)/"}]},
            api={"KUBERNETES_SERVICE_HOST": "10.96.0.1"},
            status={"podIP": "10.244.0.5"},
            lookup=lambda kind, reference, key: {},
        )
        assert (values["IP"], values["LABEL"], values["N"]) == ("10.244.0.5", "b", "p")
        assert values["URL"] == "http://10.244.0.5/"
        assert values["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
        assert values["HOSTNAME"] == "p"

    def test_the_environment_takes_whole_maps_and_leaves_out_what_is_optional(self) -> None:
        def look_up(kind: str, reference: Object, key: str | None) -> dict[str, str] | None:
            return {"A": "1", "B": "2"} if reference["name"] == "there" else None

        missing = {"secretKeyRef": {"name": "gone", "key": "x", "optional": True}}
        values = podspec.environment(
            pod(),
            {
                "envFrom": [{"prefix": "MY_", "configMapRef": {"name": "there"}}],
                "env": [{"name": "NONE", "valueFrom": missing}],
            },
            api={},
            status={},
            lookup=look_up,
        )
        assert (values["MY_A"], values["MY_B"]) == ("1", "2")
        assert "NONE" not in values

    @pytest.mark.parametrize(
        ("spec", "container", "told"),
        [
            ({"hostPID": True}, {}, "spec.hostPID"),
            ({"shareProcessNamespace": True}, {}, "spec.shareProcessNamespace"),
            ({"readinessGates": [{"conditionType": "a/b"}]}, {}, "spec.readinessGates"),
            (
                {"securityContext": {"sysctls": [{"name": "kernel.shmmax", "value": "1"}]}},
                {},
                "the sysctl kernel.shmmax",
            ),
            ({}, {"restartPolicy": "Always"}, "restartPolicy"),
            ({"hostUsers": False}, {}, "spec.hostUsers"),
            ({}, {"ports": [{"containerPort": 1, "hostPort": 2}]}, "the hostPort 2"),
            ({}, {"livenessProbe": {"grpc": {"port": 1}}}, "livenessProbe.grpc"),
            (
                {},
                {"readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}},
                "readinessProbe.httpGet.scheme",
            ),
            ({}, {"lifecycle": {"preStop": {"httpGet": {}}}}, "lifecycle.preStop.httpGet"),
            (
                {},
                {"env": [{"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "x"}}}]},
                "the resourceFieldRef of CPUS",
            ),
            (
                {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
                {"volumeMounts": [{"name": "v", "mountPath": "/mnt"}]},
                "volumes of the kind persistentVolumeClaim",
            ),
        ],
    )
    def test_what_the_lab_does_not_play_is_said(
        self, spec: Object, container: Object, told: str
    ) -> None:
        with pytest.raises(podspec.ConfigError, match=f"^the lab does not play {told}$"):
            podspec.plan(
                pod(**spec),
                {"name": "c", "image": "x", "command": ["true"], **container},
                values={},
                hostname="p",
                network=Path("/proc/self/ns/net"),
                directory=Path("/nowhere"),
                python="py",
                any_user=False,
                images={},
            )


class TestFindExecutable:
    def test_the_path_is_searched_in_order_below_the_containers_root(self, tmp_path: Path) -> None:
        for directory in ("bin", "usr/bin"):
            (tmp_path / directory).mkdir(parents=True)
        program = tmp_path / "usr/bin/probe"
        program.write_text("")
        assert find_executable("probe", path="/bin:/usr/bin", root=tmp_path) is None
        program.chmod(0o755)
        found = find_executable("probe", path="/bin:/usr/bin", root=tmp_path)
        assert found == "/usr/bin/probe"
        assert find_executable("/usr/bin/probe", path="", root=tmp_path) == "/usr/bin/probe"
        assert find_executable("/bin/probe", path="", root=tmp_path) is None


class TestStart:
    @pytest.mark.parametrize(
        ("argument", "reason"),
        [("a\0b", "embedded null byte"), ("x" * 200_000, "Argument list too long")],
        ids=["NUL", "too long"],
    )
    def test_what_the_system_refuses_to_start_is_the_containers_trouble(
        self, argument: str, reason: str
    ) -> None:
        refused = Plan(
            argv=("sh", "-c", argument),
            privileges=(),
            environment={},
            directory="/",
            hostname="p",
            network=Path("/proc/self/ns/net"),
            mounts=(),
        )
        text = f'unable to start container process: exec: "sh": {reason}: unknown'
        with pytest.raises(ContainerError, match=text):
            asyncio.run(Container.start(refused))
