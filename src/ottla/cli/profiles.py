"""Named clusters: ``~/.config/ottla/profiles.toml``, and a project's own ``.ottla.toml``, found upwards from here.

```toml
current = "dev"

[profiles.dev]
"bootstrap.servers" = "localhost:9092"
```

A profile holds a client's settings under Kafka's names. The project's file wins over the person's.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

import msgspec

PROJECT_FILE: Final = ".ottla.toml"


class ProfileError(Exception):
    """A profile that is not there, or a file that cannot be read. The text says which."""


class Profiles(msgspec.Struct, frozen=True, kw_only=True):
    """What one file says, or several of them together. ``origins`` names the file of each profile."""

    current: str | None = None
    profiles: dict[str, dict[str, str]] = {}
    origins: dict[str, str] = {}

    def named(self, name: str) -> dict[str, str]:
        """The settings of a profile. Raises ``ProfileError``."""
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "there are none yet: `ottla profile create NAME -b HOST:PORT`"
            raise ProfileError(f"no profile {name!r}; known: {known}")
        return self.profiles[name]


def user_file() -> Path:
    """Where a person's profiles are."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "ottla" / "profiles.toml"


def project_file() -> Path | None:
    """The nearest ``.ottla.toml`` above the working directory."""
    here = Path.cwd()
    return next((path for one in (here, *here.parents) if (path := one / PROJECT_FILE).is_file()), None)


def load() -> Profiles:
    """Everything known here. Raises ``ProfileError``."""
    merged = read(user_file())
    project = project_file()
    if project is None:
        return merged
    nearer = read(project)
    return Profiles(
        current=nearer.current or merged.current,
        profiles=merged.profiles | nearer.profiles,
        origins=merged.origins | nearer.origins,
    )


def read(path: Path) -> Profiles:
    """One file; nothing where it is not there. Raises ``ProfileError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Profiles()
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: {error}") from None
    import tomllib

    try:
        parsed = tomllib.loads(text)
    except ValueError as error:
        raise ProfileError(f"{path}: {error}") from None
    unknown = parsed.keys() - {"current", "profiles"}
    if unknown:
        raise ProfileError(f"{path}: unknown key {min(unknown)!r}; there are current and profiles")
    tables = parsed.get("profiles", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ProfileError(f"{path}: profiles holds a table for each profile")
    profiles = {name: _settings(table) for name, table in tables.items()}
    current = parsed.get("current")
    return Profiles(
        current=None if current is None else str(current),
        profiles=profiles,
        origins=dict.fromkeys(profiles, str(path)),
    )


def write(path: Path, profiles: Profiles) -> None:
    """Replace a file. It may hold passwords: nobody else may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [] if profiles.current is None else [f"current = {json.dumps(profiles.current)}", ""]
    for name, settings in sorted(profiles.profiles.items()):
        lines.append(f"[profiles.{json.dumps(name)}]")
        lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in settings.items()]
        lines.append("")
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    temporary.replace(path)


def _settings(table: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and nested tables mean the same: Kafka's names."""
    settings: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            settings |= _settings(value, f"{prefix}{key}.")
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            settings[prefix + ("bootstrap.servers" if key == "bootstrap" and not prefix else key)] = text
    return settings
