"""`./dev bench`: all tools take turns on the same data; prints Markdown tables of medians."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.changes import print_changes
from bench.contenders import Borg, Contender, Restic, Sheetanchor, TarOpenssl, TarZstd, restic_version
from bench.dataset import Dataset, make_dataset
from bench.measure import BenchmarkError
from bench.table import Round, markdown_table

MIB = 1 << 20
SETS = ("mixed", "many", "changes")
"""Large and small files; many small files; a dump of which one row in a hundred changed."""


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="sheetanchor-bench-", dir=options.directory) as scratch:
        try:
            _run(options, Path(scratch))
        except BenchmarkError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    size = int(os.environ.get("BENCH_SIZE", "1024"))
    parser.add_argument(
        "--size", type=int, default=size, help="MiB of large files (default %(default)s, BENCH_SIZE)"
    )
    parser.add_argument(
        "--small-files", type=int, default=10_000, help="how many on top (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each tool (default %(default)s)")
    parser.add_argument("--directory", help="where to work; four times the size is needed (default: TMPDIR)")
    parser.add_argument(
        "--restic", action="append", help="a restic to compare with; may be given again (default: restic)"
    )
    parser.add_argument("--no-tar", action="store_true", help="leave the slow tar and openssl out")
    parser.add_argument("--no-borg", action="store_true", help="leave borg out where it is installed")
    parser.add_argument(
        "--only", action="append", choices=SETS, help="measure this alone; may be given again (default: all)"
    )
    parser.add_argument(
        "--many-files", type=int, default=100_000, help="files of the set `many` (default %(default)s)"
    )
    return parser.parse_args()


def _run(options: argparse.Namespace, scratch: Path) -> None:
    command = " ".join(["./dev bench", *sys.argv[1:]])
    print(f"`{command}`: medians of {options.rounds} rounds in turn, {_machine()}.")
    wanted = options.only or SETS
    if "mixed" in wanted:
        _measure_set(options, scratch, lambda place: _make(place, options.size, options.small_files))
    if "many" in wanted:
        _measure_set(options, scratch, lambda place: _make(place, 0, options.many_files))
    if "changes" in wanted:
        data = scratch / "data"
        print_changes(data, options.size * MIB, [_ours(data, scratch), *_restics(options, data, scratch)])
        shutil.rmtree(data)


def _make(place: Path, size: int, small_files: int) -> Dataset:
    _say(f"making {size} MiB and {small_files:,} small files")
    return make_dataset(place, size * MIB, small_files)


def _measure_set(options: argparse.Namespace, scratch: Path, make: Callable[[Path], Dataset]) -> None:
    data = make(scratch / "data")
    contenders = _contenders(options, data.directory, scratch)
    rounds: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
    discarded = scratch / "discarded"
    discarded.mkdir()
    for number in range(options.rounds):
        # A different one begins each time, so that none always finds the same caches.
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            _say(f"round {number + 1} of {options.rounds}: {contender.name}")
            rounds[contender.name].append(_one_round(contender))
            # ext4 looks long for a free inode among those that were just deleted: whoever restores
            # next would pay for it (5 s instead of 2 s). So nothing is deleted until the end.
            contender.scratch.rename(discarded / f"{len(list(discarded.iterdir()))}")
    print(f"\n{data.num_bytes / MIB:,.0f} MiB in {data.files:,} files, {_load()}:\n")
    print(markdown_table(rounds, data.num_bytes), flush=True)
    shutil.rmtree(discarded)
    shutil.rmtree(data.directory)


def _contenders(options: argparse.Namespace, data: Path, scratch: Path) -> list[Contender]:
    found = [_ours(data, scratch), *_restics(options, data, scratch)]
    if shutil.which("borg") is not None and not options.no_borg:
        found.append(Borg("borg, zstd,1", data, scratch / "borg"))
    if not options.no_tar:
        found.append(TarOpenssl("tar, gzip, openssl", data, scratch / "tar"))
        if shutil.which("zstd") is not None:
            found.append(TarZstd("tar, zstd -1", data, scratch / "zstd"))
    return found


def _ours(data: Path, scratch: Path) -> Contender:
    return Sheetanchor("Sheetanchor", data, scratch / "sheetanchor")


def _restics(options: argparse.Namespace, data: Path, scratch: Path) -> list[Contender]:
    found: list[Contender] = []
    for number, program in enumerate(options.restic or ["restic"]):
        if shutil.which(program) is None:
            raise BenchmarkError(f"{program} is not installed")
        found.append(Restic(restic_version(program), data, scratch / f"restic-{number}", program))
    return found


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} at the end"


def _one_round(contender: Contender) -> Round:
    contender.begin()
    first = contender.back_up()
    stored = contender.stored_bytes()
    second = contender.back_up() if contender.is_incremental else None
    restore = contender.restore()
    difference = subprocess.run(
        ["diff", "-r", "-q", "--no-dereference", contender.data, contender.restored_data()],
        capture_output=True,
        text=True,
        check=False,
    )
    if difference.returncode != 0:
        raise BenchmarkError(f"{contender.name} did not restore the data:\n{difference.stdout[:500]}")
    _say(f"  backup {first.seconds:.1f} s, restore {restore.seconds:.1f} s")
    return Round(first, second, restore, stored)


def _machine() -> str:
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} processors, {system}, Python {platform.python_version()}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
