"""Record results in MLflow, while they are made and afterwards. README.md says what this package promises.

mlflow reads its settings from the environment while it loads. So they are set here, before any module of this package
imports it.
"""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A stage waits until it is recorded, so one line soon is better than the four minutes that mlflow would try. A request
# is not repeated: if the server answers too late, it would carry out the request twice. `bancada track` tries again.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
os.environ.setdefault("PGCONNECT_TIMEOUT", "2")  # for each of the tries that store.py allows
