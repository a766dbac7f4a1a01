"""A Dockerfile, read as far as the tests need it: its stages with their steps, environment, user and command."""

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Step:
    """A `RUN` or `COPY`."""

    kind: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


@dataclass(slots=True)
class Stage:
    """What stands between one `FROM` and the next."""

    base: str
    environment: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    folder: str = "/"
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)


def parsed(path: Path) -> list[Stage]:
    """The stages of a Dockerfile."""
    stages: list[Stage] = []
    plain = [line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(plain).replace("\\\n", " ").splitlines():
        kind, _, text = line.partition(" ")
        if kind == "FROM":
            stages.append(Stage(text.split()[0]))
            continue
        stage = stages[-1]
        if kind in {"RUN", "COPY"}:
            stage.steps.append(Step(kind, text.strip()))
        elif kind == "ENV":
            for word in shlex.split(text):
                name, _, value = word.partition("=")
                stage.environment[name] = value
        elif kind in {"ENTRYPOINT", "CMD"}:
            words = [str(word) for word in json.loads(text)]
            stage.entrypoint, stage.command = (words, []) if kind == "ENTRYPOINT" else (stage.entrypoint, words)
        elif kind == "WORKDIR":
            stage.folder = text
        elif kind == "USER":
            stage.user = text
        else:
            stage.others[kind] = text
    return stages
