"""The fences of docs/architecture.md: who may import whom, which library is whose, and how big a room may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("node", "inference", "sr_templates")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

DOORS_FOR_NODE = {
    "sr_templates.render",
    "inference.pipeline",
    "inference.wholeness",
    "inference.weights",
    "inference.report",
    "inference.phantom",
    "inference.volume",
}
"""What node may import of the two packages below it (its command line may also start trainings)."""

DOORS_FOR_TEMPLATES = {"inference.report", "inference.grades", "inference.anatomy", "inference.volume"}

STAGES = {"selection", "stacking", "detection", "labelling", "discs", "grading", "measurements", "evidence", "segments"}

LIBRARY_OWNERS = {
    "dbos": {"node/engine.py"},
    "pynetdicom": {
        "node/receiver.py",
        "node/storage_scp.py",
        "node/desk.py",
        "node/upper_layer.py",
        "node/sender.py",
        "node/association.py",
        "node/query.py",
        "node/commitment.py",
        "node/quiet_libraries.py",
        "node/echo.py",
        "node/demo_archive.py",
    },
    "sqlalchemy": {"node/ledger", "node/migrations/"},
    "alembic": {"node/ledger", "node/migrations/"},
    "highdicom": {"sr_templates/"},
    "apscheduler": {"node/ticks.py"},
    "prometheus_client": {"node/metrics.py"},
    "smtplib": {"node/mail.py"},
    "logging": {"node/"},
    "torch": {
        "inference/networks/",
        "inference/weights.py",
        "inference/detection.py",
        "inference/labelling.py",
        "inference/grading.py",
        "inference/evidence.py",
        "inference/attribution/",
        "inference/training/",
        "node/worker.py",
        "node/offline.py",
        "node/__main__.py",
        "node/training_commands.py",
    },
}
"""Library -> files (or folders) that may import it. The worker, the off-line grader and the command line only set
torch's threads."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(path: Path) -> Iterator[str]:
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            assert statement.level == 0, f"{relative(path)}:{statement.lineno} imports relatively"
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def modules_of_ours(path: Path) -> set[str]:
    """Imported modules (not names inside them) of the three packages."""
    found = set()
    for name in imported_modules(path):
        if name.split(".")[0] in PACKAGES:
            base = ROOT / Path(*name.split("."))
            if base.with_suffix(".py").exists():
                found.add(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_arrows_point_downwards_only_and_through_the_doors(path: Path) -> None:
    package = relative(path).split("/")[0]
    for module in modules_of_ours(path):
        target = module.split(".")[0]
        if target == package:
            continue
        if package == "node":
            is_training = path.name == "training_commands.py" and module.startswith("inference.training.")
            assert module in DOORS_FOR_NODE or is_training, f"{relative(path)} imports {module}"
        elif package == "sr_templates":
            assert module in DOORS_FOR_TEMPLATES, f"{relative(path)} imports {module}"
        else:
            pytest.fail(f"{relative(path)} imports {module}: inference imports neither of the others")


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_each_library_stays_with_its_owner(path: Path) -> None:
    for module in imported_modules(path):
        owners = LIBRARY_OWNERS.get(module.split(".")[0])
        if owners is not None:
            assert any(relative(path).startswith(owner) for owner in owners), f"{relative(path)} imports {module}"


def test_receiver_worker_and_sender_meet_only_in_the_ledger() -> None:
    doers = {"node.receiver", "node.worker", "node.sender"}
    for doer in doers:
        path = ROOT / Path(*doer.split(".")).with_suffix(".py")
        assert not (modules_of_ours(path) & (doers - {doer})), doer


def test_stages_of_inference_do_not_know_each_other() -> None:
    for stage in STAGES:
        path = ROOT / "inference" / f"{stage}.py"
        others = {f"inference.{other}" for other in STAGES - {stage}}
        assert not (modules_of_ours(path) & others), stage


def test_there_are_no_circles() -> None:
    graph = {".".join(path.relative_to(ROOT).with_suffix("").parts): modules_of_ours(path) for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for target in graph.get(module, set()):
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_rooms_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 320, f"{relative(path)} is too long for one room"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            body_starts = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.body[0].lineno
            assert node.end_lineno - body_starts < 45, f"{relative(path)}:{node.name} is too long"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_names_say_what_a_thing_is(path: Path) -> None:
    vague = ("utils", "util", "helper", "helpers", "common", "manager", "misc", "base")
    assert path.stem not in vague
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            assert not node.name.startswith("Base"), f"{relative(path)}: {node.name}"
            assert "Manager" not in node.name, f"{relative(path)}: {node.name}"
            assert "Helper" not in node.name, f"{relative(path)}: {node.name}"


def test_package_files_are_empty() -> None:
    for path in FILES:
        if path.name == "__init__.py":
            assert path.read_text(encoding="utf-8").strip() == "", relative(path)


@pytest.mark.parametrize(
    "module",
    ["inference.report", "node.receiver", "node.service", "node.settings", "node.ticks", "sr_templates.render"],
)
def test_only_the_worker_pays_for_torch(module: str) -> None:
    """The receiver, the dispatcher and the supervisor stay small: importing them loads no torch."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0


def test_the_command_line_loads_what_a_command_needs_when_it_is_called() -> None:
    """`spinenode serve` stays as it starts: what the command line imports at once, the supervisor keeps for ever."""
    code = "import sys, node.__main__; sys.exit(bool({'sqlalchemy', 'pydicom', 'numpy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0
