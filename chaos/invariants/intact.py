"""Pictures are intact: what was uploaded and acknowledged lies in storage, byte for byte."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.invariants.finding import Finding, Tally

NAME = "pictures_are_intact"


def check(evidence: Evidence) -> Finding:
    """Every picture whose upload was acknowledged stands in storage with the SHA-256 that its client computed, and is finalised.

    The bytes are read from storage, past the edge and its cache, and hashed. No user of a run deletes a
    picture, and the collector's ages are longer than a run.
    """
    tally = Tally(NAME)
    if evidence.finals is None:
        return tally.finding(evidence.no_finals)
    stored = evidence.finals.pictures
    if stored is None:
        return tally.finding("storage was not asked")
    for key, (row, digest) in evidence.history.pictures.items():
        if key not in stored:
            continue
        tally.checked += 1
        tally.keep("pictures", 1, int(stored[key] != digest))
        if stored[key] != digest:
            what = f"other bytes ({stored[key]} instead of {digest})" if stored[key] else "nothing, or is not finalised"
            tally.violated(f"picture {key[0]}_{key[1]} was acknowledged and storage holds {what}; "
                           f"{evidence.history.describe(row)}")
    return tally.finding("no picture was acknowledged")
