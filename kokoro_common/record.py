"""Frozen keyword records: messages, settings and the small values that modules hand each other.

`dataclasses` imports `inspect` and `msgspec` imports `typing`: 15 and 40 ms that `say.py` would pay at each call.
A record is a class with annotations; class attributes are its defaults.

Equality and hash never raise: an array, which compares element by element, is equal only to itself, and a value without
a hash (a list, a dict, an array) does not count in the record's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_: object):  # the checker reads the real one; at run time it would only set an attribute
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True)
class Record:
    """Base of all records. Fields are keyword-only; unknown or missing ones raise TypeError; instances are frozen."""

    _fields: tuple[str, ...] = ()
    _required: frozenset[str] = frozenset()
    _array_form = False  # on the wire: an array of the fields instead of an object

    def __init_subclass__(cls) -> None:
        own = tuple(name for name in cls.__annotations__ if not name.startswith("_"))
        cls._fields = (*cls._fields, *(name for name in own if name not in cls._fields))
        cls._required = frozenset(name for name in cls._fields if not hasattr(cls, name))
        for name in own:
            if isinstance(getattr(cls, name, None), (list, dict, set)):
                raise TypeError(f"the default of {cls.__name__}.{name} can be changed, and all records would share it")

    def __init__(self, **fields: Any) -> None:
        if unknown := fields.keys() - set(self._fields):
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        if missing := self._required - fields.keys():
            raise TypeError(f"{type(self).__name__} lacks {', '.join(sorted(missing))}")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            _equal(getattr(self, name), getattr(other, name)) for name in self._fields
        )

    def __hash__(self) -> int:
        return hash((type(self), *(_hash(getattr(self, name)) for name in self._fields)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.as_dict().items())})"

    def as_dict(self) -> dict[str, Any]:
        """Field name to value, in the order of declaration, defaults included."""
        return {name: getattr(self, name) for name in self._fields}

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**self.as_dict(), **changes})


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are the same or equal. An array is equal only to itself."""
    if one is other:
        return True
    if hasattr(one, "__array__") or hasattr(other, "__array__"):
        return False
    if type(one) is type(other):
        if isinstance(one, (tuple, list)):
            return len(one) == len(other) and all(map(_equal, one, other))
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    return bool(one == other)


def _hash(value: object) -> int:
    try:
        return hash(value)
    except TypeError:
        return 0
