"""Whether a prompt asks for something else than what the draft shows: English words of exchange and of repair.

Written for 160 prompts that a language model wrote without having seen any of the suites'; whoever wrote the rule had
seen `core`'s (reports/placement.md).
"""

from __future__ import annotations

import re

_POINTED = r"(the|this|that|his|her|my|our|a|an)"
_WHERE = r"(in|on|at|of|from|with|by|as|for|to)"
_PUT = "write|print|show|put|paint|place|display|set|use|apply|try|bring in|render|insert|add|mount|dress|cover|fit"

EXCHANGE = re.compile(
    "|".join((
        r"\b(trad|overwrit|transform|convert|rebrand)\w*|\binstead\b",
        r"\b(change|turn)\b.*\b(to|into|for)\b|\bchange:",
        # what is not wanted
        r"\b(new|other|different|another|wrong)\s+(?!letter|character|glyph|spelling|shape|colou?r|size|detail|place|way)\w+",
        r"\b(not|no more|no longer|lose|discard\w*|drop)\s+(the\b|this\b|a\b|\w+\W*$)|\b(don.t|do not) want\b",
        r"\b(take|took|cut) out\b|\bremove\b|\b(out|goes)\W*$",
        # which one it is to be
        r"\bthe (\w+ ){0,3}one (from|with|in|on|of|that|which)\b",
        rf"\b(make|give) {_POINTED}( (?!{_WHERE}\b)\w+){{1,3}} (the|an?|my|our) \w+",
        rf"\b(put|use|apply|set|stick)\b (it|them|mine|ours|my|our|the( \w+){{1,2}} {_WHERE} (the )?"
        r"(reference|sample|example|photo|picture))\b",
        # what is to stand there
        r"\b(should|ought to|must|shall|has to|have to|is to|let|have)\b( (?!be\b|look|match)\w+){0,3} "
        r"(read|say|spell|show|carry|bear|wear|have|display|contain)\b",
        rf"^\W*(please\s+|can (you|u)\s+|could (you|we)\s+)?({_PUT})\b",
    )),
    re.IGNORECASE,
)  # fmt: skip
"""Exchange by a less sure name, another thing, one not wanted, which one it is to be, what is to stand there."""
SURE = re.compile(
    r"\b(replac|swap|exchang|substitut|switch)\w*|\b(instead of|rather than|in place of|in lieu of|get rid of)\b",
    re.IGNORECASE,
)
"""Exchange by name, whatever is said of damage."""
NOT = re.compile(
    r"\b(do not|don.t|dont|never|not|without|no) (to )?(replac|swap|exchang|substitut|switch)\w*", re.IGNORECASE
)
"""What asks that nothing be exchanged."""
TOLD = re.compile(
    r"\b(was|were|been|got) (replac|swap|exchang|substitut|switch)\w*"
    r"|\b(replac|substitut)\w* (the |these |those |all |any )*(missing|lost)\b",
    re.IGNORECASE,
)
"""Words of exchange that ask for none: of what happened before, and of what is missing."""
REPAIR = re.compile(
    "|".join((
        r"\b(fix|repair|restor|mend|heal|recover|reconstruct|rebuild|sharpen|clean|clear|correct|undo|sort out|adjust"
        r"|straighten|refine|retouch|improve)\w*",
        r"\w*(garbl|blur|melt|smear|smudg|broke|scrambl|mangl|distort|warp|deform|blotch|fuzz|crooked|messed|damag|corrupt"
        r"|faded|pixelat|glitch|wobbl|jagged|legible|readable|vanish)\w*",
        r"\b(mess|messy|mush|soup|weird|nonsense|gibberish|fused|bent|crisp|sharp|neat|lost|plastic|fidelity)\b",
        r"\b(again|any more|anymore|really|properly|proper|original|real)\b|\blooks? (like|exactly|as)\b",
        r"\b(bring|get|give|put|its|it)\b.*\b(back|right)\b|\bback to\b|\bbring\b.*\b(up to|in line)\b",
        r"\b(letter|character|glyph|detail|texture|edge|stitch|line)s?\b.*\b(wrong|right)\b|\bwrong letters?\b",
    )),
    re.IGNORECASE,
)  # fmt: skip
"""Mending by name, words of damage, and of what was there before."""


def asks_exchange(prompt: str) -> bool:
    """Whether a prompt asks for something else than what the draft shows, so that likeness to the draft says nothing:
    in words that are sure, or in words of exchange without any of repair. English alone is understood."""
    if NOT.search(prompt) is not None:
        return False
    prompt = TOLD.sub("", prompt)
    return SURE.search(prompt) is not None or (EXCHANGE.search(prompt) is not None and REPAIR.search(prompt) is None)
