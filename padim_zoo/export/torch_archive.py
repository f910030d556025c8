"""What an archive of ``torch.export`` may hold for it to be loaded.

torch makes a program of the archive. It evaluates the expressions of its shapes and compiles its names as Python, and
it calls any function of torch that a node names. So a file is read here first, and what it may say is listed: plain
names, arithmetic on sizes, operators on tensors. torch then gets an archive made anew of the records that were read.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import torch

_RECORDS = re.compile(
    r"(data/weights/weight_\d+|data/weights/\w+_weights_config\.json"
    r"|data/constants/tensor_\d+|data/constants/\w+_constants_config\.json"
    r"|models/\w+\.json|data/sample_inputs/\w+\.pt|extra/padim_zoo"
    r"|archive_format|archive_version|version|byteorder|\.data/version|\.data/serialization_id"
    # as torch before 2.8 has them
    r"|extra_files/padim_zoo|serialized_exported_program\.json|serialized_(state_dict|constants|example_inputs)\.(pt|json))"
)
"""Records by the rest of their names after the archive's own: no compiled code, no pickled objects."""
_PICKLED = re.compile(r"serialized_(state_dict|constants|example_inputs)\.json")
"""Records that torch reads as it reads weights, in spite of their names."""

_NAME = re.compile(r"[\w.]*")
_TEXT = re.compile(r"[\w.,:>+ \-]*")
_SYMBOL = re.compile(r"[a-z]{1,4}[0-9]+")
_LONGEST_EXPRESSION = 4000
_ASSUMPTIONS = {
    "positive",
    "integer",
    "nonnegative",
    "negative",
    "zero",
    "real",
    "finite",
    "commutative",
    "extended_real",
}
_ARITHMETIC = {
    *("Add", "Mul", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "ModularIndexing", "Max", "Min", "Abs"),
    *("IntTrueDiv", "FloatTrueDiv", "ToFloat", "TruncToInt", "CeilToInt", "FloorToInt", "Rational"),
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan"),
    *("StrictGreaterThan", "GreaterThan", "Not", "And", "Or"),
}
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.USub, ast.Not)

_PLAIN_CALLS = re.compile(
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|lt|le|gt|ge|eq|ne|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_\w+"
)
_TENSOR_CALL = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_WORDS = {"approximate", "equation", "indexing", "mode", "padding", "padding_mode", "reduce", "rounding_mode"}
"""Arguments of operators that are text and name no file."""


def checked_archive(source: zipfile.ZipFile) -> io.BytesIO:
    """The archive made anew of its records, after a look at each.

    Raises
    ------
    ValueError
        Saying what it holds that is not allowed.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for info in source.infolist():
            root, _, name = info.filename.partition("/")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its records are compressed")
            if "aotinductor" in name:
                raise ValueError("it holds compiled code")
            if not re.fullmatch(r"[\w .\-]+", root) or not _RECORDS.fullmatch(name):
                raise ValueError(f"it holds the record {name[:60]!r}")
            content = source.read(info)
            if name.endswith(".json") and not _PICKLED.fullmatch(name):
                _check(json.loads(content), "")
            archive.writestr(f"archive/{name}", content)
    return made


def _check(value: Any, key: str) -> None:
    """Refuse text that is not of the form that its place allows, in a document and all its parts."""
    if isinstance(value, Mapping):
        if key == "metadata" and value:
            raise ValueError("its nodes have metadata")
        if value.get("use_pickle"):
            raise ValueError("it holds a pickle")
        for name, part in value.items():
            _check_name(name)
            _check(part, name)
    elif isinstance(value, list):
        if key == "guards_code" and value:
            raise ValueError("it holds code of guards")
        for part in value:
            _check(part, key)
    elif isinstance(value, str):
        _RULES.get(key, _check_name)(value)


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise ValueError(f"it holds the name {text[:60]!r}")


def _check_text(text: str) -> None:
    if not _TEXT.fullmatch(text):
        raise ValueError(f"it holds the text {text[:60]!r}")


def _check_call(name: str) -> None:
    """Refuse all functions but arithmetic and operators on tensors."""
    if _PLAIN_CALLS.fullmatch(name):
        return
    found = _TENSOR_CALL.fullmatch(name)
    overload = found and getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    if overload is None:
        raise ValueError(f"it calls {name[:60]!r}")
    for argument in overload._schema.arguments:
        if "str" in str(argument.type) and argument.name not in _WORDS:
            raise ValueError(f"it calls {name[:60]!r}")


def _check_tree(text: str) -> None:
    """Refuse containers other than tuples, lists and dictionaries with plain keys."""

    def check(node: Any) -> None:
        if node["type"] not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
            raise ValueError(f"it takes or gives a {str(node['type'])[:60]}")
        _check(json.loads(node["context"]) if isinstance(node["context"], str) else node["context"], "")
        for child in node["children_spec"]:
            check(child)

    if text:
        check(json.loads(text)[1])


def check_expression(text: str) -> None:
    """Refuse what is not numbers, symbols and arithmetic: torch evaluates it as Python.

    Raises
    ------
    ValueError
        Naming the expression.
    """
    try:
        plain = len(text) <= _LONGEST_EXPRESSION and _is_arithmetic(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        plain = False
    if not plain:
        raise ValueError(f"it holds the expression {text[:60]!r}")


def _is_arithmetic(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (bool, float)) or (isinstance(node.value, int) and abs(node.value) < 2**63)
    if isinstance(node, ast.Name):
        return _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, _OPERATORS) and _is_arithmetic(node.operand)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            return _is_small_power(node.left, node.right)
        return isinstance(node.op, _OPERATORS) and _is_arithmetic(node.left) and _is_arithmetic(node.right)
    if isinstance(node, ast.Compare):
        return all(map(_is_arithmetic, [node.left, *node.comparators]))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and _is_call(node.func.id, node)


def _is_call(name: str, node: ast.Call) -> bool:
    if name == "Symbol":
        known = all(keyword.arg in _ASSUMPTIONS and _is_truth_value(keyword.value) for keyword in node.keywords)
        return known and len(node.args) == 1 and _is_symbol(node.args[0])
    if node.keywords:
        return False
    if name in ("Integer", "Float"):
        return (
            len(node.args) == 1 and isinstance(_unsigned(node.args[0]), ast.Constant) and _is_arithmetic(node.args[0])
        )
    if name == "Pow":
        return len(node.args) == 2 and _is_small_power(*node.args)
    return name in _ARITHMETIC and all(map(_is_arithmetic, node.args))


def _is_truth_value(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def _is_symbol(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_SYMBOL.fullmatch(node.value))


def _unsigned(node: ast.expr) -> ast.expr:
    return node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node


def _is_small_power(base: ast.expr, exponent: ast.expr) -> bool:
    """A symbol to a power of at most four: powers of numbers, or of powers, can be too large to compute."""
    if isinstance(exponent, ast.Call) and exponent.args:
        exponent = exponent.args[0]
    exponent = _unsigned(exponent)
    small = isinstance(exponent, ast.Constant) and exponent.value in (1, 2, 3, 4)
    symbol = isinstance(base, ast.Name) or (isinstance(base, ast.Call) and getattr(base.func, "id", "") == "Symbol")
    return small and symbol and _is_arithmetic(base)


_RULES: Mapping[str, Callable[[str], None]] = {
    "expr_str": check_expression,
    "target": _check_call,
    "as_operator": _check_call,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
    "as_string": _check_text,
    "as_strings": _check_text,
    "torch_version": _check_text,
}
"""What text may be, by its key; text under any other is a name."""
