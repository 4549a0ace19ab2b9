"""get, explain, tree: looking at the fleet's objects."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import orjson

from atoll.base.errors import AtollError, UserError
from atoll.cli.fleet import fleet_option
from atoll.cli.output import output_option, structured, table

Object = dict[str, Any]
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@fleet_option
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-l", "--selector", help="Label selector.")
@click.option("--clusters", is_flag=True, help="All members instead of the hub.")
@output_option("json", "yaml", "wide")
def get(
    kind: str,
    name: str | None,
    fleet: str,
    namespace: str,
    all_namespaces: bool,
    selector: str | None,
    clusters: bool,
    output: str | None,
) -> None:
    """One table of KIND over the hub, or with --clusters over all members.

    \b
    Examples:
      atoll get deployments
      atoll get deployments,services --clusters -A
      atoll get pods --clusters -l app=web -o wide
    """
    from atoll.app import launch
    from atoll.cli import session

    state = launch.running_fleet(fleet)
    space = None if all_namespaces else namespace
    wanted = [_Wanted(one, name, space, selector) for one in kind.split(",") if one]

    async def work(s: session.Session) -> list[Object]:
        return [await _collect(s, state, one, clusters) for one in wanted]

    answers = session.run(work, state)
    if output in ("json", "yaml"):
        items = [row["object"] | {"cluster": row["cluster"]} for found in answers for row in found["rows"]]
        structured({"kind": "List", "apiVersion": "v1", "items": items}, output)
    else:
        shown = [found for found in answers if found["rows"]]
        for index, found in enumerate(shown or answers[:1]):
            if index:
                click.echo()
            _print(found, output == "wide", clusters, all_namespaces)
    for problem in dict.fromkeys(problem for found in answers for problem in found["problems"]):
        click.echo(f"warning: {problem}", err=True)


class _Wanted:
    def __init__(self, kind: str, name: str | None, namespace: str | None, selector: str | None) -> None:
        self.kind = kind
        self.name = name
        self.namespace = namespace
        self.selector = selector


async def _collect(session: Any, state: Any, wanted: _Wanted, clusters: bool) -> Object:
    from atoll.app.launch import read_fleet

    names = [cluster.name for cluster in read_fleet(state).clusters] if clusters else ["hub"]
    answers = await asyncio.gather(*(_one(session, name, wanted) for name in names))
    rows = [row for answer in answers for row in answer["rows"]]
    columns: list[Object] = next((answer["columns"] for answer in answers if answer["columns"]), [])
    problems = [answer["problem"] for answer in answers if answer["problem"]]
    if problems and len(problems) == len(names):
        raise UserError(problems[0], hint=next((answer["hint"] for answer in answers if answer.get("hint")), None))
    if wanted.name and not rows and not problems:
        where = "any cluster" if clusters else "the hub"
        raise UserError(f"there is no {wanted.kind} {wanted.name} in {where}", hint=f"atoll get {wanted.kind} -A")
    return {"columns": columns, "rows": rows, "problems": problems}


async def _one(session: Any, cluster: str, wanted: _Wanted) -> Object:
    from urllib.parse import urlencode

    from atoll.cli.resources import resolve

    try:
        client = session.cluster(cluster, timeout_seconds=5.0)
        resource = await resolve(client, wanted.kind)
        query = {"includeObject": "Object"}
        if wanted.selector:
            query["labelSelector"] = wanted.selector
        if wanted.name:
            query["fieldSelector"] = f"metadata.name={wanted.name}"
        answer = await client.raw(
            "GET", resource.path(wanted.namespace), query=urlencode(query), headers={"Accept": _TABLE}
        )
        body = orjson.loads(answer.body)
        if answer.status != 200:
            return {"rows": [], "columns": [], "problem": f"{cluster}: {body.get('message')}"}
        rows = [{"cluster": cluster, "cells": row["cells"], "object": row["object"]} for row in body.get("rows") or ()]
        return {"rows": rows, "columns": body.get("columnDefinitions") or [], "problem": ""}
    except AtollError as error:
        return {"rows": [], "columns": [], "problem": f"{cluster}: {error.message}", "hint": error.hint}


def _print(found: Object, wide: bool, clusters: bool, all_namespaces: bool) -> None:
    shown = [i for i, column in enumerate(found["columns"]) if wide or not column.get("priority")]
    header = [found["columns"][i]["name"].upper() for i in shown]
    rows = []
    for row in found["rows"]:
        cells = ["<none>" if row["cells"][i] in (None, "") else row["cells"][i] for i in shown]
        if all_namespaces and row["object"]["metadata"].get("namespace"):
            cells.insert(0, row["object"]["metadata"]["namespace"])
        rows.append([row["cluster"], *cells] if clusters else cells)
    if not rows:
        click.echo("No resources found", err=True)
        return
    if all_namespaces and found["rows"][0]["object"]["metadata"].get("namespace"):
        header.insert(0, "NAMESPACE")
    table(["CLUSTER", *header] if clusters else header, rows)


@click.command()
@click.argument("target", metavar="KIND/NAME")
@click.option("-n", "--namespace", default="default", show_default=True)
@fleet_option
@output_option("json", "yaml")
def explain(target: str, namespace: str, fleet: str, output: str | None) -> None:
    """Why an object is where it is: policy, filters, scores, division, failures.

    \b
    Example:
      atoll explain deployment/web -n shop
    """
    from atoll.app import launch
    from atoll.base.clock import SystemClock
    from atoll.cli import session
    from atoll.fleet.plan.explain import explain as explain_object

    state = launch.running_fleet(fleet)
    found = session.run(lambda s: explain_object(s.hub(), SystemClock(), target, namespace=namespace), state)
    if structured(_plain(found), output):
        return
    _say("", found.label)
    _say("policy", found.policy or "none")
    _say("why", found.why)
    for other in found.other_policies:
        _say("also matches", other)
    _say("affinity", found.affinity)
    _say("division", found.division)
    _say("scheduled", found.scheduled)
    for by in found.required_by:
        _say("required by", by)
    for move in found.moving:
        _say("moving", move)
    if found.verdicts:
        click.echo()
        rows = [(v.cluster, "chosen" if v.chosen else "no", v.score or "-", v.reason) for v in found.verdicts]
        table(("CLUSTER", "CHOSEN", "SCORE", "REASON"), rows)
    if found.clusters:
        click.echo()
        copies = [
            (c.cluster, _or_dash(c.replicas), _or_dash(c.ready), "yes" if c.applied else "no", c.health,
             ",".join(c.overrides) or "-", c.message or "-")
            for c in found.clusters
        ]  # fmt: skip
        table(("CLUSTER", "REPLICAS", "READY", "APPLIED", "HEALTH", "OVERRIDES", "MESSAGE"), copies)
    for failure in found.failures:
        click.echo(f"failure: {failure}")


@click.command()
@click.argument("target", metavar="KIND/NAME")
@click.option("-n", "--namespace", default="default", show_default=True)
@fleet_option
@output_option("json", "yaml")
def tree(target: str, namespace: str, fleet: str, output: str | None) -> None:
    """An object and all that came of it: template, binding, work, objects in members, pods, with their health.

    \b
    Example:
      atoll tree deployment/web -n shop
    """
    from atoll.app import launch

    print_tree(launch.running_fleet(fleet), target, namespace, output)


def print_tree(state: Any, target: str, namespace: str, output: str | None = None) -> None:
    """The tree of an object on the hub of a running fleet."""
    from atoll.cli import session
    from atoll.fleet.plan.tree import tree as read_tree

    async def work(s: Any) -> Any:
        return await read_tree(s.hub(), await s.members(), target, namespace=namespace)

    found = session.run(work, state)
    if not structured(_plain(found), output):
        rows: list[tuple[str, str, str, str]] = []
        _branch_rows(found, "", "", rows)
        table(("OBJECT", "CLUSTER", "HEALTH", "MESSAGE"), rows)


def _branch_rows(branch: Any, lead: str, below: str, rows: list[tuple[str, str, str, str]]) -> None:
    place = f"{branch.namespace}/" if branch.namespace and not lead else ""
    rows.append(
        (f"{lead}{branch.kind} {place}{branch.name}", branch.cluster, branch.health or "-", branch.message or "")
    )
    last = len(branch.children) - 1
    for index, child in enumerate(branch.children):
        end = index == last
        _branch_rows(child, below + ("└─ " if end else "├─ "), below + ("   " if end else "│  "), rows)


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _say(what: str, text: str) -> None:
    if text:
        click.echo(f"{what + ':':<13}{text}" if what else text)


def _or_dash(value: object) -> object:
    return "-" if value is None else value
