"""The doctor's look at the Lambda function that serves a stage, and at its alarms."""

import time
from datetime import UTC, date, datetime

from infra.doctor.findings import Verdict, judge, skipped
from infra.doctor.stage import Inside

DAY = 86400
OLDEST_ZIP = 180 * DAY
# When AWS ends each runtime (its Lambda developer guide, "Lambda runtimes", as of November 2026).
RUNTIME_ENDS = {
    "python3.10": date(2026, 10, 31),
    "python3.11": date(2027, 6, 30),
    "python3.12": date(2028, 10, 31),
    "python3.13": date(2029, 6, 30),
    "python3.14": date(2029, 6, 30),
}


def age(inside: Inside) -> Verdict:
    """When the zip was deployed."""
    found = inside.function
    if found is None:
        return skipped("No Lambda function of this region has SIGNET_STAGE set to this stage.")
    changed = datetime.fromisoformat(found["LastModified"])
    old, problems = time.time() - changed.timestamp(), []
    if old > OLDEST_ZIP:
        problems.append(f"{found['FunctionName']} is {old // DAY:.0f} days old, and so are its libraries")
    fix = "Deploy again, so that the libraries' fixes arrive."
    return judge(problems, f"{found['FunctionName']} was deployed {changed:%Y-%m-%d}.", fix)


def runtime(inside: Inside) -> Verdict:
    """How long AWS keeps up the runtime."""
    name = (inside.function or {}).get("Runtime")
    end = RUNTIME_ENDS.get(name or "")
    if name is None or end is None:
        return skipped(f"The end of {name or 'an unknown runtime'} is not known here.")
    left = (end - datetime.now(UTC).date()).days
    problems = [f"{name} ends on {end}, in {left} days"] if left < 365 else []
    newest = max(RUNTIME_ENDS, key=lambda known: int(known.partition(".")[2]))
    return judge(problems, f"{name} is kept up until {end}.", f"Deploy from a virtual environment of {newest}.")


def pinned_issuer(inside: Inside) -> Verdict:
    """Whether a setting names the issuer."""
    if inside.function is None:
        return skipped("Without the function it is not known.")
    issuer = inside.function.get("Environment", {}).get("Variables", {}).get("SIGNET_ISSUER")
    problems = [] if issuer else ["The issuer is whatever address the gateway is called by, and may become several"]
    fix = "Set SIGNET_ISSUER in .chalice/config.json to the one address that clients use, and deploy again."
    return judge(problems, f"The issuer is pinned to {issuer}.", fix)


def alarms(inside: Inside) -> Verdict:
    """Whether an alarm of the stage rings."""
    found = [
        alarm
        for page in inside.aws("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNamePrefix=f"signet-{inside.stage}-")
        for alarm in page.get("MetricAlarms", ())
    ]
    if not found:
        return skipped("This stage has no alarms; `python -m infra deploy` makes them, `chalice deploy` does not.")
    problems = [
        f"{alarm['AlarmName']}: {alarm.get('AlarmDescription') or 'ALARM'}".rstrip(".")
        for alarm in found
        if alarm["StateValue"] == "ALARM"
    ]
    return judge(problems, f"{len(found)} alarms, all quiet.", "Each alarm's text says what to do.")
