"""YAML read strictly: no key twice, dates stay text, one clear error."""

from __future__ import annotations

from typing import Any

import yaml

from wavecore.errors import SettingsError


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader, but a key that stands twice is an error and a date stays the text it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, (list, dict)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Read one YAML mapping strictly (also usable for params.yaml). Dates stay text.

    Raises:
        SettingsError: broken YAML, a key that stands twice, or no mapping; names the file and line.
    """
    try:
        mapping = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise SettingsError(f"{where}{line}: {problem}", "correct the YAML there") from None
    if not isinstance(mapping, dict):
        raise SettingsError(f"{where}: expected keys and values, found {mapping!r}", "write it as `key: value` lines")
    return mapping
