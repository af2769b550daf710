"""Values: frozen, slotted classes from their annotations, as ``dataclasses`` makes them, without its price at import.

``dataclasses`` writes and compiles six methods per class when the class is made: 0.8 ms each, a third of what a command
and a supervisor spend on imports. Here a class costs the making of its slots; its ``__init__`` is compiled when some
instances have been made, and the other methods are shared closures. Type checkers see ordinary dataclasses (PEP 681).

    @frozen                    a value: equal, hashed and (with ``order=True``) ordered by its fields
    @entity                    mutable; equal to itself alone

`field` is for defaults that are made anew for each instance. ``__post_init__`` is called as in dataclasses.
"""

from __future__ import annotations

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and what it imports take longer than all that a command does with its values
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar, dataclass_transform, overload

    T = TypeVar("T")
else:

    def dataclass_transform(**_options):
        return lambda function: function

    def overload(_function):
        return None


MISSING: Any = type("MISSING", (), {"__repr__": lambda self: "MISSING", "__slots__": ()})()


class Field:
    """One field of a value: `name`, its annotation's text, and how it gets its default (`MISSING`: it has none)."""

    __slots__ = ("compare", "default", "factory", "init", "name", "repr")

    def __init__(self, default: Any, factory: Any, init: bool, repr: bool, compare: bool) -> None:
        self.name = ""
        self.default = default
        self.factory = factory
        self.init = init
        self.repr = repr
        self.compare = compare

    @property
    def required(self) -> bool:
        return self.default is MISSING and self.factory is MISSING


def field(
    *, default: Any = MISSING, default_factory: Any = MISSING, init: bool = True, repr: bool = True, compare: bool = True
) -> Any:
    """A field whose default the class body cannot hold (``default_factory``), that ``__init__`` does not take, or that does
    not make a value another one (``compare``)."""
    return Field(default, default_factory, init, repr, compare)


class FrozenError(AttributeError):
    """A field of a value was assigned: use `replace`."""


@overload
def frozen(cls: type[T], /) -> type[T]: ...
@overload
def frozen(*, order: bool = False) -> Callable[[type[T]], type[T]]: ...  # noqa: F811
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: Any = None, /, *, order: bool = False) -> Any:  # noqa: F811
    """Make `cls` a value (see the module's text)."""

    def make(cls: type) -> type:
        getter, space = _parts(cls)
        space.update(__setattr__=_refuse, __delattr__=_refuse, __eq__=_equality(getter), __hash__=_hashing(getter))
        if order:
            space.update(_ordering(getter))
        return _finish(cls, space, immutable=True)

    return make if cls is None else make(cls)


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def entity(cls: type[T], /) -> type[T]:
    """Make `cls` a mutable, slotted class with an ``__init__`` from its annotations; equality is identity."""
    _, space = _parts(cls)
    return _finish(cls, space, immutable=False)


def fields(kind: Any) -> tuple[Field, ...]:
    """The fields of a value, or of its class, in order. Raises TypeError for what is none."""
    found = getattr(kind, "__value_fields__", None)
    if found is None:
        raise TypeError(f"{kind!r} is no value")
    return found  # type: ignore[no-any-return]


def is_value(kind: object) -> bool:
    """Whether `kind` is a class made by `frozen` or `entity`, or an instance of one."""
    return hasattr(kind, "__value_fields__")


def replace(old: T, /, **changes: Any) -> T:
    """A copy of `old` with these fields changed. Raises TypeError for a name that is no field."""
    kept = {item.name: getattr(old, item.name) for item in fields(old) if item.init and item.name not in changes}
    return type(old)(**kept, **changes)


def _parts(cls: type) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """A getter of all fields that count, and the body of the class that is to be made."""
    space = {key: item for key, item in cls.__dict__.items() if key not in ("__dict__", "__weakref__")}
    own: list[str] = []
    known: dict[str, Field] = {item.name: item for item in getattr(cls, "__value_fields__", ())}
    for name, annotation in space.get("__annotations__", {}).items():
        if str(annotation).startswith(("ClassVar", "typing.ClassVar")):
            continue
        given = space.pop(name, MISSING)
        item = given if isinstance(given, Field) else Field(given, MISSING, True, True, True)
        item.name = name
        if name not in known:
            own.append(name)
        known[name] = item
    space["__value_fields__"] = tuple(known.values())
    space["__slots__"] = tuple(own)
    space.setdefault("__match_args__", tuple(item.name for item in known.values() if item.init))
    space.setdefault("__repr__", _show)
    space.setdefault("__reduce__", _reduce)
    compared = [item.name for item in known.values() if item.compare]
    getter: Callable[[Any], Any] = attrgetter(*compared) if compared else lambda _self: ()
    return getter, space


