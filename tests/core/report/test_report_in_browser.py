"""The page in a browser: nothing is cut off on a phone, and axe finds no serious obstacle, in light and in dark.

Needs Chromium, and axe-core where ``npm install axe-core`` puts it (or its ``axe.min.js`` as ``AXE_CORE``); skipped
where one of them is absent.
"""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from written_runs import edit, scalar, write_run

from diffusability.core.report import build_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(os.environ.get("AXE_CORE") or Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js")
WIDTHS = (1280, 390)
MODES = ("light", "dark")
#: Run in each frame. A page without axe says so by the number of rules that passed.
PROBE = """
addEventListener("load", async () => {
  const all = [...document.querySelectorAll("body *")];
  const cut = all.filter((one) => one.getBoundingClientRect().right > innerWidth + 1
    && !one.closest(".scroll, pre, .hidden")).map((one) => one.outerHTML.slice(0, 90));
  const ground = getComputedStyle(document.body).backgroundColor;
  const overflow = document.documentElement.scrollWidth - innerWidth;
  const checked = await axe.run(document, { resultTypes: ["violations"] });
  const violations = checked.violations.map((one) => [one.impact, one.id, one.nodes.map((node) => node.html)]);
  parent.postMessage({ name: window.name, cut, ground, overflow, violations, passes: checked.passes.length }, "*");
});
"""
COLLECT = """
const told = [];
addEventListener("message", (event) => {
  told.push(event.data);
  if (told.length === document.querySelectorAll("iframe").length) {
    const told_here = document.createElement("pre");
    told_here.id = "told";
    told_here.textContent = JSON.stringify(told);
    document.body.append(told_here);
  }
});
"""

pytestmark = pytest.mark.skipif(BROWSER is None or not AXE.is_file(), reason="needs Chromium and axe-core")


def told_by_the_browser(page: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What the probe says of the page, with everything unfolded, at each width in each mode."""
    text = page.read_text(encoding="utf-8").replace("<details>", "<details open>")
    frames = []
    for mode in MODES:
        chosen = text.replace('id="theme-auto" checked', 'id="theme-auto"')
        chosen = chosen.replace(f'id="theme-{mode}"', f'id="theme-{mode}" checked')
        probe = f"<script>{AXE.read_text(encoding='utf-8')}</script><script>{PROBE}</script>"
        (folder / f"{mode}.html").write_text(chosen.replace("</body>", probe + "</body>"), encoding="utf-8")
        frames += [
            f'<iframe name="{mode}-{width}" src="{mode}.html" width="{width}" height="900"></iframe>'
            for width in WIDTHS
        ]
    together = folder / "frames.html"
    together.write_text(f"<!DOCTYPE html><body><script>{COLLECT}</script>{''.join(frames)}</body>", encoding="utf-8")
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=60000", "--dump-dom", together.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    told = re.search(r'<pre id="told">(.*?)</pre>', dumped, flags=re.DOTALL)
    assert told is not None, dumped[-2000:]
    return {page["name"]: page for page in json.loads(unescape(told[1]))}


def test_pages_fit_and_are_accessible(tmp_path: Path) -> None:
    """More than eight metrics, names without a place to break, three seeds; all that axe calls serious, or worse."""
    names = ("baseline", "scale_equivariance_with_factors_2_and_4_and_a_weight_of_0.25", "se")
    run = write_run(tmp_path / "run", {f"{name}-{seed}": seed / 9 for name in names for seed in range(3)})
    seeds = {f"{name}-{seed}": {"base": name, "seed": seed} for name in names for seed in range(3)}
    edit(run / "run.json", lambda record: record.update(variant_seeds=seeds))

    def measured(content: Any) -> None:
        for place, stages in enumerate(content["variants"].values()):
            stages["spectrum"] |= {"viv": scalar(2.0 - place / 9, False), "lds": scalar(1.0 + place / 9, True)}

    edit(run / "results.json", measured)
    page, _ = build_report([run])
    told = told_by_the_browser(page, tmp_path)
    assert set(told) == {f"{mode}-{width}" for mode in MODES for width in WIDTHS}
    for name, result in told.items():
        assert result["passes"] > 20, name
        assert result["cut"] == [], name
        assert result["overflow"] <= 0, name
        assert [violation for violation in result["violations"] if violation[0] in ("serious", "critical")] == [], name
    assert told["light-390"]["ground"] == "rgb(255, 255, 255)"
    assert told["dark-390"]["ground"] == "rgb(20, 23, 28)"
