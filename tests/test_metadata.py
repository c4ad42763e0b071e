"""What other programs read about the project says the same everywhere: versions, addresses, files."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHART = yaml.safe_load((ROOT / "charts" / "modelops-dask" / "Chart.yaml").read_text())
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_one_version_and_one_license():
    assert PROJECT["version"] == CHART["version"] == CHART["appVersion"] == CITATION["version"]
    assert PROJECT["license"] == CITATION["license"] == CHART["annotations"]["artifacthub.io/license"]


def test_one_address_of_the_repository():
    address = PROJECT["urls"]["Repository"]
    links = yaml.safe_load(CHART["annotations"]["artifacthub.io/links"])
    contacts = yaml.safe_load((FORMS / "config.yml").read_text())["contact_links"]
    assert CHART["home"] == CITATION["repository-code"] == CHART["sources"][0] == address
    others = [
        *PROJECT["urls"].values(),
        *(link["url"] for link in links),
        *(link["url"] for link in contacts),
    ]
    assert all(url.startswith(address) for url in others)
    host, name = address.removeprefix("https://").split("/", 1)
    assert (
        CHART["icon"].startswith(f"https://raw.githubusercontent.com/{name}/main/") and host == "github.com"
    )
    assert f"git clone {address}\n" in (ROOT / "CONTRIBUTING.md").read_text()
    in_git = [*re.findall(r"/(?:blob|tree)/main/(\S+)", " ".join(others)), CHART["icon"].split("/main/")[1]]
    assert len(in_git) == 5 and all((ROOT / path).exists() for path in in_git)


def test_forms_of_issues_have_what_github_asks_for():
    forms = [path for path in FORMS.glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert form["name"] and form["description"] and form["body"]
        for field in form["body"]:
            assert field["type"] in ("textarea", "input", "dropdown") and field["attributes"]["label"]
            assert all(isinstance(option, str) for option in field["attributes"].get("options", []))
