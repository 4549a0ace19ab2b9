"""What autoscalers measure by, read from the metrics APIs that the API server serves: metrics.k8s.io, and
custom.metrics.k8s.io and external.metrics.k8s.io where somebody has brought an adapter."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import orjson

from atoll.base import quantity
from atoll.base.clock import parse_rfc3339
from atoll.base.errors import AtollError
from atoll.client.port import Client
from atoll.cluster.workloads.autoscaling.plan import Measured
from atoll.cluster.workloads.autoscaling.replicas import Sample, Samples
from atoll.cluster.workloads.common.discovery import served_resources
from atoll.kinds.catalog import catalog
from atoll.kinds.resource import Resource
from atoll.objects.selectors import SelectorError, from_object

Object = dict[str, Any]
POD_METRICS = Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics")
_CUSTOM = ("v1beta2", "v1beta1")
_EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces"


class MetricsReader:
    """`read` never raises an AtollError: what can't be read is a Measured with its failure."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, metric: Object, namespace: str, selector: str) -> Measured:
        kind = metric.get("type")
        try:
            if kind == "Resource":
                return await self._resource(metric["resource"], namespace, selector)
            if kind == "ContainerResource":
                return await self._resource(metric["containerResource"], namespace, selector)
            if kind == "Pods":
                return await self._pods(metric["pods"], namespace, selector)
            if kind == "Object":
                return await self._object(metric["object"], namespace)
            if kind == "External":
                return await self._external(metric["external"], namespace)
        except _NoMetrics as error:
            return Measured(failure=str(error))
        return Measured()

    async def _resource(self, source: Object, namespace: str, selector: str) -> Measured:
        resource, container = source["name"], source.get("container") or ""
        aim = "utilization" if source["target"].get("averageValue") is None else "usage"
        head = f"failed to get {resource} {aim}: unable to get metrics for resource {resource}: "
        try:
            listed = await self._client.list(POD_METRICS, namespace, label_selector=selector)
        except AtollError as error:
            why = f"unable to fetch metrics from resource metrics API: {error.message} (get pods.metrics.k8s.io)"
            raise _NoMetrics(head + why) from None
        if not listed.items:
            raise _NoMetrics(head + "no metrics returned from resource metrics API")
        samples = _samples(listed.items, resource, container)
        if container and not samples:
            raise _NoMetrics(f"{head}container {container} not present in metrics for pod")
        return Measured(samples)

    async def _pods(self, source: Object, namespace: str, selector: str) -> Measured:
        name = source["metric"]["name"]
        path = f"namespaces/{namespace}/pods/*/{quote(name)}"
        items = await self._custom(path, source["metric"], name, labelSelector=selector)
        samples: Samples = {}
        for item in items:
            window = float(item.get("windowSeconds") or 60)
            at = parse_rfc3339(item["timestamp"]) if item.get("timestamp") else 0.0
            samples[item["describedObject"]["name"]] = Sample(quantity.milli(item["value"]), at, window)
        return Measured(samples)

    async def _object(self, source: Object, namespace: str) -> Measured:
        name, described = source["metric"]["name"], source["describedObject"]
        plural = await self._plural(described)
        path = f"namespaces/{namespace}/{plural}/{quote(described['name'])}/{quote(name)}"
        if described.get("kind") == "Namespace":
            path = f"namespaces/{quote(described['name'])}/metrics/{quote(name)}"
        items = await self._custom(path, source["metric"], name)
        return Measured(amount=quantity.milli(items[0]["value"]))

    async def _plural(self, described: Object) -> str:
        group, _, version = (described.get("apiVersion") or "v1").rpartition("/")
        found = await target_resource(self._client, group, version, described["kind"])
        return found.group_resource if found is not None else described["kind"].lower() + "s"

    async def _custom(self, path: str, metric: Object, name: str, **query: str) -> list[Object]:
        selector = _selector(metric)
        if selector:
            query["metricLabelSelector"] = selector
        why = "no custom metrics API (custom.metrics.k8s.io) registered"
        for version in _CUSTOM:
            status, body = await self._get(f"/apis/custom.metrics.k8s.io/{version}/{path}", query)
            if status == 200 and body.get("items"):
                return list(body["items"])
            if status == 200:
                why = "no metrics returned from custom metrics API"
            elif (body.get("details") or {}).get("causes") or body.get("message", "").count("metric"):
                why = str(body.get("message"))
        raise _NoMetrics(f"unable to get metric {name}: {why}")

    async def _external(self, source: Object, namespace: str) -> Measured:
        name, selector = source["metric"]["name"], _selector(source["metric"])
        query = {"labelSelector": selector} if selector else {}
        status, body = await self._get(f"{_EXTERNAL}/{namespace}/{quote(name)}", query)
        items = body.get("items") or []
        if status != 200 or not items:
            why = "no metrics returned from external metrics API"
            if status != 200:
                why = str(body.get("message") or "no external metrics API (external.metrics.k8s.io) registered")
            raise _NoMetrics(f"unable to get external metric {namespace}/{name}/{selector or 'nil'}: {why}")
        return Measured(amount=sum(quantity.milli(item["value"]) for item in items))

    async def _get(self, path: str, query: dict[str, str]) -> tuple[int, Object]:
        try:
            answer = await self._client.raw("GET", path, query=urlencode(query))
        except AtollError as error:
            raise _NoMetrics(error.message) from None
        try:
            body = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            body = {}
        return answer.status, body if isinstance(body, dict) else {}


class _NoMetrics(Exception):
    pass


def _samples(items: list[Object], resource: str, container: str) -> Samples:
    """A pod counts where all of its containers (or the one asked for) have been measured."""
    found: Samples = {}
    for item in items:
        total, complete, any_found = 0, True, False
        for part in item.get("containers") or ():
            if container and part.get("name") != container:
                continue
            amount = (part.get("usage") or {}).get(resource)
            if amount is None:
                complete = False
                break
            total += quantity.milli(amount)
            any_found = True
        if complete and any_found:
            window = quantity_seconds(item.get("window") or "60s")
            found[item["metadata"]["name"]] = Sample(total, parse_rfc3339(item["timestamp"]), window)
    return found


def quantity_seconds(text: str) -> float:
    """Of a duration as metrics.k8s.io writes it ("30s", "1m0s")."""
    minutes, _, rest = text.rpartition("m")
    return float(minutes or 0) * 60 + float(rest.removesuffix("s") or 0)


def _selector(metric: Object) -> str:
    given = metric.get("selector")
    if not given:
        return ""
    try:
        return str(from_object(given))
    except SelectorError as error:
        raise _NoMetrics(str(error)) from None


async def target_resource(client: Client, group: str, version: str, kind: str) -> Resource | None:
    """The resource of a kind, in any version that is served, the one that is named first. Raises AtollError."""
    built_in = catalog().by_kind(group, version, kind)
    if built_in is not None:
        return built_in.resource
    found = [item.resource for item in await served_resources(client) if item.resource.group == group]
    same = [item for item in found if item.kind == kind]
    return next((item for item in same if item.version == version), same[0] if same else None)
