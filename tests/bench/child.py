"""Measure the import of the application and its first responses, in a new interpreter.

Arguments: `app`, `naive` or `restored`, then the folders to import from. `restored` measures the application after a
SnapStart snapshot, without the work before it. `app,boto3` and `restored,boto3` are the same with boto3 as the client
of AWS. Writes JSON to standard error: CPU and wall-clock milliseconds, peak memory, and the calibration.
"""

import sys
import time

started = time.perf_counter()
marks = {"interpreter": (time.process_time() * 1000, 0.0)}


def mark(name: str) -> None:
    marks[name] = (time.process_time() * 1000, (time.perf_counter() - started) * 1000)


mode, _, client = sys.argv[1].partition(",")
folder = sys.path[0]
sys.path[0:1] = sys.argv[2:]
if mode == "naive":
    import boto3
    import chalice  # noqa: F401
    import jinja2  # noqa: F401
    import jwt  # noqa: F401
    from passlib.hash import argon2  # noqa: F401

    boto3.resource("dynamodb")
    mark("import")
else:
    import app

    mark("import")
    import json

    if client:
        sys.path.insert(0, folder)
        from boto3_client import use_boto3  # type: ignore[import-not-found]

        use_boto3()
    if mode == "restored":
        from chalicelib.web import preload

        preload()
        if client:
            import boto3
        started = time.perf_counter()
        marks = {}
        mark("interpreter")
    for name, event in json.load(sys.stdin).items():
        assert app.http_handler(event, None)["statusCode"] == 200
        mark(name)

import json  # noqa: E402
import resource  # noqa: E402
from pathlib import Path  # noqa: E402

status = Path("/proc/self/status")
# On Linux ru_maxrss includes the memory of the parent before the fork; VmHWM is the peak of this process only.
lines = status.read_text().splitlines() if status.exists() else []
peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
kilobytes = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
sys.path.insert(0, folder)
from calibration import calibrate  # type: ignore[import-not-found]  # noqa: E402

calibration = sorted(calibrate() for _ in range(5))[2]
print(json.dumps({"marks": marks, "kilobytes": kilobytes, "calibration": calibration}), file=sys.stderr)
