"""The files that configure access: named in a fleet file or on the command line, and remembered with the fleet."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import to_builtins

from atoll.app.fleetfile import parse
from atoll.app.fleetspec import AccessFiles
from atoll.app.launch import cluster_of
from atoll.base.errors import UserError
from atoll.cluster.apiserver.access.documents import seconds

TEXT = """
apiVersion: fleet.atoll.dev/v1alpha1
kind: Fleet
spec:
  clusters:
  - name: one
    apiServer:
      authenticationConfig: authn.yaml
      authenticationTokenWebhook: {config: hook.yaml, version: v1beta1, cacheTTL: 30s}
  - {name: two}
"""


def test_a_fleet_file_names_files_beside_it(tmp_path: Path) -> None:
    for name in ("authn.yaml", "hook.yaml"):
        (tmp_path / name).touch()
    one, two = parse(TEXT, str(tmp_path / "fleet.yaml")).clusters
    authn, hook = str(tmp_path / "authn.yaml"), str(tmp_path / "hook.yaml")
    assert one.access == AccessFiles(authn, "", hook, "v1beta1", "30s")
    assert one.access.any and not two.access.any
    assert cluster_of(to_builtins(one)) == one


def test_a_file_that_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fleet\.yaml:8: .*authenticationConfig: there is no file"):
        parse(TEXT, str(tmp_path / "fleet.yaml"))


def test_durations_as_go_writes_them() -> None:
    assert [seconds(text) for text in ("3s", "1m30s", "1.5h", "100ms", "", None)] == [3, 90, 5400, 0.1, None, None]
    assert seconds("3 s") != seconds("3 s")  # NaN
