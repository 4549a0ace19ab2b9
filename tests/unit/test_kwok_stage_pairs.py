"""KWOK's own input → output pairs: those of ../shared/inputs/kwok-stages where it is there, and ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.cluster.nodes.stages.outline import outline
from atoll.objects import goyaml

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "inputs" / "kwok-stages"
OURS = Path(__file__).parent / "data" / "stages"
_MARK = "-testdata-"


def pairs(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_MARK}*.input.yaml"))


def documents_of(given: Path) -> list[dict]:
    """The stages of the input's folder: FOLDER-testdata-CASE.input.yaml goes with FOLDER-STAGE.yaml."""
    folder = given.name.split(_MARK)[0]
    found = []
    for path in sorted(given.parent.glob(f"{folder}-*.yaml")):
        if _MARK not in path.name:
            documents = goyaml.load_all(path.read_text())
            found += [item for item in documents if path.stem == f"{folder}-{item['metadata']['name']}"]
    return found


def check(given: Path) -> None:
    expected = goyaml.load(given.with_name(given.name.replace(".input.", ".output.")).read_text())
    assert outline(documents_of(given), goyaml.load(given.read_text())) == expected


@pytest.mark.skipif(not pairs(SHARED), reason=f"no KWOK stages in {SHARED}")
@pytest.mark.parametrize("given", pairs(SHARED), ids=lambda path: path.name.removesuffix(".input.yaml"))
def test_kwok_pair(given: Path) -> None:
    check(given)


@pytest.mark.parametrize("given", pairs(OURS), ids=lambda path: path.name.removesuffix(".input.yaml"))
def test_our_pair(given: Path) -> None:
    check(given)
