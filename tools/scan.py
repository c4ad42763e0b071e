"""Scan what the chart renders with Checkov and kube-score: `make scan`.

    preset -> helm template -> objects in a namespace -> both scanners -> findings less scan-accepted.yaml

Each preset is rendered with its own values alone. A finding is a failed check of Checkov or a critical one of
kube-score. Exit status: 0 nothing is left, 1 findings that nobody accepted, or acceptances that find nothing.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".tools" / "bin"
CHECKOV = ROOT / ".tools" / "checkov" / "bin" / "checkov"
ACCEPTED = Path(__file__).with_name("scan-accepted.yaml")
KUBE_VERSION = "1.34"
CRITICAL = 1  # kube-score's grade


@dataclass(frozen=True, order=True)
class Finding:
    """A check (`Checkov CKV_K8S_11: CPU limits should be set`) that failed on kind/name in a file."""

    check: str
    object: str
    file: str


@dataclass(frozen=True)
class Acceptance:
    """A check that may fail on objects that match one of the patterns."""

    check: str
    objects: tuple[str, ...]
    reason: str

    def covers(self, finding: Finding) -> bool:
        return self.check == finding.check and any(
            fnmatchcase(finding.object, pattern) for pattern in self.objects
        )


def main() -> int:
    accepted = [Acceptance(row["check"], tuple(row["objects"]), row["reason"]) for row in _yaml(ACCEPTED)]
    presets = sorted((ROOT / "values").glob("*.yaml"))
    with TemporaryDirectory() as folder:
        for preset in presets:
            (Path(folder) / preset.name).write_text(render_preset(preset))
        findings = [*checkov(Path(folder)), *kube_score(Path(folder))]
    left = drop_accepted(findings, accepted)
    unused = [item for item in accepted if not any(map(item.covers, findings))]
    for finding in left:
        print(f"{finding.file}: {finding.object}: {finding.check}")
    for item in unused:
        print(f"{ACCEPTED.name}: finds nothing any more: {item.check}")
    print(
        f"{len(presets)} presets: {len(findings) - len(left)} findings accepted, {len(left)} left",
        file=sys.stderr,
    )
    return 1 if left or unused else 0


def drop_accepted(findings: Iterable[Finding], accepted: Iterable[Acceptance]) -> list[Finding]:
    """Findings that nobody accepted, sorted."""
    accepted = list(accepted)
    return sorted(finding for finding in findings if not any(item.covers(finding) for item in accepted))


def render_preset(preset: Path) -> str:
    """The chart's objects with a preset, in the namespace where helm would put them."""
    chart = ROOT / "charts" / "modelops-dask"
    command = [BIN / "helm", "template", "study", chart, "--kube-version", KUBE_VERSION, "--values", preset]
    objects = [item for item in yaml.safe_load_all(_output(command)) if item]
    for item in objects:
        item["metadata"]["namespace"] = "models"
    return yaml.safe_dump_all(objects)


def checkov(folder: Path) -> list[Finding]:
    """Failed checks of Checkov on the YAML files of a folder. Uses no network."""
    command = [CHECKOV, "--framework", "kubernetes", "--directory", folder, "--output", "json", "--compact"]
    report = json.loads(_output([*command, "--quiet", "--soft-fail", "--skip-download"]))
    assert not report["summary"]["parsing_errors"], report["results"].get("parsing_errors")
    assert report["summary"]["resource_count"], "Checkov found nothing to check"
    return [
        Finding(
            f"Checkov {row['check_id']}: {row['check_name']}",
            _object_title(row["resource"]),
            row["file_path"][1:],
        )
        for row in report["results"]["failed_checks"]
    ]


def _object_title(resource: str) -> str:
    """kind/name from Checkov's kind.namespace.name."""
    kind, _, rest = resource.partition(".")
    return f"{kind}/{rest.partition('.')[2]}"


def kube_score(folder: Path) -> list[Finding]:
    """Critical checks of kube-score, a file at a time, for it relates objects to each other."""
    command = [
        BIN / "kube-score",
        "score",
        "--kubernetes-version",
        f"v{KUBE_VERSION}",
        "--output-format",
        "json",
    ]
    findings = []
    for path in sorted(folder.glob("*.yaml")):
        # 1 says that there are findings.
        scored = json.loads(_output([*command, path], statuses=(0, 1)))
        assert scored, "kube-score found nothing to check"
        for item in scored:
            title = f"{item['type_meta']['kind']}/{item['object_meta']['name']}"
            for row in item["checks"]:
                if row["grade"] == CRITICAL and not row["skipped"]:
                    name = f"kube-score {row['check']['id']}"
                    findings += [
                        Finding(f"{name}: {comment['summary']}", title, path.name)
                        for comment in row["comments"]
                    ]
    return findings


def _output(command: list[Any], statuses: Iterable[int] = (0,)) -> str:
    process = subprocess.run(command, text=True, capture_output=True, check=False)
    if process.returncode not in statuses:
        sys.exit(f"{' '.join(map(str, command))}\n{process.stderr}")
    return process.stdout


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


if __name__ == "__main__":
    sys.exit(main())
