"""The checks of a stage's Lambda function, of its alarms, and of what its schedules should have done."""

import time
from datetime import UTC, date, datetime
from itertools import islice

from chalicelib.protocol.durations import DAY
from chalicelib.protocol.scheduled_deletion import DELETIONS
from infra.operator.doctor.findings import Verdict, judge, skipped
from infra.operator.doctor.stage import Inside

OLDEST_ZIP = 180 * DAY
MAX_READ = 2000  # records of the outbox, which is nearly empty while the schedules run
# When AWS deprecates each runtime (Lambda developer guide, "Lambda runtimes", as of November 2026).
RUNTIME_ENDS = {
    "python3.10": date(2026, 10, 31),
    "python3.11": date(2027, 6, 30),
    "python3.12": date(2028, 10, 31),
    "python3.13": date(2029, 6, 30),
    "python3.14": date(2029, 6, 30),
}


def age(inside: Inside) -> Verdict:
    """Check the age of the deployed zip."""
    if inside.function is None:
        return skipped("No Lambda function of this region has SIGNET_STAGE set to this stage.")
    name, modified = inside.function["FunctionName"], datetime.fromisoformat(inside.function["LastModified"])
    seconds, problems = time.time() - modified.timestamp(), []
    if seconds > OLDEST_ZIP:
        problems.append(f"{name} was deployed {seconds // DAY:.0f} days ago, and its libraries are as old")
    fix = "Deploy again, to get the fixes of the libraries."
    return judge(problems, f"{name} was deployed {modified:%Y-%m-%d}.", fix)


def runtime(inside: Inside) -> Verdict:
    """Check how long AWS supports the runtime."""
    name = (inside.function or {}).get("Runtime")
    end = RUNTIME_ENDS.get(name or "")
    if name is None or end is None:
        return skipped(f"It is unknown how long AWS supports {name or 'the runtime'}.")
    left = (end - datetime.now(UTC).date()).days
    problems = [f"AWS support for {name} ends on {end}, in {left} days"] if left < 365 else []
    newest = max(RUNTIME_ENDS, key=lambda runtime: int(runtime.partition(".")[2]))
    return judge(problems, f"AWS supports {name} until {end}.", f"Deploy from a virtual environment of {newest}.")


def pinned_issuer(inside: Inside) -> Verdict:
    """Check that a setting pins the issuer."""
    if inside.function is None:
        return skipped("The function is missing.")
    issuer = inside.variables.get("SIGNET_ISSUER")
    problems = [] if issuer else ["The issuer is the address of each request, so there may be several issuers"]
    fix = (
        "Deploy with --issuer and the address that clients use; for `chalice deploy`, set SIGNET_ISSUER in its config."
    )
    return judge(problems, f"The issuer is pinned to {issuer}.", fix)


def alarms(inside: Inside) -> Verdict:
    """Check that no alarm of the stage is raised."""
    metric_alarms = [
        alarm
        for page in inside.aws("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNamePrefix=f"signet-{inside.stage}-")
        for alarm in page.get("MetricAlarms", ())
    ]
    if not metric_alarms:
        return skipped(
            "This stage has no alarms: `signet deploy` creates them, unless the parameter Monitoring is off."
        )
    problems = [
        f"{alarm['AlarmName']}: {alarm.get('AlarmDescription') or 'ALARM'}".rstrip(".")
        for alarm in metric_alarms
        if alarm["StateValue"] == "ALARM"
    ]
    return judge(problems, f"{len(metric_alarms)} alarms, none raised.", "The text of each alarm says what to do.")


def removals(inside: Inside) -> Verdict:
    """Check that no account that its user has deleted should have been removed more than a day ago."""
    store, count, late = inside.store, 0, 0
    for record in islice(store.deliveries.scan(), MAX_READ):
        if record.outbox == DELETIONS:
            count += 1
            late += record.not_before < store.now() - DAY
    problems = [f"{late} deleted accounts should have been removed more than a day ago"] if late else []
    fix = "Look in the log for runs of the schedule remove_accounts: it must run every hour, and says why it fails."
    return judge(problems, f"{count} deleted accounts wait for their removal, none too long.", fix)
