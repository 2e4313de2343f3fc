"""The table in a spec: what it takes, what is rejected, and that it does not affect what runs."""

import json

import pytest
import yaml
from tiny_runs import tiny_spec, write_spec

from diffusability.core.errors import SpecError
from diffusability.core.planning.plan import load_plan
from diffusability.core.planning.table import read_table
from diffusability.core.run.folder_writer import RunFolder

TABLE = {
    "caption": "Results",
    "columns": [
        {"stage": "measure", "metric": "psnr", "label": "PSNR"},
        {"stage": "generate", "metric": "sliced_wasserstein", "group": "DiT"},
    ],
    "rows": {"vanilla": "CompactAE", "se": "CompactAE + SE"},
    "published": {"vanilla": [30.2, None]},
}
VARIANTS = {"vanilla": {}, "se": {"stages.dit.optimizer.lr": 2.0e-3}}


def planned(folder, table, *overrides, **changes):
    content = {**tiny_spec(), "variants": VARIANTS, "table": table, **changes}
    return load_plan(write_spec(folder, {key: value for key, value in content.items() if value is not None}), overrides)


def test_a_table_is_no_part_of_what_runs(tmp_path):
    """Digests with it, without it and with another; variants with several seeds go by their own names."""
    with_table, without = planned(tmp_path, TABLE, seeds=[0, 1]), planned(tmp_path, None, seeds=[0, 1])
    assert [stage.digest for stage in with_table.order] == [stage.digest for stage in without.order]
    assert with_table.table.rows == {"vanilla": "CompactAE", "se": "CompactAE + SE"}
    assert with_table.table.published == {"vanilla": (30.2, None)}
    assert without.table is None


def test_a_run_records_its_table(tmp_path):
    """As it is now: a run that is started again takes the new one, also one that --set changed."""
    for table, overrides, caption in (
        (TABLE, [], "Results"),
        (TABLE | {"caption": "New"}, [], "New"),
        (TABLE, ["table.caption=Other"], "Other"),
    ):
        plan = planned(tmp_path, table, *overrides)
        folder = RunFolder(tmp_path / "run")
        folder.root.mkdir(exist_ok=True)
        folder.write_overview(plan, "dfz run", {})
        assert json.loads((folder.root / "run.json").read_text())["table"]["caption"] == caption


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            {"columns": [{"stage": "mesure", "metric": "psnr"}], "published": {}},
            ["'mesure'", "did you mean 'measure'", "columns.0.stage"],
        ),
        ({"columns": []}, ["a table needs a column", "table.columns"]),
        ({"columns": [{"stage": "measure", "metrik": "psnr"}]}, ["unknown key 'metrik'", "did you mean 'metric'"]),
        ({"columns": [{"stage": "measure", "metric": "psnr"}] * 2}, ["has two columns", "table.columns.1"]),
        ({"rows": {"vanila": "x"}, "published": {}}, ["'vanila'", "did you mean 'vanilla'", "table.rows.vanila"]),
        ({"rows": {}, "published": {}}, ["a table needs a row", "table.rows"]),
        ({"rows": None, "published": {"see": [1, 2]}}, ["'see'", "did you mean 'se'", "table.published.see"]),
        ({"published": {"vanilla": [1]}}, ["1 published numbers for 2 columns", "table.published.vanilla"]),
        ({"rows": {"se": "x"}}, ["published variant 'vanilla' has no row", "rows: se"]),
        ({"published": {"vanilla": ["good", None]}}, ["valid number", "got 'good'", "table.published.vanilla.0"]),
        ({"transposed": True}, ["unknown key 'transposed'", "did you mean 'transpose'"]),
    ],
)
def test_mistakes_are_named_with_their_place(change, parts, tmp_path):
    """All of them before anything runs, at a line of the file."""
    with pytest.raises(SpecError) as caught:
        planned(tmp_path, TABLE | change)
    for part in [*parts, "(spec.yaml:"]:
        assert part in str(caught.value)


def test_planned_names_are_no_rows(tmp_path):
    """Rows are of variants, not of their seeds."""
    with pytest.raises(SpecError, match=r"'se-seed1', which does not exist.*variants: vanilla, se"):
        planned(tmp_path, TABLE | {"rows": {"se-seed1": "x"}, "published": {}}, seeds=[0, 1])


def test_an_extending_spec_replaces_the_table_or_changes_it(tmp_path):
    """Like variants: a plain mapping replaces, a dotted path changes, null removes."""
    planned(tmp_path, TABLE)
    short = {"columns": [{"stage": "measure", "metric": "psnr"}]}
    for change, expected in (
        ({"table": short}, ("", 1)),
        ({"table.caption": "Micro"}, ("Micro", 2)),
        ({"table": None}, None),
    ):
        (tmp_path / "more.yaml").write_text(yaml.safe_dump({"extends": "spec.yaml", **change}))
        table = load_plan(tmp_path / "more.yaml").table
        assert (table and (table.caption, len(table.columns))) == expected


def test_a_table_is_read_from_a_spec_or_a_file_of_its_own(tmp_path):
    """The same table from three files; and what is wrong with other files."""
    names = (["vanilla", "se"], ["measure", "generate"])
    spec = write_spec(tmp_path, tiny_spec() | {"variants": VARIANTS, "table": TABLE})
    for name, content in (("own", TABLE), ("key", {"table": TABLE}), ("more", {"extends": spec.name, "name": "x"})):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        assert read_table(path, *names) == read_table(spec, *names)
    with pytest.raises(SpecError, match=r"'generate', which does not exist.*\(own\.yaml:"):
        read_table(tmp_path / "own.yaml", ["vanilla", "se"], ["measure"])
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(tiny_spec()))
    with pytest.raises(SpecError, match="has no 'table'"):
        read_table(tmp_path / "none.yaml", *names)
