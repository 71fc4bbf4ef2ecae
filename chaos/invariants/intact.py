"""Pictures are intact: an acknowledged upload is in storage, pixel for pixel. And they tell no position."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence, StoredPicture
from chaos.evidence.history import MEDIA
from chaos.invariants.finding import Finding, Tally
from scenarios.world import pictures

NAME, POSITIONS = "pictures_are_intact", "pictures_tell_no_position"


def check(evidence: Evidence) -> Finding:
    """Every acknowledged picture is finalized, and what is served looks like the upload.

    Compared are the decoded pixels, with orientation and color profile, because the served object lacks the
    upload's metadata; and the SHA-256 of the served object with the one that its row states. The object is
    read from storage, not through the CDN edge and its cache. No user of a run deletes a picture, and a run is
    shorter than the age at which orphans are collected.
    """
    tally = Tally(NAME)
    if evidence.finals is None:
        return tally.finding(evidence.no_finals)
    stored = evidence.finals.pictures
    if stored is None:
        return tally.finding("storage was not read")
    for key, (row, look) in evidence.history.pictures.items():
        if key not in stored:
            continue
        tally.checked += 1
        problem = _problem(stored[key], look)
        tally.keep("pictures", 1, int(bool(problem)))
        if problem:
            tally.violated(f"picture {key[0]}_{key[1]} was acknowledged and storage holds {problem}; "
                           f"{evidence.history.describe(row)}")
    return tally.finding("no picture was acknowledged")


def _problem(stored: StoredPicture | None, look: str) -> str:
    if stored is None:
        return "nothing, or it is not finalised"
    if stored.look != look:
        return f"another picture (look {stored.look or 'unreadable'} instead of {look})"
    return "" if stored.is_recorded else "other bytes than its row states"


def check_positions(evidence: Evidence) -> Finding:
    """No picture from the CDN edge contains the canary position that every uploaded picture carries.

    The load uploads JPEG, PNG, WebP and GIF, each with a position in its EXIF, XMP, IPTC or comments, and
    searches every picture that it gets from the edge.
    """
    tally = Tally(POSITIONS)
    outcomes, errors = evidence.history.column("outcome"), evidence.history.column("error")
    for row in evidence.history.rows_of((MEDIA,)):
        leaked = pictures.LEAKED in errors[row]
        tally.checked += leaked or outcomes[row] == "ok"
        if leaked:
            tally.violated(f"{errors[row]}; {evidence.history.describe(row)}")
    return tally.finding("no picture was read from the edge")
