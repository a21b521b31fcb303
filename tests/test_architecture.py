"""Which part of the house may know of which."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import labelwise

PACKAGE = Path(labelwise.__path__[0])
SOURCES = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
# Each part, and the parts that it may use; what lies in no folder may be used by all.
USES = {
    "commands": {"server", "serving", "offline", "models", "engine"},
    "server": {"serving", "models", "engine"},
    "serving": {"models", "engine"},
    "offline": {"models", "engine"},
    "models": {"engine"},
    "engine": set(),
}
# What only some places may import.
ONLY = {
    "onnxruntime": r"engine/onnx/",
    "tokenizers": r"engine/tokenizer/",
    "starlette": r"server/",
    "asyncio": r"server/|serving/",
    "click": r"commands/|settings\.py|options\.py|server/run\.py|offline/",
}
BESIDE_THE_LOOP = {"serving/cache.py", "serving/catalogue.py"}


def imported(path):
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}


def test_arrows_point_down():
    for name, path in SOURCES.items():
        part = name.partition("/")[0]
        for module in imported(path):
            used = re.match(r"labelwise\.(\w+)", module)
            if part in USES and used and used[1] in USES:
                assert used[1] == part or used[1] in USES[part], f"{name} imports {module}"


def test_libraries_stay_where_they_belong():
    for name, path in SOURCES.items():
        for module in {module.partition(".")[0] for module in imported(path)}:
            where = ONLY.get(module)
            assert where is None or re.match(where, name), f"{name} imports {module}"
            assert not (module == "asyncio" and name in BESIDE_THE_LOOP), f"{name} knows the loop"


def test_handlers_reach_the_server_in_one_typed_way():
    """The state of Starlette is untyped: one module alone looks into it."""
    untyped = [
        name for name, path in SOURCES.items() if re.search(r"app\.state\b", path.read_text())
    ]
    assert untyped == ["server/state.py"]


def test_docstrings_begin_with_a_verb_or_a_noun():
    for name, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                said = ast.get_docstring(node) or ""
                assert not re.match(r"(What|Who|Whom|How|So|Why|Where)\b", said), f"{name}: {said}"
