"""What dvc.lock says of files, by their paths: which stage made them, with what hash; and what is in the workspace."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bancada.base.lockfile import dvc_md5, folder_md5, hashes_in
from bancada.pipeline.plan import planned, runs


class Locked:
    """`stages`: all, in the pipeline's order, then those of `dvc add`. `outs`: by path from the root. `entries`:
    by dvc.yaml, what the dvc.lock beside it says of each stage."""

    def __init__(self, root: Path, repo: Any) -> None:
        self.root, self.repo = root, repo
        self.stages: dict[str, Any] = {
            **planned(repo)[0],
            **{stage.addressing: stage for stage in repo.index.stages if not runs(stage)},
        }
        self.outs = {self.path(out): out for stage in self.stages.values() for out in stage.outs}
        self.entries = {
            stage.path_in_repo: stage.dvcfile.lockfile_contents.get("stages") or {}
            for stage in {stage.path_in_repo: stage for stage in self.stages.values() if runs(stage)}.values()
        }
        self.seen: dict[str, str] = {}

    def path(self, item: Any) -> str:
        """Of a dependency or out, from the root; absolute where it lies elsewhere."""
        path = Path(item.fs_path)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def here(self, path: str) -> str:
        """DVC's hash of what is in the workspace; empty where nothing is."""
        if path not in self.seen:
            self.seen[path] = dvc_md5(self.root / path)
        return self.seen[path]

    def outs_at(self, path: str) -> list[str]:
        """Those that are this path, lie in it or hold it."""
        return [out for out in self.outs if out == path or inside(out, path) or inside(path, out)]

    def hash_of(self, path: str, outs: list[str]) -> str | None:
        """The hash that these outs, by dvc.lock, give the path; None where that cannot be known."""
        hashes = {out: str(self.outs[out].hash_info.value) for out in outs}
        if path in hashes:
            return hashes[path]
        listed: dict[str, str] = {}
        for out, md5 in hashes.items():
            within = self.listing(out, md5) if md5.endswith(".dir") else {".": md5}
            if not within:
                return None
            listed |= {(Path(out) / name).as_posix(): one for name, one in within.items()}
        if any(inside(path, out) for out in outs):
            return listed.get(path)
        return folder_md5({Path(name).relative_to(path).as_posix(): one for name, one in listed.items()})

    def listing(self, path: str, md5: str) -> Mapping[str, str]:
        """The files of a folder that has this hash, with theirs, from the workspace or DVC's cache; else empty."""
        if self.here(path) == md5:
            return hashes_in(self.root / path)
        kept = Path(self.repo.cache.local.oid_to_path(md5))
        listed = {item["relpath"]: item["md5"] for item in json.loads(kept.read_text())} if kept.is_file() else {}
        return listed if folder_md5(listed) == md5 else {}

    def adds_up(self, dep: Any, outs: list[str]) -> bool:
        """Whether the outs in a folder have its size and number of files together; true where nobody knows."""
        metas = [self.outs[out].meta for out in outs if inside(out, self.path(dep))]
        if len(metas) < len(outs) or None in [meta.size for meta in metas]:
            return True
        total = sum(meta.size for meta in metas), sum(meta.nfiles or 1 for meta in metas)
        return bool(total == (dep.meta.size, dep.meta.nfiles))


def inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")
