"""Tracking: what MLflow records of the results, while they are made and afterwards.

mlflow reads its settings from the environment while it loads, so they are set here, before any module of this package.
"""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# A stage waits for its recording, so one line soon is better than the four minutes that mlflow would try. There is no
# second try, because a request that was answered too late would be carried out twice: `bancada track` tries again.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
os.environ.setdefault("PGCONNECT_TIMEOUT", "2")  # for each of the tries below
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
