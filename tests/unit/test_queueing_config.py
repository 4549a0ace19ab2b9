"""Kueue's own configuration: what is read of it, and what is said of a mistake in it."""

from __future__ import annotations

import pytest

from atoll.capacity.queueing.config import ConfigError, Options, parse

OF_TEAM_A = "manageJobsWithoutQueueName: true\nmanagedJobsNamespaceSelector: {matchLabels: {team: a}}"
HEAD = "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("kind: Configuration", "must be a Configuration of config.kueue.x-k8s.io"),
        (HEAD + "fairSharing: yes please", "fairSharing: must be a mapping"),
        (HEAD + "fairSharing: {preemptionStrategies: [Nicest]}", "fairSharing.preemptionStrategies: one of"),
        (HEAD + "waitForPodsReady: {enable: true, timeout: soon}", "waitForPodsReady.timeout"),
        (HEAD + "waitForPodsReady: {enable: true, requeuingStrategy: {timestamp: Never}}",
         "waitForPodsReady.requeuingStrategy.timestamp: 'Never' is not Eviction or Creation"),
        (HEAD + "manageJobsWithoutQueueName: no one", "manageJobsWithoutQueueName: 'no one' is not true or false"),
        (HEAD + "multiKueue: {origin: ''}", "multiKueue.origin: '' is no name"),
        (HEAD + "multiKueue: {workerLostTimeout: long}", "multiKueue.workerLostTimeout"),
        (HEAD + "multiKueue: {dispatcherName: 1}", "multiKueue.dispatcherName: 1 is no name"),
        (HEAD + "multiKueue: {gcInterval: often}", "multiKueue.gcInterval"),
        (HEAD + "waitForPodsReady: {timeout: 5m, requeuingStrategy: {backoffBaseSeconds: soon}}",
         "waitForPodsReady: could not convert string to float: 'soon'"),
        (HEAD + "waitForPodsReady: {timeout: 5m, requeuingStrategy: {backoffLimitCount: few}}", "waitForPodsReady: "),
        (HEAD + "fairSharing: {preemptionStrategies: 5}", "fairSharing: "),
        (HEAD + "admissionFairSharing: {usageHalfLifeTime: 1h, resourceWeights: {cpu: a}}", "admissionFairSharing: "),
        (HEAD + "admissionFairSharing: {usageHalfLifeTime: 1h, resourceWeights: [cpu]}", "admissionFairSharing: "),
        (HEAD + "resources: {transformations: 5}", "resources: "),
        (HEAD + "resources: {deviceClassMappings: 5}", "resources: "),
        (HEAD + "managedJobsNamespaceSelector: [a]", "managedJobsNamespaceSelector: must be a label selector"),
        (HEAD + "managedJobsNamespaceSelector: {matchExpressions: [{key: a, operator: Near}]}",
         "managedJobsNamespaceSelector:"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match="^[^\n]*" + said.replace("[", r"\[")):
        parse(text)


@pytest.mark.parametrize(
    ("version", "said", "enabled", "block"),
    [
        ("v1beta1", "enable: true", True, True),
        ("v1beta1", "enable: true, blockAdmission: false", True, False),
        ("v1beta1", "timeout: 5m", False, False),
        ("v1beta2", "timeout: 5m", True, False),
        ("v1beta2", "timeout: 5m, blockAdmission: true", True, True),
    ],
)
def test_each_version_waits_for_pods_by_its_own_defaults(version: str, said: str, enabled: bool, block: bool) -> None:
    text = HEAD.replace("v1beta2", version) + f"waitForPodsReady: {{{said}}}"
    found = parse(text).pods_ready
    assert (found.enabled, found.block) == (enabled, block)


def test_nothing_said_is_the_default() -> None:
    assert parse(HEAD) == Options()


@pytest.mark.parametrize(
    ("text", "namespace", "labels", "managed"),
    [
        ("", "default", {}, False),
        ("manageJobsWithoutQueueName: true", "default", {}, True),
        ("manageJobsWithoutQueueName: true", "kube-system", {}, False),
        ("manageJobsWithoutQueueName: true", "kueue-system", {}, False),
        (OF_TEAM_A, "default", {}, False),
        (OF_TEAM_A, "x", {"team": "a"}, True),
    ],
)  # fmt: skip
def test_whose_jobs_wait_without_a_queue(text: str, namespace: str, labels: dict[str, str], managed: bool) -> None:
    assert parse(HEAD + text).unnamed.selects(namespace, labels) is managed
