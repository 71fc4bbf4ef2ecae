"""Write `system/kernel/text/rules.json` from current data: `python -m bench.text.rules_data`.

Two maintained packages carry the data, and only this command needs them: `pip install emoji tldextract`.
`tldextract` has the top-level domains of the Public Suffix List (those of IANA, in Unicode), `emoji` has the
emoji of Unicode.
"""

from __future__ import annotations

import importlib
import json
from importlib import metadata
from pathlib import Path

from system.kernel import text

PATH = Path(text.__file__).with_name("rules.json")

FIRST_FLAG, FIRST_TONE, LAST_TONE, TAG, LAST_TAG = 0x1F1E6, 0x1F3FB, 0x1F3FF, 0xE0000, 0xE007F
VARIANT = "\ufe0f"


def ranges(codes: set[int]) -> list[list[int]]:
    """Return the code points as ascending ranges, both ends included."""
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return runs


def data() -> dict[str, object]:
    """Return the content of the file."""
    sequences = [name.replace(VARIANT, "") for name in importlib.import_module("emoji").EMOJI_DATA]
    pairs = [(ord(name[0]), ord(name[1])) for name in sequences if len(name) == 2]
    flags = sorted("".join(chr(code - FIRST_FLAG + ord("A")) for code in pair) for pair in pairs
                   if FIRST_FLAG <= pair[0] < FIRST_FLAG + 26)
    regions = sorted("".join(chr(ord(char) - TAG) for char in name[1:-1]) for name in sequences if ord(name[-1]) == LAST_TAG)
    suffixes = importlib.import_module("tldextract").TLDExtract(suffix_list_urls=(), cache_dir=None).tlds
    return {
        "source": {name: metadata.version(name) for name in ("emoji", "tldextract")},
        "emoji": ranges({ord(name) for name in sequences if len(name) == 1}),
        "toned": ranges({first for first, second in pairs if FIRST_TONE <= second <= LAST_TONE}),
        "flags": flags, "regions": regions,
        "domains": sorted({name.rsplit(".", 1)[-1].lstrip("*!") for name in suffixes}),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(data(), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"wrote {PATH}")
