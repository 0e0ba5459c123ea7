"""Records: keyword fields, frozen, equal by value, and safe to compare and hash whatever they hold."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kokoro_common.record import Record


class Point(Record):
    x: int
    y: int = 0


class Holder(Record):
    value: Any


def test_fields_are_keywords_with_defaults_and_inherited() -> None:
    class Named(Point):
        name: str

    named = Named(x=1, name="a")
    assert named.as_dict() == {"x": 1, "y": 0, "name": "a"}
    assert repr(named) == "Named(x=1, y=0, name='a')"
    assert named.replace(y=2) == Named(x=1, y=2, name="a")
    for wrong in ({}, {"x": 1, "z": 2}):
        with pytest.raises(TypeError):
            Point(**wrong)


def test_a_record_is_frozen() -> None:
    point: Any = Point(x=1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2
    assert point.x == 1


@pytest.mark.parametrize("default", [[], {}, set()])
def test_a_default_that_can_be_changed_is_refused(default: object) -> None:
    with pytest.raises(TypeError, match=r"Shared\.value"):
        type("Shared", (Record,), {"__annotations__": {"value": object}, "value": default})


def test_records_are_equal_by_kind_and_value() -> None:
    assert Point(x=1) == Point(x=1, y=0)
    assert hash(Point(x=1)) == hash(Point(x=1, y=0))
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Holder(value=1)
    assert Point(x=1) != {"x": 1, "y": 0}


@pytest.mark.parametrize("value", [[1, [2]], {"a": [1]}, {1, 2}, ([1], "b")], ids=str)
def test_values_without_a_hash_compare_by_value(value: Any) -> None:
    import copy

    one, other = Holder(value=value), Holder(value=copy.deepcopy(value))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Holder(value="something else")


def test_arrays_are_equal_to_themselves_alone() -> None:
    samples = np.zeros(3, np.float32)
    for one, other in (
        (samples, samples.copy()),
        (samples, np.zeros(4, np.float32)),
        ((samples, 1), (samples.copy(), 1)),
        ({"a": samples}, {"a": samples.copy()}),
    ):
        assert Holder(value=one) == Holder(value=one)
        assert hash(Holder(value=one)) == hash(Holder(value=one))
        assert Holder(value=one) != Holder(value=other)
    assert Holder(value=(samples, 1)) == Holder(value=(samples, 1))


def test_importing_it_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import kokoro_common.record; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(done.stdout) <= {"kokoro_common", "kokoro_common.record", "__future__"}
