"""Contract of every target of the catalog, drop-ins too: one file is one device, fully sourced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuner.catalog import load_module, load_space, load_target, names
from tuner.engine.costs import costs_on
from tuner.propose.choices import TableChoices
from tuner.spec.target import NEED_SOURCES
from tuner.testing.specs import context_of

FILES = sorted(names("targets").values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestCard:
    """Of one target."""

    def test_opens_with_a_card(self, path: Path) -> None:
        assert path.read_text().startswith("# ")

    def test_loads_under_its_name(self, path: Path) -> None:
        target = load_target(str(path))
        assert target.name == path.stem
        assert re.fullmatch(r"[a-z0-9-]+", target.name)
        assert len(target.name) <= 16

    def test_each_number_has_a_source(self, path: Path) -> None:
        target = load_target(str(path))
        for name in NEED_SOURCES:
            text = target.sources[name]
            assert "assumed: " in text or re.search(r"\w[./]\w", text), (
                f"{path}: the source of {name} has to name a public page or repository, or begin "
                f"with 'assumed:', as in \"assumed: data sheet of our own board, rev B\". "
                f"Received: {text!r}."
            )

    def test_the_smallest_net_fits(self, path: Path) -> None:
        target = load_target(str(path))
        context = context_of(str(path), 32, 32)
        smallest = load_space("mixed_stages").draw(TableChoices({}), context)
        (cost,) = costs_on(smallest.architecture, [target]).values()
        assert cost.fits, cost.over

    def test_an_accelerator_has_a_source(self, path: Path) -> None:
        target = load_target(str(path))
        if target.runtime == "ethos_u":
            assert re.search(r"\w[./]\w", target.sources["accelerator"])

    def test_its_runtime_exists_and_lists_its_kernels(self, path: Path) -> None:
        target = load_target(str(path))
        assert target.runtime in names("runtimes")
        assert target.kernels in load_module("runtimes", target.runtime).KERNELS
