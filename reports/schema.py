"""The published JSON Schema of record.json, version 2.

A missing or mistyped key is an error when a record is written; unknown extra keys inside a block are allowed. A
change that an older reader could misinterpret increments SCHEMA_VERSION; a new optional key does not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

_IRI: Any = "rfc3987_syntax"  # which jsonschema imports where it is installed: 1.4 s, for formats that no schema here has
_absent = sys.modules.setdefault(_IRI, None)  # type: ignore[arg-type]
import jsonschema  # noqa: E402

if _absent is None:
    del sys.modules[_IRI]

from reports.judge import verdict  # noqa: E402
from reports.stats import histogram  # noqa: E402
from system.kernel import errors  # noqa: E402

SCHEMA_VERSION = 2

Json = dict[str, Any]

_NUMBER: Json = {"type": "number"}
_MAYBE: Json = {"type": ["number", "null"]}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXT: Json = {"type": "string"}
_ANY: Json = {"type": "object"}
FIX_V1 = "mend"  # key of a criterion's fix in records of version 1: quoted data


def _object(required: Mapping[str, Json], **optional: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _map(values: Json) -> Json:
    return {"type": "object", "additionalProperties": values}


def record_schema() -> Json:
    """Return the JSON Schema (draft 2020-12) of record.json, as a new value."""
    root = _object(
        {
            "schema_version": {"const": SCHEMA_VERSION},
            "kind": {"enum": ["system", "twin"]},
            "run_id": _TEXT,
            "scenario": _object({"name": _TEXT}),
            "seed": {"type": "integer"},
            "commit": _TEXT,
            "started_at": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
            "command": _TEXT,
            "host": _ANY,
            "versions": _map(_TEXT),
            "platform": _ANY,
            "population": _ANY,
            "clock": _object({"start_monotonic_ns": {"type": "integer"}, "start_wall_ms": {"type": "integer"}}),
            "windows": _windows(),
            "summary": _summary(),
            "validity": _validity(),
            "objectives": _list(_object({"text": _TEXT, "verdict": _verdict(), "value": _MAYBE, "bound": _NUMBER,
                                         "window": _TEXT, "n": _COUNT},
                                        at_least=_MAYBE, unanswered=_COUNT, refused=_COUNT)),
            "invariants": _list(_object({"name": _TEXT, "verdict": _finding(), "checked": _COUNT,
                                         "violations": _list(_TEXT), "note": _TEXT}, kept=_map(_kept()))),
            "verdict": {"enum": list(verdict.EXIT_CODES)},
            "exit_code": {"enum": sorted(verdict.EXIT_CODES.values())},
            "decided_by": _TEXT,
        },
        recovery=_list(_recovery()),
        group=_TEXT,
        prediction={"type": ["object", "null"]},
    )  # fmt: skip
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tweetlab run record", **root}


def _verdict() -> Json:
    return {"enum": list(verdict.RANK)}


def _finding() -> Json:
    return {"enum": list(verdict.FINDINGS)}


def _windows() -> Json:
    fault = _object({"kind": _TEXT, "target": _TEXT, "start_s": _NUMBER, "end_s": _MAYBE, "recovered_s": _MAYBE})
    return _object({"warm_up_s": _NUMBER, "load_s": _NUMBER, "faults": _list(fault)})


def _kept() -> Json:
    return _object({"acknowledged": _COUNT, "lost": _COUNT})


def _recovery() -> Json:
    times = ("recovers_within_s", "time_to_recovery_s", "rto_s", "rto_at_least_s", "first_success_s")
    rpo = {"anyOf": [{"type": "null"}, _map(_kept())]}
    return _object({"name": _TEXT, "kind": _TEXT, "target": _TEXT, "verdict": _finding(),
                    **dict.fromkeys(times, _MAYBE), "rpo": rpo, "note": _TEXT})  # fmt: skip


def _latencies() -> Json:
    return _object(dict.fromkeys(histogram.KEYS, _MAYBE))


def _summary() -> Json:
    counts = dict.fromkeys(("planned", "sent", "ok", "fail", "info", "retried"), _COUNT)
    block = {**counts, "response_ms": _latencies(), "service_ms": _latencies()}
    probes = _object({"pairs": _COUNT, "agree": _COUNT, "verdict": _verdict()})
    delay = dict.fromkeys(("p50_s", "p95_s", "p99_s", "max_s"), _MAYBE)
    paths = dict.fromkeys(("push", "pull", "rebuild", "tail", "retry", "hit", "direct"), _COUNT)
    return _object(
        {
            "routes": _map(_object({**block, "steady": _object(block, refused=_COUNT)}, refused=_COUNT)),
            "totals": _object({**counts, "steady": _object(counts, refused=_COUNT)}, refused=_COUNT),
            "delivery": _object({"n": _COUNT, **delay, "probes": probes}, undelivered=_COUNT),
            "paths": _object(paths),
            "cpu": _map(_object({"core_s": _NUMBER, "share": _NUMBER})),
            "rss_mib": _map(_NUMBER),
            "generator": _object({"start_lag_ms_p99": _MAYBE, "cpu_share": _MAYBE, "lost": _MAYBE}),
        }
    )


def _validity() -> Json:
    criterion = _object(
        {"name": _TEXT, "value": {}, "bound": _TEXT, "holds": {"type": ["boolean", "null"]}, "fix": _TEXT}
    )
    words = [verdict.VALID, verdict.OVERLOADED, verdict.VOID]
    return _object({"verdict": {"enum": words}, "criteria": _list(criterion)})


def upgraded(document: Any) -> Any:
    """Return a version 1 record converted to the current version; anything else unchanged.

    Version 2 renamed one key of `validity.criteria[]` to `fix`. Changes the criteria in place.
    """
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        return document
    validity = document.get("validity")
    criteria = validity.get("criteria", []) if isinstance(validity, dict) else []
    for criterion in criteria:
        if isinstance(criterion, dict) and FIX_V1 in criterion:
            criterion["fix"] = criterion.pop(FIX_V1)
    return {**document, "schema_version": SCHEMA_VERSION}


def check(document: Mapping[str, Any], where: str) -> None:
    """Raise WrongInput naming the first key of `document` that violates the schema; `where` names its file."""
    validator = jsonschema.Draft202012Validator(record_schema())
    violations = sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.absolute_path)))
    if violations:
        key = ".".join(map(str, violations[0].absolute_path)) or "the record"
        message = violations[0].message[:200]
        raise errors.WrongInput(f"{where}: {key}: {message}; see `reports.schema.record_schema()`.")