def _finish(cls: type, space: dict[str, Any], *, immutable: bool) -> type:
    left = _FIRST_ONES

    def first(self: Any, /, *args: Any, **kwargs: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 or not _assign(made, immutable, self, args, kwargs):
            _compile_init(made, immutable)
            made.__init__(self, *args, **kwargs)

    if "__init__" not in cls.__dict__:
        space["__init__"] = first
    made: Any = type(cls)(cls.__name__, cls.__bases__, space)
    return made  # type: ignore[no-any-return]


_FIRST_ONES = 12
"""Instances of a class that are made without compiling its ``__init__``, which takes as long as some twenty of them."""


def _assign(cls: Any, immutable: bool, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Do what the compiled ``__init__`` would do. False: it would raise, let it say why."""
    place, named = 0, 0
    for item in fields(cls):
        name = item.name
        if item.init and place < len(args):
            value = args[place]
            place += 1
            if name in kwargs:
                return False
        elif item.init and name in kwargs:
            value = kwargs[name]
            named += 1
        elif item.factory is not MISSING:
            value = item.factory()
        elif item.default is not MISSING:
            value = item.default
        elif item.init:
            return False
        else:  # For __post_init__ to set.
            continue
        if value is MISSING and item.factory is not MISSING:
            value = item.factory()
        if immutable:
            getattr(cls, name).__set__(self, value)
        else:
            setattr(self, name, value)
    if place < len(args) or named < len(kwargs):
        return False
    if hasattr(cls, "__post_init__"):
        self.__post_init__()
    return True


def _compile_init(cls: Any, immutable: bool) -> None:
    """Replace the stand-in by an ``__init__`` that assigns each field; a value's slots are set past its ``__setattr__``."""
    space: dict[str, Any] = {"MISSING": MISSING}
    parameters, body = ["self"], []
    for item in fields(cls):
        name, given = item.name, item.name
        if item.factory is not MISSING:
            space[f"make_{name}"] = item.factory
            given = f"make_{name}() if {name} is MISSING else {name}" if item.init else f"make_{name}()"
        if item.init:
            default = "MISSING" if item.factory is not MISSING else "" if item.default is MISSING else f"default_{name}"
            space[f"default_{name}"] = item.default
            parameters.append(f"{name}={default}" if default else name)
        elif item.factory is MISSING:
            if item.default is MISSING:  # For __post_init__ to set.
                continue
            space[given := f"default_{name}"] = item.default
        space[f"set_{name}"] = getattr(cls, name).__set__
        body.append(f"set_{name}(self, {given})" if immutable else f"self.{name} = {given}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    text = f"def __init__({', '.join(parameters)}):\n  " + ("\n  ".join(body) or "pass")
    exec(text, space)
    cls.__init__ = space["__init__"]
    cls.__init__.__qualname__ = f"{cls.__qualname__}.__init__"


def _refuse(self: object, name: str, *_value: object) -> None:
    raise FrozenError(f"cannot assign {type(self).__name__}.{name}: values are frozen, use replace()")


def _equality(getter: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def equal(self: object, other: object) -> Any:
        if self.__class__ is not other.__class__:
            return NotImplemented
        return self is other or getter(self) == getter(other)

    return equal


def _hashing(getter: Callable[[Any], Any]) -> Callable[[Any], int]:
    return lambda self: hash(getter(self))


def _ordering(getter: Callable[[Any], Any]) -> dict[str, Callable[[Any, Any], Any]]:
    def of(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
        def ordered(self: object, other: object) -> Any:
            return compare(getter(self), getter(other)) if self.__class__ is other.__class__ else NotImplemented

        return ordered

    return {
        "__lt__": of(lambda a, b: a < b),
        "__le__": of(lambda a, b: a <= b),
        "__gt__": of(lambda a, b: a > b),
        "__ge__": of(lambda a, b: a >= b),
    }


def _shown(self: object) -> Iterator[str]:
    for item in fields(self):
        if item.repr:
            yield f"{item.name}={getattr(self, item.name)!r}"


def _show(self: object) -> str:
    return f"{type(self).__qualname__}({', '.join(_shown(self))})"


def _rebuild(cls: Any, values: tuple[Any, ...]) -> Any:
    made = cls.__new__(cls)
    for item, given in zip(fields(cls), values):
        getattr(cls, item.name).__set__(made, given)
    return made


def _reduce(self: object) -> tuple[Any, ...]:
    """For copy and pickle, which would assign the slots one by one."""
    return _rebuild, (type(self), tuple(getattr(self, item.name) for item in fields(self)))
