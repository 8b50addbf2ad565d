"""A misspelt topic or metric is found, wherever it stands."""

import subprocess
from pathlib import Path

from offhook_dev.names import misspelled


def test_a_misspelt_topic_and_metric_are_found_with_their_place(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    # Put together here, so that this file is not itself an offender.
    topic, metric = "telephony.call-" + "event.v1", "offhook_webhook_" + "refusals_total"
    (tmp_path / "page.md").write_text(f"fine: telephony.call-events.v1\nwrong: {topic}\n")
    (tmp_path / "alert.yaml").write_text(f"expr: rate({metric}[5m])\n")
    assert [line.split(": ")[0] for line in sorted(misspelled(tmp_path))] == ["alert.yaml:1", "page.md:2"]
