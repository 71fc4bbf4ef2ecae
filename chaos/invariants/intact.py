"""Pictures are intact: an acknowledged upload is in storage, byte for byte."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.invariants.finding import Finding, Tally

NAME = "pictures_are_intact"


def check(evidence: Evidence) -> Finding:
    """Every acknowledged picture is finalized, and its bytes in storage have the client's SHA-256.

    The bytes are read from storage, not through the CDN edge and its cache. No user of a run deletes a
    picture, and a run is shorter than the age at which orphans are collected.
    """
    tally = Tally(NAME)
    if evidence.finals is None:
        return tally.finding(evidence.no_finals)
    stored = evidence.finals.pictures
    if stored is None:
        return tally.finding("storage was not read")
    for key, (row, digest) in evidence.history.pictures.items():
        if key not in stored:
            continue
        tally.checked += 1
        tally.keep("pictures", 1, int(stored[key] != digest))
        if stored[key] != digest:
            content = f"other bytes ({stored[key]} instead of {digest})" if stored[key] else "nothing, or it is not finalised"
            tally.violated(f"picture {key[0]}_{key[1]} was acknowledged and storage holds {content}; "
                           f"{evidence.history.describe(row)}")
    return tally.finding("no picture was acknowledged")
