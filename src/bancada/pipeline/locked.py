"""`python -m bancada.pipeline.locked STAGE`: exit status 3 where the stage's deps or params are not those of dvc.lock.

The store of replicas asks it (training/store.py), in a process of its own, because no stage imports DVC.
"""

import sys

from dvc.repo import Repo

DIFFER = 3

if __name__ == "__main__":
    with Repo() as repo:
        [stage] = repo.stage.collect(sys.argv[1])
        sys.exit(DIFFER if any(dep.workspace_status() for dep in stage.deps) else 0)
