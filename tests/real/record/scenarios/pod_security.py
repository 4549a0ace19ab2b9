"""Pod Security: a broad table of pods against the levels, versions, labels, templates and updates."""

from typing import Any

from steps import Scenario

security = Scenario("pod-security")
LABEL = "pod-security.kubernetes.io/"


def labels(**modes: str) -> dict[str, str]:
    return {LABEL + mode.replace("_", "-"): level for mode, level in modes.items()}


SPACES = {
    "base": labels(enforce="baseline"),
    "strict": labels(enforce="restricted"),
    "old": labels(enforce="restricted", enforce_version="v1.0"),
    "older": labels(enforce="baseline", enforce_version="v1.18", warn="restricted", warn_version="v1.22"),
    "warned": labels(warn="restricted", audit="baseline"),
    "mixed": labels(enforce="baseline", warn="privileged"),
    "future": labels(enforce="restricted", enforce_version="v1.99"),
}
for name, found in SPACES.items():
    security.create("namespaces", {"metadata": {"name": f"ps-{name}", "labels": found}})
    security.create("serviceaccounts", {"metadata": {"name": "default"}}, id=f"account-{name}", namespace=f"ps-{name}")
security.create("namespaces", {"metadata": {"name": "ps-bad", "labels": labels(enforce="nope", warn_version="1.2")}})
security.patch("namespaces", "ps-base", {"metadata": {"labels": labels(audit="Restricted")}}, "bad-update")

SAFE = {
    "allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip


def container(name: str = "c", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "i", **fields}


def context(**fields: Any) -> dict[str, Any]:
    return container(securityContext={**SAFE, **fields})


PODS: dict[str, dict[str, Any]] = {
    "plain": {"containers": [container()]},
    "safe": {"containers": [context()]},
    "pod-safe": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(securityContext={"allowPrivilegeEscalation": False,
                                                  "capabilities": {"drop": ["ALL"]}})],
    },
    "privileged": {"containers": [container(securityContext={"privileged": True}), container("d")],
                   "initContainers": [container("e", securityContext={"privileged": True})]},
    "host": {"hostNetwork": True, "hostPID": True, "hostIPC": True, "containers": [container()]},
    "host-path": {"containers": [context()], "volumes": [
        {"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}, {"name": "d", "nfs": {
            "server": "s", "path": "/"}}, {"name": "e", "hostPath": {"path": "/x"}}]},
    "host-port": {"containers": [container(ports=[{"containerPort": 80, "hostPort": 80}, {"containerPort": 81}]),
                                 container("d", ports=[{"containerPort": 443, "hostPort": 443}])]},
    "one-host-port": {"containers": [context() | {"ports": [{"containerPort": 80, "hostPort": 8080}]}]},
    "capabilities": {"containers": [context(capabilities={"add": ["NET_ADMIN", "CHOWN", "SYS_TIME"]})]},
    "net-bind": {"containers": [context(capabilities={"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]})]},
    "proc-mount": {"hostUsers": False, "containers": [context(procMount="Unmasked")]},
    "selinux": {"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}},
                "containers": [context(seLinuxOptions={"role": "r", "type": "y"}),
                               {**context(seLinuxOptions={"type": "container_t"}), "name": "d"}]},
    "selinux-engine": {"containers": [context(seLinuxOptions={"type": "container_engine_t"})]},
    "seccomp": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}, "containers": [
        context(seccompProfile={"type": "Unconfined"}), container("d")]},
    "seccomp-localhost": {"containers": [context(seccompProfile={"type": "Localhost", "localhostProfile": "x"})]},
    "apparmor": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}, "containers": [
        context(appArmorProfile={"type": "Localhost", "localhostProfile": "x"})]},
    "sysctls": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}, {
        "name": "net.ipv4.tcp_rmem", "value": "1"}, {"name": "net.ipv4.tcp_syncookies", "value": "1"}]},
        "containers": [context()]},
    "root": {"securityContext": {"runAsUser": 0, "runAsNonRoot": False}, "containers": [
        context(runAsUser=0, runAsNonRoot=False), container("d", securityContext={"runAsUser": 0})]},
    "root-in-user-namespace": {"hostUsers": False, "containers": [context(runAsUser=0, runAsNonRoot=False)]},
    "escalation": {"containers": [context(allowPrivilegeEscalation=True)]},
    "windows": {"os": {"name": "windows"}, "containers": [container(securityContext={"runAsNonRoot": True})]},
    "host-process": {"os": {"name": "windows"}, "hostNetwork": True, "securityContext": {"windowsOptions": {
        "hostProcess": True}}, "containers": [container()]},
    "probe-hosts": {"containers": [context() | {
        "livenessProbe": {"httpGet": {"port": 80, "host": "a.b"}}, "readinessProbe": {"tcpSocket": {
            "port": 80, "host": "1.2.3.4"}}, "lifecycle": {"preStop": {"httpGet": {"port": 80, "host": "z"}}}}]},
    "volumes": {"containers": [context()], "volumes": [
        {"name": "a", "configMap": {"name": "x"}}, {"name": "b", "iscsi": {
            "targetPortal": "1.2.3.4", "iqn": "iqn.2001-04.com.example:storage.x", "lun": 0}},
        {"name": "d", "gitRepo": {"repository": "x"}}, {"name": "e", "csi": {"driver": "x"}}]},
}  # fmt: skip
ANNOTATED = {
    "apparmor-annotation": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"},
    "seccomp-annotation": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"},
}


