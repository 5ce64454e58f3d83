"""How fresh the backups are, in the words of people, monitoring plugins and Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sheetanchor.cli import words

if TYPE_CHECKING:
    from sheetanchor.operations.results import FreshnessLevel, StatusSummary


def text_lines(summary: StatusSummary, warn: str, alert: str) -> list[str]:
    """Return lines for people."""
    lines = [f"{summary.level.value.upper()}: {words.printable(summary.message)}"]
    newest = summary.newest_complete
    if newest is not None:
        lines.append(f"  newest complete  {newest.backup}, {words.moment(newest.time)}")
    if summary.newest_partial is not None:
        lines.append(f"  partial since    {summary.newest_partial.backup}")
    lines += [
        f"  {name:<15}  {words.duration(max(0.0, age))} old"
        for name, age in sorted(summary.components.items())
    ]
    lines += [f"  {name:<15}  never saved" for name in summary.missing_components]
    limits = f"warning over {warn}, critical over {alert}"
    lines.append(f"  complete backups {summary.backups}; {limits}")
    return lines


def nagios_line(summary: StatusSummary, warn_s: float, alert_s: float) -> str:
    """Return one line in the format of monitoring plugins, with performance data."""
    age = "U" if summary.age_s is None else f"{summary.age_s:.0f}s"
    data = f"age={age};{warn_s:.0f};{alert_s:.0f};0; backups={summary.backups};;;0;"
    return f"BACKUP {summary.level.value.upper()} - {_nagios_text(summary.message)} | {data}"


def nagios_unknown(message: str) -> str:
    """Return the line for a state that cannot be told."""
    return f"BACKUP UNKNOWN - {_nagios_text(message)}"


def _nagios_text(text: str) -> str:
    """A bar would begin the performance data, and a plugin's answer is one line."""
    return words.printable(" ".join(text.split())).replace("|", "/")


def prometheus_lines(summary: StatusSummary) -> list[str]:
    """Return the metrics in Prometheus's text format, for the textfile collector."""
    labels = {"stack": summary.stack}
    lines = prometheus_level(summary.level, summary.stack)
    lines += _metric("backups", "Number of complete backups in the repository.", [(labels, summary.backups)])
    newest = summary.newest_complete
    if newest is not None:
        lines += _metric(
            "last_complete_backup_timestamp_seconds",
            "When the newest complete backup was taken.",
            [(labels, newest.time.timestamp())],
        )
        if newest.duration_s is not None:
            lines += _metric(
                "last_complete_backup_duration_seconds", "How long it took.", [(labels, newest.duration_s)]
            )
    if summary.age_s is not None:
        lines += _metric(
            "backup_age_seconds", "Age of the newest complete backup.", [(labels, summary.age_s)]
        )
    ages = [({**labels, "component": name}, age) for name, age in sorted(summary.components.items())]
    return lines + _metric("component_age_seconds", "Age of each component's newest saved state.", ages)


def prometheus_level(level: FreshnessLevel, stack: str | None) -> list[str]:
    """Return the metric that alone must always be there, also when nothing else is known."""
    labels = {"stack": stack} if stack is not None else {}
    return _metric("status", "0 ok, 1 warning, 2 critical, 3 unknown.", [(labels, level.exit_code)])


def _metric(name: str, explanation: str, values: list[tuple[dict[str, str], float]]) -> list[str]:
    full = f"sheetanchor_{name}"
    lines = [f"# HELP {full} {explanation}", f"# TYPE {full} gauge"] if values else []
    return lines + [f"{full}{_labels(labels)} {_number(value)}" for labels, value in values]


def _labels(labels: dict[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.3f}"
