"""Two values of one attribute meeting: in a base and an override file, and in an extended service and its heir.

For each attribute of `forms.SERVICE` and each place of `forms_parts.PARTS`, the values that load are put against each
other in both orders, as they are, and with ``!reset`` and ``!override``.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from tests.differential.batch import Case, accepted
from tests.differential.forms import PLACES, Form, service_forms
from tests.differential.forms_parts import part_forms

VALUES_EACH = 5
_SKIP = {"extends", "container_name"}

def _loading(without: Container[Form]) -> dict[tuple[str, str], list[Form]]:
    """Some values of each attribute that load, spread over the table."""
    found: dict[tuple[str, str], list[Form]] = {}
    for form in [*service_forms(), *part_forms()]:
        if form.attribute in _SKIP or form in without or (form.place == "bare service" and form.attribute == "build"):
            continue
        if accepted(Case((_written(form, form.value),))):
            found.setdefault((form.place, form.attribute), []).append(form)
    return {key: _some(forms) for key, forms in found.items()}


def _some(forms: list[Form]) -> list[Form]:
    if len(forms) <= VALUES_EACH:
        return forms
    step = (len(forms) - 1) / (VALUES_EACH - 1)
    return [forms[round(number * step)] for number in range(VALUES_EACH)]


def _written(form: Form, value: str) -> str:
    return PLACES[form.place].replace("@", f"{form.attribute}: {value}")


def _orders(without: Container[Form]) -> Iterator[tuple[str, Form, Form]]:
    for (place, attribute), forms in _loading(without).items():
        for a in forms:
            for b in forms:
                yield f"{place} {attribute}: {a.value} | {b.value}", a, b


def merge_cases(without: Container[Form] = ()) -> dict[str, Case]:
    """A base file and an override file."""
    return {f"merge {name}": Case((_written(a, a.value), _written(b, b.value))) for name, a, b in _orders(without)}


def extends_cases(without: Container[Form] = ()) -> dict[str, Case]:
    """A service that extends another one."""
    out = {}
    for name, a, b in _orders(without):
        heir = _written(b, b.value)
        out[f"extends {name}"] = Case((heir[:1] + "extends: @-base, " + heir[1:],), base=_written(a, a.value))
    return out


def tag_cases(without: Container[Form] = ()) -> dict[str, Case]:
    """``!reset`` and ``!override`` in the override file, and a third file after it."""
    out = {}
    for (place, attribute), forms in _loading(without).items():
        first, last = forms[0], forms[-1]
        for tag in ("!reset", "!override"):
            for value in {first.value, last.value, "null"}:
                if value.startswith("!") or not value:
                    continue
                over = _written(last, f"{tag} {value}")
                name = f"{tag} {place} {attribute}: {first.value} | {value}"
                out[name] = Case((_written(first, first.value), over))
                if value != "null":
                    out[f"{name} | again"] = Case((_written(first, first.value), over, _written(last, last.value)))
    return out
