"""What holds for every test: a clean environment, fixed examples, and no silent skip on CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

ON_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
# A developer's settings must not steer what is tested.
# PYTHONDONTWRITEBYTECODE would make every start of the program compile it anew.
FOREIGN_VARIABLES = (
    "SHEETANCHOR_",
    "RESTIC_",
    "PG",
    "REDISCLI_",
    "AWS_",
    "ENCRYPTION_KEY",
    "BACKUP_DIR",
    "PYTHONDONTWRITEBYTECODE",
)
KEPT_VARIABLES = ("AWS_CA_BUNDLE",)

for variable in list(os.environ):
    if variable.startswith(FOREIGN_VARIABLES) and variable not in KEPT_VARIABLES:
        del os.environ[variable]

# The examples are the same in every run: a test that fails, fails for everyone. `./dev torture`
# looks for new ones.
hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.register_profile("torture", deadline=None, max_examples=2000, database=None)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples the property tests try."""
    hypothesis.settings.load_profile("torture" if _is_torture(config) else "fixed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the property tests into `./dev torture`, where they try many more examples."""
    if _is_torture(config):
        for item in items:
            if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.torture)


def _is_torture(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr", "") == "torture")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn a skip on CI into a failure: what was not run was not shown."""
    report = yield
    return _not_skipped_on_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """The same for a whole module that skips itself."""
    report = yield
    return _not_skipped_on_ci(report)


def _not_skipped_on_ci(report: pytest.TestReport | pytest.CollectReport) -> object:
    if ON_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"a skip is a failure on CI: {reason}"
    return report
