"""Frozen values: the one base class of everything the pure rooms pass around.

Why not ``dataclasses``: importing it (with ``inspect``, ``re``, ``enum`` behind it) costs more than
all of the planning for ``sublet run``. This base gives what the project needs of it: keyword or
positional construction, defaults, immutability, equality by value, hashing, a readable ``repr``
and ``replace``. Type checkers see a frozen dataclass (PEP 681), so constructors are fully typed.

A subclass lists its fields as annotations. Defaults must be immutable. ``__post_init__`` may check
the fields, and may normalise one with ``object.__setattr__``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    AnyValue = TypeVar("AnyValue", bound="Value")
else:

    def dataclass_transform(**_: object) -> object:
        """Stand in for typing's decorator, which only type checkers read."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Value:
    """A frozen value. See the module's docstring for how to write one."""

    __slots__ = ("__dict__",)
    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the fields of the class and of its bases, in order of definition."""
        fields = list(cls._fields)
        defaults = dict(cls._defaults)
        for name, annotation in cls.__dict__.get("__annotations__", {}).items():
            if "ClassVar" in str(annotation):
                continue
            if name not in fields:
                fields.append(name)
            if name in cls.__dict__:
                defaults[name] = cls.__dict__[name]
        cls._fields = tuple(fields)
        cls._defaults = defaults

    if not TYPE_CHECKING:

        def __init__(self, *args: object, **kwargs: object) -> None:
            fields = self._fields
            values = self.__dict__
            values.update(self._defaults)
            if args:
                if len(args) > len(fields):
                    raise TypeError(
                        f"{type(self).__name__} takes {len(fields)} values, {len(args)} given"
                    )
                values.update(zip(fields, args, strict=False))
            if kwargs:
                for name in kwargs:
                    if name not in fields:
                        raise TypeError(f"{type(self).__name__} has no field {name!r}")
                    if args and name in fields[: len(args)]:
                        raise TypeError(f"{type(self).__name__}: {name!r} given twice")
                values.update(kwargs)
            if len(values) != len(fields):
                missing = ", ".join(name for name in fields if name not in values)
                raise TypeError(f"{type(self).__name__} needs {missing}")
            self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields; overridden where there is something to check."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._fields)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({shown})"


def replace(value: AnyValue, **changes: Any) -> AnyValue:
    """Return a copy of *value* with the named fields changed; the checks run again."""
    return type(value)(**{**{name: getattr(value, name) for name in value._fields}, **changes})