def trial(space: str, label: str, pod: dict[str, Any], annotations: dict[str, str] | None = None) -> None:
    metadata = {"name": "p", **({"annotations": annotations} if annotations else {})}
    body = {"metadata": metadata, "spec": pod}
    security.create("pods", body, id=f"{space}-{label}", namespace=f"ps-{space}", query="dryRun=All")


for space in SPACES:
    for label, pod in PODS.items():
        if space in ("base", "strict", "warned") or label in ("plain", "root", "seccomp", "capabilities", "sysctls",
                                                              "volumes", "selinux-engine", "probe-hosts"):  # fmt: skip
            trial(space, label, pod)
    for label, annotations in ANNOTATED.items():
        trial(space, label, {"containers": [container()]}, annotations)

for space in ("base", "strict", "warned", "mixed"):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": PODS["privileged"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    body: dict[str, Any] = {"metadata": {"name": "d"}, "spec": spec}
    for resource in ("deployments", "daemonsets", "replicasets"):
        security.create(resource, body, id=f"{space}-{resource}", namespace=f"ps-{space}", query="dryRun=All")
    job = {"template": {"spec": {**PODS["privileged"], "restartPolicy": "Never"}}}
    security.create("jobs", {"metadata": {"name": "j"}, "spec": job}, id=f"{space}-job", namespace=f"ps-{space}",
                    query="dryRun=All")  # fmt: skip
    cron = {"schedule": "* * * * *", "jobTemplate": {"spec": job}}
    security.create("cronjobs", {"metadata": {"name": "c"}, "spec": cron}, id=f"{space}-cron-job",
                    namespace=f"ps-{space}", query="dryRun=All")  # fmt: skip
    security.create("podtemplates", {"metadata": {"name": "t"}, "template": template}, id=f"{space}-template",
                    namespace=f"ps-{space}", query="dryRun=All")  # fmt: skip

for name, pod in (("one", PODS["privileged"]), ("two", PODS["privileged"]), ("three", PODS["host"]),
                  ("safe", PODS["safe"])):  # fmt: skip
    security.create("pods", {"metadata": {"name": name}, "spec": pod})
NAME = "pod-security"
security.patch("namespaces", NAME, {"metadata": {"labels": labels(enforce="baseline")}}, "stricter")
security.patch("pods", "one", {"metadata": {"labels": {"x": "y"}}}, "label-standing")
security.patch("pods", "one", {"spec": {"activeDeadlineSeconds": 50}}, "touch-standing")
security.raw("image-standing", "PATCH", f"/api/v1/namespaces/{NAME}/pods/one",
             body={"spec": {"containers": [{"name": "c", "image": "j"}]}},
             type="application/strategic-merge-patch+json")  # fmt: skip
security.raw("debug-standing", "PATCH", f"/api/v1/namespaces/{NAME}/pods/safe/ephemeralcontainers",
             body={"spec": {"ephemeralContainers": [{"name": "e", "image": "j", "securityContext": {
                 "privileged": True}}]}}, type="application/strategic-merge-patch+json")  # fmt: skip
security.patch("namespaces", NAME, {"metadata": {"labels": labels(enforce="restricted")}}, "strictest")
security.patch("namespaces", NAME, {"metadata": {"labels": labels(enforce="baseline")}}, "relaxed")
security.patch("namespaces", NAME, {"metadata": {"labels": labels(enforce_version="v1.5")}}, "other-version")

SCENARIOS = [security]
